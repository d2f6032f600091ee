"""Forces as F = -dE/dx, and how a loss on forces reaches the parameters.

A loss L(E, F) wants sum_b dL/dE_b dE_b/dtheta + sum_i dL/dF_i . dF_i/dtheta. The second sum is the
derivative of -dE/dtheta along v = dL/dF. Automatic differentiation gives it as a second derivative
of the network, at several times the cost of a first one. A central difference gives it from first
derivatives at two displaced copies x +- s v, and their mean is the first sum, both up to s^2. In
single precision rounding adds some 1e-4 of the whole gradient, 1e-3 for structures of 500 atoms.
"""

import torch
from torch.func import functional_call
from torch_geometric.utils import scatter

from ocp_physmol.model.architecture import PhysMolEnergy, Structures

DISPLACEMENT = 0.005  # Angstrom, of the atom that moves most in each structure


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
    """Energies and forces whose gradients come from energies at displaced copies."""

    @staticmethod
    def forward(ctx, model, structures, names, pos, *weights):
        with torch.enable_grad():
            leaf = pos.detach().requires_grad_()
            energy = model(structures._replace(pos=leaf), trained=False)
            forces = forces_of(energy, leaf)
        ctx.model, ctx.structures, ctx.names = model, structures, names
        ctx.save_for_backward(pos, *weights)
        return energy.detach(), forces

    @staticmethod
    def backward(ctx, grad_energy, grad_forces):
        if torch.is_grad_enabled():
            raise RuntimeError(
                "energies and forces are differentiable once here; let the positions require grad"
            )
        pos, *weights = ctx.saved_tensors
        _, atom_type, neighbors = ctx.structures
        batch = neighbors.batch
        size = grad_forces.norm(dim=-1).to(grad_energy.dtype)
        largest = scatter(size, batch, dim_size=len(grad_energy), reduce="max")  # [B]
        step = DISPLACEMENT / largest.clamp(min=torch.finfo(largest.dtype).tiny)
        shift = grad_forces * step[batch, None]
        displaced = Structures(
            torch.cat([pos + shift, pos - shift]), atom_type.repeat(2), neighbors.twice()
        )
        slope = largest / (2 * DISPLACEMENT)
        grads = torch.cat([grad_energy / 2 - slope, grad_energy / 2 + slope])  # [2 B]
        leaves = {n: p.detach().requires_grad_() for n, p in zip(ctx.names, weights)}
        with torch.enable_grad():
            energy = functional_call(ctx.model, leaves, (displaced,))  # [2 B]
        if not energy.requires_grad:  # all that it depends on is frozen
            return (None,) * (4 + len(leaves))
        found = torch.autograd.grad(energy, list(leaves.values()), grads, allow_unused=True)
        return (None,) * 4 + found
