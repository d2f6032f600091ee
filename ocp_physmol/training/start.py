"""A training that begins with the weights of a trained model: optim.start_from."""

from pathlib import Path

import torch
from torch import nn

from ocp_physmol.checkpoint import BESIDE_WEIGHTS
from ocp_physmol.errors import UserError, blame
from ocp_physmol.model.physmol import PhysMol
from ocp_physmol.potential.shipped import SHIPPED, shipped_models
from ocp_physmol.potential.weights import read


def start_from(model: nn.Module, name: str, scale: float) -> None:
    """Give a PhysMol the weights of an exported model.

    Args:
        model: with the options of the exported one.
        name: of its files, or of a model that comes with the package.
        scale: eV for each unit of the energy of `model`.

    Raises:
        UserError: for files that do not fit, and for a model of another architecture.
    """
    with blame("optim.start_from", UserError):
        if not isinstance(model, PhysMol):
            raise UserError(f"it is for PhysMol, not for {type(model).__name__}; leave it out")
        files = shipped_models(SHIPPED[name])[0] if name in SHIPPED else Path(name)
        card, weights = read(files)
        own, theirs = model.config.model_dump(), card.model.model_dump()
        for key in own:
            if key not in BESIDE_WEIGHTS and own[key] != theirs[key]:
                raise UserError(
                    f"{name} has {key}: {theirs[key]}, not {own[key]}; set model.{key} to that"
                )
        if model.config.repulsion and card.scale != scale:
            raise UserError(
                f"{name} has a repulsion in units of {card.scale} eV, and the energies here have a "
                f"normalizer with a stdev of {scale}; set that to {card.scale}"
            )
    given = {key: torch.from_numpy(value) for key, value in weights.items()}
    radial = [given[f"radial_basis.{name}"] for name in ("mu", "sqrt_beta")]
    changes = model.energy.radial_basis.changes(*radial)
    given |= {f"radial_basis.{name}": change for name, change in changes.items()}
    state = {key: given[key] for key in model.energy.state_dict()}
    for key in ("readout.f_atom.weight", "readout.f_atom.bias"):
        state[key] = state[key] * (card.scale / scale)
    model.energy.load_state_dict(state)
