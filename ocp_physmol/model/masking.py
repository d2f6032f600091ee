"""Section 3.5: the [mask] token and the classifier of the atoms that it hides."""

import torch
from torch import nn

from ocp_physmol.model.elements import MASK_TYPE, NUM_TYPES


def mask_types(atom_type: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
    """Replace the `masked` [N] (bool) atoms of `atom_type` [N] by the [mask] token.

    The model looks up all that it knows of an atom by this type: embedding, electronegativity,
    radial basis, covalent radius. Nothing of a masked atom's identity is left.
    """
    return atom_type.masked_fill(masked, MASK_TYPE)


class MaskedAtomClassifier(nn.Sequential):
    """Two-layer perceptron from embeddings [N, d] to logits over atomic numbers [N, 119]."""

    def __init__(self, hidden_channels: int) -> None:
        hidden, logits = (nn.Linear(hidden_channels, n) for n in (hidden_channels, NUM_TYPES))
        super().__init__(hidden, nn.SiLU(), logits)
