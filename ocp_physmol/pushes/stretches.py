"""How stiff bonds are, where a teacher has them too soft or too stiff: from harmonic frequencies.

GFN2-xTB's stretches are off by far more than its bends and torsions. With its modes u of a molecule
at the minimum of the data, a spring k along a bond changes a mode's curvature by k (u . s)^2, s the
bond's stretch. Springs for each pair of elements are fitted to the frequencies of some molecules.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from ase import Atoms
from torch_geometric.data import Batch

from ocp_physmol import geometry
from ocp_physmol.harmonic import PER_CM, internal_coordinates

LENGTH = 1.2  # Angstrom; a spring is a + b (length - LENGTH)
RANGE = 0.2  # Angstrom, of a stretch, over which a spring gives way
SOFT = 300.0  # 1/cm; below, frequencies count as their squares do
RIDGE = 1.0  # of the fit, in units of (1/cm)^2 / (eV/A^2)^2: kinds that hardly occur stay near zero
ROUNDS = 3  # of the fit: modes change with the springs


class Curved(NamedTuple):
    """A molecule at its minimum, with a teacher's second derivatives and other frequencies."""

    numbers: np.ndarray  # [n]
    positions: np.ndarray  # [n, 3], Angstrom
    hessian: np.ndarray  # [3n, 3n], eV/Angstrom^2, the teacher's
    frequencies: np.ndarray  # [modes], 1/cm, of the data


class Stretches:
    """Springs along bonds, which change their stiffness and not their lengths.

    `springs` has for each pair of atomic numbers, the lower first, a (eV/Angstrom^2) and b
    (eV/Angstrom^3).
    """

    def __init__(self, springs: dict[tuple[int, int], tuple[float, float]]) -> None:
        self.springs = springs

    @classmethod
    def fitted(cls, molecules: Sequence[Curved]) -> "Stretches":
        """The springs that bring the frequencies of a teacher nearest to those of the data."""
        kinds = sorted({kind for m in molecules for kind, *_ in _bonds(m.numbers, m.positions)})
        found, values = cls({}), np.zeros(2 * len(kinds))
        for _ in range(ROUNDS):
            systems = [_linearized(molecule, kinds, found) for molecule in molecules]
            slopes = np.concatenate([slope for slope, _ in systems])
            lacking = np.concatenate([lack for _, lack in systems])
            normal = slopes.T @ slopes + RIDGE * np.eye(len(values))
            values = values + np.linalg.solve(normal, slopes.T @ lacking)
            found = cls(dict(zip(kinds, map(tuple, values.reshape(-1, 2).tolist()))))
        return found

    def hessian(self, numbers: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """What the springs add to the second derivatives at a minimum, [3n, 3n] eV/Angstrom^2."""
        added = np.zeros((positions.size, positions.size))
        for kind, (_, _), length, stretch in _bonds(numbers, positions):
            added += self._stiffness(kind, length) * np.outer(stretch, stretch)
        return added

    def of_bonds(self, numbers: np.ndarray, positions: np.ndarray) -> dict[str, torch.Tensor]:
        """As data have them: `stretch_index` [2, bonds], `stretch_stiffness` [bonds], eV/A^2."""
        bonds = list(_bonds(numbers, positions))
        stiffness = [self._stiffness(kind, length) for kind, _, length, _ in bonds]
        pairs = torch.tensor([pair for _, pair, *_ in bonds], dtype=torch.long).view(-1, 2)
        return {"stretch_index": pairs.T.contiguous(), "stretch_stiffness": torch.tensor(stiffness)}

    def _stiffness(self, kind: tuple[int, int], length: float) -> float:
        a, b = self.springs.get(kind, (0.0, 0.0))
        return a + b * (length - LENGTH)


def stretch_forces(batch: Batch, chosen: torch.Tensor, pos: torch.Tensor) -> torch.Tensor:
    """What the springs of the `chosen` [B] (bool) molecules add to the forces on their M atoms.

    [M, 3], eV/Angstrom, at positions `pos` [M, 3]; zero at the minima, which `batch` holds.
    """
    atoms = chosen[batch.batch]
    place = atoms.cumsum(0) - 1  # of an atom among those chosen
    own = atoms[batch.stretch_index[0]]
    first, second = place[batch.stretch_index[:, own]]
    minimum, stiffness = batch.pos[atoms], batch.stretch_stiffness[own].to(pos)
    vector = pos[first] - pos[second]
    distance = vector.norm(dim=1)
    stretched = distance - (minimum[first] - minimum[second]).norm(dim=1)
    pull = stiffness * stretched * torch.exp(-((stretched / RANGE) ** 2))
    pull = (pull / distance)[:, None] * vector
    return torch.zeros_like(pos).index_add(0, first, -pull).index_add(0, second, pull)


def _bonds(numbers: np.ndarray, positions: np.ndarray) -> Iterable[tuple]:
    """Of each bond the kind, both atoms, the length, and the stretch s [3n]."""
    for i, j in sorted(geometry.bonds(numbers, positions)):
        vector = positions[i] - positions[j]
        length, stretch = float(np.linalg.norm(vector)), np.zeros(positions.shape)
        stretch[i], stretch[j] = vector / length, -vector / length
        first, second = sorted((int(numbers[i]), int(numbers[j])))
        yield (first, second), (i, j), length, stretch.reshape(-1)


def _linearized(
    molecule: Curved, kinds: list[tuple[int, int]], springs: Stretches
) -> tuple[np.ndarray, np.ndarray]:
    """Slopes [modes, 2 kinds] of the frequencies by a and b, and what they lack [modes], 1/cm."""
    numbers, positions, hessian, frequencies = molecule
    atoms = Atoms(numbers, positions)
    atoms.set_masses("most_common")
    to_internal = internal_coordinates(atoms, len(frequencies))
    hessian = hessian + springs.hessian(numbers, positions)
    curvatures, modes = np.linalg.eigh(to_internal @ hessian @ to_internal.T)
    cartesian = modes.T @ to_internal  # [modes, 3n]
    slopes = np.zeros((len(modes), 2 * len(kinds)))
    for kind, _, length, stretch in _bonds(numbers, positions):
        share, place = (cartesian @ stretch) ** 2, 2 * kinds.index(kind)
        slopes[:, place] += share
        slopes[:, place + 1] += share * (length - LENGTH)
    wanted = np.sort(frequencies)
    # d frequency / d curvature; imaginary and soft ones would weigh without bound
    weight = PER_CM**2 / (2 * np.maximum(wanted, SOFT))
    return slopes * weight[:, None], ((wanted / PER_CM) ** 2 - curvatures) * weight
