"""Which atoms are bonded, yes or no, and to what.

A distance is compared with the sum of two covalent radii (ASE's, Cordero 2008).
"""

import numpy as np
from ase.data import chemical_symbols, covalent_radii

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


def environments(numbers: np.ndarray, positions: np.ndarray) -> list[str]:
    """What each of n atoms at `positions` [n, 3] (Angstrom) is bonded to: C(CHHO), H(C), ..."""
    neighbors: list[list[str]] = [[] for _ in numbers]
    for i, j in bonds(numbers, positions):
        neighbors[i].append(chemical_symbols[numbers[j]])
        neighbors[j].append(chemical_symbols[numbers[i]])
    return [
        f"{chemical_symbols[number]}({''.join(sorted(around))})"
        for number, around in zip(numbers, neighbors)
    ]
