"""Sections 3.4-3.7, Eq. 7-10: the losses as pure functions, under their names in the registry.

fairchem's `DDPLoss` calls a loss with (pred, target, natoms), expects one value per item, and takes
the mean over the items of all ranks. Energies and labelled forces use fairchem's own mse, mae and
l2mae.
"""

from __future__ import annotations

import torch
from fairchem.core.common import distutils
from fairchem.core.common.registry import registry
from fairchem.core.modules.loss import DDPLoss
from torch import nn

# names in `loss_functions` that are no outputs of the model
PHYSICS_TERMS = ("masked_atoms", "zero_force", "bound", "restoring_force")


def active_terms(loss_functions: list[dict]) -> dict[str, dict]:
    """The entries of a `loss_functions` section whose coefficient is not zero, by name."""
    return {
        name: options
        for entry in loss_functions
        for name, options in entry.items()
        if options["coefficient"] != 0
    }


def masked_atoms(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Eq. 7: -log p(type | the atoms left visible).

    Args:
        logits: [M, K] for the masked atoms.
        target: [M, K], one-hot.

    Returns:
        [M]
    """
    return -(target * torch.log_softmax(logits, dim=-1)).sum(-1)


def zero_force(forces: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Eq. 8: |F_i - target_i|^2 for each atom, the target being zero at equilibrium.

    Args:
        forces: [N, 3], eV/Angstrom.
        target: [N, 3].

    Returns:
        [N], (eV/Angstrom)^2
    """
    return (forces - target).square().sum(-1)


def bound(energy: torch.Tensor, energy_displaced: torch.Tensor) -> torch.Tensor:
    """Eq. 9: E - E* where a displaced structure lies lower than its minimum, else 0.

    Args:
        energy: [B], predicted at the minimum, eV.
        energy_displaced: [B], E*, predicted at the displaced copy, eV.

    Returns:
        [B], eV
    """
    return torch.relu(energy - energy_displaced)


def restoring_force(forces: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """|f - f_target| for each displaced structure, f being forces weighed by softness.

    Eq. 9 asks for displaced structures to lie higher; this asks how hard they are pulled back.

    Args:
        forces: [B, 3n], eV^(1/2), see `ElasticNetwork.weighed`.
        target: [B, 3n], those of the elastic network.

    Returns:
        [B], eV^(1/2)
    """
    return (forces - target).square().sum(-1).clamp(min=1e-12).sqrt()


def _register(name: str, function) -> None:
    class Loss(nn.Module):
        def forward(self, pred, target, natoms):
            return function(pred, target)

    Loss.__name__ = Loss.__qualname__ = function.__name__
    Loss.__doc__ = function.__doc__
    registry.register_loss(name)(Loss)


_register("masked_atoms", masked_atoms)
_register("zero_force", zero_force)
_register("bound", bound)
_register("restoring_force", restoring_force)


class LossTerm(DDPLoss):
    """A DDPLoss that remembers its last value, allows for a batch to which it does not apply, and
    in evaluation is the mean over this rank's own items."""

    value: float = 0.0

    def forward(self, input, target, natoms):
        loss = super().forward(input, target, natoms)
        self.value = loss.detach()
        return loss

    def _ddp_mean(self, num_samples, loss):
        if not torch.is_grad_enabled():
            return loss / max(num_samples, 1)
        count = distutils.all_reduce(num_samples, device=loss.device)
        return loss * distutils.get_world_size() / max(count, 1)
