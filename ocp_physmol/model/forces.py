"""Forces as F = -dE/dx, and how a loss on forces reaches the parameters.

A loss L(E, F) wants sum_b dL/dE_b dE_b/dtheta + sum_i dL/dF_i . dF_i/dtheta. The second sum is the
derivative of -dE/dtheta along v = dL/dF. Automatic differentiation gives it as a second derivative
of the network, at several times the cost of a first one. A central difference gives it from first
derivatives at two displaced copies x +- s v, and their mean is the first sum, both up to s^2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DISPLACEMENT = 0.005  # Angstrom, of the atom that moves most in each structure


def forces_of(energy: torch.Tensor, pos: torch.Tensor, create_graph: bool = False) -> torch.Tensor:
    """F = -dE/dx, [N, 3] eV/Angstrom, of `energy` [B] computed from `pos` [N, 3]."""
    return -torch.autograd.grad(energy.sum(), pos, create_graph=create_graph)[0]


class _FirstOrder(torch.autograd.Function):
    @staticmethod
    def forward(ctx, energy_at, pos, batch, *parameters):
        with torch.enable_grad():
            leaf = pos.detach().requires_grad_()
            energy = energy_at(leaf, trained=False)
            forces = forces_of(energy, leaf)
        ctx.energy_at, ctx.parameters = energy_at, parameters
        ctx.save_for_backward(pos, batch)
        return energy.detach(), forces

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_energy, grad_forces):
        pos, batch = ctx.saved_tensors
        largest = torch.zeros_like(grad_energy).scatter_reduce(
            0, batch, grad_forces.norm(dim=-1).to(grad_energy.dtype), "amax"
        )  # [B]
        step = DISPLACEMENT / largest.clamp(min=torch.finfo(largest.dtype).tiny)
        shift = grad_forces * step[batch, None]
        slope = largest / (2 * DISPLACEMENT)
        weights = torch.cat([grad_energy / 2 - slope, grad_energy / 2 + slope])
        with torch.enable_grad():
            energy = ctx.energy_at(torch.cat([pos + shift, pos - shift]))
            grads = torch.autograd.grad(energy, ctx.parameters, weights, allow_unused=True)
        return None, None, None, *grads


def energy_and_forces(
    energy_at: Callable[[torch.Tensor], torch.Tensor],
    pos: torch.Tensor,
    batch: torch.Tensor,
    parameters: Sequence[torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Energies [B] and their exact forces [N, 3], differentiable once in `parameters`.

    Args:
        energy_at: energies [k * B] of k copies of the structures, one after the other, from their
            positions [k * N, 3].
        pos: [N, 3], Angstrom.
        batch: [N], the structure of each atom.
        parameters: all that `energy_at` depends on and that is trained.
    """
    return _FirstOrder.apply(energy_at, pos, batch, *parameters)
