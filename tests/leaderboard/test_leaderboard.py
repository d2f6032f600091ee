"""The leaderboard's command line: files from fairchem's predictions, what is refused, scores."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from fairchem.core.datasets import LmdbDataset
from fairchem.core.trainers.base_trainer import BaseTrainer

from ocp_physmol.datasets import emt
from ocp_physmol.datasets.lmdb_writer import write_lmdb
from ocp_physmol.datasets.splits import EVALUATION as SPLITS
from ocp_physmol.errors import UserError
from ocp_physmol.leaderboard import command as leaderboard
from ocp_physmol.leaderboard import scores

TASKS = ("s2ef", "is2re", "is2re-relaxations", "is2rs")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The four test splits of the EMT set: three relaxations, at most five frames of each."""
    path = tmp_path_factory.mktemp("emt") / "data"
    systems = [s for s in emt.plan(30, seed=0) if s.split.startswith("test")]
    emt.write([emt.relax(system) for system in systems], path, 5, {"entries": {}})
    return path


def data_of(folder: Path, task: str) -> Path:
    return folder / ("s2ef" if task == "s2ef" else "is2re")


def entries(folder: Path, task: str, split: str) -> list:
    """As fairchem reads them, without us."""
    dataset = LmdbDataset({"src": str(data_of(folder, task) / f"test_{split}")})
    return [dataset[i] for i in range(len(dataset))]


def name(entry) -> str:
    return f"{entry.sid}_{entry.fid}" if "fid" in entry else f"{entry.sid}"


# ---- predictions as fairchem writes them


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
    leaderboard.gather(task, predictions, data_of(folder, task), "test", file)
    return file


def changed(file: Path, output: Path, **arrays) -> Path:
    """A copy of an .npz file with some arrays replaced, or taken out where they are None."""
    with np.load(file) as npz:
        new = {**npz, **arrays}
    np.savez(output, **{key: array for key, array in new.items() if array is not None})
    return output


# ---- gather


@pytest.mark.parametrize("task", TASKS)
def test_gathered_files_have_the_leaderboards_format(folder, tmp_path, task):
    with np.load(gathered(folder, task, tmp_path), allow_pickle=False) as npz:
        for split in SPLITS:
            items = {name(entry): entry for entry in entries(folder, task, split)}
            ids = npz[f"{split}_ids"].tolist()
            assert sorted(ids) == sorted(items)
            if task != "is2rs":
                assert npz[f"{split}_energy"].shape == (len(ids),)
            if task == "s2ef":
                forces = np.split(npz[f"{split}_forces"], npz[f"{split}_chunk_idx"])
                for i, force in zip(ids, forces):
                    free = items[i].fixed == 0
                    np.testing.assert_array_equal(force, items[i].force[free])
            if task == "is2rs":
                positions = np.split(npz[f"{split}_pos"], npz[f"{split}_chunk_idx"])
                for i, pos in zip(ids, positions):
                    np.testing.assert_array_equal(pos, items[i].pos_relaxed)
        assert len(npz.files) == 4 * len(leaderboard.FIELDS[task])


def test_positions_from_trajectories_are_those_from_the_file(folder, tmp_path):
    trajectories = {s: predict(folder, "is2re-relaxations", s, tmp_path, 0.0) for s in SPLITS}
    data, one = data_of(folder, "is2rs"), tmp_path / "one.npz"
    leaderboard.gather("is2rs", trajectories, data, "test", one)
    with np.load(one) as npz, np.load(gathered(folder, "is2rs", tmp_path)) as other:
        assert sorted(npz.files) == sorted(other.files)
        for key in npz.files:
            np.testing.assert_array_equal(npz[key], other[key])


