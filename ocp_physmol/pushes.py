"""Molecules pushed out of their minima, and how hard an elastic network pulls them back.

Eq. 9 asks that a displaced structure lies higher. That says little of the few soft directions in
which relaxations escape; what pulls a structure back says it of all directions at once.
"""

from __future__ import annotations

import numpy as np
import torch

from ocp_physmol.elastic_network import ElasticNetwork
from ocp_physmol.errors import UserError

SCALES = 12.0  # largest push over smallest; how far it comes, a relaxation does not know
SOFT = 0.5  # share of pushes along soft directions, as by heat; the others go evenly everywhere


class Push:
    """The structures in `batch.displaced` [B], pushed.

    Root mean squares of the displacements are log-uniform between noise / SCALES and noise.

    Args:
        batch: a fairchem batch of molecules, those in `displaced` [B] at their minima.
        noise: Angstrom.
        generators: one for each structure of the batch.

    Attributes:
        pos: [M, 3], where the atoms of the pushed structures are, Angstrom.
        target: [D, 3n], the forces there as `weighed` returns them.

    Raises:
        UserError: if an atom cannot move; the network is one of free molecules.
    """

    def __init__(self, batch, noise: float, generators) -> None:
        atoms = batch.displaced[batch.batch]
        if batch.fixed[atoms].any():
            raise UserError(
                "loss_functions.restoring_force is for free molecules, and the training data has "
                "fixed atoms; use bound instead"
            )
        natoms = batch.natoms[batch.displaced]
        self.network = ElasticNetwork(batch.pos[atoms], batch.atomic_numbers[atoms], natoms)
        generators = [g for g, yes in zip(generators, batch.displaced.tolist()) if yes]
        pushed, scale = self._pushed(noise, generators)
        self._weight = (natoms * scale / noise).rsqrt()[:, None]
        self.pos = pushed[self.network.mask]
        _, forces = self.network.energy_and_forces(pushed)
        self.target = self._weight * self.network.weighed(forces)

    def _pushed(self, noise: float, generators) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions [D, n, 3] and how far they are from the minima [D], rigid motions undone."""
        network = self.network
        normal = np.zeros(network.minimum.shape)
        scale, soft = np.empty((2, len(normal)))
        for k, (generator, n) in enumerate(zip(generators, network.mask.sum(1).tolist())):
            scale[k] = noise * SCALES ** -generator.random()
            soft[k] = generator.random() < SOFT
            normal[k, :n] = generator.standard_normal((n, 3))
        draws = (normal, scale, soft)
        normal, scale, soft = (torch.as_tensor(d).to(network.minimum) for d in draws)
        push = torch.where(soft[:, None, None] > 0, network.soft_displacements(normal), normal)
        inner = network.align(network.minimum + self._scaled(push, 0.01 * noise)) - network.minimum
        return network.align(network.minimum + self._scaled(inner, scale)), scale

    def _scaled(self, push: torch.Tensor, size) -> torch.Tensor:
        """Displacements [D, n, 3] with a root mean square `size` (A) of the coordinates."""
        mean_square = push.square().sum((1, 2)) / (3 * self.network.mask.sum(1))
        return push * (size / mean_square.clamp(min=1e-12).sqrt())[:, None, None]

    def weighed(self, forces: torch.Tensor) -> torch.Tensor:
        """Forces [M, 3] on the pushed atoms, as `restoring_force` compares them: [D, 3n]."""
        return self._weight * self.network.weighed(self.network.padded(forces))
