"""Forces as F = -dE/dx, and how a loss on forces reaches the parameters.

A loss L(E, F) wants sum_b dL/dE_b dE_b/dtheta + sum_i dL/dF_i . dF_i/dtheta. The second sum is the
derivative of -dE/dtheta along v = dL/dF. Automatic differentiation gives it as a second derivative
of the network, at several times the cost of a first one. A central difference gives it from first
derivatives at two displaced copies x +- s v, and their mean is the first sum, both up to s^2. In
single precision rounding adds some 1e-4 of the whole gradient, 1e-3 for structures of 500 atoms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.func import functional_call

if TYPE_CHECKING:
    from collections.abc import Callable

DISPLACEMENT = 0.005  # Angstrom, of the atom that moves most in each structure


def forces_of(energy: torch.Tensor, pos: torch.Tensor, create_graph: bool = False) -> torch.Tensor:
    """F = -dE/dx, [N, 3] eV/Angstrom, of `energy` [B] computed from `pos` [N, 3]."""
    return -torch.autograd.grad(energy.sum(), pos, create_graph=create_graph)[0]


class _Energy(nn.Module):
    """`energy_at` as a module whose weights can be replaced for one call."""

    def __init__(self, model: nn.Module, energy_at: Callable) -> None:
        super().__init__()
        self.model = model
        self.forward = energy_at


class _FirstOrder(torch.autograd.Function):
    @staticmethod
    def forward(ctx, model, energy_at, names, pos, batch, *parameters):
        with torch.enable_grad():
            leaf = pos.detach().requires_grad_()
            energy = energy_at(leaf, trained=False)
            forces = forces_of(energy, leaf)
        ctx.energy, ctx.names = _Energy(model, energy_at), names
        ctx.save_for_backward(pos, batch, *parameters)
        return energy.detach(), forces

    @staticmethod
    def backward(ctx, grad_energy, grad_forces):
        if torch.is_grad_enabled():
            raise RuntimeError(
                "energies and forces are differentiable once here; let the positions require grad"
            )
        pos, batch, *parameters = ctx.saved_tensors
        largest = torch.zeros_like(grad_energy).scatter_reduce(
            0, batch, grad_forces.norm(dim=-1).to(grad_energy.dtype), "amax"
        )  # [B]
        step = DISPLACEMENT / largest.clamp(min=torch.finfo(largest.dtype).tiny)
        shift = grad_forces * step[batch, None]
        slope = largest / (2 * DISPLACEMENT)
        weights = torch.cat([grad_energy / 2 - slope, grad_energy / 2 + slope])
        leaves = {n: p.detach().requires_grad_() for n, p in zip(ctx.names, parameters)}
        with torch.enable_grad():
            replaced = {f"model.{name}": leaf for name, leaf in leaves.items()}
            displaced = torch.cat([pos + shift, pos - shift])
            energy = functional_call(ctx.energy, replaced, (displaced,))
        if not energy.requires_grad:  # all that it depends on is frozen
            return (None,) * (5 + len(leaves))
        grads = torch.autograd.grad(energy, list(leaves.values()), weights, allow_unused=True)
        return None, None, None, None, None, *grads


def energy_and_forces(
    model: nn.Module, energy_at: Callable, pos: torch.Tensor, batch: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Energies [B] and their exact forces [N, 3], differentiable once in the model's parameters.

    Args:
        model: whose parameters are trained.
        energy_at: energies [k * B] of k copies of the structures, one after the other, from their
            positions [k * N, 3]; with `trained=False` differentiable in these alone.
        pos: [N, 3], Angstrom.
        batch: [N], the structure of each atom.

    Raises:
        RuntimeError: in backward, if a second derivative is asked for.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return _FirstOrder.apply(model, energy_at, list(trained), pos, batch, *trained.values())
