"""What the leaderboard's check finds in a gathered file."""

from pathlib import Path

import numpy as np
import pytest
from predictions import changed, data_of, entries, gathered, name, refusal

from ocp_physmol.leaderboard.submission import FIELDS


def with_nan(array: np.ndarray, row: int) -> np.ndarray:
    array = array.copy()
    array[row] = np.nan
    return array


# What is done to a split's arrays, and what is said of it; `i` is the id in its second place.
DAMAGE = {
    "missing id": (
        lambda a: {"ids": a["ids"][[0, 2]], "energy": a["energy"][[0, 2]]}, "id '{i}' is missing"),
    "extra id": (
        lambda a: {"ids": np.append(a["ids"], "0_0")}, "id '0_0' is not in the data (1 in all)"),
    "repeated id": (
        lambda a: {"ids": a["ids"][[1, *range(1, len(a["ids"]))]]}, "id '{i}' is repeated"),
    "integer ids": (
        lambda a: {"ids": np.arange(len(a["ids"]))}, "ids is int64 of shape"),
    "object ids": (
        lambda a: {"ids": a["ids"].astype(object)}, "'ood_cat_ids' cannot be read (Object"),
    "NaN energy": (
        lambda a: {"energy": with_nan(a["energy"], 1)},
        "id '{i}' has NaN or infinity in its energy"),
    "NaN force": (
        lambda a: {"forces": with_nan(a["forces"], a["chunk_idx"][0])},
        "id '{i}' has NaN or infinity in its forces"),
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
def perfect(emt_folder, tmp_path_factory) -> Path:
    return gathered(emt_folder, "s2ef", tmp_path_factory.mktemp("perfect"))


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named(emt_folder, perfect, tmp_path, capsys, kind):
    damage, said = DAMAGE[kind]
    with np.load(perfect) as npz:
        arrays = {f: npz[f"ood_cat_{f}"] for f in FIELDS["s2ef"]}
    damaged = {f"ood_cat_{field}": array for field, array in damage(arrays).items()}
    file = changed(perfect, tmp_path / "damaged.npz", **damaged)
    message = refusal(capsys, ["check", "s2ef", file, "--data", data_of(emt_folder, "s2ef")])
    said = said.format(i=arrays["ids"][1], n=len(arrays["ids"]))
    assert str(file) in message and "ood_cat" in message and said in message


def test_forces_of_fixed_atoms_are_recognised(emt_folder, perfect, tmp_path, capsys):
    items = sorted(entries(emt_folder, "s2ef", "ood_ads"), key=name)
    file = changed(
        perfect, tmp_path / "all.npz",
        ood_ads_ids=np.array([name(entry) for entry in items]),
        ood_ads_energy=np.array([entry.y for entry in items]),
        ood_ads_forces=np.concatenate([entry.force for entry in items]),
        ood_ads_chunk_idx=np.cumsum([entry.natoms for entry in items])[:-1],
    )  # fmt: skip
    message = refusal(capsys, ["check", "s2ef", file, "--data", data_of(emt_folder, "s2ef")])
    assert f"split ood_ads: forces of fixed atoms are in it, id '{name(items[0])}'" in message


def test_swapped_splits_are_recognised(emt_folder, perfect, tmp_path, capsys):
    with np.load(perfect) as npz:
        arrays = {f"id_{f}": npz[f"ood_both_{f}"] for f in FIELDS["s2ef"]}
    file = changed(perfect, tmp_path / "swapped.npz", **arrays)
    message = refusal(capsys, ["check", "s2ef", file, "--data", data_of(emt_folder, "s2ef")])
    assert "split id: these are the predictions of split ood_both" in message


def test_truncated_and_missing_files(emt_folder, perfect, tmp_path, capsys):
    file = tmp_path / "file.npz"
    command = ["check", "s2ef", file, "--data", data_of(emt_folder, "s2ef")]
    assert f"{file} is no complete .npz file" in refusal(capsys, command)
    file.write_bytes(perfect.read_bytes()[:-200])
    assert f"{file} is no complete .npz file" in refusal(capsys, command)
    nowhere = refusal(capsys, ["check", "s2ef", perfect, "--data", tmp_path, "--part", "val"])
    assert f"split id: neither {tmp_path / 'val_id'} nor" in nowhere


def test_data_of_another_task(emt_folder, perfect, capsys):
    message = refusal(capsys, ["check", "s2ef", perfect, "--data", emt_folder / "is2re"])
    assert "test_id/data.lmdb, entry 0 has no 'fid'; are these data of another task?" in message
    message = refusal(capsys, ["check", "is2re", perfect, "--data", emt_folder / "s2ef"])
    assert "holds 'id_forces', which is2re does not know" in message
