"""Copies of a batch that a model evaluates beside the batch itself, in the same call."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch_geometric.data import Batch

PER_ATOM = {"atomic_numbers": (-1,), "tags": (-1,), "fixed": (-1,)}
# fairchem's own data sets batch `pbc` as [3 B]
PER_STRUCTURE = {"natoms": (-1,), "cell": (-1, 3, 3), "pbc": (-1, 3)}


@dataclass(frozen=True)
class Copy:
    """The structures of a batch of B structures and N atoms, changed.

    Args:
        name: key of its outputs among those of the batch.
        outputs: some of "energy", "forces" (which come with energies), "masked_logits".
        pos: [M, 3], Angstrom, new positions in the chosen structures; None: they stay.
        chosen: [B] bool, the structures that are copied, of M atoms; None: all.
        masked: [N] bool, atoms to hide; of a copy of all structures.
        stored: entries of a batch that are known for the copy, such as its prior.
        known: for the term that asked for the copy; models do not read it.
    """

    name: str
    outputs: tuple[str, ...]
    pos: torch.Tensor | None = None
    chosen: torch.Tensor | None = None
    masked: torch.Tensor | None = None
    stored: dict[str, torch.Tensor] = field(default_factory=dict)
    known: Any = None

    def atoms(self, batch: Batch) -> torch.Tensor | slice:
        """The atoms of the batch that are copied, as an index."""
        return slice(None) if self.chosen is None else self.chosen[batch.batch]

    def of(self, batch: Batch) -> Batch:
        """The copy as a batch of its own, with all that models read; `batch` is not changed."""
        changed = copy.copy(batch)
        if self.chosen is not None:
            for shapes, rows in ((PER_ATOM, self.atoms(batch)), (PER_STRUCTURE, self.chosen)):
                for key, shape in shapes.items():
                    if key in batch:
                        changed[key] = batch[key].reshape(shape)[rows]
            changed.batch = torch.repeat_interleave(changed.natoms)
        if self.pos is not None:
            changed.pos = self.pos
        for key, value in self.stored.items():
            changed[key] = value
        return changed


def renamed(copies: dict[str, Copy]) -> dict[str, Copy]:
    """The copies by the terms that need them, named by the term where one name means two copies."""

    def is_shared(copy: Copy) -> bool:
        same_name = [other for other in copies.values() if other.name == copy.name]
        return all(c.pos is copy.pos and c.masked is copy.masked for c in same_name)

    return {n: c if is_shared(c) else replace(c, name=n) for n, c in copies.items()}


def merged(copies: Iterable[Copy]) -> list[Copy]:
    """One copy for each name, with all outputs that are wanted under it."""
    by_name: dict[str, Copy] = {}
    for one in copies:
        former = by_name.get(one.name, one)
        by_name[one.name] = replace(one, outputs=tuple({*former.outputs, *one.outputs}))
    return list(by_name.values())
