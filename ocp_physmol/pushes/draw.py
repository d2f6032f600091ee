"""Where molecules are pushed: all directions and distances that relaxations pass."""

import numpy as np
import torch
from numpy.random import Generator
from torch_geometric.data import Data

from ocp_physmol.model.graph import find_neighbors
from ocp_physmol.pushes.elastic_network import ElasticNetwork

BOND = 3.0  # Angstrom, longer than any
SCALES = 12.0  # largest push over smallest: a relaxation passes all distances from the minimum
CLEFT = 0.15  # share of molecules that are cleft in two, as in the assembly of section 4.4
APART = 0.8  # Angstrom, the largest distance that the parts of a cleft molecule are moved
SOFT = 0.5  # share of the others that are pushed along soft directions, as by heat


def obstacle(entry: Data) -> str | None:
    """What of a structure is not for pushes, which are of free molecules; None if nothing is."""
    if "pos_relaxed" in entry:
        return "pos_relaxed beside other positions"
    if "fixed" in entry and entry.fixed.any():
        return "fixed atoms"
    if bonded_across_the_cell(entry, torch.tensor([len(entry.pos)])).any():
        return "atoms that are bonded across the boundaries of the cell"
    return None


def bonded_across_the_cell(data: Data, natoms: torch.Tensor) -> torch.Tensor:
    """Which structures of a batch with `natoms` [B] have bonds out of a cell, [B] (bool)."""
    cell, pbc = getattr(data, "cell", None), getattr(data, "pbc", None)
    return find_neighbors(data.pos, natoms, BOND, cell, pbc).across


def pushed_positions(
    network: ElasticNetwork, noise: float, generators: list[Generator]
) -> torch.Tensor:
    """Positions [D, n, 3] of the network's molecules, turned and shifted back onto the minima.

    Some are cleft along a random plane, its sides moved apart. All others are displaced evenly, or
    further along soft directions, by root mean squares between noise / SCALES and noise
    (Angstrom), log-uniform. Each molecule has a generator.
    """
    normal, plane = np.zeros(network.minimum.shape), np.zeros((len(generators), 3))
    uniform = np.zeros((5, len(generators), 1, 1))
    for k, (generator, n) in enumerate(zip(generators, network.mask.sum(1).tolist())):
        normal[k, :n] = generator.standard_normal((n, 3))
        plane[k] = generator.standard_normal(3)
        uniform[:, k, 0, 0] = generator.random(5)
    evenly, across, (scale, soft, cleft, which, apart) = (
        torch.as_tensor(draw).to(network.minimum) for draw in (normal, plane, uniform)
    )  # [D, n, 3], [D, 3] and five of [D, 1, 1]
    push = torch.where(soft < SOFT, network.soft_displacements(evenly), evenly)
    push = _scaled(network, push, 0.01 * noise)
    push = network.align(network.minimum + push) - network.minimum  # without rigid motions
    push = _scaled(network, push, noise * SCALES**-scale)
    parting = _parting(network, across / across.norm(dim=1, keepdim=True), which, APART * apart)
    push = torch.where(cleft < CLEFT, parting, push)
    return network.align(network.minimum + push)


def size(network: ElasticNetwork, push: torch.Tensor) -> torch.Tensor:
    """Root mean square of the coordinates of displacements [D, n, 3], [D, 1, 1]."""
    count = 3 * network.mask.sum(1)[:, None, None]
    return (push.square().sum((1, 2), keepdim=True) / count).sqrt()


def _scaled(network: ElasticNetwork, push: torch.Tensor, to) -> torch.Tensor:
    return push * (to / size(network, push).clamp(min=1e-6))


def _parting(network: ElasticNetwork, normal, which, apart) -> torch.Tensor:
    """Displacements [D, n, 3] by `apart` [D, 1, 1] along the unit vectors `normal` [D, 3] of the
    atoms above a plane through one atom, chosen by `which` [D, 1, 1] from 0 to 1."""
    mask = network.mask
    height = torch.einsum("dna,da->dn", network.minimum, normal)
    natoms = mask.sum(1, keepdim=True)
    atom = (which[:, 0] * natoms).long()
    level = height.gather(1, torch.minimum(atom, natoms - 1))  # in float32, `which` may be 1
    return ((height > level) & mask)[..., None] * (apart * normal[:, None])
