"""Filters on knots: D^K, D^V and V psi depend on the centre's type and the distance alone.

So their networks need not see every edge. They are evaluated for each type on a grid of distances,
once for all structures of a call, and read in between as a cubic spline with continuous second
derivatives, whose own derivative is what the forces are made of. With num_rbf knots an Angstrom, it
follows basis functions that are the narrower the more there are of them, to some 1e-4 of an energy
as long as they keep their widths.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ocp_physmol.model.fast.splines import MAX_SPACING, STENCIL
from ocp_physmol.model.graph import Graph
from ocp_physmol.model.radial import RadialBasis, raised_cosine


class Grid:
    """Distances at which filters are evaluated, for T types of atoms.

    `gaussians` and `psi` [T, R + 4, num_rbf] are Eq. 2 there without and with its envelope.
    """

    def __init__(self, basis: RadialBasis, types: torch.Tensor) -> None:
        self.cutoff, self.types = basis.cutoff, types
        self.intervals = math.ceil(basis.cutoff * max(basis.num_rbf, 1 / MAX_SPACING))
        self.spacing = basis.cutoff / self.intervals
        distance = self.spacing * torch.arange(-3, self.intervals + 4).to(basis.mu)
        repeated = distance.repeat(len(types))
        every_type = types.repeat_interleave(len(distance))
        gaussians = basis(every_type, repeated, torch.ones_like(repeated))
        self.gaussians = gaussians.unflatten(0, (len(types), len(distance)))
        # no edge reads the envelope's continuation: it is there for the spline to be smooth
        self.psi = raised_cosine(distance, basis.cutoff)[:, None] * self.gaussians


@dataclass
class Tables:
    """Filters on a grid, as coefficients of splines."""

    grid: Grid
    coefficients: Sequence[torch.Tensor]  # [T * R, C] of each network

    @classmethod
    def of(cls, grid: Grid, values: Sequence[torch.Tensor]) -> "Tables":
        """Of what networks give on the grid, [T, R + 4, C] each."""
        return cls(grid, [_Unsmooth.apply(value).flatten(0, 1) for value in values])

    def place(self, atom_type: torch.Tensor, graph: Graph) -> "Knots":
        """Where the edges of `graph` between atoms of `atom_type` [N] read them."""
        grid = self.grid
        position = graph.distance.clamp(max=grid.cutoff) / grid.spacing
        interval = position.detach().long().clamp(0, grid.intervals - 1)  # NaN must stay on it
        type_index = torch.searchsorted(grid.types, atom_type).index_select(0, graph.center)
        first = type_index * (grid.intervals + 3) + interval
        t = position - interval
        s = 1 - t
        weight = torch.stack(
            [s**3 / 6, t * t * (t / 2 - 1) + 2 / 3, s * s * (s / 2 - 1) + 2 / 3, t**3 / 6], dim=-1
        )
        return Knots(self.coefficients, first, weight)


@dataclass
class Knots:
    """Four consecutive knots for each edge, and their weights."""

    tables: Sequence[torch.Tensor]  # [T * R, C] of each network
    first: torch.Tensor  # [E], row of the first knot in a table
    weight: torch.Tensor  # [E, 4], summing to 1

    def append(self, count: int) -> "Knots":
        """With `count` more edges, which read four equal rows after the last one of a table."""
        return replace(
            self,
            first=torch.cat([self.first, self.first.new_full((count,), len(self.tables[0]))]),
            weight=torch.cat([self.weight, self.weight.new_full((count, 4), 0.25)]),
        )


class _Unsmooth(torch.autograd.Function):
    """Coefficients of the spline through values on the knots: [T, R + 4, C] to [T, R, C]."""

    @staticmethod
    def forward(ctx, values):
        count = values.shape[1] - 4
        out = values.new_zeros(len(values), count, values.shape[2])
        for k, weight in enumerate(STENCIL):
            out.add_(values[:, k : k + count], alpha=weight)
        return out

    @staticmethod
    def backward(ctx, grad):
        count = grad.shape[1]
        out = grad.new_zeros(len(grad), count + 4, grad.shape[2])
        for k, weight in enumerate(STENCIL):
            out[:, k : k + count].add_(grad, alpha=weight)
        return out
