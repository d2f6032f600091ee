"""Terms of the objective (Eq. 10) that need more than an output and its label.

A term is one class in one file: its options, the copy of the batch that the model evaluates for it,
prediction and target. `fn` in `loss_functions` is its name in fairchem's registry, or import path.
"""

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from fairchem.core.common import distutils
from fairchem.core.common.registry import registry
from fairchem.core.modules.loss import DDPLoss
from pydantic import Field
from torch import nn
from torch_geometric.data import Batch, Data

from ocp_physmol.model.copies import Copy
from ocp_physmol.validation import Section


class Term(nn.Module):
    """A term of Eq. 10, with the `options` of its entry in `loss_functions`."""

    class Options(Section):
        """Keys of the entry in `loss_functions`."""

        fn: str = Field(description="the term's name in the registry, or its import path")
        coefficient: float = Field(ge=0, description="lambda of Eq. 10; 0 leaves the term out")
        reduction: Literal["mean", "sum"] | None = Field(
            None, description="over the items of all ranks (mean)"
        )
        optional: bool = Field(
            False, description="leave the term out where the training data are not for it"
        )

    outputs: ClassVar[tuple[str, ...]] = ()  # outputs of the batch itself that `compare` reads
    model_options: ClassVar[dict[str, Any]] = {}  # options that the model must have

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options: Any = options

    def problem(self, entry: Data, labels: set[str]) -> str | None:
        """Why the term cannot use the training data, and the cure; None if it can.

        The data begin with `entry`, and have labels for the outputs named by `labels`.
        """
        return None

    def copy(self, batch: Batch, generators: list[np.random.Generator]) -> Copy | None:
        """The copy of the batch to evaluate, if any; each structure has its own generator."""
        return None

    def compare(
        self, out: dict, batch: Batch, copy: Copy | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Prediction and target, of one shape.

        `out` holds the batch's outputs (eV, eV/Angstrom), and under the copy's name those of it.
        """
        raise NotImplementedError

    def forward(
        self, prediction: torch.Tensor, target: torch.Tensor, natoms: torch.Tensor
    ) -> torch.Tensor:
        """The loss of each item."""
        raise NotImplementedError


def active_entries(loss_functions: list[dict]) -> dict[str, dict]:
    """The entries of a `loss_functions` section whose coefficient is not zero, by name."""
    entries = (item for entry in loss_functions for item in entry.items())
    return {name: options for name, options in entries if options["coefficient"] != 0}


def term_class(options: dict) -> type[Term] | None:
    """The term that an entry names; None if the entry names a loss of an output."""
    loss = registry.get_loss_class(options["fn"])
    return loss if issubclass(loss, Term) else None


class MeanOverRanks(DDPLoss):
    """fairchem's reduction of a loss over the items of all ranks, of which there may be none.

    `value` is the last result. In evaluation, the mean is over this rank's own items. NaN stays
    NaN, where fairchem would count it as a prediction of zero.
    """

    def __init__(self, loss: nn.Module, reduction: str | None) -> None:
        super().__init__("mae", reduction)
        self.loss_fn = loss
        self.value = 0.0

    def forward(self, input, target, natoms):
        if input.shape != target.shape:
            raise ValueError(f"prediction {list(input.shape)} and target {list(target.shape)}")
        loss = self._reduction(input, self.loss_fn(input, target, natoms), natoms)
        self.value = loss.detach()
        return loss

    def sum(self, input, loss, natoms):
        total = loss.sum()  # gradients are averaged over ranks
        summed = self.reduction == "sum" and torch.is_grad_enabled()
        return total * distutils.get_world_size() if summed else total

    def _ddp_mean(self, num_samples, loss):
        if not torch.is_grad_enabled():
            return loss / max(num_samples, 1)
        count = distutils.all_reduce(num_samples, device=loss.device)
        return loss * distutils.get_world_size() / max(count, 1)
