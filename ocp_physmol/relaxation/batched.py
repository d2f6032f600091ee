"""Relaxations of many structures with a model, from wherever their atoms are put."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import ase.optimize
import numpy as np
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from fairchem.core.common.relaxation.ase_utils import batch_to_atoms
from fairchem.core.common.relaxation.optimizable import OptimizableBatch
from fairchem.core.common.relaxation.optimizers.lbfgs_torch import LBFGS
from fairchem.core.datasets import data_list_collater
from torch_geometric.data import Batch, Data

from ocp_physmol.progress import chunks
from ocp_physmol.relaxation.predictor import Predictor, split

# fairchem's, on batches, and ASE's, which take one structure at a time and are many times slower
DAMPING = 1.2  # by which fairchem's multiplies its steps, after it has cut them; its default
OPTIMIZERS = ("lbfgs", "BFGS", "LBFGS", "FIRE")


@dataclass(frozen=True)
class Descent:
    """How structures are relaxed."""

    optimizer: str = "lbfgs"
    steps: int = 200  # at most
    fmax: float = 0.03  # eV/Angstrom, largest force on an atom of a converged structure
    maxstep: float = 0.1  # Angstrom, that an atom moves in one step; times DAMPING in fairchem's
    seed: int = 0  # of all that is random before the relaxation

    def __str__(self) -> str:
        batched = self.optimizer == "lbfgs"
        name = "fairchem's batched L-BFGS" if batched else f"ASE's {self.optimizer}"
        longest = f"{DAMPING * self.maxstep if batched else self.maxstep:.4g}"
        limits = f"at most {self.steps} steps of at most {longest} Å to {self.fmax} eV/Å"
        return f"{name}, {limits}, seed {self.seed}"


class Frame(NamedTuple):
    """A structure on its way to a minimum. Not finite after it has exploded."""

    positions: np.ndarray  # [n, 3], Angstrom
    energy: float  # eV, the model's
    forces: np.ndarray  # [n, 3], eV/Angstrom, the model's; zero on fixed atoms

    @property
    def largest_force(self) -> float:
        """eV/Angstrom, on any one atom."""
        return float(np.linalg.norm(self.forces, axis=1).max())


def relax(
    predictor: Predictor,
    structures: Sequence[Data],
    starts: Sequence[np.ndarray],
    descent: Descent,
    batch_size: int = 32,
    title: str | None = None,
) -> list[Frame]:
    """Relax copies of structures from `starts`, positions [n, 3] of each in Angstrom.

    Returns the frames in which they end, moved to the origin, where float32 is finest. Atoms whose
    `fixed` is 1 stay.
    """
    size = batch_size if descent.optimizer == "lbfgs" else 1
    entries = [placed(s, start - start.mean(axis=0)) for s, start in zip(structures, starts)]
    relaxed = (relax_batch(predictor, chunk, descent) for chunk in chunks(entries, size, title))
    return [frames[-1] for found in relaxed for frames in found]


def placed(structure: Data, positions: np.ndarray) -> Data:
    """A copy of a data set's entry with its atoms at other positions [n, 3], in float32."""
    entry = structure.clone()
    entry.pos = torch.tensor(positions, dtype=torch.float32)
    return entry


def relax_batch(
    predictor: Predictor, entries: list[Data], descent: Descent, **options: Any
) -> list[list[Frame]]:
    """Relax structures together from their positions, in float32; the frames of each.

    A batch that does not fit in the GPU's memory is halved. `options` are those of fairchem's
    L-BFGS: memory, damping, alpha.
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
    options = {"maxstep": descent.maxstep, "damping": DAMPING, **options}
    optimizer = LBFGS(moved, save_full_traj=False, **options)
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


class MovedBatch(OptimizableBatch):
    """A batch of structures, whose `frames` lead from their starts, in float32, to where they are.

    It differs from fairchem's in two ways. Forces are computed anew after every move: fairchem's
    ignores moves below 1e-5 of the coordinates, so forces stay, L-BFGS divides by their change,
    and positions become NaN. And a structure that explodes, that is, whose positions are no longer
    finite, does not end the relaxation of the others, although models refuse such a batch.
    """

    def __init__(self, batch: Batch, predictor: Predictor) -> None:
        super().__init__(batch, trainer=predictor)  # which is asked for its device only
        self.frames: list[list[Frame]] = [[] for _ in range(len(batch))]
        self._start = self.batch.pos.clone()

    def set_positions(self, positions: torch.Tensor) -> None:
        """Move the structures that have not converged, to positions [N, 3]."""
        super().set_positions(positions)
        self.torch_results: dict[str, torch.Tensor] = {}

    def _predict(self) -> None:
        """Energies and forces after a move, NaN for those of structures that have exploded."""
        if self.torch_results:
            return
        batch = self.batch
        exploded = torch.zeros(len(batch.natoms), dtype=torch.bool, device=self.device)
        exploded[batch.batch[~torch.isfinite(batch.pos).all(dim=1)]] = True
        atoms = exploded[batch.batch, None]
        finite = batch.clone()
        finite.pos = torch.where(atoms, self._start, batch.pos)
        out = self.trainer.predict(finite)
        energy = out["energy"].masked_fill(exploded, torch.nan)
        forces = out["forces"].masked_fill(atoms, torch.nan)
        forces = forces.masked_fill(batch.fixed[:, None] == 1, 0)
        self.torch_results = {"energy": energy, "forces": forces}
        now = map(Frame, split(batch.pos, batch), energy.tolist(), split(forces, batch))
        for frames, frame, moved in zip(self.frames, now, self.update_mask.tolist()):
            if not moved:
                frames.pop()  # predicted anew, together with structures that have moved
            frames.append(frame)
