"""Forces as F = -dE/dx, and how a loss on forces reaches the parameters.

A loss L(E, F) wants sum_b dL/dE_b dE_b/dtheta + sum_i dL/dF_i . dF_i/dtheta. The second sum is the
derivative of -dE/dtheta along v = dL/dF. Automatic differentiation gives it as a second derivative
of the network, at several times the cost of a first one; a difference gives it from first ones, at
x and at x + s v. Those at x come with the forces, in one pass, before L is known, so they are of
the sum of all energies. With one K for the batch and s_b = 1 / (K - dL/dE_b), both sums are

    K sum_b dE_b/dtheta (x) - sum_b (K - dL/dE_b) dE_b/dtheta (x + s_b v).

The step s is the longest at which the curvature along it costs no more than rounding does: in
single precision, both some 1e-3 of the gradient (1e-2 a hundred Angstrom from the origin).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch.func import functional_call

from ocp_physmol.model.architecture import PhysMolEnergy, Structures
from ocp_physmol.model.fast.knots import Tables


def energy_and_forces(
    model: PhysMolEnergy, structures: Structures, tables: Tables | None, exact: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Energies [B] and their exact forces [N, 3].

    In training, gradients reach the parameters and tables once; with `exact`, which needs the
    formulas, they reach parameters and positions any number of times.

    Raises:
        RuntimeError: in backward, if a second derivative is asked for where there is only a first.
    """
    training = torch.is_grad_enabled()
    pos = structures.pos
    if training and not exact:
        weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        coefficients = tables.coefficients if tables else ()
        call = _Call(model, structures, tables, list(weights))
        return _FirstOrder.apply(call, pos, *coefficients, *weights.values())
    with torch.enable_grad():
        leaf = pos if pos.requires_grad else pos.detach().requires_grad_()
        energy = model(structures._replace(pos=leaf), tables)
        forces = forces_of(energy, leaf, create_graph=training)
    return (energy, forces) if training else (energy.detach(), forces.detach())


def forces_of(energy: torch.Tensor, pos: torch.Tensor, create_graph: bool = False) -> torch.Tensor:
    """F = -dE/dx, [N, 3] eV/Angstrom, of `energy` [B] computed from `pos` [N, 3]."""
    return -torch.autograd.grad(energy.sum(), pos, create_graph=create_graph)[0]


class _Call(NamedTuple):
    """A call of the model into which positions, tables and weights are yet to be put."""

    model: PhysMolEnergy
    structures: Structures
    tables: Tables | None
    names: list[str]  # of the weights that are trained

    def differentiated(
        self, pos: torch.Tensor, inner: Sequence[torch.Tensor], grad_energies=None, by_pos=False
    ) -> tuple[torch.Tensor, tuple[torch.Tensor | None, ...]]:
        """Energies [B] and the derivatives of their sum, or of that with `grad_energies` [B]: by
        the coefficients of the tables and the weights, `inner`, and `by_pos` before them."""
        pos = pos.detach().requires_grad_(by_pos)
        leaves = [one.detach().requires_grad_() for one in inner]
        count = len(leaves) - len(self.names)
        tables = self.tables and replace(self.tables, coefficients=leaves[:count])
        with torch.enable_grad():
            energy = functional_call(
                self.model,
                dict(zip(self.names, leaves[count:])),
                (self.structures._replace(pos=pos), tables),
            )
        wanted = [pos, *leaves] if by_pos else leaves
        if not energy.requires_grad:  # all that it depends on is frozen
            return energy, (None,) * len(wanted)
        grad_energies = torch.ones_like(energy) if grad_energies is None else grad_energies
        found = torch.autograd.grad(energy, wanted, grad_energies, allow_unused=True)
        return energy.detach(), found


class _FirstOrder(torch.autograd.Function):
    """Energies and forces whose gradients come from energies there and at a displaced copy."""

    @staticmethod
    def forward(ctx, call, pos, *inner):
        energy, (slope, *ctx.at_pos) = call.differentiated(pos, inner, by_pos=True)
        ctx.call = call
        ctx.save_for_backward(pos, *inner)
        return energy, torch.zeros_like(pos) if slope is None else -slope

    @staticmethod
    def backward(ctx, grad_energy, grad_forces):
        if torch.is_grad_enabled():
            raise RuntimeError(
                "energies and forces are differentiable once here; let the positions require grad"
            )
        pos, *inner = ctx.saved_tensors
        precision = torch.finfo(pos.dtype)
        step = precision.eps**0.5  # Angstrom, at most of any atom: rounding costs as much as it
        whole = grad_forces.norm(dim=-1).max() / step + 2 * grad_energy.abs().max()
        whole = whole.clamp(min=precision.tiny).log2().ceil().exp2()  # products with it are exact
        part = whole - grad_energy  # [B]
        shift = grad_forces / part[ctx.call.structures.neighbors.batch, None]
        _, displaced = ctx.call.differentiated(pos + shift, inner, part)
        grads = [None if a is None else whole * a - b for a, b in zip(ctx.at_pos, displaced)]
        return None, None, *grads