def test_shards_and_single_files(folder, tmp_path):
    file = gathered(folder, "s2ef", tmp_path)
    data = tmp_path / "data"
    data.mkdir()
    for split in SPLITS:
        items = entries(folder, "s2ef", split)
        write_lmdb(data / f"test_{split}", items[:2])
        write_lmdb(tmp_path / split, items if split == "id" else items[2:])
        shard = tmp_path / split / "data.lmdb"
        if split == "id":
            shutil.rmtree(data / "test_id")
            shard.rename(data / "test_id.lmdb")
        else:
            shard.rename(data / f"test_{split}" / "data.0001.lmdb")
    sizes = leaderboard.check("s2ef", file, data, "test")
    assert sizes == {split: len(entries(folder, "s2ef", split)) for split in SPLITS}


def test_data_without_labels(folder, tmp_path):
    file = gathered(folder, "is2re", tmp_path)
    for split in SPLITS:
        items = entries(folder, "is2re", split)
        for entry in items:
            del entry.y_relaxed, entry.pos_relaxed
        write_lmdb(tmp_path / f"test_{split}", items)
    assert leaderboard.check("is2re", file, tmp_path, "test")["id"] == 3
    with pytest.raises(UserError, match=r"test_id, entry 0 has no finite 'y_relaxed'.*labels"):
        leaderboard.score("is2re", file, tmp_path, "test")


# ---- what is refused


def arguments(predictions: dict, data: Path, output: Path, task: str) -> list[str]:
    paths = [f"--{s.replace('_', '-')}={path}" for s, path in predictions.items()]
    return ["gather", task, *paths, f"--data={data}", f"--output={output}"]


def refusal(capsys, command: list) -> str:
    """The one sentence that a command ends with."""
    with pytest.raises(SystemExit) as e:
        leaderboard.main([str(word) for word in command])
    assert e.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def test_a_refused_file_is_not_left_behind(folder, tmp_path, capsys):
    predictions = {split: predict(folder, "s2ef", split, tmp_path, 0.0) for split in SPLITS}
    data, output = data_of(folder, "s2ef"), tmp_path / "submission/file.npz"
    leaderboard.main(arguments(predictions, data, output, "s2ef"))
    assert f"Wrote {output}, complete and checked: id " in capsys.readouterr().out
    before = output.read_bytes()

    swapped = {**predictions, "id": predictions["ood_cat"], "ood_cat": predictions["id"]}
    message = refusal(capsys, arguments(swapped, data, output, "s2ef"))
    assert f"{swapped['id']}, split id: these are the predictions of split ood_cat" in message
    changed(predictions["id"], predictions["id"], ids=np.array([1, 2], dtype=object))
    message = refusal(capsys, arguments(predictions, data, output, "s2ef"))
    assert f"{predictions['id']}, split id: 'ids' is no plain array (Object" in message
    predictions["id"].unlink()
    message = refusal(capsys, arguments(predictions, data, output, "s2ef"))
    assert f"{predictions['id']} of split id is missing" in message
    assert list(output.parent.iterdir()) == [output] and output.read_bytes() == before


def test_an_unfinished_relaxation(folder, tmp_path, capsys):
    task = "is2re-relaxations"
    predictions = {split: predict(folder, task, split, tmp_path, 0.0) for split in SPLITS}
    victim = sorted(predictions["ood_both"].glob("*.traj"))[1]
    victim.rename(victim.with_suffix(".traj_tmp"))
    command = arguments(predictions, data_of(folder, task), tmp_path / "file.npz", task)
    message = refusal(capsys, command)
    assert f"{predictions['ood_both']}, split ood_both: id '{victim.stem}' is missing" in message
    victim.touch()
    assert f"{victim}, split ood_both: the last frame's energy" in refusal(capsys, command)
    assert not (tmp_path / "file.npz").exists()


def with_nan(array: np.ndarray, row: int) -> np.ndarray:
    array = array.copy()
    array[row] = np.nan
    return array


