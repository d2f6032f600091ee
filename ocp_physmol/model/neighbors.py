"""Neighbour search: all unordered pairs of atoms closer than the cutoff."""

import torch
from ase.neighborlist import primitive_neighbor_list

LARGE = 1000  # atoms; from here on ASE's cell list, linear in the atoms, beats all pairs


def neighbor_pairs(
    pos: torch.Tensor,
    natoms: torch.Tensor,
    cutoff: float,
    cell: torch.Tensor | None = None,
    pbc: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Each pair once: (i, j) stands for (j, i) too, and every periodic image is its own pair.

    Molecules, also molecules in a box that is larger than they are by the cutoff, are searched
    all at once; structures with neighbours across a boundary and very large ones, one by one.

    Args: as for `find_neighbors`.

    Returns:
        pair_index: [2, P], atoms i and j.
        shift: [P, 3], what to add to pos_j - pos_i, Angstrom; None where all shifts are zero.
    """
    repeats = _image_repeats(pos, natoms, cutoff, cell, pbc)
    alone = (natoms > LARGE) if repeats is None else (natoms > LARGE) | repeats.any(dim=1)
    pair_index = _pairs_within(pos, natoms.masked_fill(alone, 0), natoms, cutoff)
    if not alone.any():
        return pair_index, None

    pairs, shifts = [pair_index], [pos.new_zeros(pair_index.shape[1], 3)]
    first = (natoms.cumsum(0) - natoms).tolist()
    for g in alone.nonzero()[:, 0].tolist():
        own = pos[first[g] : first[g] + int(natoms[g])]
        if cell is None or repeats is None:
            lattice, count = pos.new_zeros(3, 3), [0, 0, 0]
        else:
            lattice, count = cell[g].to(pos.dtype), repeats[g].tolist()
        search = _cell_list if len(own) > LARGE else _all_images
        pair, image = search(own, lattice, count, cutoff)
        pairs.append(pair + first[g])
        shifts.append(image.to(pos.dtype) @ lattice)
    return torch.cat(pairs, dim=1), torch.cat(shifts)


def _pairs_within(pos, searched, natoms, cutoff):
    """Pairs i < j inside the cutoff of the structures with `searched` > 0 atoms."""
    squared = searched.square()
    graph = torch.repeat_interleave(squared)
    local = torch.arange(len(graph), device=pos.device) - (squared.cumsum(0) - squared)[graph]
    n, first = searched[graph], (natoms.cumsum(0) - natoms)[graph]
    i, j = torch.div(local, n, rounding_mode="floor") + first, local % n + first
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
    periodic = cell.abs().sum(-1) > 0  # a zero vector is no period
    if pbc is not None:
        periodic = periodic & pbc.reshape(-1, 3).to(torch.bool)
    if not periodic.any():
        return None
    complete = _complete(cell)
    inverse = torch.linalg.inv(complete)
    batch = torch.repeat_interleave(natoms, output_size=len(pos))
    fractional = torch.einsum("na,nab->nb", pos, inverse[batch])  # [N, 3]
    index = batch[:, None].expand(-1, 3)
    empty = torch.zeros(len(natoms), 3, dtype=pos.dtype, device=pos.device)
    spread = empty.scatter_reduce(0, index, fractional, "amax", include_self=False) - (
        empty.scatter_reduce(0, index, fractional, "amin", include_self=False)
    )
    reach = cutoff * inverse.norm(dim=1)  # [B, 3]: cutoff over the cell's heights
    repeats = (torch.ceil(reach + spread - 1e-6).long() - 1).clamp(min=0) * periodic
    return repeats if repeats.any() else None


def _complete(cell):
    """Cells [B, 3, 3] with their zero vectors replaced by unit vectors normal to the others."""
    missing = cell.abs().sum(-1) == 0  # [B, 3]
    if not missing.any():
        return cell
    cell = cell.clone()
    for g in missing.any(dim=1).nonzero()[:, 0].tolist():
        basis = torch.linalg.svd(cell[g])[2].flip(0)  # null space first
        for axis, normal in zip(missing[g].nonzero()[:, 0].tolist(), basis):
            cell[g, axis] = normal
    return cell


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
    """The same through ASE's cell list, whose cost grows linearly with the atoms."""
    i, j, image = primitive_neighbor_list(
        "ijS", [c > 0 for c in count], cell.double().cpu().numpy(), pos.double().cpu().numpy(),
        cutoff, self_interaction=False,
    )  # fmt: skip
    i, j, image = (torch.as_tensor(a, device=pos.device) for a in (i, j, image))
    # keep one of (i, j, S) and (j, i, -S): the larger in lexical order of (S, j - i)
    key = torch.cat([image, (j - i)[:, None]], dim=1)
    leading = (key != 0).to(torch.int8).argmax(dim=1, keepdim=True)
    once = key.gather(1, leading)[:, 0] > 0
    return torch.stack([i[once], j[once]]), image[once]
