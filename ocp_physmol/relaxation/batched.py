"""Relaxations of many structures with a model, from wherever their atoms are put."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import ase.optimize
import numpy as np
import torch
from ase.calculators.calculator import Calculator, all_changes
from fairchem.core.common.relaxation.ase_utils import batch_to_atoms
from fairchem.core.common.relaxation.optimizers.lbfgs_torch import LBFGS
from tqdm import tqdm

from ocp_physmol.relaxation.optimizable import MovedBatch
from ocp_physmol.relaxation.predictor import batches, quiet

if TYPE_CHECKING:
    from collections.abc import Sequence

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


class Relaxed(NamedTuple):
    """Where relaxations ended, structure by structure. Not finite where they exploded."""

    positions: list[np.ndarray]  # [n, 3], Angstrom, from the centre of the start
    energies: np.ndarray  # eV, the model's
    largest_forces: np.ndarray  # eV/Angstrom, the model's, on the atom with the largest


def relax(
    predictor,
    structures: Sequence,
    starts: list[np.ndarray],
    descent: Descent,
    batch_size: int = 32,
    title: str = "relaxations",
) -> Relaxed:
    """Relax each structure from its start.

    Args:
        predictor: of `load_predictor`.
        structures: entries of a data set; their own positions do not matter.
        starts: positions [n, 3] of each, in Angstrom.
        batch_size: of fairchem's batched optimiser.
        title: of the progress bar.
    """
    # float32 is finest around the origin, and no model minds where that is
    entries = [placed(*pair) for pair in zip(structures, (p - p.mean(axis=0) for p in starts))]
    batched = descent.optimizer == "lbfgs"
    ends = []
    bar = tqdm(total=len(entries), desc=title, unit=" molecules", mininterval=1)
    for batch in batches(entries, batch_size if batched else 1):
        with quiet():
            ends += (_relax_batch if batched else _relax_with_ase)(predictor, batch, descent)
        bar.update(len(batch.natoms))
    bar.close()
    positions, energies, forces = zip(*ends)
    largest = [np.linalg.norm(f, axis=1).max() for f in forces]
    return Relaxed(list(positions), np.array(energies), np.array(largest))


def energies_at(predictor, structures: Sequence, batch_size: int = 32) -> np.ndarray:
    """The model's energies (eV) of structures as they are."""
    energies = []
    for batch in batches(structures, batch_size):
        with quiet():
            out = predictor.predict(batch, per_image=False, disable_tqdm=True)
        energies += out["energy"].view(-1).tolist()
    return np.array(energies)


def placed(structure, positions: np.ndarray):
    """A copy of a data set's entry with its atoms at other positions [n, 3], in float32, to which
    fairchem's optimiser casts them anyway."""
    entry = structure.clone()
    entry.pos = torch.as_tensor(np.asarray(positions), dtype=torch.float32)
    return entry


def split(values: torch.Tensor, batch) -> list[np.ndarray]:
    """Values of all atoms of a batch, structure by structure."""
    return [v.detach().cpu().numpy() for v in torch.split(values, batch.natoms.tolist())]


def _relax_batch(predictor, batch, descent: Descent) -> list[tuple]:
    """Positions, energy and forces of each structure of a batch, as the optimiser leaves them."""
    optimizable = MovedBatch(batch, trainer=_Enduring(predictor, batch.pos))
    optimizer = LBFGS(optimizable, maxstep=descent.maxstep, save_full_traj=False)
    optimizer.run(fmax=descent.fmax, steps=descent.steps)
    end = optimizable.batch
    return list(zip(split(end.pos, end), end.energy.view(-1).tolist(), split(end.forces, end)))


class _Enduring:
    """A predictor that says NaN of structures that have exploded, and goes on with the others.

    Models refuse a whole batch for one position that is not finite.
    """

    def __init__(self, predictor, start: torch.Tensor) -> None:
        self._predictor, self._start, self.device = predictor, start.clone(), predictor.device

    def predict(self, batch, **options) -> dict[str, torch.Tensor]:
        lost = ~torch.isfinite(batch.pos).all(dim=1)
        if not lost.any():
            return self._predictor.predict(batch, **options)
        exploded = torch.zeros(len(batch.natoms), dtype=torch.bool, device=lost.device)
        exploded[batch.batch[lost]] = True
        atoms = exploded[batch.batch, None]
        finite = batch.clone()
        finite.pos = torch.where(atoms, self._start.to(batch.pos), batch.pos)
        out = self._predictor.predict(finite, **options)
        energy = out["energy"].view(-1).masked_fill(exploded, torch.nan)
        return {**out, "energy": energy, "forces": out["forces"].masked_fill(atoms, torch.nan)}


def _relax_with_ase(predictor, batch, descent: Descent) -> list[tuple]:
    """The same for a batch of one structure with one of ASE_OPTIMIZERS."""
    atoms = batch_to_atoms(batch, wrap_pos=False)[0]
    atoms.calc = _PredictorCalculator(predictor, batch)
    optimizer = getattr(ase.optimize, descent.optimizer)(
        atoms, logfile=None, maxstep=descent.maxstep
    )
    for _ in optimizer.irun(fmax=descent.fmax, steps=descent.steps):
        if not np.isfinite(atoms.get_forces()).all():
            break  # ASE would go on, or fail in its linear algebra
    return [(atoms.positions, atoms.get_potential_energy(), atoms.get_forces())]


class _PredictorCalculator(Calculator):
    """A predictor as ASE's calculator of one structure."""

    implemented_properties = ("energy", "forces")

    def __init__(self, predictor, batch) -> None:
        super().__init__()
        self._predictor, self._batch = predictor, batch.clone()

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        self._batch.pos = torch.as_tensor(atoms.positions, dtype=self._batch.pos.dtype)
        out = self._predictor.predict(self._batch, per_image=False, disable_tqdm=True)
        forces = out["forces"].detach().cpu().numpy().astype(float)
        self.results = {"energy": out["energy"].item(), "forces": forces}
