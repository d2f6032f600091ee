"""The forces that pull a pushed molecule back: our own term, in the place of the bound (3.6).

Eq. 9 asks that a displaced structure lies higher, which says little of the few soft directions in
which relaxations escape. Restoring forces are about all directions at once.
"""

from itertools import compress

import numpy as np
import torch
from fairchem.core.common.registry import registry
from numpy.random import Generator
from pydantic import Field
from torch_geometric.data import Batch

from ocp_physmol.errors import UserError
from ocp_physmol.losses.elastic_network import ElasticNetwork
from ocp_physmol.losses.equilibrium import EquilibriumTerm, at_equilibrium
from ocp_physmol.model.copies import Copy
from ocp_physmol.model.graph import find_neighbors

BOND = 3.0  # Angstrom, longer than any
SCALES = 12.0  # largest push over smallest: a relaxation passes all distances from the minimum
CLEFT = 0.15  # share of molecules that are cleft in two, as in the assembly of section 4.4
APART = 0.8  # Angstrom, the largest distance that the parts of a cleft molecule are moved
SOFT = 0.5  # share of the others that are pushed along soft directions, as by heat


@registry.register_loss("restoring_force")
class RestoringForce(EquilibriumTerm):
    """|f - f_target| for each pushed molecule, eV^(1/2); for free molecules.

    f are forces weighed by softness (`ElasticNetwork.weighed`), f_target the elastic network's.
    """

    class Options(EquilibriumTerm.Options):
        noise: float = Field(gt=0, description="largest root mean square of a push, Angstrom")

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


class Push:
    """D molecules of a batch, M atoms in all, pushed out of their minima.

    Some are cleft along a random plane, its sides moved apart. All others are displaced evenly, or
    further along soft directions, by root mean squares between noise / SCALES and noise
    (Angstrom), log-uniform.

    The molecules are those `chosen` [B] (bool), which are at their minima; each structure of the
    batch has a generator. `pos` [M, 3] are the pushed positions (Angstrom), and `target` [D, 3n]
    the forces there as `weighed` returns them.

    Raises:
        UserError: if an atom cannot move; the network is one of free molecules.
    """

    def __init__(
        self, batch: Batch, chosen: torch.Tensor, noise: float, generators: list[Generator]
    ) -> None:
        atoms = chosen[batch.batch]
        if batch.fixed[atoms].any():
            raise UserError(
                "loss_functions.restoring_force is for free molecules, and the training data has "
                "fixed atoms; use bound instead"
            )
        natoms = batch.natoms[chosen]
        self.network = ElasticNetwork(batch.pos[atoms], batch.atomic_numbers[atoms], natoms)
        pushed = self._pushed(noise, list(compress(generators, chosen.tolist())))
        size = self._size(pushed - self.network.minimum).clamp(min=noise / SCALES)
        self._weight = (natoms * size.flatten() / noise).rsqrt()[:, None]
        self.pos = pushed[self.network.mask]
        _, forces = self.network.energy_and_forces(pushed)
        self.target = self._weight * self.network.weighed(forces)

    def _pushed(self, noise: float, generators: list[Generator]) -> torch.Tensor:
        """Positions [D, n, 3], turned and shifted back onto the minima."""
        network = self.network
        normal, plane = np.zeros(network.minimum.shape), np.zeros((len(generators), 3))
        uniform = np.zeros((5, len(generators), 1, 1))
        for k, (generator, n) in enumerate(zip(generators, network.mask.sum(1).tolist())):
            normal[k, :n] = generator.standard_normal((n, 3))
            plane[k] = generator.standard_normal(3)
            uniform[:, k, 0, 0] = generator.random(5)
        evenly, across, (scale, soft, cleft, which, apart) = (
            torch.as_tensor(draw).to(network.minimum) for draw in (normal, plane, uniform)
        )  # [D, n, 3], [D, 3] and five of [D, 1, 1]
        push = torch.where(soft < SOFT, network.soft_displacements(evenly), evenly)
        push = self._scaled(push, 0.01 * noise)
        push = network.align(network.minimum + push) - network.minimum  # without rigid motions
        push = self._scaled(push, noise * SCALES**-scale)
        parting = self._parting(across / across.norm(dim=1, keepdim=True), which, APART * apart)
        push = torch.where(cleft < CLEFT, parting, push)
        return network.align(network.minimum + push)

    def _parting(self, normal, which, apart) -> torch.Tensor:
        """Displacements [D, n, 3] by `apart` [D, 1, 1] along the unit vectors `normal` [D, 3] of
        the atoms above a plane through one atom, chosen by `which` [D, 1, 1] from 0 to 1."""
        mask = self.network.mask
        height = torch.einsum("dna,da->dn", self.network.minimum, normal)
        level = height.gather(1, (which[:, 0] * mask.sum(1, keepdim=True)).long())
        return ((height > level) & mask)[..., None] * (apart * normal[:, None])

    def _size(self, push: torch.Tensor) -> torch.Tensor:
        """Root mean square of the coordinates of displacements [D, n, 3], [D, 1, 1]."""
        count = 3 * self.network.mask.sum(1)[:, None, None]
        return (push.square().sum((1, 2), keepdim=True) / count).sqrt()

    def _scaled(self, push: torch.Tensor, size) -> torch.Tensor:
        return push * (size / self._size(push).clamp(min=1e-6))

    def weighed(self, forces: torch.Tensor) -> torch.Tensor:
        """Forces [M, 3] on the pushed atoms, as `restoring_force` compares them: [D, 3n]."""
        return self._weight * self.network.weighed(self.network.padded(forces))
