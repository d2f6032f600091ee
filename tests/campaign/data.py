"""Small good files of every kind, which the campaign damages and changes."""

import shutil
from pathlib import Path

import warm
import yaml
from ase.io import write
from campaign import odd_structures
from conftest import SAMPLE_ARCHIVE, SAMPLE_CSV, small_run
from leaderboard.predictions import gathered

from ocp_physmol.datasets import emt, qm9
from ocp_physmol.files import write_json
from ocp_physmol.pushes import curvature


def make_data(folder: Path) -> None:
    """Fill a folder."""
    qm9.make(folder / "qm9", str(SAMPLE_CSV))
    curvature.make(folder / "qm9", folder / "labelled", pushes=2, frequencies=4)
    systems = [s for s in emt.plan(30, seed=0) if s.split != "train" or s.sid < 8]
    emt.write([emt.relax(system) for system in systems], folder / "emt", 4, {"entries": {}})
    frames = [odd_structures.labelled(odd_structures.ethanol(seed)) for seed in range(30)]
    write(folder / "good.xyz", frames, format="extxyz")
    write_json(folder / "good.json", {"name": "no record"})
    runs = {"A run": {"config": str(warm.REPOSITORY / "configs/qm9/schnet.yml")}}
    experiment = {"title": "A run", "seconds": 1, "runs": runs}
    (folder / "good.yml").write_text(yaml.safe_dump(experiment))
    shutil.copy(SAMPLE_ARCHIVE, folder / "good.tar.bz2")
    sweep = {"optim": {"lr_initial": [0.001]}, "model": {"num_layers": [1]}}
    (folder / "sweep.yml").write_text(yaml.safe_dump(sweep))
    shutil.copy(warm.REPOSITORY / "records/table1/PaiNN.json", folder / "record.json")
    gathered(folder / "emt", "s2ef", folder / "predictions")
    trained = warm.run(
        ["main.py", "--mode", "train", "--config-yml", "configs/qm9/quickstart.yml", "--cpu",
         "--run-dir", str(folder / "trained"), "--timestamp-id", "run",
         *small_run(folder / "qm9")], 300,
    )  # fmt: skip
    assert trained.returncode == 0, trained.stdout


def data_in(folder: Path) -> dict[str, Path]:
    """The files and folders that `make_data` has made, by kind."""
    best = folder / "trained/checkpoints/run/best_checkpoint.pt"
    made = {kind: folder / f"good.{kind}" for kind in ("xyz", "json", "yml", "tar.bz2")}
    return {
        **made, "experiment": made["yml"], "records": folder, "csv": SAMPLE_CSV,
        "qm9": folder / "qm9", "labelled": folder / "labelled",
        "s2ef": folder / "emt/s2ef", "is2re": folder / "emt/is2re",
        "qm9_train": folder / "qm9/train", "sweep": folder / "sweep.yml",
        "npz": folder / "predictions/s2ef_0.0.npz", "record": folder / "record.json",
        "predicted": folder / "predictions", "lmdb": folder / "qm9/test/data.lmdb",
        "pt": best, "checkpoint": best,
    }  # fmt: skip
