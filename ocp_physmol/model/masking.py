"""Section 3.5: the classifier that says which elements the [mask] token hides.

All that the model knows of an atom it looks up by its type: embedding, electronegativity, radial
basis, covalent radius. Nothing of an atom of MASK_TYPE tells its identity.
"""

from torch import nn

from ocp_physmol.model.elements import NUM_TYPES


class MaskedAtomClassifier(nn.Sequential):
    """Two-layer perceptron from embeddings [N, d] to logits over atomic numbers [N, 119]."""

    def __init__(self, hidden_channels: int) -> None:
        super().__init__(
            nn.Linear(hidden_channels, hidden_channels),
            nn.SiLU(),
            nn.Linear(hidden_channels, NUM_TYPES),
        )
