"""Scores of predictions as the OC20 leaderboard computes them, with fairchem's own Evaluator."""

from collections.abc import Sequence

import numpy as np
import torch
from fairchem.core.datasets import LmdbDataset
from fairchem.core.modules.evaluator import Evaluator
from tabulate import tabulate

from ocp_physmol.datasets.splits import EVALUATION as SPLITS
from ocp_physmol.errors import UserError
from ocp_physmol.leaderboard.submission import ATOMS, boundaries, system_id
from ocp_physmol.progress import chunks

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
    **{f"forces{axis}_mae": f"Force MAE, {axis} (eV/Å)" for axis in "xyz"},
    "forces_cosine_similarity": "Force cosine",
    "forces_magnitude_error": "Force magnitude error (eV/Å)",
    "energy_forces_within_threshold": "EFwT (%)",
    "positions_average_distance_within_threshold": "ADwT (%)",
    "positions_mae": "Position MAE (Å)",
    "positions_mse": "Position MSE (Å²)",
}
CHUNK = 256  # systems that are scored at a time


def has_labels(task: str, dataset: LmdbDataset) -> bool:
    """Whether a data set's first entry has the labels that a task is scored by."""
    return all(_label(dataset[0], key) is not None for _, _, key in COMPARED[task])


def score_split(task: str, arrays: dict[str, np.ndarray], dataset: LmdbDataset) -> dict[str, float]:
    """The Evaluator's metrics of a split's checked arrays: eV, Angstrom, and fractions of 1.

    Forces and positions are compared on free atoms. A UserError names an entry without labels.
    """
    ids = arrays["ids"].tolist()
    predicted = {
        field: dict(zip(ids, np.split(arrays[field], boundaries(field, arrays))))
        for _, field, _ in COMPARED[task]
    }
    evaluator = Evaluator(task.split("-")[0])
    metrics: dict = {}
    title = f"Scoring {dataset.paths[0].name}"
    for chosen in chunks(range(len(dataset)), CHUNK, title, "entries"):
        entries, target = targets(task, dataset, chosen)
        prediction = dict(target)
        for name, field, _ in COMPARED[task]:
            values = [predicted[field][system_id(task, entry)] for entry in entries]
            if field == "pos":  # forces of fixed atoms are not in the file
                values = [value[entry.fixed == 0] for value, entry in zip(values, entries)]
            prediction[name] = _joined(values)
        metrics = evaluator.eval(prediction, target, metrics)
    return {name: float(result["metric"]) for name, result in metrics.items()}


def targets(
    task: str, dataset: LmdbDataset, chosen: Sequence[int]
) -> tuple[list, dict[str, torch.Tensor]]:
    """The chosen entries, and the Evaluator's target; a UserError names one without labels."""
    entries = [dataset[index] for index in chosen]
    target = {
        "natoms": torch.stack([(entry.fixed == 0).sum() for entry in entries]),
        "cell": torch.stack([entry.cell.view(3, 3).double() for entry in entries]),
        "pbc": torch.tensor([True, True, True]),  # of all of OC20, as run_relaxations has it
    }
    for name, field, key in COMPARED[task]:
        labels = [_label(entry, key) for entry in entries]
        for index, label in zip(chosen, labels):
            if label is None or not np.isfinite(label).all():
                raise UserError(
                    f"{dataset.paths[0]}, entry {index} has no finite '{key}' to score by; the "
                    "public test sets come without labels, take those of --part val"
                )
        if field in ATOMS:
            labels = [label[entry.fixed == 0] for label, entry in zip(labels, entries)]
        target[name] = _joined(labels)
    return entries, target


def _label(entry, key: str):
    """A label under its own or its newer name; None if there is none."""
    return entry[key] if key in entry else getattr(entry, NEW_NAMES.get(key, key), None)


def _joined(values: list) -> torch.Tensor:
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
    heads = ["", "ID", "OOD Ads", "OOD Cat", "OOD Both", "Average"]
    return tabulate(rows, heads, disable_numparse=True, colalign=["left"] + ["right"] * 5)
