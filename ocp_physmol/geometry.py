"""Which atoms are bonded, yes or no.

A distance is compared with the sum of two covalent radii (ASE's, Cordero 2008).
"""

import numpy as np
from ase.data import covalent_radii

REACH = 1.25  # longest bond, in sums of two covalent radii; a hydrogen bond has about 1.9


def bonded(first: np.ndarray, second: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Whether pairs of atoms, given by atomic numbers and distance (Angstrom), are bonded."""
    return distance < REACH * (covalent_radii[first] + covalent_radii[second])


def bonds(numbers: np.ndarray, positions: np.ndarray) -> set[tuple[int, int]]:
    """The bonded pairs (i, j), i < j, of n atoms at `positions` [n, 3], Angstrom, not periodic."""
    i, j = np.triu_indices(len(numbers), k=1)
    distance = np.linalg.norm(positions[i].astype(float) - positions[j], axis=1)
    chosen = bonded(numbers[i], numbers[j], distance)
    return set(zip(i[chosen].tolist(), j[chosen].tolist()))
