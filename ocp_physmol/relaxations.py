"""Relaxations of whole data sets (IS2RS, and IS2RE through relaxation), which can be interrupted.

fairchem's batched L-BFGS does the work, and writes one trajectory a structure. Those that are there
are left alone, and the errors at the end are those of all of them, on any number of ranks.
(fairchem's trainer reports only on what the last call has relaxed, and hangs where a rank has
nothing left to do.)
"""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from fairchem.core.common import distutils
from fairchem.core.common.relaxation.ml_relaxation import ml_relax
from fairchem.core.datasets import data_list_collater
from tqdm import tqdm

from ocp_physmol.errors import UserError
from ocp_physmol.evaluation.scores import has_labels, score_split
from ocp_physmol.evaluation.submission import read_predictions, system_id

if TYPE_CHECKING:
    from fairchem.core.datasets import LmdbDataset

    from ocp_physmol.trainer import PhysMolTrainer


def run(trainer: PhysMolTrainer) -> None:
    """Relax what has no trajectory yet, this rank its share of it, and report on all.

    Raises:
        UserError: if two structures have one name.
    """
    task, dataset = trainer.config["task"], trainer.relax_dataset
    folder = Path(task["relax_opt"]["traj_dir"])
    left = remaining(dataset, folder)
    distutils.synchronize()  # before the first rank adds trajectories
    if distutils.is_master():
        logging.info(f"Relaxing {len(left)} of {len(dataset)} structures to {folder}")
    batch_size = trainer.config["optim"].get("eval_batch_size", 1)
    own = left[distutils.get_rank() :: distutils.get_world_size()]
    for first in tqdm(range(0, len(own), batch_size), "Relaxing", unit=" batches"):
        entries = [dataset[index] for index in own[first : first + batch_size]]
        ml_relax(
            data_list_collater(entries, otf_graph=True).to(trainer.device),
            trainer,
            steps=task.get("relaxation_steps", 300),
            fmax=task.get("relaxation_fmax", 0.02),
            relax_opt=dict(task["relax_opt"]),
            save_full_traj=task.get("save_full_traj", True),
        )
    distutils.synchronize()
    if distutils.is_master():
        report(trainer, folder)


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


def report(trainer: PhysMolTrainer, folder: Path) -> None:
    """Log the errors, if the data know relaxed structures and energies, and write the positions."""
    dataset = trainer.relax_dataset
    if trainer.config["task"].get("write_pos", False):
        path = Path(trainer.config["cmd"]["results_dir"], "relaxed_positions.npz")
        np.savez_compressed(path, **read_predictions("is2rs", folder, "relax"))
        logging.info(f"Writing results to {path}")
    for task in ("is2rs", "is2re-relaxations"):
        if has_labels(task, dataset):
            scores = score_split(task, read_predictions(task, folder, "relax"), dataset)
            logging.info(", ".join(f"{task}_{name}: {value:.4f}" for name, value in scores.items()))
