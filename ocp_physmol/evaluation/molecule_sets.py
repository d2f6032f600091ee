"""The molecules of a data set that are relaxed."""

from collections.abc import Sequence

import numpy as np
from torch_geometric.data import Data

from ocp_physmol.datasets.identifiers import identifier
from ocp_physmol.errors import UserError

MOLECULES = 256  # to relax; the paper takes its 128 smallest and 128 random ones


def paper_set(structures: Sequence[Data], smallest: int, random: int, seed: int = 0) -> list[int]:
    """Indices of the smallest molecules, smallest first, and then of random ones of the rest.

    Size is the number of atoms; of equal ones the lower `sid` comes first. All indices, if there
    are not as many structures.
    """
    sizes = [(int(s.natoms), identifier(s.sid)) for s in structures]
    order = sorted(range(len(sizes)), key=sizes.__getitem__)
    rest = np.random.default_rng(seed).permutation(order[smallest:])
    return order[:smallest] + rest[:random].tolist()


def by_gdb_index(structures: Sequence[Data], indices: Sequence[int]) -> list[Data]:
    """The structures whose `sid` are these GDB indices; a UserError names one that is not there."""
    found = {identifier(s.sid): s for s in structures}
    for index in indices:
        if index not in found:
            raise UserError(
                f"{getattr(structures, 'path', 'the data')} has no structure with the sid {index}; "
                "draw another one, or from the split that holds it"
            )
    return [found[index] for index in indices]
