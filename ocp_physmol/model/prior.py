"""A quantum-chemical energy that is known without learning; the network adds what it lacks.

Data hold the prior NAME as `NAME_energy` [B] (eV) and `NAME_forces` [N, 3] (eV/Angstrom) at the
positions `NAME_pos` [N, 3] (Angstrom). Wherever else atoms are, it is computed, on all cores.
"""

import logging
from functools import cache
from typing import get_args

import torch
from torch_geometric.data import Batch

from ocp_physmol.calculators.batches import evaluate
from ocp_physmol.calculators.pool import CalculatorPool, Source
from ocp_physmol.model.config import PriorName
from ocp_physmol.model.graph import Neighbors

PRIORS: tuple[str, ...] = get_args(PriorName)


@cache
def _pool(name: str) -> CalculatorPool:
    return CalculatorPool(Source.named(name))


class Prior:
    """The prior NAME of batches of free molecules."""

    def __init__(self, name: str) -> None:
        self.name, self._warned = name, set[str]()
        self._of_free_molecules = False  # whether the data have been seen to be

    def __call__(
        self, data: Batch, neighbors: Neighbors, training: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Energies [B] (eV), in double precision, and forces [N, 3] (eV/Angstrom).

        The energies can be differentiated once by `data.pos`, the forces cannot. Molecules that the
        method refuses get NaN, and so do those that have flown apart over their cells; a warning
        says why, once.

        Raises:
            ValueError: if the data are periodic, or do not hold the prior in training.
            RuntimeError: in backward, if second derivatives are asked for.
        """
        across = neighbors.across
        if across.any() and not self._of_free_molecules:
            raise ValueError(f"prior {self.name} is for free molecules, not periodic ones")
        self._of_free_molecules = True
        if self._is_stored(data):
            energy, forces = data[f"{self.name}_energy"].view(-1), data[f"{self.name}_forces"]
        elif training:
            raise ValueError(
                f"the data hold no {self.name} where atoms are in training; leave out losses on "
                "other copies than those of ocp-physmol data curvature"
            )
        else:
            energy, forces = self._computed(data, across)
        forces = forces.to(data.pos)
        energy = _Known.apply(data.pos, data.batch, energy.double(), forces)
        return energy, _Last.apply(data.pos, forces)

    def _is_stored(self, data: Batch) -> bool:
        pos = getattr(data, f"{self.name}_pos", data.pos[:0])
        return pos.shape == data.pos.shape and torch.equal(pos, data.pos)

    def _computed(self, data: Batch, across: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        energy, forces, refusals = evaluate(_pool(self.name), data, across)
        for place, reason in refusals.items():
            problem = f"{self.name} refuses a molecule of {int(data.natoms[place])} atoms: {reason}"
            if problem not in self._warned:  # a relaxation asks again in every step
                logging.warning(problem)
            self._warned.add(problem)
        return energy.to(data.pos.device), forces


class _Known(torch.autograd.Function):
    """Energies whose forces are known."""

    @staticmethod
    def forward(ctx, pos, batch, energy, forces):
        ctx.save_for_backward(batch, forces)
        return energy

    @staticmethod
    def backward(ctx, grad_energy):
        if torch.is_grad_enabled():
            raise RuntimeError("a prior has first derivatives only; leave out create_graph")
        batch, forces = ctx.saved_tensors
        return -grad_energy[batch, None].to(forces) * forces, None, None, None


class _Last(torch.autograd.Function):
    """Forces whose derivatives are not known: else a Hessian would be the network's alone."""

    @staticmethod
    def forward(ctx, pos, forces):
        return forces.clone()

    @staticmethod
    def backward(ctx, grad_forces):
        raise RuntimeError("a prior has first derivatives only; differentiate no forces by `pos`")