# What is done to a split's arrays, and what is said of it; `i` is the id in its second place.
DAMAGE = {
    "missing id": (
        lambda a: {"ids": a["ids"][[0, 2]], "energy": a["energy"][[0, 2]]}, "id '{i}' is missing"),
    "extra id": (
        lambda a: {"ids": np.append(a["ids"], "0_0")}, "id '0_0' is not in the data (1 are not)"),
    "repeated id": (
        lambda a: {"ids": a["ids"][[1, *range(1, len(a["ids"]))]]}, "id '{i}' is repeated"),
    "integer ids": (
        lambda a: {"ids": np.arange(len(a["ids"]))}, "ids is int64 of shape"),
    "object ids": (
        lambda a: {"ids": a["ids"].astype(object)}, "'ood_cat_ids' is no plain array (Object"),
    "NaN energy": (
        lambda a: {"energy": with_nan(a["energy"], 1)}, "the energy of id '{i}' is nan"),
    "NaN force": (
        lambda a: {"forces": with_nan(a["forces"], a["chunk_idx"][0])}, "forces of id '{i}' hold"),
    "energies as predict writes them": (
        lambda a: {"energy": a["energy"][:, None]}, "energy is float32 of shape ({n}, 1) where"),
    "wrong sizes": (
        lambda a: {"chunk_idx": a["chunk_idx"] + np.eye(len(a["ids"]) - 1, dtype=int)[1]},
        "id '{i}' has"),
    "backwards": (
        lambda a: {"chunk_idx": a["chunk_idx"][::-1]}, "chunk_idx is not monotonic, id"),
    "cumulative to the last": (
        lambda a: {"chunk_idx": np.append(a["chunk_idx"], len(a["forces"]))},
        "chunk_idx is int64 of shape ({n},)"),
    "missing key": (lambda a: {"forces": None}, "has no 'ood_cat_forces'"),
    "unknown key": (lambda a: {"stress": np.zeros(3)}, "holds 'ood_cat_stress', which s2ef does"),
}  # fmt: skip


@pytest.fixture(scope="module")
def perfect(folder, tmp_path_factory) -> Path:
    return gathered(folder, "s2ef", tmp_path_factory.mktemp("perfect"))


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named(folder, perfect, tmp_path, capsys, kind):
    damage, said = DAMAGE[kind]
    with np.load(perfect) as npz:
        arrays = {f: npz[f"ood_cat_{f}"] for f in leaderboard.FIELDS["s2ef"]}
    damaged = {f"ood_cat_{field}": array for field, array in damage(arrays).items()}
    file = changed(perfect, tmp_path / "damaged.npz", **damaged)
    message = refusal(capsys, ["check", "s2ef", file, "--data", data_of(folder, "s2ef")])
    said = said.format(i=arrays["ids"][1], n=len(arrays["ids"]))
    assert str(file) in message and "ood_cat" in message and said in message


def test_forces_of_fixed_atoms_are_recognised(folder, perfect, tmp_path, capsys):
    items = sorted(entries(folder, "s2ef", "ood_ads"), key=name)
    file = changed(
        perfect, tmp_path / "all.npz",
        ood_ads_ids=np.array([name(entry) for entry in items]),
        ood_ads_energy=np.array([entry.y for entry in items]),
        ood_ads_forces=np.concatenate([entry.force for entry in items]),
        ood_ads_chunk_idx=np.cumsum([entry.natoms for entry in items])[:-1],
    )  # fmt: skip
    message = refusal(capsys, ["check", "s2ef", file, "--data", data_of(folder, "s2ef")])
    assert f"split ood_ads: forces of fixed atoms are in it (id '{name(items[0])}'" in message


def test_swapped_splits_are_recognised(folder, perfect, tmp_path, capsys):
    with np.load(perfect) as npz:
        arrays = {f"id_{f}": npz[f"ood_both_{f}"] for f in leaderboard.FIELDS["s2ef"]}
    file = changed(perfect, tmp_path / "swapped.npz", **arrays)
    message = refusal(capsys, ["check", "s2ef", file, "--data", data_of(folder, "s2ef")])
    assert "split id: these are the predictions of split ood_both" in message


def test_truncated_and_missing_files(folder, perfect, tmp_path, capsys):
    file = tmp_path / "file.npz"
    command = ["check", "s2ef", file, "--data", data_of(folder, "s2ef")]
    assert f"{file} is no complete .npz file" in refusal(capsys, command)
    file.write_bytes(perfect.read_bytes()[:-200])
    assert f"{file} is no complete .npz file" in refusal(capsys, command)
    nowhere = refusal(capsys, ["check", "s2ef", perfect, "--data", tmp_path, "--part", "val"])
    assert f"split id: neither {tmp_path / 'val_id'} nor" in nowhere


