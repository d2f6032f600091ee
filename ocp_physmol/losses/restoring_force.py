"""How hard a pushed molecule is pulled back: our own term, in the place of the bound (3.6).

Eq. 9 asks that a displaced structure lies higher. That says little of the few soft directions in
which relaxations escape. What pulls a structure back says it of all directions at once.
"""

import torch
from fairchem.core.common.registry import registry
from pydantic import Field

from ocp_physmol.losses import equilibrium
from ocp_physmol.losses.pushes import Push
from ocp_physmol.losses.term import Term
from ocp_physmol.model.copies import Copy
from ocp_physmol.model.graph import find_neighbors

BOND = 3.0  # Angstrom, longer than any


@registry.register_loss("restoring_force")
class RestoringForce(Term):
    """|f - f_target| for each pushed molecule, eV^(1/2).

    f are forces weighed by softness (`ElasticNetwork.weighed`), f_target those of the elastic
    network. For free molecules.
    """

    class Options(Term.Options):
        """Keys of the entry in `loss_functions`."""

        noise: float = Field(
            gt=0, allow_inf_nan=False,
            description="largest root mean square of a push, Angstrom",
        )  # fmt: skip

    def problem(self, entry, labels):
        obstacle = _obstacle(entry)
        if obstacle is None:
            return equilibrium.problem(entry, labels)
        return (
            f"is for free molecules at their minima, and the training data has {obstacle}; "
            "use bound instead"
        )

    def copy(self, batch, generators) -> Copy:
        chosen = equilibrium.at_equilibrium(batch)
        push = Push(batch, chosen, self.options.noise, generators)
        return Copy("restoring_force", ("forces",), push.pos, chosen, known=push)

    def compare(self, out, batch, copy):
        return copy.known.weighed(out[copy.name]["forces"]), copy.known.target

    def forward(self, prediction, target, natoms):
        return (prediction - target).square().sum(-1).clamp(min=1e-12).sqrt()


def _obstacle(entry) -> str | None:
    """What shows that an entry of a data set is no free molecule at its minimum."""
    if "pos_relaxed" in entry:
        return "pos_relaxed beside other positions"
    if "cell" in entry:
        natoms = torch.tensor([len(entry.pos)])
        pbc = entry.pbc.reshape(-1, 3) if "pbc" in entry else None
        neighbors = find_neighbors(entry.pos, natoms, BOND, entry.cell.reshape(-1, 3, 3), pbc)
        if neighbors.shift is not None:
            return "atoms that are bonded across the boundaries of the cell"
    return None
