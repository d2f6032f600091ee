"""Neighbours through ASE's cell list, whose cost grows linearly with the atoms."""

from collections.abc import Sequence

import numpy as np
from ase.neighborlist import primitive_neighbor_list


def listed_pairs(
    pos: np.ndarray, cell: np.ndarray, pbc: Sequence[bool], cutoff: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs i and j [P], each once, and the images of the cell [P, 3] that j is in.

    Atoms at `pos` [N, 3], lattice vectors in the rows of `cell` [3, 3]; Angstrom.
    """
    i, j, image = primitive_neighbor_list("ijS", pbc, cell, pos, cutoff, self_interaction=False)
    # one of (i, j, S) and (j, i, -S): the one whose (S, j - i) begins with a positive number
    once = np.sign(np.column_stack([image, j - i])) @ [27, 9, 3, 1] > 0
    return i[once], j[once], image[once]
