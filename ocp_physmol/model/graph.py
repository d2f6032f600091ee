"""The neighbours of every atom and their distances: computed once, shared by all passes."""

from dataclasses import dataclass

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


@dataclass
class Neighbors:
    """Who is whose neighbour in a batch of structures; a graph without its geometry."""

    natoms: torch.Tensor  # [B]
    pair_index: torch.Tensor  # [2, P]
    shift: torch.Tensor | None  # [P, 3], Angstrom, of the image that atom j of a pair is

    @property
    def batch(self) -> torch.Tensor:
        """Which structure an atom belongs to, [N]."""
        return torch.repeat_interleave(self.natoms)

    def repeat(self, copies: int) -> "Neighbors":
        """Of so many copies of the batch, one after the other."""
        if copies == 1:
            return self
        num_atoms = int(self.natoms.sum())
        return Neighbors(
            self.natoms.repeat(copies),
            torch.cat([self.pair_index + c * num_atoms for c in range(copies)], dim=1),
            None if self.shift is None else self.shift.repeat(copies, 1),
        )


def _all_digits(pos: torch.Tensor):
    """Geometry is not for the half precision of autocast."""
    return torch.autocast(pos.device.type, enabled=False)


def find_neighbors(
    pos: torch.Tensor,
    natoms: torch.Tensor,
    cutoff: float,
    cell: torch.Tensor | None = None,
    pbc: torch.Tensor | None = None,
) -> Neighbors:
    """Neighbours in a batch of structures.

    Args:
        pos: [N, 3], Angstrom, the structures one after the other.
        natoms: [B], atoms of each structure.
        cutoff: tau, Angstrom.
        cell: [B, 3, 3], lattice vectors as rows, Angstrom; None for no periodicity.
        pbc: [B, 3], which of them are periodic; None for all (that are not zero).
    """
    with torch.no_grad(), _all_digits(pos):
        return Neighbors(natoms, *neighbor_pairs(pos.detach(), natoms, cutoff, cell, pbc))


def measure(pos: torch.Tensor, neighbors: Neighbors, cutoff: float) -> Graph:
    """Graph of structures whose neighbours are known, differentiable in `pos` [N, 3] (Angstrom)."""
    with _all_digits(pos):
        i, j = neighbors.pair_index
        vector = pos.index_select(0, j) - pos.index_select(0, i)
        if neighbors.shift is not None:
            vector = vector + neighbors.shift
        pair_distance = vector.square().sum(-1).clamp(min=MIN_DISTANCE**2).sqrt()
        pair_envelope = cosine_envelope(pair_distance, cutoff)

    atoms = torch.arange(len(pos), device=pos.device)
    return Graph(
        pair_index=neighbors.pair_index,
        pair_distance=pair_distance,
        pair_envelope=pair_envelope,
        center=torch.cat([i, j, atoms]),
        neighbor=torch.cat([j, i, atoms]),
        distance=torch.cat([pair_distance, pair_distance, pos.new_zeros(len(pos))]),
        envelope=torch.cat([pair_envelope, pair_envelope, pos.new_ones(len(pos))]),
        batch=neighbors.batch,
        num_graphs=len(neighbors.natoms),
    )