def test_data_of_another_task(folder, perfect, capsys):
    message = refusal(capsys, ["check", "s2ef", perfect, "--data", folder / "is2re"])
    assert "test_id, entry 0 has no 'fid'; are these data of another task?" in message
    message = refusal(capsys, ["check", "is2re", perfect, "--data", folder / "s2ef"])
    assert "holds 'id_forces', which is2re does not know" in message


# ---- score


@pytest.mark.parametrize("task", TASKS)
def test_perfect_predictions(folder, tmp_path, task):
    file = gathered(folder, task, tmp_path)
    for values in leaderboard.score(task, file, data_of(folder, task), "test").values():
        for metric, value in values.items():
            if metric == "forces_cosine_similarity":
                assert value == pytest.approx(1)
            elif metric.endswith("within_threshold"):
                assert value == 1
            else:
                assert value == pytest.approx(0, abs=1e-6)


@pytest.fixture
def small_chunks(monkeypatch):
    """Several chunks, the last one not full."""
    monkeypatch.setattr(scores, "CHUNK", 2)


def test_scores_of_s2ef(folder, tmp_path, small_chunks):
    file = gathered(folder, "s2ef", tmp_path, noise=0.01)
    result = leaderboard.score("s2ef", file, data_of(folder, "s2ef"), "test")
    with np.load(file) as npz:
        for split in SPLITS:
            items = {name(entry): entry for entry in entries(folder, "s2ef", split)}
            chosen = [items[i] for i in npz[f"{split}_ids"]]
            energy = np.abs(npz[f"{split}_energy"] - [entry.y for entry in chosen])
            labels = [entry.force[entry.fixed == 0].double().numpy() for entry in chosen]
            values = np.split(npz[f"{split}_forces"].astype(float), npz[f"{split}_chunk_idx"])
            largest = np.array([np.abs(v - w).max() for v, w in zip(values, labels)])
            v, w = np.concatenate(values), np.concatenate(labels)
            sizes = [np.linalg.norm(u, axis=1) for u in (v, w)]
            x, y, z = np.abs(v - w).mean(axis=0)
            assert result[split] == pytest.approx({
                "energy_mae": energy.mean(),
                "forces_mae": np.abs(v - w).mean(),
                "forcesx_mae": x, "forcesy_mae": y, "forcesz_mae": z,
                "forces_cosine_similarity": ((v * w).sum(axis=1) / sizes[0] / sizes[1]).mean(),
                "forces_magnitude_error": np.abs(sizes[0] - sizes[1]).mean(),
                "energy_forces_within_threshold": ((energy < 0.02) & (largest < 0.03)).mean(),
            }, rel=1e-5)  # fmt: skip
    assert 0 < np.mean([r["energy_forces_within_threshold"] for r in result.values()]) < 1


@pytest.mark.parametrize("task", ["is2re", "is2re-relaxations"])
def test_scores_of_is2re(folder, tmp_path, small_chunks, task):
    file = gathered(folder, task, tmp_path, noise=0.03)
    result = leaderboard.score(task, file, data_of(folder, task), "test")
    with np.load(file) as npz:
        for split in SPLITS:
            labels = {name(entry): entry.y_relaxed for entry in entries(folder, task, split)}
            error = npz[f"{split}_energy"] - [labels[i] for i in npz[f"{split}_ids"]]
            assert result[split] == pytest.approx({
                "energy_mae": np.abs(error).mean(),
                "energy_mse": (error**2).mean(),
                "energy_within_threshold": (np.abs(error) < 0.02).mean(),
            }, rel=1e-5)  # fmt: skip


