"""The leaderboard's file: what is read from predictions, and what is found in arrays."""

import ase.io
import numpy as np
import pandas as pd
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from ocp_physmol.errors import UserError
from ocp_physmol.leaderboard.submission import (
    read_arrays,
    read_predictions,
    require_complete,
    write_splits,
)

SYSTEMS = pd.DataFrame({"all": [3, 4, 5], "free": [2, 1, 5]}, index=["7", "8", "9"])
OTHERS = [
    (s, pd.DataFrame({"all": 3, "free": 2}, [i]))
    for s, i in (("ood_cat", "70"), ("ood_both", "80"))
]


def arrays(field: str = "forces", sizes=(2, 1, 5)) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "ids": np.array(list(SYSTEMS.index)),
        "energy": rng.normal(size=3).astype(np.float16),
        field: rng.normal(size=(sum(sizes), 3)).astype(np.float32),
        "chunk_idx": np.cumsum(sizes)[:-1],
    }


def problem(**changes) -> str:
    with pytest.raises(UserError) as e:
        require_complete({**arrays(), **changes}, SYSTEMS, iter(OTHERS))
    return str(e.value)


# ---- what is found


def test_nothing_is_wrong_with_good_arrays():
    require_complete(arrays(), SYSTEMS, iter(OTHERS))
    require_complete(arrays("pos", (3, 4, 5)), SYSTEMS, iter(OTHERS))
    one = {"ids": np.array(["7"]), "pos": np.zeros((3, 3)), "chunk_idx": np.cumsum([3])[:-1]}
    require_complete(one, SYSTEMS.loc[["7"]], iter(OTHERS))


def test_other_splits_are_not_read_in_vain():
    def others():
        raise AssertionError
        yield

    require_complete(arrays(), SYSTEMS, others())


@pytest.mark.parametrize("ids, message", [
    (np.array([7, 8, 9]), "ids is int64 of shape (3,) where unicode text"),
    (np.array([b"7", b"8", b"9"]), "ids is |S1"),
    (np.array([["7", "8", "9"]]), "shape (1, 3)"),
    (np.array(["7", "9"]), "id '8' is missing (1 in all); predict"),
    (np.array([], dtype=str), "id '7' is missing (3 in all); predict"),
    (np.array(["7", "8", "9", "10"]), "id '10' is not in the data (1 in all); predict"),
    (np.array(["7", "8", "10"]), "id '9' is missing (1 in all) and id '10' is not in"),
    (np.array(["7", "8", "9", "8"]), "id '8' is repeated"),
    (np.array(["80"]), "predictions of split ood_both, to which id '80' belongs"),
])  # fmt: skip
def test_ids(ids, message):
    assert message in problem(ids=ids)


@pytest.mark.parametrize("energy, message", [
    (np.zeros((3, 1)), "energy is float64 of shape (3, 1)"),
    (np.zeros(4), "shape (4,)"),
    (np.zeros(3, dtype=int), "energy is int64"),
    (np.array([0, 1, np.nan]), "id '9' has NaN or infinity in its energy (1 of 3"),
    (np.array([0, -np.inf, np.nan]), "id '8' has NaN or infinity in its energy (2 of 3"),
])  # fmt: skip
def test_energies(energy, message):
    assert message in problem(energy=energy)


@pytest.mark.parametrize("changes, message", [
    ({"forces": np.zeros(24)}, "forces is float64 of shape (24,)"),
    ({"forces": np.zeros(())}, "forces is float64 of shape ()"),
    ({"forces": np.zeros((8, 3), dtype=int)}, "forces is int64"),
    ({"chunk_idx": np.array([2.0, 3.0])}, "chunk_idx is float64"),
    ({"chunk_idx": np.array([2, 3, 8])}, "chunk_idx is int64 of shape (3,)"),
    ({"chunk_idx": np.array([3, 2])}, "chunk_idx is not monotonic, id '7' has 3 rows"),
    ({"chunk_idx": np.array([2, 99])}, "chunk_idx is not monotonic, id '8' has 97 rows"),
    ({"chunk_idx": np.array([2, 4])}, "id '8' has 2 rows of forces for 1 atoms (free"),
    ({"forces": np.zeros((9, 3))}, "id '9' has 6 rows of forces for 5 atoms (free"),
    (arrays(sizes=(3, 4, 5)),
     "forces of fixed atoms are in it, id '7' has 3 rows of forces for 2 atoms (free"),
])  # fmt: skip
def test_forces(changes, message):
    assert message in problem(**changes)


