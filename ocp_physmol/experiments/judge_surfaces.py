"""Errors and relaxations of one model trained on surfaces: ocp-physmol judge-surfaces --help"""

import json
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from ase import Atoms
from ase.io import iread
from fairchem.core.modules.evaluator import min_diff
from torch_geometric.data import Data

from ocp_physmol.checkpoint import training_of
from ocp_physmol.datasets.identifiers import identifier
from ocp_physmol.datasets.lmdb_dataset import PhysMolLmdbDataset
from ocp_physmol.experiments.judge import description_of, write_record
from ocp_physmol.experiments.launch import BEST, LAST
from ocp_physmol.experiments.records import compact
from ocp_physmol.files import REPORT
from ocp_physmol.leaderboard.scores import score_split
from ocp_physmol.leaderboard.submission import Arrays, read_predictions, system_id
from ocp_physmol.option_types import COUNT, PATH, POSITIVE
from ocp_physmol.relaxation import dataset as relaxations
from ocp_physmol.relaxation.batched import placed
from ocp_physmol.relaxation.predictor import Predictor, open_labelled

BATCH_SIZE = 8
LBFGS = {"maxstep": 0.04, "memory": 50, "damping": 1.0, "alpha": 70.0}  # as configs/s2ef has it
SCORES = {  # names in records, of fairchem's metrics
    "energy_mae": "energy_mae_ev",
    "forces_mae": "force_mae_ev_per_a",
    "forces_cosine_similarity": "force_cosine",
}


def judge(run: Path, part: Path, steps: int, fmax: float) -> dict:
    """The measured part of a record: of the training in the folder `run`, on a part's test split.

    The best checkpoint is measured; the last one knows how long the training took.
    """
    predictor, training = Predictor.open(run / BEST), training_of(run / LAST)
    test = open_labelled(part / "test")
    energies, forces = predictor.energies_and_forces(test, BATCH_SIZE, "Errors")
    made = json.loads((part / REPORT).read_text())
    record = {
        **training,
        "parameters": sum(p.numel() for p in predictor.model.parameters()),
        "data": {key: made[key] for key in made if key not in ("part", "splitting")},
        "protocol": {
            "splitting": made["splitting"],
            "relaxation": f"fairchem's batched L-BFGS, at most {steps} steps to {fmax} eV/Å",
        },
        "errors": scores(test, energies, forces),
        "nothing": scores(test, *predict_nothing(open_labelled(part / "train"), test)),
        "relaxations": relax(predictor, part / "relax", run / "relaxations", steps, fmax),
    }
    return compact(record)


def scores(
    test: PhysMolLmdbDataset, energies: np.ndarray, forces: Sequence[np.ndarray]
) -> dict[str, float]:
    """Errors of energies [B] (eV) and of the forces [n, 3] (eV/Angstrom) on free atoms.

    Force errors are means over components, the cosine is the mean over atoms.
    """
    free = [force[entry.fixed.numpy() == 0] for force, entry in zip(forces, test)]
    arrays = {
        "ids": np.array([system_id("s2ef", entry) for entry in test]),
        "energy": energies,
        "forces": np.concatenate(free),
        "chunk_idx": _ends(free),
    }
    found = score_split("s2ef", arrays, test)
    return {name: found[metric] for metric, name in SCORES.items()}


