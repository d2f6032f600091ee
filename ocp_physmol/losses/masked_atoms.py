"""Section 3.5, Eq. 7: Masked Atomic Modeling."""

from typing import ClassVar

import numpy as np
import torch
from fairchem.core.common.registry import registry
from pydantic import Field
from torch.nn import functional as F

from ocp_physmol.losses.term import Term
from ocp_physmol.model.copies import Copy
from ocp_physmol.model.elements import NUM_TYPES


@registry.register_loss("masked_atoms")
class MaskedAtoms(Term):
    """-log p(type | the atoms left visible), for each masked atom."""

    class Options(Term.Options):
        mask_ratio: float = Field(
            ge=0, le=1, description="rho, the probability that an atom is masked"
        )

    model_options: ClassVar[dict] = {"use_masking": True}

    def copy(self, batch, generators) -> Copy:
        masked = draw_masked(batch, self.options.mask_ratio, generators)
        return Copy("masked_atoms", ("masked_logits",), masked=masked)

    def compare(self, out, batch, copy):
        logits = out[copy.name]["masked_logits"][copy.masked]  # [M, 119]
        numbers = batch.atomic_numbers[copy.masked].long()
        return logits, F.one_hot(numbers, NUM_TYPES).to(logits.dtype)

    def forward(self, prediction, target, natoms):
        return -(target * torch.log_softmax(prediction, dim=-1)).sum(-1)


def draw_masked(batch, ratio: float, generators: list[np.random.Generator]) -> torch.Tensor:
    """Which atoms to hide, [N] bool: each with probability `ratio`, at least one a structure."""
    draws = [g.random(n) for g, n in zip(generators, batch.natoms.tolist())]
    masked = np.concatenate([(d < ratio) | (d == d.min()) for d in draws])
    return torch.as_tensor(masked, device=batch.pos.device)
