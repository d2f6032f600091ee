"""Filters on knots: D^K, D^V and V psi depend on the centre's type and the distance alone.

So their networks need not see every edge. They are evaluated for each type on a grid of distances
and read in between as a cubic spline with continuous second derivatives, whose own derivative is
what the forces are made of. With num_rbf knots an Angstrom, it follows basis functions that are the
narrower the more there are of them, to some 1e-4 of an energy as long as they keep their widths.
"""

import math
from dataclasses import dataclass, replace

import torch

from ocp_physmol.model.graph import Graph
from ocp_physmol.model.radial import RadialBasis, raised_cosine

MAX_SPACING = 0.04  # Angstrom, for few and wide basis functions


@dataclass
class Knots:
    """Four consecutive knots for each edge, and their weights."""

    gaussians: torch.Tensor  # [T, R + 4, num_rbf] for T types: psi without its envelope
    psi: torch.Tensor  # the same with it
    first: torch.Tensor  # [E], row of the first knot in a table of T * R rows
    weight: torch.Tensor  # [E, 4], summing to 1
    trained: bool  # whether gradients reach the networks, or the distances alone

    def table(self, network, psi: torch.Tensor) -> torch.Tensor:
        """Spline coefficients [T * R, C] of a `network` from psi (on the knots) to C channels."""
        with torch.set_grad_enabled(self.trained and torch.is_grad_enabled()):
            return _Unsmooth.apply(network(psi)).flatten(0, 1)

    def append(self, count: int) -> "Knots":
        """With `count` more edges, which read four equal rows after the last one of a table."""
        num_rows = self.psi[:, 4:, 0].numel()
        return replace(
            self,
            first=torch.cat([self.first, self.first.new_full((count,), num_rows)]),
            weight=torch.cat([self.weight, self.weight.new_full((count, 4), 0.25)]),
        )


class _Unsmooth(torch.autograd.Function):
    """Coefficients of the spline through values on the knots: [T, R + 4, C] to [T, R, C].

    The inverse of the spline's own smoothing, 1 + D/6 with D the second difference, is
    1 - D/6 + D^2/36 up to sixth order; only neighbouring knots take part.
    """

    STENCIL = (1 / 36, -10 / 36, 54 / 36, -10 / 36, 1 / 36)

    @staticmethod
    def forward(ctx, values):
        count = values.shape[1] - 4
        out = values.new_zeros(len(values), count, values.shape[2])
        for k, weight in enumerate(_Unsmooth.STENCIL):
            out.add_(values[:, k : k + count], alpha=weight)
        return out

    @staticmethod
    def backward(ctx, grad):
        count = grad.shape[1]
        out = grad.new_zeros(len(grad), count + 4, grad.shape[2])
        for k, weight in enumerate(_Unsmooth.STENCIL):
            out[:, k : k + count].add_(grad, alpha=weight)
        return out


def place_on_knots(
    basis: RadialBasis, atom_type: torch.Tensor, graph: Graph, trained: bool = True
) -> Knots:
    """Knots for the edges of `graph` between atoms of `atom_type` [N]."""
    intervals = math.ceil(basis.cutoff * max(basis.num_rbf, 1 / MAX_SPACING))
    spacing = basis.cutoff / intervals
    types, type_index = torch.unique(atom_type, return_inverse=True)
    grid = spacing * torch.arange(-3, intervals + 4).to(graph.distance)
    with torch.set_grad_enabled(trained and torch.is_grad_enabled()):
        every_type = types.repeat_interleave(len(grid))
        distance = grid.repeat(len(types))
        gaussians = basis(every_type, distance, torch.ones_like(distance))
        gaussians = gaussians.unflatten(0, (len(types), len(grid)))
        # no edge reads the envelope's continuation: it is there for the spline to be smooth
        psi = raised_cosine(grid, basis.cutoff)[:, None] * gaussians
    position = graph.distance.clamp(max=basis.cutoff) / spacing
    interval = position.detach().long().clamp(0, intervals - 1)  # NaN must stay on the table
    first = type_index.index_select(0, graph.center) * (len(grid) - 4) + interval
    t = position - interval
    s = 1 - t
    weight = torch.stack(
        [s**3 / 6, t * t * (t / 2 - 1) + 2 / 3, s * s * (s / 2 - 1) + 2 / 3, t**3 / 6], dim=-1
    )
    return Knots(gaussians, psi, first, weight, trained)
