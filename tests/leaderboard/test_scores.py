"""Scores of gathered files, against the same numbers from the data."""

import json
import re

import numpy as np
import pytest
from conftest import ends
from predictions import TASKS, changed, data_of, entries, gathered, name

from ocp_physmol.datasets.lmdb_writer import write_lmdb
from ocp_physmol.datasets.splits import EVALUATION as SPLITS
from ocp_physmol.leaderboard import scores
from ocp_physmol.leaderboard.gather_and_check import score


@pytest.mark.parametrize("task", TASKS)
def test_perfect_predictions(emt_folder, tmp_path, task):
    file = gathered(emt_folder, task, tmp_path)
    for values in score(task, file, data_of(emt_folder, task), "test").values():
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


def test_scores_of_s2ef(emt_folder, tmp_path, small_chunks):
    file = gathered(emt_folder, "s2ef", tmp_path, noise=0.01)
    result = score("s2ef", file, data_of(emt_folder, "s2ef"), "test")
    with np.load(file) as npz:
        for split in SPLITS:
            items = {name(entry): entry for entry in entries(emt_folder, "s2ef", split)}
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
def test_scores_of_is2re(emt_folder, tmp_path, small_chunks, task):
    file = gathered(emt_folder, task, tmp_path, noise=0.03)
    result = score(task, file, data_of(emt_folder, task), "test")
    with np.load(file) as npz:
        for split in SPLITS:
            labels = {name(entry): entry.y_relaxed for entry in entries(emt_folder, task, split)}
            error = npz[f"{split}_energy"] - [labels[i] for i in npz[f"{split}_ids"]]
            assert result[split] == pytest.approx({
                "energy_mae": np.abs(error).mean(),
                "energy_mse": (error**2).mean(),
                "energy_within_threshold": (np.abs(error) < 0.02).mean(),
            }, rel=1e-5)  # fmt: skip


def test_scores_of_is2rs(emt_folder, tmp_path, small_chunks):
    file = gathered(emt_folder, "is2rs", tmp_path, noise=0.1)
    result = score("is2rs", file, data_of(emt_folder, "is2rs"), "test")
    with np.load(file) as npz:
        for split in SPLITS:
            items = {name(entry): entry for entry in entries(emt_folder, "is2rs", split)}
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


def test_images_of_atoms_are_as_good(emt_folder, tmp_path):
    """The distance is to the nearest periodic image; fixed atoms count nothing."""
    file = gathered(emt_folder, "is2rs", tmp_path)
    items = {name(entry): entry for entry in entries(emt_folder, "is2rs", "id")}
    with np.load(file) as npz:
        moved = [
            pos + np.where((items[i].fixed == 0)[:, None], items[i].cell[0, 1].numpy(), 9.9)
            for i, pos in zip(npz["id_ids"], np.split(npz["id_pos"], npz["id_chunk_idx"]))
        ]
    other = changed(file, tmp_path / "moved.npz", id_pos=np.concatenate(moved))
    result = score("is2rs", other, data_of(emt_folder, "is2rs"), "test")["id"]
    assert result["positions_average_distance_within_threshold"] == 1


def test_order_is_of_no_account(emt_folder, tmp_path):
    file = gathered(emt_folder, "s2ef", tmp_path, noise=0.02)
    with np.load(file) as npz:
        chunks = np.split(npz["id_forces"], npz["id_chunk_idx"])[::-1]
        other = changed(
            file, tmp_path / "reversed.npz", id_ids=npz["id_ids"][::-1],
            id_energy=npz["id_energy"][::-1], id_forces=np.concatenate(chunks),
            id_chunk_idx=np.cumsum([len(chunk) for chunk in chunks])[:-1],
        )  # fmt: skip
    one, two = (score("s2ef", f, data_of(emt_folder, "s2ef"), "test")["id"] for f in (file, other))
    assert one == pytest.approx(two)


def test_the_table_and_the_json(emt_folder, tmp_path, capsys):
    file = gathered(emt_folder, "s2ef", tmp_path, noise=0.02)
    path = tmp_path / "new/scores.json"
    ends(0, "leaderboard", "score", "s2ef", file, "--data", emt_folder / "s2ef", "--json", path)
    result = json.loads(path.read_text())
    assert list(result) == list(SPLITS)
    lines = [re.split(r"\s{2,}", line.strip()) for line in capsys.readouterr().out.splitlines()]
    rows = {line[0]: line[1:] for line in lines}
    energies = [result[split]["energy_mae"] for split in SPLITS]
    assert rows["Energy MAE (eV)"] == [f"{e:.4f}" for e in [*energies, np.mean(energies)]]
    within = [100 * result[split]["energy_forces_within_threshold"] for split in SPLITS]
    assert rows["EFwT (%)"] == [f"{w:.2f}" for w in [*within, np.mean(within)]]
    assert len(rows) == 2 + len(result["id"])  # with the head and a rule


def test_labels_under_the_names_of_fairchems_later_converters(emt_folder, tmp_path):
    file = gathered(emt_folder, "s2ef", tmp_path, 0.1)
    for split in SPLITS:
        items = entries(emt_folder, "s2ef", split)
        for entry in items:
            entry.energy, entry.forces = entry.y, entry.force
            del entry.y, entry.force
        write_lmdb(tmp_path / f"test_{split}", items)
    expected = score("s2ef", file, data_of(emt_folder, "s2ef"), "test")
    assert score("s2ef", file, tmp_path, "test") == expected