def test_scores_of_is2rs(folder, tmp_path, small_chunks):
    file = gathered(folder, "is2rs", tmp_path, noise=0.1)
    result = leaderboard.score("is2rs", file, data_of(folder, "is2rs"), "test")
    with np.load(file) as npz:
        for split in SPLITS:
            items = {name(entry): entry for entry in entries(folder, "is2rs", split)}
            chosen = [items[i] for i in npz[f"{split}_ids"]]
            values = np.split(npz[f"{split}_pos"], npz[f"{split}_chunk_idx"])
            errors = [
                (pos - entry.pos_relaxed.double().numpy())[entry.fixed == 0]
                for pos, entry in zip(values, chosen)
            ]
            distances = np.array([np.linalg.norm(error, axis=1).mean() for error in errors])
            within = distances[:, None] < np.arange(0.01, 0.5, 0.001)
            assert result[split] == pytest.approx({
                "positions_average_distance_within_threshold": within.mean(),
                "positions_mae": np.abs(np.concatenate(errors)).mean(),
                "positions_mse": (np.concatenate(errors) ** 2).mean(),
            }, rel=1e-5)  # fmt: skip


def test_images_of_atoms_are_as_good(folder, tmp_path):
    """The distance is to the nearest periodic image; fixed atoms count nothing."""
    file = gathered(folder, "is2rs", tmp_path)
    items = {name(entry): entry for entry in entries(folder, "is2rs", "id")}
    with np.load(file) as npz:
        moved = [
            pos + np.where((items[i].fixed == 0)[:, None], items[i].cell[0, 1].numpy(), 9.9)
            for i, pos in zip(npz["id_ids"], np.split(npz["id_pos"], npz["id_chunk_idx"]))
        ]
    other = changed(file, tmp_path / "moved.npz", id_pos=np.concatenate(moved))
    result = leaderboard.score("is2rs", other, data_of(folder, "is2rs"), "test")["id"]
    assert result["positions_average_distance_within_threshold"] == 1


def test_order_is_of_no_account(folder, tmp_path):
    file = gathered(folder, "s2ef", tmp_path, noise=0.02)
    with np.load(file) as npz:
        chunks = np.split(npz["id_forces"], npz["id_chunk_idx"])[::-1]
        other = changed(
            file, tmp_path / "reversed.npz", id_ids=npz["id_ids"][::-1],
            id_energy=npz["id_energy"][::-1], id_forces=np.concatenate(chunks),
            id_chunk_idx=np.cumsum([len(chunk) for chunk in chunks])[:-1],
        )  # fmt: skip
    one, two = (
        leaderboard.score("s2ef", f, data_of(folder, "s2ef"), "test")["id"] for f in (file, other)
    )
    assert one == pytest.approx(two)


def test_the_table_and_the_json(folder, tmp_path, capsys):
    file = gathered(folder, "s2ef", tmp_path, noise=0.02)
    path = tmp_path / "new/scores.json"
    leaderboard.main(["score", "s2ef", str(file), "--data", str(folder / "s2ef"),
                      "--json", str(path)])  # fmt: skip
    result = json.loads(path.read_text())
    assert list(result) == list(SPLITS)
    rows = {line[:30].strip(): line[30:].split() for line in capsys.readouterr().out.splitlines()}
    energies = [result[split]["energy_mae"] for split in SPLITS]
    assert rows["Energy MAE (eV)"] == [f"{e:.4f}" for e in [*energies, np.mean(energies)]]
    within = [100 * result[split]["energy_forces_within_threshold"] for split in SPLITS]
    assert rows["EFwT (%)"] == [f"{w:.2f}" for w in [*within, np.mean(within)]]
    assert len(rows) == 1 + len(result["id"])


def test_labels_under_the_names_of_fairchems_later_converters(folder, tmp_path):
    file = gathered(folder, "s2ef", tmp_path, 0.1)
    for split in SPLITS:
        items = entries(folder, "s2ef", split)
        for entry in items:
            entry.energy, entry.forces = entry.y, entry.force
            del entry.y, entry.force
        write_lmdb(tmp_path / f"test_{split}", items)
    expected = leaderboard.score("s2ef", file, data_of(folder, "s2ef"), "test")
    assert leaderboard.score("s2ef", file, tmp_path, "test") == expected
