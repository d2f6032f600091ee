"""Relaxations of whole data sets (IS2RS, and IS2RE through relaxation), which can be interrupted.

fairchem's batched L-BFGS does the work. Each structure gets a trajectory; those that are there are
left alone, and the errors at the end are those of all of them, on any number of ranks. (fairchem's
trainer reports only on what the last call has relaxed, hangs where a rank has nothing left to do,
and leaves the last frame out of the trajectories of all structures that have converged.)
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import ase.io
import numpy as np
import torch
from ase.calculators.singlepoint import SinglePointCalculator
from fairchem.core.common import distutils
from fairchem.core.common.relaxation import ml_relaxation
from fairchem.core.common.relaxation.ase_utils import batch_to_atoms
from fairchem.core.datasets import data_list_collater
from tqdm import tqdm

from ocp_physmol.datasets.identifiers import identifier
from ocp_physmol.errors import UserError
from ocp_physmol.files import complete_or_absent
from ocp_physmol.leaderboard.scores import has_labels, score_split
from ocp_physmol.leaderboard.submission import read_predictions, system_id
from ocp_physmol.relaxation.optimizable import MovedBatch

if TYPE_CHECKING:
    from ase import Atoms
    from fairchem.core.datasets import LmdbDataset

    from ocp_physmol.training.trainer import PhysMolTrainer

ORIGIN = "relaxations.json"  # beside the trajectories: what they come from

ml_relaxation.OptimizableBatch = MovedBatch  # ml_relax takes no other class than its own


def run(trainer: PhysMolTrainer) -> None:
    """Relax what has no trajectory yet, this rank its share of it, and report on all.

    Raises:
        UserError: if two structures have one name, or the folder holds other relaxations.
    """
    task, dataset = trainer.config["task"], trainer.relax_dataset
    folder = Path(task["relax_opt"]["traj_dir"])
    require_same_origin(trainer, folder)
    left = remaining(dataset, folder)
    distutils.synchronize()  # before the first rank adds trajectories
    if distutils.is_master():
        logging.info(f"Relaxing {len(left)} of {len(dataset)} structures to {folder}")
    batch_size = trainer.config["optim"].get("eval_batch_size", 1)
    own = left[distutils.get_rank() :: distutils.get_world_size()]
    for first in tqdm(range(0, len(own), batch_size), "Relaxing", unit=" batches"):
        entries = [dataset[index] for index in own[first : first + batch_size]]
        for entry, frames in zip(entries, relax(trainer, entries)):
            path = folder / f"{system_id('is2rs', entry)}.traj"
            with complete_or_absent(path) as partial:
                ase.io.write(partial, frames, format="traj")
    distutils.synchronize()
    if distutils.is_master():
        report(trainer, folder)


def require_same_origin(trainer: PhysMolTrainer, folder: Path) -> None:
    """Old trajectories must not pass for those of another model, data set or optimiser."""
    task = {key: value for key, value in trainer.config["task"].items() if key != "write_pos"}
    weights = Path(trainer.checkpoint_path).read_bytes()
    src = trainer.config["relax_dataset"]["src"]
    origin = {
        "checkpoint": hashlib.sha256(weights).hexdigest(),
        "src": [os.path.abspath(path) for path in (src if isinstance(src, list) else [src])],
        "task": json.loads(json.dumps({**task, "relax_opt": _options(task)})),
    }
    path = folder / ORIGIN
    if path.is_file():
        former = json.loads(path.read_text())
        for key, value in origin.items():
            if former.get(key) != value:
                raise UserError(
                    f"task.relax_opt.traj_dir: {folder} holds relaxations of another {key} "
                    f"({former.get(key)}, not {value}); choose another folder, or remove this one"
                )
    elif distutils.is_master():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(origin, indent=2) + "\n")
    distutils.synchronize()


def _options(task: dict) -> dict:
    """Those of the optimiser."""
    return {key: value for key, value in task["relax_opt"].items() if key != "traj_dir"}


def remaining(dataset: LmdbDataset, folder: Path) -> list[int]:
    """Indices of the structures without a trajectory in `folder`."""
    names = [system_id("is2rs", dataset[index]) for index in range(len(dataset))]
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise UserError(
            f"dataset.relax.src: {dataset.paths[0]} has more than one structure with the sid "
            f"{repeated[0]}; give each its own, for trajectories are named by it"
        )
    return [i for i, name in enumerate(names) if not (folder / f"{name}.traj").is_file()]


def relax(trainer: PhysMolTrainer, entries: list) -> list[list[Atoms]]:
    """Relax a batch; the frames of each structure, the last of them relaxed, with energy (eV) and
    forces (eV/Angstrom)."""
    task = trainer.config["task"]
    batch = data_list_collater(entries, otf_graph=True).to(trainer.device)
    with TemporaryDirectory() as folder:
        traj_dir = {"traj_dir": folder} if task.get("save_full_traj", True) else {}
        relaxed = ml_relaxation.ml_relax(
            batch,
            trainer,
            steps=task.get("relaxation_steps", 300),
            fmax=task.get("relaxation_fmax", 0.02),
            relax_opt={**_options(task), **traj_dir},
        )
        if traj_dir:
            paths = [Path(folder, f"{entry.sid}.traj") for entry in entries]
            frames = [ase.io.read(p, ":") if p.stat().st_size else [] for p in paths]
        else:
            frames = [[atoms] for atoms in batch_to_atoms(batch, wrap_pos=False)]
    final = relaxed_atoms(relaxed)
    for entry, former in zip(entries, frames):
        last = final[system_id("is2rs", entry)]
        if former and np.array_equal(former[-1].positions, last.positions):
            former.pop()
        former.append(last)
    return frames


def relaxed_atoms(relaxed) -> dict[str, Atoms]:
    """The structures of a relaxed batch, by their names, with energy and forces.

    One that did not fit in memory at once comes back in another order.
    """
    structures = batch_to_atoms(relaxed, wrap_pos=False)
    forces = torch.split(relaxed.forces.cpu(), relaxed.natoms.tolist())
    for atoms, energy, force in zip(structures, relaxed.energy.view(-1).tolist(), forces):
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=force.numpy())
    return {str(identifier(sid)): atoms for sid, atoms in zip(relaxed.sid, structures)}


def report(trainer: PhysMolTrainer, folder: Path) -> None:
    """Log the errors, if the data know relaxed structures and energies, and write the positions."""
    dataset = trainer.relax_dataset
    read = cache(lambda task: read_predictions(task, folder, "relax"))
    if trainer.config["task"].get("write_pos", False):
        path = Path(trainer.config["cmd"]["results_dir"], "relaxed_positions.npz")
        np.savez_compressed(path, **read("is2rs"))
        logging.info(f"Writing results to {path}")
    for task in ("is2rs", "is2re-relaxations"):
        if has_labels(task, dataset):
            scores = score_split(task, read(task), dataset)
            logging.info(", ".join(f"{task}_{name}: {value:.4f}" for name, value in scores.items()))
