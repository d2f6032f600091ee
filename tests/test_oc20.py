"""Catalysts, from training to relaxations, as main.py runs them on one and on two ranks."""

import re
import shutil
from pathlib import Path

import ase.db
import ase.io
import lmdb
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from conftest import REPOSITORY, run_main
from fairchem.core.datasets import LmdbDataset, data_list_collater
from fairchem.core.preprocessing import AtomsToGraphs

from ocp_physmol.datasets.lmdb_writer import write_lmdb
from ocp_physmol.datasets.splits import EVALUATION as SPLITS
from ocp_physmol.leaderboard.gather_and_check import gather, score
from ocp_physmol.relaxation.predictor import Predictor

SMALL = [
    "--model.hidden_channels=16", "--model.attention_channels=16", "--model.num_layers=1",
    "--model.num_rbf=8", "--model.cutoff=4.0", "--optim.batch_size=2", "--optim.eval_batch_size=2",
    "--optim.num_workers=0", "--hide_eval_progressbar=True",
]  # fmt: skip
EPOCHS = "--optim.max_epochs=2"


def main(mode: str, config: str, data: Path, run_dir: Path, *more, small=SMALL, status=0):
    """A small run on the task's data, with everything in `run_dir`/*/run."""
    result = run_main(
        "--mode", mode, "--config-yml", f"configs/{config}", "--cpu", "--run-dir", run_dir,
        "--timestamp-id", "run", "--print-every", 1, f"--dataset.train.src={data / 'train'}",
        f"--dataset.val.src={data / 'val_id'}", *small, *more,
    )  # fmt: skip
    assert result.returncode == status, result.stdout[-4000:]
    return result.stdout


@pytest.fixture(scope="module")
def s2ef(emt_folder, tmp_path_factory) -> Path:
    """The checkpoint of a small S2EF run."""
    folder = tmp_path_factory.mktemp("s2ef")
    main("train", "s2ef/physmol.yml", emt_folder / "s2ef", folder, EPOCHS)
    return folder / "checkpoints/run/best_checkpoint.pt"


def validated(log: str) -> dict[str, float]:
    """All numbers of a run's last validation."""
    line = [x for x in log.splitlines() if "INFO): energy_mae" in x and "lr:" not in x][-1]
    return {k: float(v) for k, v in re.findall(r"(\w+): (-?[\d.]+)", line.split("INFO): ")[1])}


def entries(folder: Path) -> list:
    dataset = LmdbDataset({"src": str(folder)})
    return [dataset[i] for i in range(len(dataset))]


CONFIGS = sorted(
    f"{task}/{path.name}"
    for task in ("s2ef", "is2re")
    for path in REPOSITORY.glob(f"configs/{task}/*.yml")
    if path.name != "base.yml"
)


# ---- ranks


@pytest.mark.slow
@pytest.mark.parametrize(
    "config", [c for c in CONFIGS if c.endswith(("/physmol_paper.yml", "/schnet.yml"))]
)
def test_shipped_configs_train_on_two_ranks(config, emt_folder, tmp_path):
    """With their own losses, switches and schedulers; only smaller."""
    data = emt_folder / config.split("/")[0]
    small = [o for o in SMALL if "attention" not in o and "num_layers" not in o]
    small = [o.replace("num_rbf", "num_gaussians") for o in small] if "schnet" in config else SMALL
    log = main("train", config, data, tmp_path, EPOCHS, "--num-gpus", 2, small=small)
    assert np.isfinite(list(validated(log).values())).all()
    assert (tmp_path / "checkpoints/run/best_checkpoint.pt").is_file()


@pytest.mark.slow
def test_validation_and_prediction_on_two_ranks_are_those_of_one(s2ef, emt_folder, tmp_path):
    """Every entry once, in batches that cannot be shared evenly."""
    data = emt_folder / "s2ef"
    assert len(entries(data / "val_id")) == 12  # three batches of 5
    common = ["--checkpoint", s2ef, f"--dataset.test.src={data / 'val_id'}"]
    numbers, arrays = [], []
    for ranks in (1, 2):
        folder = tmp_path / str(ranks)
        more = [*common, "--num-gpus", ranks, "--optim.eval_batch_size=5"]
        numbers.append(validated(main("validate", "s2ef/physmol.yml", data, folder, *more)))
        main("predict", "s2ef/physmol.yml", data, folder, *more)
        arrays.append(dict(np.load(folder / "results/run/ocp_predictions.npz")))
    assert numbers[0] == numbers[1]
    expected = sorted(f"{e.sid}_{e.fid}" for e in entries(data / "val_id"))
    assert arrays[0]["ids"].tolist() == expected
    for key, array in arrays[0].items():
        np.testing.assert_array_equal(array, arrays[1][key])


