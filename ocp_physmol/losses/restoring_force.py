"""The forces that pull a pushed molecule back: our own term, in the place of the bound (3.6).

Eq. 9 asks that a displaced structure lies higher, which says little of the few soft directions in
which relaxations escape. Restoring forces are about all directions at once.
"""

from itertools import compress
from typing import Literal

import numpy as np
import torch
from fairchem.core.common.registry import registry
from pydantic import Field
from torch_geometric.data import Batch

from ocp_physmol.errors import UserError
from ocp_physmol.losses.equilibrium import EquilibriumTerm, at_equilibrium
from ocp_physmol.model.copies import Copy
from ocp_physmol.pushes import draw
from ocp_physmol.pushes.elastic_network import ElasticNetwork

LABELS = {"data": "restoring_forces", "corrected": "corrected_forces"}  # keys of data, by teacher


@registry.register_loss("restoring_force")
class RestoringForce(EquilibriumTerm):
    """|f - f_target| for each pushed molecule, eV^(1/2); for free molecules.

    f are forces weighed by softness (`ElasticNetwork.weighed`), f_target those of a teacher: the
    elastic network itself, or what `ocp-physmol data curvature` has stored with the data, as it is
    or with bonds corrected to the frequencies of the data.
    """

    class Options(EquilibriumTerm.Options):
        noise: float = Field(gt=0, description="largest root mean square of a push, Angstrom")
        teacher: Literal["springs", "data", "corrected"] = Field(
            "springs",
            description="what pulls back: an elastic network of springs, on pushes that are drawn "
            "anew each time, or the pushes and forces of ocp-physmol data curvature (data), with "
            "bonds as stiff as the data's frequencies say (corrected)",
        )

    def problem(self, entry, labels):
        if unfit := draw.obstacle(entry):
            return (
                f"is for free molecules at their minima, and the training data has {unfit}; "
                "use bound instead"
            )
        teacher = self.options.teacher
        if teacher in LABELS and LABELS[teacher] not in entry:
            return (
                f"has the teacher '{teacher}', and the training data has no {LABELS[teacher]}; add "
                "them with ocp-physmol data curvature, or set the teacher 'springs'"
            )
        return super().problem(entry, labels)

    def copy(self, batch, generators) -> Copy:
        chosen = at_equilibrium(batch)
        push = Push(batch, chosen, self.options, list(compress(generators, chosen.tolist())))
        return Copy(
            "restoring_force", ("forces",), push.pos, chosen, stored=push.stored, known=push
        )

    def compare(self, out, batch, copy):
        return copy.known.weighed(out[copy.name]["forces"]), copy.known.target

    def forward(self, prediction, target, natoms):
        return (prediction - target).square().sum(-1).clamp(min=1e-12).sqrt()


class Push:
    """D molecules of a batch, M atoms in all, pushed out of their minima.

    The molecules are those `chosen` [B] (bool), which are at their minima; each has a generator.
    `pos` [M, 3] are the pushed positions (Angstrom), and `target` [D, 3n] the forces there as
    `weighed` returns them.

    Raises:
        UserError: if an atom cannot move; the network is one of free molecules.
    """

    def __init__(
        self,
        batch: Batch,
        chosen: torch.Tensor,
        options: RestoringForce.Options,
        generators: list[np.random.Generator],
    ) -> None:
        atoms = chosen[batch.batch]
        if batch.fixed[atoms].any():
            raise UserError(
                "loss_functions.restoring_force is for free molecules, and the training data has "
                "fixed atoms; use bound instead"
            )
        natoms = batch.natoms[chosen]
        network = ElasticNetwork(batch.pos[atoms], batch.atomic_numbers[atoms], natoms)
        self.network, self.stored = network, {}
        if options.teacher == "springs":
            pushed = draw.pushed_positions(network, options.noise, generators)
            forces = network.energy_and_forces(pushed)[1]
        else:
            self.stored = stored_push(batch, chosen, LABELS[options.teacher], generators)
            pos, restoring = self.stored.pop("pos"), self.stored.pop("restoring")
            pushed, forces = network.padded(pos), network.padded(restoring)
        size = draw.size(network, pushed - network.minimum)
        size = size.clamp(min=options.noise / draw.SCALES).flatten()
        self._weight = (natoms * size / options.noise).rsqrt()[:, None]
        self.pos = pushed[network.mask]
        self.target = self._weight * network.weighed(forces)

    def weighed(self, forces: torch.Tensor) -> torch.Tensor:
        """Forces [M, 3] on the pushed atoms, as `restoring_force` compares them: [D, 3n]."""
        return self._weight * self.network.weighed(self.network.padded(forces))


def stored_push(
    batch: Batch, chosen: torch.Tensor, label: str, generators: list[np.random.Generator]
) -> dict[str, torch.Tensor]:
    """One of the pushes that the data hold, for each of the D chosen molecules of M atoms.

    `pos` [M, 3] (Angstrom), `restoring` [M, 3] (eV/Angstrom), which is the `label`, and of the
    priors there, by their keys in data, NAME_pos, NAME_energy [D] and NAME_forces.
    """
    natoms, atoms = batch.natoms[chosen], chosen[batch.batch]
    pushes = batch.pushed_pos.shape[1]
    which = torch.tensor([int(g.integers(pushes)) for g in generators]).to(natoms)
    of_atoms = which.repeat_interleave(natoms)
    keys, found = batch.keys(), {}
    for key in (label, *(k for k in keys if k.startswith("pushed_"))):
        rows, index = (atoms, of_atoms) if batch[key].dim() == 3 else (chosen, which)
        of_all = batch[key][rows]
        found[key.removeprefix("pushed_")] = of_all[torch.arange(len(of_all)), index]
    found["restoring"] = found.pop(label)
    names = [key.removesuffix("_energy") for key in found if key.endswith("_energy")]
    return found | {f"{name}_pos": found["pos"] for name in names}
