"""Reading checkpoints safely."""

import ocp_physmol.scatter_fallback  # noqa: F401  # fairchem needs it

# isort: split
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from fairchem.core.common.registry import registry
from fairchem.core.common.utils import match_state_dict
from pydantic import AfterValidator, ConfigDict, Field
from torch import nn

from ocp_physmol.data_only import load_tensors
from ocp_physmol.errors import UserError, lacks_memory
from ocp_physmol.validation import Section, validate

# options of models that their weights do not depend on
BESIDE_WEIGHTS = (
    "name", "use_masking", "regress_forces", "direct_forces", "otf_graph", "use_pbc",
    "use_pbc_single", "scale_file", "enforce_max_neighbors_strictly", "activation_checkpoint",
)  # fmt: skip


class Loose(Section):
    """What is taken of a mapping, whatever else it holds."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=True, arbitrary_types_allowed=True)


def _vector(values: torch.Tensor) -> torch.Tensor:
    if not values.is_floating_point() or len(values) != values.numel() or len(values) < 2:
        raise ValueError("it must be a vector of energies")
    return values


class References(Loose):
    element_references: Annotated[torch.Tensor, AfterValidator(_vector)]


class Content(Loose):
    """A checkpoint of fairchem."""

    state_dict: dict[str, Any] = Field(min_length=1)
    normalizers: dict[str, dict[str, torch.Tensor | float]]
    elementrefs: dict[str, References] | None = None
    config: dict[str, Any] = Field(min_length=1)


class Output(Loose):
    level: Literal["system", "atom"]


class Trained(Loose):
    """Its `config`, as fairchem 1.10 writes it."""

    model: dict[str, Any]
    outputs: dict[str, Output] = Field(min_length=1)
    task: dict[str, Any] | None = None
    optim: dict[str, Any]
    loss_functions: list[dict[str, Any]]
    evaluation_metrics: dict[str, Any]
    trainer: str = "ocp"


def read_checkpoint(path: str | Path, map_location: str | torch.device = "cpu") -> dict:
    """A checkpoint's tensors and plain values; UserError for a missing, damaged or other file."""
    if not Path(path).is_file():
        raise UserError(f"checkpoint {path} does not exist; correct the path")
    checkpoint = load_tensors(path, map_location, kind="checkpoint")
    with fits(path):
        validate(Content, checkpoint)
        for key, value in checkpoint["state_dict"].items():
            if not isinstance(value, torch.Tensor) and not key.endswith("_extra_state"):
                raise UserError(f"state_dict.{key} is of type {type(value).__name__}, no tensor")
            if isinstance(value, torch.Tensor) and value.isnan().any():
                raise UserError(f"state_dict.{key} holds NaN")
    return checkpoint


@contextmanager
def fits(path: str | Path) -> Iterator[None]:
    """Turn whatever goes wrong with a checkpoint's content into a UserError that names the file.

    fairchem checks little of it, and differs in how it fails.
    """
    try:
        yield
    except Exception as e:
        own = isinstance(e, UserError)
        if lacks_memory(e) or (own and str(path) in str(e)):
            raise
        problem = ("" if own else f"{type(e).__name__}: ") + " ".join(str(e).split())
        cure = "use an undamaged one, and the packages with which it was made"
        raise UserError(f"checkpoint {path} does not fit: {problem}; {cure}") from e


def seconds_used(checkpoint: dict) -> float:
    """Seconds of training that a run with `optim.max_seconds` has used."""
    return float(checkpoint["scheduler"]["lr_lambdas"][0]["used"])


def training_of(path: Path) -> dict:
    """`seconds_used` and `steps` of a training with a budget, by its newest checkpoint."""
    checkpoint = read_checkpoint(path)
    with fits(path):
        return {"seconds_used": seconds_used(checkpoint), "steps": int(checkpoint["step"])}


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
    config = checkpoint.get("config", {})
    trained = config.get("model_attributes") or config.get("model")  # in old ones a name
    for key, former, now in _differing(trained, options) if isinstance(trained, dict) else ():
        raise UserError(f"checkpoint {path} was trained with {key} {former}, not {now}; {cure}")


def _differing(trained: dict, options: dict, where: str = "model") -> Iterator[tuple]:
    """Place and both values of each differing option that the meaning of weights depends on.

    What only one of both gives is compared with its default, where a class has a `Config`.
    """
    defaults = _defaults(options.get("name"))
    trained, options = {**defaults, **trained}, {**defaults, **options}
    for key in sorted(trained.keys() & options.keys() - set(BESIDE_WEIGHTS)):
        former, now, place = trained[key], options[key], f"{where}.{key}"
        if isinstance(former, dict) and isinstance(now, dict):
            yield from _differing(former, now, place)
        elif former != now:
            yield place, former, now


def _defaults(name: str | None) -> dict:
    """Of the options of a model whose class has a `Config`."""
    schema = getattr(registry.get_model_class(name), "Config", None) if name else None
    fields = schema.model_fields if schema else {}
    return {key: field.default for key, field in fields.items() if not field.is_required()}