@pytest.mark.parametrize("row, owner", [(0, "7"), (1, "7"), (2, "8"), (3, "9"), (7, "9")])
def test_the_owner_of_a_bad_force_is_named(row, owner):
    forces = arrays()["forces"]
    forces[row, 1] = np.inf
    assert f"id '{owner}' has NaN or infinity in its forces" in problem(forces=forces)


def test_positions_are_those_of_all_atoms():
    with pytest.raises(UserError, match=r"id '7' has 2 rows of pos for 3 atoms \(all"):
        require_complete(arrays("pos", (2, 1, 5)), SYSTEMS, iter(OTHERS))


# ---- reading


def test_energies_of_predict_are_flattened(tmp_path):
    file = tmp_path / "is2re_predictions.npz"
    np.savez_compressed(file, ids=np.array(["1", "2"]), energy=np.array([[1.0], [2.0]]))
    assert read_predictions("is2re", file, "id")["energy"].tolist() == [1.0, 2.0]


def test_what_is_written_is_what_numpy_reads(tmp_path):
    write_splits(tmp_path / "file.npz", [("id", arrays())])
    with np.load(tmp_path / "file.npz", allow_pickle=False) as npz:
        assert set(npz.files) == {f"id_{name}" for name in arrays()}
        for name, array in arrays().items():
            assert npz[f"id_{name}"].dtype == array.dtype
            np.testing.assert_array_equal(npz[f"id_{name}"], array)


def test_damaged_files(tmp_path):
    def refused(file) -> str:
        with pytest.raises(UserError) as e:
            read_arrays("is2re", file, "id")
        assert str(file) in str(e.value)
        return str(e.value)

    file = tmp_path / "predictions.npz"
    assert "no complete .npz" in refused(file)
    assert "no complete .npz" in refused(tmp_path)
    for content in (b"", b"no zip", b"\x80\x04}."):
        file.write_bytes(content)
        assert "no complete .npz" in refused(file)
    with file.open("wb") as stream:
        np.save(stream, np.zeros(3))
    assert "without a name" in refused(file)
    np.savez(file, ids=np.array(["1"]))
    assert "split id: 'energy' cannot be read ('energy is not a file" in refused(file)
    np.savez(file, ids=np.array(["1", 2], dtype=object), energy=np.zeros(2))
    assert "split id: 'ids' cannot be read (Object" in refused(file)

    np.savez_compressed(file, ids=np.array(["1"]), energy=np.random.default_rng(0).random(9999))
    content = bytearray(file.read_bytes())
    file.write_bytes(content[: len(content) // 2])
    assert "no complete .npz" in refused(file)
    content[len(content) // 2] ^= 255
    file.write_bytes(content)
    assert "split id: 'energy' cannot be read (" in refused(file)


def relaxation(energy: float = -1.5) -> list:
    """Frames of water, of which the last one counts."""
    frames = []
    for step in range(3):
        atoms = molecule("H2O")
        atoms.positions += step
        atoms.calc = SinglePointCalculator(atoms, energy=energy + 2 - step)
        frames.append(atoms)
    return frames


def test_trajectories(tmp_path):
    for sid, energy in (("12", -1.5), ("3", 0.5)):
        ase.io.write(tmp_path / f"{sid}.traj", relaxation(energy))
    (tmp_path / "4.traj_tmp").touch()  # as an unfinished relaxation leaves it
    energies = read_predictions("is2re-relaxations", tmp_path, "id")
    assert dict(zip(energies["ids"].tolist(), energies["energy"])) == {"12": -1.5, "3": 0.5}
    positions = read_predictions("is2rs", tmp_path, "id")
    assert positions["chunk_idx"].tolist() == [3]
    for pos in np.split(positions["pos"], positions["chunk_idx"]):
        np.testing.assert_allclose(pos, molecule("H2O").positions + 2)


def test_damaged_trajectories(tmp_path):
    file = tmp_path / "5.traj"
    with pytest.raises(UserError, match=r"split id, is no folder of \{sid\}.traj"):
        read_predictions("is2re-relaxations", tmp_path, "id")
    ase.io.write(file, molecule("H2O"))
    with pytest.raises(UserError, match=r"5.traj, split id: .*no calculator.*relax system 5 again"):
        read_predictions("is2re-relaxations", tmp_path, "id")
    ase.io.write(file, relaxation())
    content = file.read_bytes()
    for damaged in (b"", b"no trajectory", content[: len(content) // 2], content[:-40]):
        file.write_bytes(damaged)
        for task in ("is2re-relaxations", "is2rs"):
            with pytest.raises(UserError, match=r"5.traj, split id: .* cannot be read"):
                read_predictions(task, tmp_path, "id")
