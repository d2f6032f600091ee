"""`model.repulsion` in numpy: the repulsion of nuclei closer than bonds are."""

import numpy as np

from ocp_physmol.model.nuclei import CORE, COULOMB, RADII, REACH, SCREENING, SCREENING_LENGTH
from ocp_physmol.potential.edges import Pairs


def repulsion(numbers: np.ndarray, pairs: Pairs, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """Energies of atoms with `numbers` [N], half that of each pair, and the derivative of their sum
    by the vectors of `pairs`, [P, 3]; eV and Angstrom."""
    energies, slopes = np.zeros(len(numbers)), np.zeros_like(pairs.vector)
    reach = REACH * (RADII[numbers[pairs.i]] + RADII[numbers[pairs.j]])
    reach = np.minimum(reach, cutoff)
    distance = np.sqrt((pairs.vector * pairs.vector).sum(1))
    near = np.flatnonzero(distance < reach)  # few or none, where bonds are intact
    if len(near) == 0:
        return energies, slopes
    i, j, d = pairs.i[near], pairs.j[near], distance[near]
    coulomb, coulomb_slope = _screened_coulomb(numbers[i], numbers[j], d)
    switch, switch_slope = _switched_off(d / reach[near])
    slope = coulomb_slope * switch + coulomb * switch_slope / reach[near]
    slopes[near] = (slope / np.maximum(d, 1e-6))[:, None] * pairs.vector[near]
    for atoms in (i, j):
        energies += np.bincount(atoms, coulomb * switch / 2, len(numbers))
    return energies, slopes


def _screened_coulomb(z_i, z_j, distance):
    """The universal repulsion at `distance` [P], and its derivative."""
    rounded = (distance**4 + CORE**4) ** 0.25
    rate = (z_i**0.23 + z_j**0.23) / SCREENING_LENGTH
    terms = [(a * np.exp(-b * rate * rounded), b * rate) for a, b in SCREENING]
    factor = COULOMB * z_i * z_j / rounded
    energy = factor * sum(term for term, _ in terms)
    slope = -energy / rounded - factor * sum(term * steep for term, steep in terms)
    return energy, slope * (distance / rounded) ** 3


def _switched_off(x):
    """1 at 0, 0 at 1 with two continuous derivatives, and its derivative."""
    left = 1 - x
    return left**3 * (10 - 15 * left + 6 * left**2), -30 * (left * x) ** 2
