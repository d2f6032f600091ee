"""Section 3.6, Eq. 8: no force acts at a minimum."""

from typing import ClassVar

import torch
from fairchem.core.common.registry import registry

from ocp_physmol.losses import equilibrium
from ocp_physmol.losses.term import Term
from ocp_physmol.model.copies import Copy


@registry.register_loss("zero_force")
class ZeroForce(Term):
    """|F_i|^2 for each free atom of the structures at equilibrium, (eV/Angstrom)^2."""

    outputs: ClassVar = ("forces",)

    def problem(self, entry, labels):
        return equilibrium.problem(entry, labels)

    def copy(self, batch, generators) -> Copy | None:
        return equilibrium.relaxed_copy(batch, "forces")

    def compare(self, out, batch, copy):
        chosen = batch.fixed == 0
        if copy is None:
            chosen = chosen & equilibrium.at_equilibrium(batch)[batch.batch]
        forces = (out if copy is None else out[copy.name])["forces"][chosen]
        return forces, torch.zeros_like(forces)

    def forward(self, prediction, target, natoms):
        return (prediction - target).square().sum(-1)
