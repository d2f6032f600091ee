"""The graph of a batch: all pairs of atoms closer than the cutoff, and their distances."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch_geometric.utils import scatter

from ocp_physmol.model.cell_list import listed_pairs
from ocp_physmol.model.radial import cosine_envelope

MIN_DISTANCE = 1e-6  # Angstrom; keeps derivatives finite for atoms in the same place
LARGE = 1000  # atoms; from here on ASE's cell list, linear in the atoms, beats all pairs


@dataclass
class Neighbors:
    """The pairs of neighbours in a batch of structures.

    Every unordered pair stands once, and every periodic image is a pair of its own.
    """

    natoms: torch.Tensor  # [B]
    pair_index: torch.Tensor  # [2, P], atoms i and j
    shift: torch.Tensor | None  # [P, 3], added to pos_j - pos_i, Angstrom; None: all are zero

    @cached_property
    def batch(self) -> torch.Tensor:
        """The structure that each atom belongs to, [N]."""
        return torch.repeat_interleave(self.natoms)

    @property
    def across(self) -> torch.Tensor:
        """Which structures have neighbours across the boundaries of their cell, [B] (bool)."""
        found = torch.zeros_like(self.natoms, dtype=torch.bool)
        if self.shift is not None:
            found[self.batch[self.pair_index[0]][self.shift.any(dim=1)]] = True
        return found


@dataclass
class Graph(Neighbors):
    """Pairs of neighbours with their distances, and the directed edges made of them.

    The E = 2P + N edges are, in this order: the pairs, the pairs reversed, and an edge of length
    zero from each atom to itself, since an atom's context holds the atom (3.3).
    """

    pair_vector: torch.Tensor  # [P, 3], from i to j, Angstrom
    pair_distance: torch.Tensor  # [P], Angstrom
    pair_envelope: torch.Tensor  # [P], phi of Eq. 3
    center: torch.Tensor  # [E], atom i that looks
    neighbor: torch.Tensor  # [E], atom j that is looked at
    distance: torch.Tensor  # [E], Angstrom
    envelope: torch.Tensor  # [E]

    def direction(self) -> torch.Tensor:
        """Unit vectors [E, 3] from center to neighbor, and zero from an atom to itself."""
        unit = self.pair_vector / self.pair_distance[:, None]
        return torch.cat([unit, -unit, unit.new_zeros(len(self.batch), 3)])


@torch.no_grad()
def find_neighbors(
    pos: torch.Tensor,
    natoms: torch.Tensor,
    cutoff: float,
    cell: torch.Tensor | None = None,
    pbc: torch.Tensor | None = None,
) -> Neighbors:
    """Neighbours in a batch of structures.

    Molecules, also molecules in a box that is larger than they are by the cutoff, are searched
    all at once; structures with neighbours across a boundary and very large ones, one by one.

    Args:
        pos: [N, 3], Angstrom, of structures of `natoms` [B] atoms, one structure after the other.
        cutoff: tau, Angstrom.
        cell: [B, 3, 3], lattice vectors as rows, Angstrom; None for no periodicity.
        pbc: [B, 3], which of them are periodic; None for all (that are not zero).
    """
    with torch.autocast(pos.device.type, enabled=False):  # half precision loses neighbours
        repeats = _image_repeats(pos, natoms, cutoff, cell, pbc)
        if cell is None or repeats is None:
            cell, repeats = pos.new_zeros(len(natoms), 3, 3), natoms.new_zeros(len(natoms), 3)
        alone = (natoms > LARGE) | repeats.any(dim=1)
        pair_index = _pairs_within(pos, natoms.masked_fill(alone, 0), natoms, cutoff)
        if not alone.any():
            return Neighbors(natoms, pair_index, None)

        pairs, shifts = [pair_index], [pos.new_zeros(pair_index.shape[1], 3)]
        last, images = natoms.cumsum(0).tolist(), repeats.tolist()
        first = [0, *last[:-1]]
        for g in alone.nonzero()[:, 0].tolist():
            own = pos[first[g] : last[g]]
            lattice = cell.reshape(-1, 3, 3)[g].to(pos.dtype)
            search = _cell_list if len(own) > LARGE else _all_images
            pair, image = search(own, lattice, images[g], cutoff)
            pairs.append(pair + first[g])
            shifts.append(image.to(pos.dtype) @ lattice)
        return Neighbors(natoms, torch.cat(pairs, dim=1), torch.cat(shifts))


def measure(pos: torch.Tensor, neighbors: Neighbors, cutoff: float) -> Graph:
    """Graph of structures whose neighbours are known, differentiable in `pos` [N, 3] (Angstrom)."""
    i, j = neighbors.pair_index
    with torch.autocast(pos.device.type, enabled=False):  # distances need all digits
        vector = pos.index_select(0, j) - pos.index_select(0, i)
        if neighbors.shift is not None:
            vector = vector + neighbors.shift
        distance = vector.square().sum(-1).clamp(min=MIN_DISTANCE**2).sqrt()
        envelope = cosine_envelope(distance, cutoff)

    atoms = torch.arange(len(pos), device=pos.device)
    return Graph(
        natoms=neighbors.natoms,
        pair_index=neighbors.pair_index,
        shift=neighbors.shift,
        pair_vector=vector,
        pair_distance=distance,
        pair_envelope=envelope,
        center=torch.cat([i, j, atoms]),
        neighbor=torch.cat([j, i, atoms]),
        distance=torch.cat([distance, distance, pos.new_zeros(len(pos))]),
        envelope=torch.cat([envelope, envelope, pos.new_ones(len(pos))]),
    )


def _pairs_within(pos, searched, natoms, cutoff):
    """Pairs i < j inside the cutoff of the structures with `searched` > 0 atoms."""
    squared = searched.square()
    graph = torch.repeat_interleave(squared)
    local = torch.arange(len(graph), device=pos.device) - (squared.cumsum(0) - squared)[graph]
    n, first = searched[graph], (natoms.cumsum(0) - natoms)[graph]
    i, j = local // n + first, local % n + first
    once = i < j
    i, j = i[once], j[once]
    close = (pos[j] - pos[i]).square().sum(-1) < cutoff**2
    return torch.stack([i[close], j[close]])


def _image_repeats(pos, natoms, cutoff, cell, pbc):
    """How many images of its cell each structure can see along each lattice vector: [B, 3].

    None where no structure sees any. In fractional coordinates along one axis, two atoms differ by
    at most the structure's spread, and the cutoff is cutoff / height of the cell.
    """
    if cell is None:
        return None
    cell = cell.reshape(-1, 3, 3).to(pos.dtype)
    given = cell.any(dim=-1)  # a zero vector is no period
    periodic = given if pbc is None else given & pbc.reshape(-1, 3).to(torch.bool)
    if not periodic.any():
        return None
    # for zero vectors, the pseudoinverse stands for unit vectors that are normal to the others
    inverse = torch.linalg.inv(cell) if given.all() else torch.linalg.pinv(cell)
    batch = torch.repeat_interleave(natoms, output_size=len(pos))
    fractional = torch.einsum("na,nab->nb", pos, inverse[batch])  # [N, 3]
    top, bottom = (scatter(fractional, batch, 0, len(natoms), side) for side in ("max", "min"))
    reach = cutoff * inverse.norm(dim=1)  # [B, 3]: cutoff over the cell's heights
    repeats = (torch.ceil(reach + (top - bottom) - 1e-6).long() - 1).clamp(min=0) * periodic
    return repeats if repeats.any() else None


def _all_images(pos, cell, count, cutoff):
    """All pairs of atoms, of all images; memory grows with atoms^2, for small structures."""
    ranges = [torch.arange(-c, c + 1, device=pos.device) for c in count]
    images = torch.cartesian_prod(*ranges)  # [S, 3], in lexical order, (0, 0, 0) in the middle
    images = images[len(images) // 2 :]  # the other half holds the same pairs reversed
    vector = pos[None, None] + (images.to(pos.dtype) @ cell)[:, None, None] - pos[None, :, None]
    close = vector.square().sum(-1) < cutoff**2  # [S, n, n]
    close[0] = close[0].triu(diagonal=1)
    image, i, j = close.nonzero(as_tuple=True)
    return torch.stack([i, j]), images[image]


def _cell_list(pos, cell, count, cutoff):
    """The same pairs through a cell list."""
    where = pos.double().cpu().numpy(), cell.double().cpu().numpy()
    i, j, image = listed_pairs(*where, [c > 0 for c in count], cutoff)
    pair = torch.as_tensor(np.stack([i, j]), device=pos.device)
    return pair, torch.as_tensor(image, device=pos.device)
