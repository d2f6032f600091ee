"""Forces as F = -dE/dx, and how a loss on forces reaches the parameters.

A loss L(E, F) wants sum_b dL/dE_b dE_b/dtheta + sum_i dL/dF_i . dF_i/dtheta. The second sum is the
derivative of -dE/dtheta along v = dL/dF. Automatic differentiation gives it as a second derivative
of the network, at several times the cost of a first one; a difference gives it from first ones, at
x and at x + s v. Those at x come with the forces, in one pass, before L is known, so they are of
the sum of all energies. With one K for the batch and s_b = 1 / (K - dL/dE_b), both sums are

    K sum_b dE_b/dtheta (x) - sum_b (K - dL/dE_b) dE_b/dtheta (x + s_b v).

The step s is the longest at which the curvature along it costs no more than rounding does: in
single precision, both some 1e-3 of the gradient.
"""

import torch
from torch.func import functional_call

from ocp_physmol.model.architecture import PhysMolEnergy, Structures


def energy_and_forces(
    model: PhysMolEnergy, structures: Structures, exact: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Energies [B] and their exact forces [N, 3].

    In training, gradients reach the parameters once; with `exact`, they reach parameters and
    positions any number of times.

    Raises:
        RuntimeError: in backward, if a second derivative is asked for where there is only a first.
    """
    training = torch.is_grad_enabled()
    pos = structures.pos
    if training and not exact:
        weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        return _FirstOrder.apply(model, structures, list(weights), pos, *weights.values())
    with torch.enable_grad():
        leaf = pos if pos.requires_grad else pos.detach().requires_grad_()
        energy = model(structures._replace(pos=leaf), exact, trained=training)
        forces = forces_of(energy, leaf, create_graph=training)
    return (energy, forces) if training else (energy.detach(), forces.detach())


def forces_of(energy: torch.Tensor, pos: torch.Tensor, create_graph: bool = False) -> torch.Tensor:
    """F = -dE/dx, [N, 3] eV/Angstrom, of `energy` [B] computed from `pos` [N, 3]."""
    return -torch.autograd.grad(energy.sum(), pos, create_graph=create_graph)[0]


class _FirstOrder(torch.autograd.Function):
    """Energies and forces whose gradients come from energies there and at a displaced copy."""

    @staticmethod
    def forward(ctx, model, structures, names, pos, *weights):
        leaf = pos.detach().requires_grad_()
        energy, found = _differentiated(
            model, structures._replace(pos=leaf), dict(zip(names, weights)), leaf
        )
        slope, *ctx.at_pos = found
        slope = torch.zeros_like(pos) if slope is None else slope
        ctx.model, ctx.structures, ctx.names = model, structures, names
        ctx.save_for_backward(pos, *weights)
        return energy, -slope

    @staticmethod
    def backward(ctx, grad_energy, grad_forces):
        if torch.is_grad_enabled():
            raise RuntimeError(
                "energies and forces are differentiable once here; let the positions require grad"
            )
        pos, *weights = ctx.saved_tensors
        precision = torch.finfo(pos.dtype)
        step = precision.eps**0.5  # Angstrom, at most of any atom: rounding costs as much as it
        whole = grad_forces.norm(dim=-1).max() / step + 2 * grad_energy.abs().max()
        whole = whole.clamp(min=precision.tiny).log2().ceil().exp2()  # products with it are exact
        part = whole - grad_energy  # [B]
        shift = grad_forces / part[ctx.structures.neighbors.batch, None]
        displaced = ctx.structures._replace(pos=pos + shift)
        _, found = _differentiated(
            ctx.model, displaced, dict(zip(ctx.names, weights)), grad_energies=part
        )
        return (None,) * 4 + tuple(
            None if there is None else whole * here - there
            for here, there in zip(ctx.at_pos, found)
        )


def _differentiated(
    model: PhysMolEnergy,
    structures: Structures,
    weights: dict[str, torch.Tensor],
    *others: torch.Tensor,
    grad_energies: torch.Tensor | None = None,
) -> tuple[torch.Tensor, tuple[torch.Tensor | None, ...]]:
    """Energies [B], and the derivatives of their (weighted) sum by others and by the weights."""
    leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
    with torch.enable_grad():
        energy = functional_call(model, leaves, (structures,))
    wanted = [*others, *leaves.values()]
    if not energy.requires_grad:  # all that it depends on is frozen
        return energy, (None,) * len(wanted)
    grad_energies = torch.ones_like(energy) if grad_energies is None else grad_energies
    found = torch.autograd.grad(energy, wanted, grad_energies, allow_unused=True)
    return energy.detach(), found
