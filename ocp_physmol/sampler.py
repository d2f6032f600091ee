"""Which structures a rank evaluates."""

from __future__ import annotations

from fairchem.core.common import distutils

from ocp_physmol.errors import UserError


def evaluation_batches(size: int, batch_size: int) -> list[range]:
    """This rank's share of a data set's batches: all ranks together see every entry once.

    They are the batches that a single rank would see, so that no number depends on how many ranks
    there are; only where there are fewer batches than ranks, they are smaller. (fairchem's sampler
    repeats entries until all ranks have as many.)

    Raises:
        UserError: if there are fewer entries than ranks.
    """
    ranks, rank = distutils.get_world_size(), distutils.get_rank()
    if size < ranks:
        raise UserError(f"{size} structures cannot be shared by {ranks} ranks; use fewer ranks")
    batch_size = min(batch_size, size // ranks)
    batches = [range(first, min(first + batch_size, size)) for first in range(0, size, batch_size)]
    return batches[rank::ranks]
