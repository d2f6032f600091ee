"""Section 3.6, Eq. 8: no force acts at a minimum."""

from typing import ClassVar

import torch
from fairchem.core.common.registry import registry

from ocp_physmol.losses.equilibrium import EquilibriumTerm, at_equilibrium, relaxed_copy
from ocp_physmol.model.copies import Copy


@registry.register_loss("zero_force")
class ZeroForce(EquilibriumTerm):
    """|F_i|^2 for each free atom of the structures at equilibrium, (eV/Angstrom)^2."""

    outputs: ClassVar = ("forces",)

    def copy(self, batch, generators) -> Copy | None:
        return relaxed_copy(batch, "forces")

    def compare(self, out, batch, copy):
        chosen = batch.fixed == 0
        if copy is None:
            chosen = chosen & at_equilibrium(batch)[batch.batch]
        forces = (out if copy is None else out[copy.name])["forces"][chosen]
        return forces, torch.zeros_like(forces)

    def forward(self, prediction, target, natoms):
        return (prediction - target).square().sum(-1)