@pytest.mark.slow
def test_relaxations_on_two_ranks_go_on_after_an_interruption(s2ef, emt_folder, tmp_path):
    """Each structure has its trajectory; those that are there already are not relaxed again."""
    data = emt_folder / "is2re/val_id"
    common = [
        "--checkpoint", s2ef, "--num-gpus", 2, f"--dataset.relax.src={data}",
        f"--task.relax_opt.traj_dir={tmp_path / 'trajectories'}", "--task.relaxation_steps=3",
        "--task.relaxation_fmax=1e-6",  # hardly trained forces are small
    ]  # fmt: skip
    log = main("run-relaxations", "s2ef/relaxation.yml", emt_folder / "s2ef", tmp_path, *common)
    names = {f"{e.sid}.traj" for e in entries(data)}
    assert {p.name for p in (tmp_path / "trajectories").glob("*.traj")} == names
    assert "average_distance_within_threshold" in log  # the data know the answer
    kept = {name: (tmp_path / "trajectories" / name).stat().st_mtime_ns for name in names}
    lost = sorted(names)[0]
    (tmp_path / "trajectories" / lost).unlink()
    main("run-relaxations", "s2ef/relaxation.yml", emt_folder / "s2ef", tmp_path, *common,
         "--optim.eval_batch_size=1")  # fmt: skip
    for name in names - {lost}:
        assert (tmp_path / "trajectories" / name).stat().st_mtime_ns == kept[name]
    for entry in entries(data):
        last = ase.io.read(tmp_path / "trajectories" / f"{entry.sid}.traj")
        moved = np.linalg.norm(last.positions - entry.pos.numpy(), axis=1)
        assert moved[(entry.fixed == 1).numpy()].max() < 1e-6 < moved.max()
        assert np.isfinite(last.get_potential_energy())


@pytest.mark.slow
def test_trajectories_end_where_the_relaxation_did(s2ef, emt_folder, tmp_path):
    """Whether a structure converges at once, on the way, or not at all."""
    data = emt_folder / "is2re/val_id"

    def relaxed(name, *more) -> dict:
        folder = tmp_path / name
        main("run-relaxations", "s2ef/relaxation.yml", emt_folder / "s2ef", folder,
             "--checkpoint", s2ef, f"--dataset.relax.src={data}",
             f"--task.relax_opt.traj_dir={folder}", *more)  # fmt: skip
        return {path.name: ase.io.read(path, ":") for path in folder.glob("*.traj")}

    def largest(atoms) -> float:
        return np.linalg.norm(atoms.get_forces(), axis=1).max()

    start = relaxed("start", "--task.relaxation_steps=0")
    fmax = 0.9 * sorted(largest(frames[-1]) for frames in start.values())[1]
    options = ["--task.relaxation_steps=40", f"--task.relaxation_fmax={fmax}"]
    short = relaxed("short", *options)
    full = relaxed("full", *options, "--task.save_full_traj=True")
    assert sorted(len(frames) for frames in short.values())[0] == 1  # converged from the start
    assert max(len(frames) for frames in full.values()) > 2
    moved = {name for name, frames in short.items() if len(frames) > 1}
    assert moved and any(largest(short[name][-1]) <= fmax for name in moved)
    predictor = Predictor.open(s2ef)
    for name, frames in short.items():
        last = frames[-1]
        np.testing.assert_allclose(last.positions, full[name][-1].positions)
        np.testing.assert_allclose(frames[0].positions, start[name][0].positions)
        assert largest(last) <= fmax or len(full[name]) == 41
        last.pbc = True
        batch = data_list_collater([AtomsToGraphs(r_edges=False).convert(last)], otf_graph=True)
        energy = predictor.predict(batch)["energy"]
        assert float(energy) == pytest.approx(last.get_potential_energy(), abs=1e-4)


@pytest.mark.slow
def test_relaxations_of_another_model_need_another_folder(s2ef, emt_folder, tmp_path):
    arguments = [
        "run-relaxations", "s2ef/relaxation.yml", emt_folder / "s2ef", tmp_path,
        f"--dataset.relax.src={emt_folder / 'is2re/val_id'}", "--task.relaxation_steps=1",
        f"--task.relax_opt.traj_dir={tmp_path / 'trajectories'}",
    ]  # fmt: skip
    main(*arguments, "--checkpoint", s2ef)
    result = main(*arguments, "--checkpoint", s2ef.with_name("checkpoint.pt"), status=2)
    assert f"{tmp_path / 'trajectories'} holds relaxations of another checkpoint" in result


# ---- data as they are found


def test_relaxed_structures_give_zero_force_and_bound(emt_folder, tmp_path):
    log = main("train", "is2re/physmol.yml", emt_folder / "is2re", tmp_path, EPOCHS)
    losses = re.findall(r"zero_force_loss: (\S+), bound_loss: (\S+),", log)
    assert len(losses) == 8 and all(float(zero) > 0 for zero, _ in losses[1:])
    assert "is left out" not in log


