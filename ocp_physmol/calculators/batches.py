"""Batches of free molecules, evaluated by a pool of calculators."""

import numpy as np
import torch
from torch_geometric.data import Batch

from ocp_physmol.calculators.pool import CalculatorPool, Refusal


def evaluate(
    pool: CalculatorPool, batch: Batch, across: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, dict[int, Refusal]]:
    """Energies [B] (eV) and forces [N, 3] (eV/Angstrom), in double precision on the processor.

    Molecules that the calculator refuses get NaN, and so do those that are larger than their cells,
    `across` [B]. Last come the reasons, by their place in the batch.
    """
    sizes = batch.natoms.tolist()
    numbers = batch.atomic_numbers.int().cpu().split(sizes)
    positions = batch.pos.detach().double().cpu().split(sizes)
    answers = pool.evaluate(
        {"numbers": z.numpy(), "positions": x.numpy()} for z, x in zip(numbers, positions)
    )
    energies, forces, refusals = [], [], {}
    for place, (answer, n) in enumerate(zip(answers, sizes)):
        if isinstance(answer, Refusal):
            refusals[place] = answer
            answer = np.nan, np.full((n, 3), np.nan)
        energies.append(answer[0])
        forces.append(torch.from_numpy(answer[1]))
    for place in across.nonzero()[:, 0].tolist():
        energies[place], refusals[place] = np.nan, Refusal("larger than its cell")
        forces[place].fill_(np.nan)
    return torch.tensor(energies, dtype=torch.float64), torch.cat(forces), refusals
