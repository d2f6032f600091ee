"""PhysMol: a potential for molecules and catalysts, and a plugin of the Open Catalyst framework.

The potential needs neither fairchem nor torch, so importing the package imports neither. What
trains and evaluates does; ocp_physmol.plugin makes it known to fairchem.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ocp_physmol.datasets.lmdb_dataset import PhysMolLmdbDataset
    from ocp_physmol.fairchem_compat.conservative import ConservativeModel
    from ocp_physmol.model.physmol import PhysMol
    from ocp_physmol.potential.calculator import PhysMolCalculator
    from ocp_physmol.training.trainer import PhysMolTrainer

__all__ = [
    "ConservativeModel",
    "PhysMol",
    "PhysMolCalculator",
    "PhysMolLmdbDataset",
    "PhysMolTrainer",
    "register",
]
__version__ = "0.2.0"

_PLACES = {
    "ConservativeModel": "fairchem_compat.conservative",
    "PhysMol": "model.physmol",
    "PhysMolCalculator": "potential.calculator",
    "PhysMolLmdbDataset": "datasets.lmdb_dataset",
    "PhysMolTrainer": "training.trainer",
}


def register() -> None:
    """Import ocp_physmol.plugin; a UserError if fairchem is not installed."""
    from ocp_physmol.errors import UserError

    try:
        importlib.import_module("ocp_physmol.plugin")
    except ModuleNotFoundError as e:
        if e.name is None or e.name.split(".")[0] == "ocp_physmol":
            raise
        raise UserError(
            f"{e.name} is not installed, which training and evaluating need; "
            "pip install 'ocp-physmol[train]'"
        ) from e


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'ocp_physmol' has no attribute '{name}'")
    if name != "PhysMolCalculator":
        register()
    return getattr(importlib.import_module(f"ocp_physmol.{_PLACES[name]}"), name)