def test_fairchems_models_by_themselves_evaluate_no_relaxed_positions(emt_folder, tmp_path):
    small = [o.replace("num_rbf", "num_gaussians") for o in SMALL]
    small = [o for o in small if "attention" not in o and "num_layers" not in o]
    losses = [{"energy": {"fn": "mae", "coefficient": 1}},
              {"zero_force": {"fn": "zero_force", "coefficient": 1}}]  # fmt: skip
    log = main("train", "is2re/schnet.yml", emt_folder / "is2re", tmp_path,
               f"--loss_functions={losses}", small=small, status=2)  # fmt: skip
    assert "loss_functions.zero_force needs copies of the batch, which model.name schnet" in log
    assert "Traceback" not in log


def test_is2re_files_of_ones_own(emt_folder, tmp_path):
    """Without relaxed positions, with tags and fixed all zero, and skewed cells."""
    shutil.copytree(emt_folder / "is2re", tmp_path / "data")
    for split in ("train", "val_id"):
        changed = entries(tmp_path / "data" / split)
        shutil.rmtree(tmp_path / "data" / split)
        for entry in changed:
            del entry.pos_relaxed
            entry.tags, entry.fixed = torch.zeros_like(entry.tags), torch.zeros_like(entry.fixed)
            entry.cell[0, 1, 0] += 1.0
        write_lmdb(tmp_path / "data" / split, changed)
    log = main("train", "is2re/physmol.yml", tmp_path / "data", tmp_path, EPOCHS)
    assert "zero_force is left out" in log and "bound is left out" in log
    assert "energy_loss" in log and "zero_force_loss" not in log


def test_shards_of_old_pickles_without_metadata(emt_folder, tmp_path):
    """As downloaded years ago: PyG 1 objects in several files, atomic numbers as floats."""
    shutil.copytree(emt_folder / "s2ef", tmp_path / "data")
    folder = tmp_path / "data/train"
    frames = entries(folder)
    shutil.rmtree(folder)
    for shard, part in enumerate((frames[:5], frames[5:])):
        write_lmdb(folder, part)
        (folder / "metadata.npz").unlink()
        with lmdb.open(str(folder / "data.lmdb"), subdir=False, lock=False) as env:
            _make_old(env)
        (folder / "data.lmdb").rename(tmp_path / f"data.{shard:04}.lmdb")
        shutil.rmtree(folder)
    folder.mkdir()
    for path in tmp_path.glob("data.*.lmdb"):
        path.rename(folder / path.name)
    log = main("train", "s2ef/physmol.yml", tmp_path / "data", tmp_path, "--optim.max_epochs=1")
    assert len(re.findall(r"forces_loss", log)) == -(-len(frames) // 2)


def _make_old(env: lmdb.Environment) -> None:
    """Replace every entry by what PyG 1 pickled: attributes, and no store."""
    import pickle

    with env.begin(write=True) as txn:
        for key, value in list(txn.cursor()):
            entry = pickle.loads(value)
            if key != b"length":
                attributes = {**entry.to_dict(), "edge_attr": None, "y": entry.y}
                entry.__dict__.clear()
                entry.__dict__.update(attributes)
                txn.put(key, pickle.dumps(entry))


def test_ase_databases(emt_folder, tmp_path):
    """fairchem's own ase_db data sets, through keys of the config alone."""
    for split in ("train", "val_id"):
        with ase.db.connect(tmp_path / f"{split}.db") as db:
            for entry in entries(emt_folder / "s2ef" / split)[:6]:
                atoms = Atoms(entry.atomic_numbers.int().numpy(), entry.pos.numpy(),
                              cell=entry.cell[0].numpy(), pbc=True)  # fmt: skip
                atoms.calc = SinglePointCalculator(
                    atoms, energy=entry.y, forces=entry.force.numpy()
                )
                db.write(atoms)
    log = main(
        "train", "s2ef/physmol.yml", tmp_path, tmp_path, "--optim.max_epochs=1",
        "--dataset.train.format=ase_db", "--dataset.train.a2g_args.r_energy=True",
        "--dataset.train.a2g_args.r_forces=True", f"--dataset.train.src={tmp_path / 'train.db'}",
        f"--dataset.val.src={tmp_path / 'val_id.db'}",
    )  # fmt: skip
    assert len(re.findall(r"forces_loss", log)) == 3


# ---- to the leaderboard


@pytest.mark.slow
def test_predictions_of_four_splits_make_a_submission(s2ef, emt_folder, tmp_path):
    """What main.py writes is what the leaderboard takes, and is scored as main.py validates."""
    data, predictions = emt_folder / "s2ef", {}
    for split in SPLITS:
        main("predict", "s2ef/physmol.yml", data, tmp_path / split, "--checkpoint", s2ef,
             f"--dataset.test.src={data / f'val_{split}'}")  # fmt: skip
        predictions[split] = tmp_path / split / "results/run/ocp_predictions.npz"
    gather("s2ef", predictions, data, "val", tmp_path / "submission.npz")
    scores = score("s2ef", tmp_path / "submission.npz", data, "val")
    log = main("validate", "s2ef/physmol.yml", data, tmp_path, "--checkpoint", s2ef)
    for key in ("energy_mae", "forces_mae"):
        assert scores["id"][key] == pytest.approx(validated(log)[key], abs=2e-4)