def predict_nothing(
    train: Sequence[Data], test: Sequence[Data]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The median energy of the training frames for every test frame, and no forces."""
    median = float(np.median([float(entry.energy) for entry in train]))
    return np.full(len(test), median), [np.zeros(entry.forces.shape) for entry in test]


def relax(predictor: Predictor, src: Path, folder: Path, steps: int, fmax: float) -> dict:
    """Relax each first frame with the model, and compare the ends with those of the data.

    The trajectories in `folder` are kept; those that are there are not computed again.

    Returns:
        `adwt` and `do_nothing_adwt` (fractions), `energy_mae_ev` (the model's energy at its end
        against the data's at theirs; infinite if one has exploded), `median_energy_change_ev` (of
        the model's energy, from the data's end to its own), `converged_fraction`; and of each
        relaxation `sids`, `distances_a` and `start_distances_a` (means over free atoms, from the
        data's end), `energies_ev`, `energy_changes_ev`, `largest_forces_ev_per_a` (where the
        model's ends) and `data_forces_ev_per_a` (where the data's ends).
    """
    entries = PhysMolLmdbDataset({"src": str(src)})
    options = {**LBFGS, "traj_dir": str(folder)}
    task = {
        "relaxation_steps": steps, "relaxation_fmax": fmax, "save_full_traj": False,
        "relax_opt": options,
    }  # fmt: skip
    relaxations.run(predictor, entries, task, BATCH_SIZE, folder)
    ends = [_last(folder / f"{system_id('is2rs', entry)}.traj") for entry in entries]
    at_ends = [placed(entry, entry.pos_relaxed.numpy()) for entry in entries]
    references, _ = predictor.energies_and_forces(at_ends, BATCH_SIZE)
    energies = np.array([end.get_potential_energy() for end in ends])
    lost = ~np.isfinite(energies)
    energies[lost] = np.inf
    forces = np.array([np.linalg.norm(end.get_forces(), axis=1).max() for end in ends])
    starts = _positions(entries, [entry.pos.numpy() for entry in entries])
    relaxed = np.array([entry.y_relaxed for entry in entries])
    return {
        "adwt": _adwt(read_predictions("is2rs", folder, "relax"), entries),
        "do_nothing_adwt": _adwt(starts, entries),
        "energy_mae_ev": float(np.abs(energies - relaxed).mean()),
        "median_energy_change_ev": float(np.median(energies - references)),
        "converged_fraction": float(np.mean(forces < fmax)),
        "sids": [identifier(entry.sid) for entry in entries],
        "distances_a": [_distance(e, end.positions) for e, end in zip(entries, ends)],
        "start_distances_a": [_distance(entry, entry.pos.numpy()) for entry in entries],
        "energies_ev": energies,
        "energy_changes_ev": energies - references,
        "largest_forces_ev_per_a": forces,
        "data_forces_ev_per_a": [_largest_free(entry) for entry in entries],
    }


def _last(file: Path) -> Atoms:
    """The last frame of a trajectory."""
    return next(iter(iread(file, index=-1)))


def _adwt(arrays: Arrays, entries: PhysMolLmdbDataset) -> float:
    return score_split("is2rs", arrays, entries)["positions_average_distance_within_threshold"]


def _positions(entries: PhysMolLmdbDataset, positions: Sequence[np.ndarray]) -> Arrays:
    """Positions [n, 3] of each entry, as trajectories would give them."""
    ids = np.array([system_id("is2rs", entry) for entry in entries])
    return {"ids": ids, "pos": np.concatenate(positions), "chunk_idx": _ends(positions)}


def _ends(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Where each but the last ends, as np.split wants it."""
    return np.cumsum([len(array) for array in arrays])[:-1]


def _distance(entry: Data, positions: np.ndarray) -> float:
    """Mean distance of the free atoms from the data's end, in Angstrom, as ADwT has it."""
    free = entry.fixed.numpy() == 0
    pair = (positions[free], entry.pos_relaxed.numpy()[free])
    difference = min_diff(*pair, entry.cell[0].numpy(), [True, True, True])
    return float(np.linalg.norm(difference, axis=1).mean())


def _largest_free(entry: Data) -> float:
    """The largest force on a free atom at the data's end, in eV/Angstrom."""
    return float(entry.force_relaxed[entry.fixed == 0].norm(dim=1).max())


@click.command("judge-surfaces", context_settings={"show_default": True})
@click.argument("run", type=PATH)
@click.option("--output", type=PATH, required=True, help="The record to write.")
@click.option("--data", type=PATH, required=True, help="Folder of the part's splits.")
@click.option("--steps", type=COUNT, default=100, help="Of a relaxation, at most.")
@click.option("--fmax", type=POSITIVE, default=0.03, help="eV/Å.")
def command(run: Path, output: Path, data: Path, steps: int, fmax: float) -> None:
    """Measure the model that `ocp-physmol experiments` has trained in the folder RUN."""
    description = description_of(run)
    write_record(output, description, judge(run, data, steps, fmax))
