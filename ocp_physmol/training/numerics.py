"""Predictions, weights and errors that are no finite numbers stop a run, and say what to do."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn
from torch_geometric.data import Batch

from ocp_physmol.datasets.identifiers import identifier
from ocp_physmol.errors import UserError

CURE = "lower optim.lr_initial or set optim.clip_grad_norm, and go on from the last checkpoint"


def require_finite_outputs(outputs: Mapping[str, torch.Tensor], batch: Batch, step: int) -> None:
    """Raise a UserError that names the structures whose outputs [N or B, ...] are not finite.

    The loss would only be NaN.
    """
    finite = torch.stack([value.isfinite().all() for value in outputs.values()])
    if finite.all():  # the only transfer from the device
        return
    name = list(outputs)[finite.tolist().index(False)]
    value = outputs[name]
    bad = ~value.reshape(len(value), -1).isfinite().all(1)
    places = torch.arange(len(batch.natoms), device=batch.batch.device)
    places = batch.batch if len(bad) == len(batch.batch) else places
    sids = [str(identifier(batch.sid[place])) for place in places[bad].unique().tolist()]
    listed = ", ".join(sids[:5]) + ", ..." * (len(sids) > 5)
    raise UserError(f"step {step}: {name} of the structures {listed} (sid) is not finite; {CURE}")


def require_finite_weights(model: nn.Module, step: int) -> None:
    """Raise a UserError rather than let such weights take the place of a good checkpoint."""
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            raise UserError(
                f"step {step}: the weights '{name}' are not finite and are not saved; {CURE}"
            )


def require_finite_metrics(metrics: Mapping[str, Mapping], step: int) -> None:
    """Raise a UserError for an error of a validation that is NaN."""
    for name, values in metrics.items():
        if not math.isfinite(values["metric"]):
            raise UserError(f"step {step}: {name} of the validation is {values['metric']}; {CURE}")


@contextmanager
def optimizer_explained(step: Callable[[], int]) -> Iterator[None]:
    """Raise a UserError where SOAP, or a loss, finds no eigenbasis of values that are too large."""
    try:
        yield
    except torch.linalg.LinAlgError as e:
        raise UserError(
            f"step {step()}: a matrix has no eigenbasis, as its values are too large; {CURE}"
        ) from e
