"""Relaxations as data: energies relative to their ends, and splits that share nothing."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import write

from ocp_physmol.datasets import surfaces
from ocp_physmol.datasets.lmdb_dataset import PhysMolLmdbDataset
from ocp_physmol.datasets.splits import every_nth, fold
from ocp_physmol.errors import UserError
from ocp_physmol.relaxation.predictor import open_labelled

FRAMES = 12
TWO_FOLDS = surfaces.Splitting(folds=2)


def frame(length, energy, largest=1.0):
    """A dimer, one of whose atoms is fixed, in a box."""
    atoms = Atoms("HO", [[0, 0, 0], [0, 0, length]], cell=[6, 6, 6], pbc=True)
    atoms.set_constraint(FixAtoms([0]))
    forces = [[0, 0, 500.0], [0, 0, largest]]
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.array(forces))
    return atoms


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Five relaxations of 12 frames, from -100, -200... eV down; one has a frame too many."""
    folder = tmp_path_factory.mktemp("relaxations")
    for k in range(1, 6):
        frames = [frame(2 - 0.05 * i, -100 * k - 0.1 * i) for i in range(FRAMES)]
        if k == 3:
            frames.insert(1, frame(1.0, 7.0, largest=80.0))
        write(folder / f"{k}.traj", frames)
    return folder


@pytest.fixture(scope="module")
def made(source, tmp_path_factory):
    output = tmp_path_factory.mktemp("data") / "surfaces"
    surfaces.make(source, output, TWO_FOLDS)
    return output


def frames_of(part, split):
    return [(entry.sid, entry.fid) for entry in open_labelled(part / split)]


def test_energies_are_relative_to_the_last_frame(made):
    entries = list(open_labelled(made / "frames/train"))
    assert len(entries) == 5 * FRAMES  # the frame with 80 eV/Angstrom is left out, its file is not
    positions = Counter()
    for entry in entries:
        k = positions[entry.sid]
        positions[entry.sid] += 1
        assert entry.energy.item() == pytest.approx(0.1 * (FRAMES - 1 - k), abs=1e-9)
        assert entry.fixed.tolist() == [1, 0] and entry.forces[0, 2] == 500
    report = json.loads((made / "frames/report.json").read_text())
    assert report["relaxations"] and next(iter(report["left_out"].values()))["count"] == 1


def test_seen_takes_frames_of_every_relaxation(made):
    part = made / "seen"
    parts = {split: frames_of(part, split) for split in ("train", "val", "test")}
    every = [frame for frames in parts.values() for frame in frames]
    assert len(set(every)) == len(every) == 5 * FRAMES
    assert all({sid for sid, _ in frames} == set(range(5)) for frames in parts.values())
    assert [fid for sid, fid in parts["test"] if sid == 0] == [0, 5, 10]
    assert [fid for sid, fid in parts["val"] if sid == 0] == [2]
    assert len(PhysMolLmdbDataset({"src": str(part / "relax")})) == 5


def test_unseen_leaves_whole_relaxations_out(made):
    tested = []
    for part in (made / "unseen_1", made / "unseen_2"):
        sids = {s: {sid for sid, _ in frames_of(part, s)} for s in ("train", "val", "test")}
        assert sids["train"] | sids["val"] | sids["test"] == set(range(5))
        assert sum(map(len, sids.values())) == 5  # each relaxation in one split
        assert [e.sid for e in PhysMolLmdbDataset({"src": str(part / "relax")})] == sorted(
            sids["test"]
        )
        tested += sids["test"]
    assert sorted(tested) == list(range(5))  # each in one fold


def test_relaxations_lead_from_the_first_to_the_last_frame(made):
    for entry in PhysMolLmdbDataset({"src": str(made / "seen/relax")}):
        assert entry.pos[1, 2] == pytest.approx(2.0) and entry.pos_relaxed[1, 2] == pytest.approx(
            2 - 0.05 * (FRAMES - 1)
        )
        assert (entry.y_init, entry.y_relaxed) == (pytest.approx(1.1), 0.0)
        assert entry.force_relaxed[1, 2] == 1.0 and "y" not in entry


def test_what_is_there_is_kept(source, made, monkeypatch):
    (made / "unseen_2/report.json").unlink()
    for file in sorted((made / "unseen_2").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    before = {p: p.stat().st_mtime_ns for p in made.rglob("*.lmdb")}
    surfaces.make(None, made, TWO_FOLDS)
    monkeypatch.chdir(source.parent)
    surfaces.make(Path(source.name), made, TWO_FOLDS)  # the same folder by another path
    assert (made / "unseen_2/test/data.lmdb").is_file()
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())


@pytest.mark.parametrize("options, message", [
    ({"folds": 3}, "was split with .*'folds': 2.* not .*'folds': 3"),
    ({"folds": 2, "max_force": 90.0}, "was made with max_force 50.0, not 90.0"),
])  # fmt: skip
def test_other_data_are_refused(options, message, source, made):
    with pytest.raises(UserError, match=message):
        surfaces.make(source, made, surfaces.Splitting(**options))
    with pytest.raises(UserError, match="was made of other files"):
        surfaces.make(source / "1.traj", made, TWO_FOLDS)


def test_too_few_relaxations(tmp_path):
    (tmp_path / "few").mkdir()
    for k in range(2):
        write(tmp_path / f"few/{k}.traj", [frame(2 - 0.1 * i, -i) for i in range(FRAMES)])
    with pytest.raises(UserError, match="2 relaxations are too few for 2 folds; give more"):
        surfaces.make(tmp_path / "few", tmp_path / "data", TWO_FOLDS)
    assert (tmp_path / "data/seen").is_dir() and not (tmp_path / "data/unseen_1").exists()


def test_24_relaxations_make_folds_of_6():
    trajectories = [[10 * t + k for k in range(10)] for t in range(24)]
    for number in range(4):
        parts = fold(trajectories, number, 4)
        assert {s: len(p) for s, p in parts.items()} == {"train": 160, "val": 20, "test": 60}
    parts = every_nth(trajectories, 5)
    assert {s: len(p) for s, p in parts.items()} == {"train": 168, "val": 24, "test": 48}


def test_a_frame_without_a_free_atom_is_left_out(tmp_path):
    frames = [frame(2 - 0.1 * k, -k) for k in range(FRAMES)]
    frames[4].set_constraint(FixAtoms([0, 1]))
    for name in "abcd":
        write(tmp_path / f"{name}.traj", frames)
    surfaces.make(tmp_path, tmp_path / "data", TWO_FOLDS)
    left_out = json.loads((tmp_path / "data/frames/report.json").read_text())["left_out"]
    assert left_out == {
        "no free atom": {"count": 4, "examples": [f"{n}.traj, frame 4" for n in "abc"]}
    }
