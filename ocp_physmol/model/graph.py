"""The neighbours of every atom and their distances: computed once, shared by all passes."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch

from ocp_physmol.model.neighbors import neighbor_pairs
from ocp_physmol.model.radial import cosine_envelope

MIN_DISTANCE = 1e-6  # Angstrom; keeps derivatives finite for atoms in the same place


@dataclass
class Graph:
    """Pairs of atoms inside the cutoff, and the directed edges made of them.

    Every unordered pair (periodic images are pairs of their own) stands once in `pair_*`, [P].
    The E = 2P + N edges are, in this order: the pairs, the pairs reversed, and an edge of length
    zero from each atom to itself, since an atom's context holds the atom (3.3).
    """

    pair_index: torch.Tensor  # [2, P]
    pair_distance: torch.Tensor  # [P], Angstrom
    pair_envelope: torch.Tensor  # [P], phi of Eq. 3
    center: torch.Tensor  # [E], atom i that looks
    neighbor: torch.Tensor  # [E], atom j that is looked at
    distance: torch.Tensor  # [E], Angstrom
    envelope: torch.Tensor  # [E]
    batch: torch.Tensor  # [N], which structure an atom belongs to
    num_graphs: int

    @property
    def num_pairs(self) -> int:
        return self.pair_index.shape[1]

    def detach(self) -> Graph:
        """The same graph, cut off from the positions it was computed from."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return Graph(**{k: v.detach() if torch.is_tensor(v) else v for k, v in values.items()})


def build_graph(
    pos: torch.Tensor,
    natoms: torch.Tensor,
    cutoff: float,
    cell: torch.Tensor | None = None,
    pbc: torch.Tensor | None = None,
) -> Graph:
    """Graph of a batch of structures, differentiable in `pos`.

    Args:
        pos: [N, 3], Angstrom, the structures one after the other.
        natoms: [B], atoms of each structure.
        cutoff: tau, Angstrom.
        cell: [B, 3, 3], lattice vectors as rows, Angstrom; None for no periodicity.
        pbc: [B, 3], which of them are periodic; None for all (that are not zero).
    """
    with torch.no_grad():
        pair_index, shift = neighbor_pairs(pos.detach(), natoms, cutoff, cell, pbc)
    i, j = pair_index
    vector = pos.index_select(0, j) - pos.index_select(0, i)
    if shift is not None:
        vector = vector + shift
    pair_distance = vector.square().sum(-1).clamp(min=MIN_DISTANCE**2).sqrt()
    pair_envelope = cosine_envelope(pair_distance, cutoff)

    atoms = torch.arange(len(pos), device=pos.device)
    return Graph(
        pair_index=pair_index,
        pair_distance=pair_distance,
        pair_envelope=pair_envelope,
        center=torch.cat([i, j, atoms]),
        neighbor=torch.cat([j, i, atoms]),
        distance=torch.cat([pair_distance, pair_distance, pos.new_zeros(len(pos))]),
        envelope=torch.cat([pair_envelope, pair_envelope, pos.new_ones(len(pos))]),
        batch=torch.repeat_interleave(natoms, output_size=len(pos)),
        num_graphs=len(natoms),
    )
