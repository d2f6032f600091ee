"""Made-up predictions for the EMT set's test splits, in the files that fairchem writes."""

import shutil
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from conftest import ends
from fairchem.core.datasets import LmdbDataset
from fairchem.core.trainers.base_trainer import BaseTrainer

from ocp_physmol.datasets.splits import EVALUATION as SPLITS
from ocp_physmol.leaderboard.gather_and_check import gather

TASKS = ("s2ef", "is2re", "is2re-relaxations", "is2rs")


def data_of(folder: Path, task: str) -> Path:
    return folder / ("s2ef" if task == "s2ef" else "is2re")


def entries(folder: Path, task: str, split: str) -> list:
    """As fairchem reads them, without us."""
    dataset = LmdbDataset({"src": str(data_of(folder, task) / f"test_{split}")})
    return [dataset[i] for i in range(len(dataset))]


def name(entry) -> str:
    return f"{entry.sid}_{entry.fid}" if "fid" in entry else f"{entry.sid}"


def predict(folder: Path, task: str, split: str, output: Path, noise: float) -> Path:
    """Labels and noise, in the files that a model's predictions would be in."""
    rng = np.random.default_rng(SPLITS.index(split))
    output = output / f"{task}_{split}"
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    items = entries(folder, task, split)
    if task == "is2re-relaxations":
        for entry in items:
            atoms = Atoms(entry.atomic_numbers.int().numpy(), entry.pos_relaxed.numpy())
            atoms.calc = SinglePointCalculator(atoms, energy=entry.y_relaxed + noise * rng.normal())
            ase.io.write(output / f"{name(entry)}.traj", [atoms, atoms])
        return output
    if task == "is2rs":
        order = np.argsort([name(entry) for entry in items])
        pos = [items[i].pos_relaxed.tolist() for i in order]
        np.savez_compressed(
            output / "relaxed_positions.npz",
            ids=np.array([name(items[i]) for i in order]),
            pos=np.concatenate([np.array(p) + noise * rng.normal(size=(len(p), 3)) for p in pos]),
            chunk_idx=np.cumsum([len(p) for p in pos])[:-1],
        )
        return output / "relaxed_positions.npz"
    predictions = defaultdict(list)
    for entry in items:
        energy = entry.y if task == "s2ef" else entry.y_relaxed
        predictions["energy"].append(np.array([energy + noise * rng.normal()], dtype=np.float32))
        predictions["ids"].append(name(entry))
        if task == "s2ef":
            force = entry.force[entry.fixed == 0].numpy()
            error = noise * rng.normal(size=force.shape)
            predictions["forces"].append((force + error).astype(np.float32))
            predictions["chunk_idx"].append(len(force))
    trainer = SimpleNamespace(name=task, config={"cmd": {"results_dir": str(output)}})
    BaseTrainer.save_results(trainer, predictions, "predictions")
    return output / f"{task}_predictions.npz"


def gathered(folder: Path, task: str, output: Path, noise: float = 0.0) -> Path:
    predictions = {split: predict(folder, task, split, output, noise) for split in SPLITS}
    file = output / f"{task}_{noise}.npz"
    gather(task, predictions, data_of(folder, task), "test", file)
    return file


def changed(file: Path, output: Path, **arrays) -> Path:
    """A copy of an .npz file with some arrays replaced, or taken out where they are None."""
    with np.load(file) as npz:
        new = {**npz, **arrays}
    np.savez(output, **{key: array for key, array in new.items() if array is not None})
    return output


def arguments(predictions: dict, data: Path, output: Path, task: str) -> list[str]:
    paths = [f"--{s.replace('_', '-')}={path}" for s, path in predictions.items()]
    return ["gather", task, *paths, f"--data={data}", f"--output={output}"]


def refusal(capsys, command: list) -> str:
    """The one sentence that a command ends with."""
    ends(2, "leaderboard", *command)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]
