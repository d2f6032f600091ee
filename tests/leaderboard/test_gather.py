"""One file from the predictions of four splits."""

import shutil

import numpy as np
import pytest
from conftest import ends
from predictions import (
    TASKS,
    arguments,
    changed,
    data_of,
    entries,
    gathered,
    name,
    predict,
    refusal,
)

from ocp_physmol.datasets.lmdb_writer import write_lmdb
from ocp_physmol.datasets.splits import EVALUATION as SPLITS
from ocp_physmol.errors import UserError
from ocp_physmol.leaderboard.gather_and_check import check, gather, score
from ocp_physmol.leaderboard.submission import FIELDS


@pytest.mark.parametrize("task", TASKS)
def test_gathered_files_have_the_leaderboards_format(emt_folder, tmp_path, task):
    with np.load(gathered(emt_folder, task, tmp_path), allow_pickle=False) as npz:
        for split in SPLITS:
            items = {name(entry): entry for entry in entries(emt_folder, task, split)}
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
        assert len(npz.files) == 4 * len(FIELDS[task])


def test_positions_from_trajectories_are_those_from_the_file(emt_folder, tmp_path):
    trajectories = {s: predict(emt_folder, "is2re-relaxations", s, tmp_path, 0.0) for s in SPLITS}
    data, one = data_of(emt_folder, "is2rs"), tmp_path / "one.npz"
    gather("is2rs", trajectories, data, "test", one)
    with np.load(one) as npz, np.load(gathered(emt_folder, "is2rs", tmp_path)) as other:
        assert sorted(npz.files) == sorted(other.files)
        for key in npz.files:
            np.testing.assert_array_equal(npz[key], other[key])


def test_shards_and_single_files(emt_folder, tmp_path):
    file = gathered(emt_folder, "s2ef", tmp_path)
    data = tmp_path / "data"
    data.mkdir()
    for split in SPLITS:
        items = entries(emt_folder, "s2ef", split)
        write_lmdb(data / f"test_{split}", items[:2])
        write_lmdb(tmp_path / split, items if split == "id" else items[2:])
        shard = tmp_path / split / "data.lmdb"
        if split == "id":
            shutil.rmtree(data / "test_id")
            shard.rename(data / "test_id.lmdb")
        else:
            shard.rename(data / f"test_{split}" / "data.0001.lmdb")
    sizes = check("s2ef", file, data, "test")
    assert sizes == {split: len(entries(emt_folder, "s2ef", split)) for split in SPLITS}


def test_data_without_labels(emt_folder, tmp_path):
    file = gathered(emt_folder, "is2re", tmp_path)
    for split in SPLITS:
        items = entries(emt_folder, "is2re", split)
        for entry in items:
            del entry.y_relaxed, entry.pos_relaxed
        write_lmdb(tmp_path / f"test_{split}", items)
    assert check("is2re", file, tmp_path, "test")["id"] == 3
    with pytest.raises(UserError, match=r"test_id, entry 0 has no finite 'y_relaxed'.*labels"):
        score("is2re", file, tmp_path, "test")


def test_a_refused_file_is_not_left_behind(emt_folder, tmp_path, capsys):
    predictions = {split: predict(emt_folder, "s2ef", split, tmp_path, 0.0) for split in SPLITS}
    data, output = data_of(emt_folder, "s2ef"), tmp_path / "submission/file.npz"
    ends(0, "leaderboard", *arguments(predictions, data, output, "s2ef"))
    assert f"Wrote {output}, complete and checked: id " in capsys.readouterr().out
    before = output.read_bytes()

    swapped = {**predictions, "id": predictions["ood_cat"], "ood_cat": predictions["id"]}
    message = refusal(capsys, arguments(swapped, data, output, "s2ef"))
    assert f"{swapped['id']}, split id: these are the predictions of split ood_cat" in message
    changed(predictions["id"], predictions["id"], ids=np.array([1, 2], dtype=object))
    message = refusal(capsys, arguments(predictions, data, output, "s2ef"))
    assert f"{predictions['id']}, split id: 'ids' cannot be read (Object" in message
    predictions["id"].unlink()
    message = refusal(capsys, arguments(predictions, data, output, "s2ef"))
    assert f"{predictions['id']} of split id is missing" in message
    assert list(output.parent.iterdir()) == [output] and output.read_bytes() == before


def test_an_unfinished_relaxation(emt_folder, tmp_path, capsys):
    task = "is2re-relaxations"
    predictions = {split: predict(emt_folder, task, split, tmp_path, 0.0) for split in SPLITS}
    victim = sorted(predictions["ood_both"].glob("*.traj"))[1]
    victim.rename(victim.with_suffix(".traj_tmp"))
    command = arguments(predictions, data_of(emt_folder, task), tmp_path / "file.npz", task)
    message = refusal(capsys, command)
    assert f"{predictions['ood_both']}, split ood_both: id '{victim.stem}' is missing" in message
    victim.touch()
    assert f"{victim}, split ood_both: the last frame's energy" in refusal(capsys, command)
    assert not (tmp_path / "file.npz").exists()
