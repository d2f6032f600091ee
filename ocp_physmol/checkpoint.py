"""Reading checkpoints safely."""

from pathlib import Path

import torch
from fairchem.core.common.utils import match_state_dict
from torch import nn

from ocp_physmol.errors import UserError
from ocp_physmol.trust import load_tensors

# model keys that change what the weights mean, but not their shapes
UNSEEN_IN_WEIGHTS = ("cutoff", "num_heads")


def read_checkpoint(path: str | Path, map_location: str | torch.device = "cpu") -> dict:
    """A checkpoint's tensors and plain values; UserError for a missing, damaged or other file."""
    if not Path(path).is_file():
        raise UserError(f"checkpoint {path} does not exist; correct the path")
    checkpoint = load_tensors(path, map_location, kind="checkpoint")
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise UserError(f"{path} is no checkpoint of fairchem; it has no 'state_dict'")
    return checkpoint


def seconds_used(checkpoint: dict) -> float:
    """Seconds of training that a run with `optim.max_seconds` has used."""
    return float(checkpoint["scheduler"]["lr_lambdas"][0]["used"])


def has_classifier(checkpoint: dict) -> bool:
    """Whether the weights were trained with masked atoms, too."""
    return any("classifier." in name for name in checkpoint["state_dict"])


def require_same_architecture(model: nn.Module, options: dict, checkpoint: dict, path: str) -> None:
    """Raise a UserError if the checkpoint is not one of `model`, which `options` describe."""
    cure = "use the 'model' section that it was trained with"
    own = model.state_dict()
    other = match_state_dict(own, checkpoint["state_dict"])
    both = own.keys() & other.keys()
    differing = [k for k in {**own, **other} if k not in both or own[k].shape != other[k].shape]
    if differing:
        problem = f"{len(differing)} weights differ, '{differing[0]}' first"
        raise UserError(f"checkpoint {path} belongs to another architecture: {problem}; {cure}")
    trained = checkpoint.get("config", {}).get("model", {})
    for key in UNSEEN_IN_WEIGHTS:
        if key in trained.keys() & options.keys() and trained[key] != options[key]:
            problem = f"was trained with model.{key} {trained[key]}, not {options[key]}"
            raise UserError(f"checkpoint {path} {problem}; {cure}")
