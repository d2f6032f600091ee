"""Scores of predictions as the OC20 leaderboard computes them, with fairchem's own Evaluator."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from fairchem.core.datasets import LmdbDataset
from fairchem.core.modules.evaluator import Evaluator
from tabulate import tabulate
from tqdm import tqdm

from ocp_physmol.datasets.splits import EVALUATION as SPLITS
from ocp_physmol.errors import UserError
from ocp_physmol.leaderboard.submission import ATOMS, system_id

# The Evaluator's property, the submission's field, the LMDB's label.
COMPARED = {
    "s2ef": (("energy", "energy", "y"), ("forces", "forces", "force")),
    "is2re": (("energy", "energy", "y_relaxed"),),
    "is2rs": (("positions", "pos", "pos_relaxed"),),
}
NEW_NAMES = {"y": "energy", "force": "forces"}  # of fairchem's later converters
COMPARED["is2re-relaxations"] = COMPARED["is2re"]
LABELS = {
    "energy_mae": "Energy MAE (eV)",
    "energy_mse": "Energy MSE (eV²)",
    "energy_within_threshold": "EwT (%)",
    "forces_mae": "Force MAE (eV/Å)",
    "forcesx_mae": "Force MAE, x (eV/Å)",
    "forcesy_mae": "Force MAE, y (eV/Å)",
    "forcesz_mae": "Force MAE, z (eV/Å)",
    "forces_cosine_similarity": "Force cosine",
    "forces_magnitude_error": "Force magnitude error (eV/Å)",
    "energy_forces_within_threshold": "EFwT (%)",
    "positions_average_distance_within_threshold": "ADwT (%)",
    "positions_mae": "Position MAE (Å)",
    "positions_mse": "Position MSE (Å²)",
}
HEADINGS = ("ID", "OOD Ads", "OOD Cat", "OOD Both", "Average")
CHUNK = 256  # systems that are scored at a time


def require_labels(task: str, dataset: LmdbDataset) -> None:
    """Raise a UserError if a split's first entry has no labels for a task."""
    for _, _, key in COMPARED[task]:
        _label(dataset, 0, dataset[0], key)


def has_labels(task: str, dataset: LmdbDataset) -> bool:
    """Whether a data set's first entry has what a task is scored by."""
    return all(find_label(dataset[0], key) is not None for _, _, key in COMPARED[task])


def find_label(entry, key: str):
    """A label under its own or its newer name; None if there is none."""
    return entry[key] if key in entry else getattr(entry, NEW_NAMES.get(key, key), None)


def score_split(task: str, arrays: dict[str, np.ndarray], dataset: LmdbDataset) -> dict[str, float]:
    """The Evaluator's metrics of a split's checked arrays: eV, Angstrom, and fractions of 1.

    Forces and positions are compared on free atoms.

    Raises:
        UserError: if an entry has no labels.
    """
    rows = {name: row for row, name in enumerate(arrays["ids"].tolist())}
    predicted: dict[str, Any] = {field: arrays[field] for _, field, _ in COMPARED[task]}
    for field in ATOMS.keys() & predicted.keys():
        predicted[field] = np.split(arrays[field], arrays["chunk_idx"])
    evaluator = Evaluator(task.split("-")[0])
    metrics: dict = {}
    title = f"Scoring {dataset.paths[0].name}"
    with tqdm(total=len(dataset), desc=title, unit=" entries", mininterval=1) as progress:
        for first in range(0, len(dataset), CHUNK):
            chosen = range(first, min(first + CHUNK, len(dataset)))
            metrics = evaluator.eval(*_compared(task, predicted, rows, dataset, chosen), metrics)
            progress.update(len(chosen))
    return {name: float(result["metric"]) for name, result in metrics.items()}


def _compared(
    task: str,
    predicted: dict[str, Any],
    rows: dict[str, int],
    dataset: LmdbDataset,
    chosen: range,
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Prediction and target of chosen entries for the Evaluator; `rows` of `predicted` by id."""
    entries = [dataset[index] for index in chosen]
    free = [(entry.fixed == 0).numpy() for entry in entries]
    target = {
        "natoms": torch.tensor([int(mask.sum()) for mask in free]),
        "cell": torch.stack([entry.cell.view(3, 3).double() for entry in entries]),
        "pbc": torch.tensor([True, True, True]),  # of all of OC20, as run_relaxations has it
    }
    prediction = dict(target)
    for name, field, key in COMPARED[task]:
        values = [predicted[field][rows[system_id(task, entry)]] for entry in entries]
        labels = [_label(dataset, *item, key) for item in zip(chosen, entries)]
        if field in ATOMS:
            labels = _masked(labels, free)
        if field == "pos":  # forces of fixed atoms are not in the file
            values = _masked(values, free)
        prediction[name], target[name] = _tensor(values), _tensor(labels)
    return prediction, target


def _label(dataset: LmdbDataset, index: int, entry, key: str) -> np.ndarray:
    label = find_label(entry, key)
    if label is None or not np.isfinite(label).all():
        raise UserError(
            f"{dataset.paths[0]}, entry {index} has no finite '{key}', so nothing can be scored; "
            "the public test sets come without labels, take those of --part val"
        )
    return np.asarray(label)


def _masked(values: list[np.ndarray], masks: list[np.ndarray]) -> list[np.ndarray]:
    return [value[mask] for value, mask in zip(values, masks)]


def _tensor(values: Sequence) -> torch.Tensor:
    """Numbers to [n], arrays [atoms, 3] to [all atoms, 3]."""
    return torch.from_numpy(np.concatenate([np.atleast_1d(v) for v in values]).astype(np.float64))


def table(scores: dict[str, dict[str, float]]) -> str:
    """One row a metric, one column a split, then their average; thresholds in percent."""
    rows = []
    for metric, label in LABELS.items():
        if metric in scores["id"]:
            values = [scores[split][metric] for split in SPLITS]
            values.append(sum(values) / len(values))
            factor, digits = (100, 2) if "%" in label else (1, 4)
            rows.append([label, *(f"{factor * value:.{digits}f}" for value in values)])
    return tabulate(rows, ["", *HEADINGS], disable_numparse=True, colalign=["left"] + ["right"] * 5)
