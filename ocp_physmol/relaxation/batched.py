"""Relaxations of many structures with a model, from wherever their atoms are put."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ase.optimize
import numpy as np
import torch
from ase.calculators.calculator import Calculator, all_changes
from fairchem.core.common.relaxation.ase_utils import batch_to_atoms
from fairchem.core.common.relaxation.optimizers.lbfgs_torch import LBFGS
from fairchem.core.datasets import data_list_collater
from torch_geometric.data import Data

from ocp_physmol.relaxation.optimizable import Frame, MovedBatch
from ocp_physmol.relaxation.predictor import Predictor, progress

ASE_OPTIMIZERS = ("BFGS", "LBFGS", "FIRE")  # one structure at a time, many times slower
OPTIMIZERS = ("lbfgs", *ASE_OPTIMIZERS)  # the first is fairchem's, on batches


@dataclass(frozen=True)
class Descent:
    """How structures are relaxed."""

    optimizer: str = "lbfgs"
    steps: int = 200  # at most
    fmax: float = 0.03  # eV/Angstrom, largest force on an atom of a converged structure
    maxstep: float = 0.1  # Angstrom, that an atom moves in one step; fairchem's takes 1.2 times it
    seed: int = 0  # of all that is random before the relaxation

    def __str__(self) -> str:
        name = (
            "fairchem's batched L-BFGS" if self.optimizer == "lbfgs" else f"ASE's {self.optimizer}"
        )
        return (
            f"{name}, at most {self.steps} steps of at most {self.maxstep} Å "
            f"to {self.fmax} eV/Å, seed {self.seed}"
        )


@dataclass(frozen=True)
class Relaxed:
    """Where relaxations ended, structure by structure. Not finite where they exploded."""

    frames: list[list[Frame]]  # of each structure; the last of them is where it ended

    @property
    def positions(self) -> list[np.ndarray]:
        """[n, 3] of each structure, Angstrom."""
        return [frames[-1].positions for frames in self.frames]

    @property
    def energies(self) -> np.ndarray:
        """[B], eV, the model's."""
        return np.array([frames[-1].energy for frames in self.frames])

    @property
    def largest_forces(self) -> np.ndarray:
        """[B], eV/Angstrom: the model's force on the atom with the largest one."""
        return np.array([np.linalg.norm(f[-1].forces, axis=1).max() for f in self.frames])


def relax(
    predictor: Predictor,
    structures: Sequence[Data],
    starts: Sequence[np.ndarray] | None = None,
    descent: Descent = Descent(),  # frozen
    batch_size: int = 32,
    frames: bool = False,
    title: str | None = None,
    **options: Any,
) -> Relaxed:
    """Relax each structure. Atoms whose `fixed` is 1 stay.

    Args:
        structures: entries of a data set, which are left as they are.
        starts: positions [n, 3] of each in Angstrom, which are moved to the origin, where float32
            is finest; by default the structures' own, which are not moved.
        batch_size: of fairchem's L-BFGS. A batch that does not fit in the GPU's memory is halved.
        frames: whether to keep the frames before the last one, too.
        title: of a progress bar; none by default.
        options: of fairchem's L-BFGS: memory, damping, alpha.
    """
    if starts is None:
        starts = [structure.pos.cpu().numpy() for structure in structures]
    else:
        starts = [start - start.mean(axis=0) for start in starts]
    if descent.optimizer != "lbfgs":
        batch_size = 1
    found: list[list[Frame]] = []
    with progress(title, len(structures)) as bar:
        for first in range(0, len(starts), batch_size):
            indices = range(first, min(first + batch_size, len(starts)))
            entries = [placed(structures[i], starts[i]) for i in indices]
            if descent.optimizer == "lbfgs":
                found += _relax_batch(predictor, entries, descent, frames, options)
            else:
                found.append(_relax_with_ase(predictor, entries[0], descent, frames))
            bar.update(len(entries))
    return Relaxed(found)


def placed(structure: Data, positions: np.ndarray) -> Data:
    """A copy of a data set's entry with its atoms at other positions [n, 3], in float32, to which
    fairchem's optimiser casts them anyway."""
    entry = structure.clone()
    entry.pos = torch.tensor(positions, dtype=torch.float32)
    return entry


def _relax_batch(
    predictor: Predictor, entries: list[Data], descent: Descent, frames: bool, options: dict
) -> list[list[Frame]]:
    """The frames of each structure, relaxed together; in halves if memory does not suffice."""
    try:
        return _run_lbfgs(predictor, entries, descent, frames, options)
    except torch.cuda.OutOfMemoryError:
        if len(entries) == 1:
            raise
    torch.cuda.empty_cache()
    half = len(entries) // 2
    parts = entries[:half], entries[half:]
    return [f for part in parts for f in _relax_batch(predictor, part, descent, frames, options)]


def _run_lbfgs(
    predictor: Predictor, entries: list[Data], descent: Descent, frames: bool, options: dict
) -> list[list[Frame]]:
    moved = MovedBatch(data_list_collater(entries, otf_graph=True), predictor, frames)
    optimizer = LBFGS(moved, maxstep=descent.maxstep, save_full_traj=False, **options)
    optimizer.run(fmax=descent.fmax, steps=descent.steps)
    return [[*before, last] for before, last in zip(moved.frames, moved.current())]


def _relax_with_ase(
    predictor: Predictor, entry: Data, descent: Descent, frames: bool
) -> list[Frame]:
    """The frames of one structure, relaxed with one of ASE_OPTIMIZERS."""
    atoms = batch_to_atoms(data_list_collater([entry], otf_graph=True), wrap_pos=False)[0]
    atoms.calc = _PredictorCalculator(predictor, entry)
    optimizer = getattr(ase.optimize, descent.optimizer)(
        atoms, logfile=None, maxstep=descent.maxstep
    )
    found: list[Frame] = []
    for _ in optimizer.irun(fmax=descent.fmax, steps=descent.steps):
        forces = atoms.get_forces()
        if not frames:
            found.clear()
        found.append(Frame(atoms.positions.copy(), atoms.get_potential_energy(), forces))
        if not np.isfinite(forces).all():
            break  # ASE would go on, or fail in its linear algebra
    return found


class _PredictorCalculator(Calculator):
    """A predictor as ASE's calculator of one structure."""

    def __init__(self, predictor: Predictor, entry: Data) -> None:
        super().__init__()
        self.implemented_properties = ["energy", "forces"]
        self._predictor, self._entry = predictor, entry

    def calculate(
        self, atoms: Any = None, properties: Any = (), system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        moved = placed(self._entry, atoms.positions)
        energies, forces = self._predictor.energies_and_forces([moved])
        self.results = {"energy": float(energies[0]), "forces": forces[0].astype(float)}
