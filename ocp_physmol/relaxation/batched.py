"""Relaxations of many structures with a model, from wherever their atoms are put."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ase.optimize
import numpy as np
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from fairchem.core.common.relaxation.ase_utils import batch_to_atoms
from fairchem.core.common.relaxation.optimizers.lbfgs_torch import LBFGS
from fairchem.core.datasets import data_list_collater
from torch_geometric.data import Data

from ocp_physmol.relaxation.optimizable import Frame, MovedBatch
from ocp_physmol.relaxation.predictor import Predictor, progress

# fairchem's, on batches, and ASE's, which take one structure at a time and are many times slower
OPTIMIZERS = ("lbfgs", "BFGS", "LBFGS", "FIRE")


@dataclass(frozen=True)
class Descent:
    """How structures are relaxed."""

    optimizer: str = "lbfgs"
    steps: int = 200  # at most
    fmax: float = 0.03  # eV/Angstrom, largest force on an atom of a converged structure
    maxstep: float = 0.1  # Angstrom, that an atom moves in one step; fairchem's takes 1.2 times it
    seed: int = 0  # of all that is random before the relaxation

    def __str__(self) -> str:
        batched = self.optimizer == "lbfgs"
        name = "fairchem's batched L-BFGS" if batched else f"ASE's {self.optimizer}"
        return (
            f"{name}, at most {self.steps} steps of at most {self.maxstep} Å "
            f"to {self.fmax} eV/Å, seed {self.seed}"
        )


def relax(
    predictor: Predictor,
    structures: Sequence[Data],
    starts: Sequence[np.ndarray],
    descent: Descent,
    batch_size: int = 32,
    title: str | None = None,
) -> list[Frame]:
    """Relax each structure; the frames in which they end. Atoms whose `fixed` is 1 stay.

    Args:
        structures: entries of a data set, which are left as they are.
        starts: positions [n, 3] of each in Angstrom. Each is moved to the origin, where float32 is
            finest.
        batch_size: of fairchem's L-BFGS.
        title: of a progress bar; none by default.
    """
    size = batch_size if descent.optimizer == "lbfgs" else 1
    entries = [placed(s, start - start.mean(axis=0)) for s, start in zip(structures, starts)]
    ends: list[Frame] = []
    with progress(title, len(entries)) as bar:
        for first in range(0, len(entries), size):
            found = relax_batch(predictor, entries[first : first + size], descent)
            ends += [frames[-1] for frames in found]
            bar.update(len(found))
    return ends


def placed(structure: Data, positions: np.ndarray) -> Data:
    """A copy of a data set's entry with its atoms at other positions [n, 3], in float32, to which
    fairchem's optimiser casts them anyway."""
    entry = structure.clone()
    entry.pos = torch.tensor(positions, dtype=torch.float32)
    return entry


def relax_batch(
    predictor: Predictor, entries: list[Data], descent: Descent, **options: Any
) -> list[list[Frame]]:
    """Relax structures together, from where they are; the frames of each, first to last.

    A batch that does not fit in the GPU's memory is halved.

    Args:
        entries: with positions in float32.
        options: of fairchem's L-BFGS: memory, damping, alpha.
    """
    if descent.optimizer != "lbfgs":
        return [_relax_with_ase(predictor, entry, descent) for entry in entries]
    try:
        return _relax_with_fairchem(predictor, entries, descent, options)
    except torch.cuda.OutOfMemoryError:
        if len(entries) == 1:
            raise
    torch.cuda.empty_cache()
    half = len(entries) // 2
    parts = entries[:half], entries[half:]
    return [f for part in parts for f in relax_batch(predictor, part, descent, **options)]


def _relax_with_fairchem(
    predictor: Predictor, entries: list[Data], descent: Descent, options: dict
) -> list[list[Frame]]:
    moved = MovedBatch(data_list_collater(entries, otf_graph=True), predictor)
    optimizer = LBFGS(moved, maxstep=descent.maxstep, save_full_traj=False, **options)
    optimizer.run(fmax=descent.fmax, steps=descent.steps)
    return moved.frames


def _relax_with_ase(predictor: Predictor, entry: Data, descent: Descent) -> list[Frame]:
    atoms, frames = to_atoms(entry), []
    optimizer_class = getattr(ase.optimize, descent.optimizer)
    optimizer = optimizer_class(atoms, logfile=None, maxstep=descent.maxstep)
    for _ in range(descent.steps + 1):
        (energy,), (forces,) = predictor.energies_and_forces([placed(entry, atoms.positions)])
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        frames.append(Frame(atoms.positions.copy(), energy, atoms.get_forces()))
        largest = frames[-1].largest_force
        if not np.isfinite(largest) or largest < descent.fmax:
            break
        optimizer.step()
    return frames


def to_atoms(entry: Data) -> Atoms:
    """A data set's entry as ASE's Atoms, periodic as all of OC20."""
    return batch_to_atoms(data_list_collater([entry], otf_graph=True), wrap_pos=False)[0]
