"""Relaxations of whole data sets (IS2RS, and IS2RE through relaxation), which can be interrupted.

fairchem's trainer reports only on the structures of the last call, hangs where a rank has nothing
left to do, and drops the last frame of converged structures.
"""

import json
import logging
import os
from collections import Counter
from functools import cache
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.neighborlist import natural_cutoffs, neighbor_list
from fairchem.core.common import distutils
from fairchem.core.datasets import LmdbDataset
from torch_geometric.data import Data

from ocp_physmol.errors import UserError
from ocp_physmol.files import checksum, complete_or_absent, write_json
from ocp_physmol.leaderboard.scores import has_labels, score_split
from ocp_physmol.leaderboard.submission import read_predictions, system_id
from ocp_physmol.progress import chunks
from ocp_physmol.relaxation.batched import Descent, Frame, placed, relax_batch, to_atoms
from ocp_physmol.relaxation.predictor import Predictor

COLLAPSED = 0.5  # of the sum of two covalent radii; bonds under pressure keep more


def run(
    predictor: Predictor, dataset: LmdbDataset, task: dict, batch_size: int, results: Path
) -> None:
    """Relax this rank's share of the structures without a trajectory, and report on all.

    `task` is the section of the config, with relaxation_steps, relaxation_fmax, save_full_traj,
    write_pos (of relaxed_positions.npz in the folder `results`) and relax_opt, which holds traj_dir
    and the options of fairchem's L-BFGS.
    """
    task = json.loads(json.dumps(task))  # a copy that equals what its record is read as
    folder, write_pos = Path(task["relax_opt"].pop("traj_dir")), task.pop("write_pos", False)
    origin = {
        "checkpoint": checksum(Path(predictor.path)),
        "src": [os.path.abspath(path) for path in dataset.paths],
        "data": [written(Path(path)) for path in dataset.paths],
        "task": task,
    }
    require_same_origin(folder, origin)
    left = remaining(dataset, folder)
    distutils.synchronize()  # before the first rank adds trajectories
    if distutils.is_master():
        logging.info(f"Relaxing {len(left)} of {len(dataset)} structures to {folder}")
    own = left[distutils.get_rank() :: distutils.get_world_size()]
    for indices in chunks(own, batch_size, "Relaxing", "structures"):
        entries = [dataset[index] for index in indices]
        for entry, frames in zip(entries, trajectories(predictor, entries, task)):
            path = folder / f"{system_id('is2rs', entry)}.traj"
            if found := complaint(frames[-1]):
                logging.warning(f"Structure {path.stem} {found}")
            with complete_or_absent(path) as partial:
                ase.io.write(partial, frames, format="traj")
    distutils.synchronize()
    if distutils.is_master():
        report(folder, dataset, results / "relaxed_positions.npz" if write_pos else None)


def complaint(atoms: Atoms) -> str | None:
    """What shows that a model was asked about structures that are unlike those of its training."""
    if not np.isfinite(atoms.positions).all():
        return "has exploded; its last frame holds NaN"
    near = neighbor_list("d", atoms, natural_cutoffs(atoms, mult=COLLAPSED))
    if len(near):
        return (
            f"has collapsed: two of its atoms end {near.min():.2f} Å apart, where no model was "
            "trained; do not use its end"
        )
    return None


def require_same_origin(folder: Path, origin: dict) -> None:
    """Refuse a folder with trajectories of another model, data set or optimiser."""
    path = folder / "relaxations.json"
    former = json.loads(path.read_text()) if path.is_file() else origin
    for key, value in origin.items():
        if former.get(key, value) != value:
            raise UserError(
                f"task.relax_opt.traj_dir: {folder} holds relaxations of another {key} "
                f"({former.get(key)}, not {value}); choose another folder, or remove this one"
            )
    if distutils.is_master():
        write_json(path, origin, indent=2)
    distutils.synchronize()


def written(path: Path) -> list[int]:
    """Bytes of an LMDB, and when it was written (ns): of large ones a checksum takes too long."""
    state = path.stat()
    return [state.st_size, state.st_mtime_ns]


def remaining(dataset: LmdbDataset, folder: Path) -> list[int]:
    """Indices of the structures without a trajectory in `folder`."""
    names = [system_id("is2rs", dataset[index]) for index in range(len(dataset))]
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise UserError(
            f"dataset.relax.src: {dataset.paths[0]} has more than one structure with the sid "
            f"{name}; give each its own, for trajectories are named by it"
        )
    return [i for i, name in enumerate(names) if not (folder / f"{name}.traj").is_file()]


def trajectories(predictor: Predictor, entries: list[Data], task: dict) -> list[list[Atoms]]:
    """Relax a batch; all frames of each structure, or its first and last, in eV and Angstrom."""
    options = {"maxstep": 0.02, **task["relax_opt"]}
    descent = Descent(
        steps=task.get("relaxation_steps", 300),
        fmax=task.get("relaxation_fmax", 0.02),
        maxstep=options.pop("maxstep"),
    )
    entries = [placed(entry, entry.pos.numpy()) for entry in entries]
    found = relax_batch(predictor, entries, descent, **options)
    if not task.get("save_full_traj", True):
        found = [frames[:1] + frames[1:][-1:] for frames in found]
    return [[_to_atoms(entry, frame) for frame in frames] for entry, frames in zip(entries, found)]


def _to_atoms(entry: Data, frame: Frame) -> Atoms:
    atoms = to_atoms(placed(entry, frame.positions))
    atoms.calc = SinglePointCalculator(atoms, energy=frame.energy, forces=frame.forces)
    return atoms


def report(folder: Path, dataset: LmdbDataset, positions: Path | None) -> None:
    """Log the errors, if the data know relaxed structures and energies, and write the positions."""
    read = cache(lambda name: read_predictions(name, folder, "relax"))
    if positions is not None:
        with complete_or_absent(positions) as partial, partial.open("wb") as file:
            np.savez_compressed(file, **read("is2rs"))
        logging.info(f"Writing results to {positions}")
    for name in ("is2rs", "is2re-relaxations"):
        if has_labels(name, dataset):
            scores = score_split(name, read(name), dataset)
            logging.info(", ".join(f"{name}_{key}: {value:.4f}" for key, value in scores.items()))
