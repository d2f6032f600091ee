"""Which atoms are bonded, yes or no, and to what; the charge that a structure states.

A distance is compared with the sum of two covalent radii (ASE's, Cordero 2008).
"""

from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from scipy.spatial import cKDTree

CHARGES = ("charge", "total_charge", "net_charge", "molecular_charge")  # names in `info`
REACH = 1.25  # longest bond, in sums of two covalent radii; a hydrogen bond has about 1.9


def bonded(first: np.ndarray, second: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Whether pairs of atoms, given by atomic numbers and distance (Angstrom), are bonded."""
    return distance < REACH * (covalent_radii[first] + covalent_radii[second])


def bonds(numbers: np.ndarray, positions: np.ndarray) -> set[tuple[int, int]]:
    """The bonded pairs (i, j), i < j, of n atoms at `positions` [n, 3], Angstrom, not periodic.

    There are none where positions are not finite.
    """
    if not np.isfinite(positions).all():
        return set()
    positions = positions.astype(float)
    longest = 2 * REACH * covalent_radii[numbers].max(initial=0.0)
    i, j = cKDTree(positions).query_pairs(longest, output_type="ndarray").T
    chosen = bonded(numbers[i], numbers[j], np.linalg.norm(positions[i] - positions[j], axis=1))
    return set(zip(i[chosen].tolist(), j[chosen].tolist()))


def stated_charges(atoms: Atoms) -> list[Any]:
    """What a structure says of its charge: the sum over its atoms, and values in its `info`."""
    named = [value for key, value in atoms.info.items() if str(key).lower() in CHARGES]
    return [float(atoms.get_initial_charges().sum()), *named]


def is_neutral(charge: Any) -> bool:
    try:
        return abs(float(charge)) < 0.5
    except (TypeError, ValueError):
        return False


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
