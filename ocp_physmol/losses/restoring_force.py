"""How hard a pushed molecule is pulled back: our own term, in the place of the bound (3.6).

Eq. 9 asks that a displaced structure lies higher. That says little of the few soft directions in
which relaxations escape. What pulls a structure back says it of all directions at once.
"""

import torch
from fairchem.core.common.registry import registry
from pydantic import Field

from ocp_physmol.losses.equilibrium import EquilibriumTerm, at_equilibrium
from ocp_physmol.losses.pushes import Push
from ocp_physmol.model.copies import Copy
from ocp_physmol.model.graph import find_neighbors

BOND = 3.0  # Angstrom, longer than any


@registry.register_loss("restoring_force")
class RestoringForce(EquilibriumTerm):
    """|f - f_target| for each pushed molecule, eV^(1/2).

    f are forces weighed by softness (`ElasticNetwork.weighed`), f_target those of the elastic
    network. For free molecules.
    """

    class Options(EquilibriumTerm.Options):
        noise: float = Field(
            gt=0, allow_inf_nan=False,
            description="largest root mean square of a push, Angstrom",
        )  # fmt: skip

    def problem(self, entry, labels):
        if "pos_relaxed" in entry:
            obstacle = "pos_relaxed beside other positions"
        elif "cell" in entry and _is_bonded_across_the_cell(entry):
            obstacle = "atoms that are bonded across the boundaries of the cell"
        else:
            return super().problem(entry, labels)
        return (
            f"is for free molecules at their minima, and the training data has {obstacle}; "
            "use bound instead"
        )

    def copy(self, batch, generators) -> Copy:
        chosen = at_equilibrium(batch)
        push = Push(batch, chosen, self.options.noise, generators)
        return Copy("restoring_force", ("forces",), push.pos, chosen, known=push)

    def compare(self, out, batch, copy):
        return copy.known.weighed(out[copy.name]["forces"]), copy.known.target

    def forward(self, prediction, target, natoms):
        return (prediction - target).square().sum(-1).clamp(min=1e-12).sqrt()


def _is_bonded_across_the_cell(entry) -> bool:
    natoms, pbc = torch.tensor([len(entry.pos)]), getattr(entry, "pbc", None)
    return find_neighbors(entry.pos, natoms, BOND, entry.cell, pbc).shift is not None
