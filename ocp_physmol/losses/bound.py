"""Section 3.6, Eq. 9: a structure displaced from its minimum has a higher energy."""

import torch
from fairchem.core.common.registry import registry
from pydantic import Field

from ocp_physmol.losses.draws import displaced_positions
from ocp_physmol.losses.equilibrium import EquilibriumTerm, at_equilibrium, relaxed_copy
from ocp_physmol.model.copies import Copy


@registry.register_loss("bound")
class Bound(EquilibriumTerm):
    """E - E* where a displaced structure (E*) lies lower than its minimum (E), else 0; eV.

    IS2RE's initial structures are displaced already. Noise displaces all others at equilibrium.
    """

    class Options(EquilibriumTerm.Options):
        noise: float = Field(
            ge=0, description="standard deviation of each displaced coordinate, Angstrom"
        )

    def copy(self, batch, generators) -> Copy:
        relaxed = relaxed_copy(batch, "energy")
        if relaxed is not None:
            return relaxed
        chosen = at_equilibrium(batch)
        pos = displaced_positions(batch, chosen, self.options.noise, generators)
        return Copy("bound", ("energy",), pos, chosen)

    def compare(self, out, batch, copy):
        own, other = out["energy"].view(-1), out[copy.name]["energy"].to(out["energy"].dtype)
        return (other, own) if copy.chosen is None else (own[copy.chosen], other)

    def forward(self, prediction, target, natoms):
        return torch.relu(prediction - target)
