"""The forces that pull a pushed molecule back: our own term, in the place of the bound (3.6).

Eq. 9 asks that a displaced structure lies higher, which says little of the few soft directions in
which relaxations escape. Restoring forces are about all directions at once.
"""

from itertools import compress
from typing import Literal

import numpy as np
import torch
from fairchem.core.common.registry import registry
from pydantic import Field, model_validator
from torch_geometric.data import Batch

from ocp_physmol.errors import UserError
from ocp_physmol.losses.equilibrium import EquilibriumTerm, at_equilibrium
from ocp_physmol.model.copies import Copy
from ocp_physmol.pushes import draw
from ocp_physmol.pushes.elastic_network import ElasticNetwork
from ocp_physmol.pushes.remembered import RememberedHessians
from ocp_physmol.pushes.teachers import NEEDED, pushed_by


@registry.register_loss("restoring_force")
class RestoringForce(EquilibriumTerm):
    """|f - f_target| for each pushed molecule, eV^(1/2); for free molecules.

    f are forces weighed by softness (`ElasticNetwork.weighed`), f_target those of a teacher (see
    `pushes.teachers`).
    """

    class Options(EquilibriumTerm.Options):
        noise: float = Field(gt=0, description="largest root mean square of a push, Angstrom")
        teacher: Literal["springs", "data", "prior"] = Field(
            "springs",
            description="what pulls back: an elastic network of springs; the forces of ocp-physmol "
            "data curvature, on the pushes stored with them (data); or the model's prior alone",
        )
        frequencies: bool = Field(
            False,
            description="with the teacher data or prior: bonds are as stiff as the data's harmonic "
            "frequencies say, by what ocp-physmol data curvature has fitted to them",
        )

        @model_validator(mode="after")
        def _springs_have_their_own(self):
            if self.frequencies and self.teacher == "springs":
                raise ValueError("'frequencies' needs the teacher 'data' or 'prior'")
            return self

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.remembered = RememberedHessians()

    def problem(self, entry, labels):
        if unfit := draw.obstacle(entry):
            return (
                f"is for free molecules at their minima, and the training data has {unfit}; "
                "use bound instead"
            )
        teacher = self.options.teacher
        needed = (*NEEDED[teacher], *(("stretch_stiffness",) if self.options.frequencies else ()))
        for key in needed:
            if key not in entry:
                return (
                    f"has the teacher '{teacher}', and the training data has no {key}; add it with "
                    "ocp-physmol data curvature, or set the teacher 'springs'"
                )
        return super().problem(entry, labels)

    def copy(self, batch, generators) -> Copy:
        chosen = at_equilibrium(batch)
        drawn = list(compress(generators, chosen.tolist()))
        push = Push(batch, chosen, self.options, drawn, self.remembered)
        return Copy(
            "restoring_force", ("forces",), push.pos, chosen, stored=push.stored, known=push
        )

    def compare(self, out, batch, copy):
        return copy.known.weighed(out[copy.name]["forces"]), copy.known.target

    def forward(self, prediction, target, natoms):
        return (prediction - target).square().sum(-1).clamp(min=1e-12).sqrt()


class Push:
    """D molecules of a batch, M atoms in all, pushed out of their minima.

    The molecules are those `chosen` [B] (bool), which are at their minima; each has a generator,
    and may be one of those `remembered`.
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
        remembered: RememberedHessians | None = None,
    ) -> None:
        atoms = chosen[batch.batch]
        if batch.fixed[atoms].any():
            raise UserError(
                "loss_functions.restoring_force is for free molecules, and the training data has "
                "fixed atoms; use bound instead"
            )
        natoms = batch.natoms[chosen]
        numbers = batch.atomic_numbers[atoms]
        network = ElasticNetwork(batch.pos[atoms], numbers, natoms, remembered)
        self.network = network
        pushed, forces, self.stored = pushed_by(
            options.teacher, network, batch, chosen, options.noise, generators, options.frequencies
        )
        size = draw.size(network, pushed - network.minimum)
        size = size.clamp(min=options.noise / draw.SCALES).flatten()
        self._weight = (natoms * size / options.noise).rsqrt()[:, None]
        self.pos = pushed[network.mask]
        self.target = self._weight * network.weighed(forces)

    def weighed(self, forces: torch.Tensor) -> torch.Tensor:
        """Forces [M, 3] on the pushed atoms, as `restoring_force` compares them: [D, 3n]."""
        return self._weight * self.network.weighed(self.network.padded(forces))
