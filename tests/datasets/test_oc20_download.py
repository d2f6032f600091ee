"""fairchem's download of OC20 on tiny archives: the configs' folders, or one sentence why not."""

import lzma
import os
import sys
import tarfile

import numpy as np
import pytest
import torch
import yaml
from ase.io import write
from conftest import REPOSITORY, ends
from fairchem.core.scripts import download_data

from ocp_physmol.datasets import emt, oc20
from ocp_physmol.datasets.lmdb_dataset import PhysMolLmdbDataset
from ocp_physmol.datasets.lmdb_writer import write_lmdb
from ocp_physmol.trust import VARIABLE

COLUMNS = ["symbols", "positions", "move_mask", "tags", "forces"]  # of OC20's extxyz files
REFERENCES = {0: -12.5, 1: 310.25}  # eV, by the number of the relaxation and of the file


@pytest.fixture(autouse=True)
def trusted(monkeypatch):
    """Archives made here are not the published ones."""
    monkeypatch.setenv(VARIABLE, "1")


@pytest.fixture(scope="module")
def trajectories():
    return [emt.relax(emt.System("train", sid, 0)) for sid in REFERENCES]


def total(frame):
    """A frame as OC20's files hold it, with total energies."""
    atoms = frame.copy()
    energy = frame.get_potential_energy() + REFERENCES[frame.info["sid"]]
    atoms.info = {"energy": energy, "free_energy": energy - 0.01}
    atoms.arrays["forces"] = frame.get_forces(apply_constraint=False)
    return atoms


@pytest.fixture
def raw(tmp_path, trajectories, monkeypatch):
    """The frames of two relaxations as OC20's S2EF archives hold them, twice; their number."""
    count = 0
    for sid, frames in zip(REFERENCES, trajectories):
        write(tmp_path / f"{sid}.extxyz", list(map(total, frames)), columns=COLUMNS)
        lines = [f"random{sid},frame{fid},{REFERENCES[sid]}\n" for fid in range(len(frames))]
        (tmp_path / f"{sid}.txt").write_text("".join(lines))
        count += len(frames)
    for split, name in (("200k", "s2ef_train_200K"), ("val_id", "s2ef_val_id")):
        folder = tmp_path / name / name
        folder.mkdir(parents=True)
        for sid in REFERENCES:
            for suffix in ("txt", "extxyz"):
                content = (tmp_path / f"{sid}.{suffix}").read_bytes()
                (folder / f"{sid}.{suffix}.xz").write_bytes(lzma.compress(content))
        pack(tmp_path, f"{name}.tar")
        monkeypatch.setitem(download_data.S2EF_COUNTS["s2ef"], split, count)
    return count


def pack(tmp_path, name):
    """An archive in the data folder, of the folder of the same name."""
    (tmp_path / "data").mkdir(exist_ok=True)
    with tarfile.open(tmp_path / "data" / name, "w:gz" if name.endswith("gz") else "w") as tar:
        tar.add(tmp_path / name.split(".")[0], name.split(".")[0])


def run(tmp_path, task, *more, status=0):
    ends(status, "data", "oc20", task, "--data-path", tmp_path / "data", "--num-workers", 2, *more)


def opened(tmp_path, monkeypatch, config):
    """The training and validation sets of a config, as a run in `tmp_path` opens them."""
    dataset = yaml.safe_load((REPOSITORY / config).read_text())["dataset"]
    mapping = dataset["train"]["key_mapping"]
    settings = {"key_mapping": mapping, "required": list(mapping.values())}
    monkeypatch.chdir(tmp_path)
    return [PhysMolLmdbDataset({**settings, "src": dataset[s]["src"]}) for s in ("train", "val")]


def refusal(capsys, tmp_path, *arguments):
    """The one sentence in which a command ends."""
    run(tmp_path, *arguments, status=2)
    return capsys.readouterr().err.splitlines()[-1]


def test_configs_find_every_frame(raw, trajectories, tmp_path, monkeypatch, capfd):
    run(tmp_path, "s2ef")
    for dataset in opened(tmp_path, monkeypatch, "configs/s2ef/base.yml"):
        assert len(dataset.files) == 2 and len(dataset) == raw
        entries = {(entry.sid, entry.fid): entry for entry in dataset}
        assert len(entries) == raw
        for (sid, fid), entry in entries.items():
            frame = trajectories[sid][fid]
            assert entry.energy == pytest.approx(frame.get_potential_energy(), abs=1e-5)
            forces = frame.get_forces(apply_constraint=False)
            np.testing.assert_allclose(entry.forces, forces, atol=1e-6)
            assert entry.tags.tolist() == frame.get_tags().tolist()
            fixed = frame.constraints[0].index.tolist()
            assert entry.fixed.nonzero().flatten().tolist() == fixed
            torch.testing.assert_close(entry.cell[0].double(), torch.tensor(frame.cell.array))
        sizes = np.load(dataset.path / "metadata.npz")["natoms"]
        assert sizes.tolist() == [int(entry.natoms) for entry in dataset]
        assert len(set(sizes.tolist())) == 2
    names = ["s2ef", "s2ef_train_200K.tar", "s2ef_val_id.tar"]
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == names
    capfd.readouterr()

    (tmp_path / "data/s2ef/all/val_id/metadata.npz").unlink()
    lmdb = tmp_path / "data/s2ef/200k/train/data.0000.lmdb"
    before = lmdb.stat().st_mtime_ns
    run(tmp_path, "s2ef")
    assert lmdb.stat().st_mtime_ns == before
    assert (tmp_path / "data/s2ef/all/val_id/metadata.npz").exists()
    assert f"200k is already in {tmp_path}/data/s2ef/200k/train\n" in capfd.readouterr().out


def test_is2re_archive(trajectories, tmp_path, monkeypatch, capsys):
    root = tmp_path / "is2res_train_val_test_lmdbs/data/is2re"
    for name in ("10k/train", "all/val_id", "all/test_id"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_lmdb(root / name, map(emt.is2re_entry, trajectories))
        (root / name / "metadata.npz").unlink()
    pack(tmp_path, "is2res_train_val_test_lmdbs.tar.gz")
    run(tmp_path, "is2re", "--keep")
    for dataset in opened(tmp_path, monkeypatch, "configs/is2re/base.yml"):
        energies = [float(entry.energy) for entry in dataset]
        relaxed = [frames[-1] for frames in trajectories]
        assert energies == pytest.approx([a.get_potential_energy() for a in relaxed], rel=1e-6)
        assert dataset._metadata["natoms"].tolist() == [len(atoms) for atoms in relaxed]
    assert (tmp_path / "data/oc20_is2re/is2res_train_val_test_lmdbs").is_dir()
    assert f"is2re is in {tmp_path}/data/is2re\n" in capsys.readouterr().out


def test_test_splits_need_no_other(trajectories, tmp_path):
    root = tmp_path / "s2ef_test_lmdbs/test_data/s2ef/all"
    root.mkdir(parents=True)
    for name in ("test_id", "test_ood_ads"):
        write_lmdb(root / name, emt.s2ef_frames(trajectories[0], 2))
    pack(tmp_path, "s2ef_test_lmdbs.tar.gz")
    folder = (tmp_path / "data").rename(tmp_path / "my data")
    run(tmp_path, "s2ef", "--split", "test", "--data-path", str(folder))
    for name in ("test_id", "test_ood_ads"):
        assert len(PhysMolLmdbDataset({"src": str(folder / "s2ef/all" / name)})) == 2


def test_download_goes_through_wget(raw, tmp_path, monkeypatch):
    """Continued if it broke off; the archive does not stay."""
    folder = tmp_path / "of $USER"
    served = tmp_path / "data/s2ef_val_id.tar"
    program(tmp_path, monkeypatch, f'echo "$@" >> {tmp_path}/log; cp {served} "$3"')
    run(tmp_path, "s2ef", "--split", "val_id", "--data-path", str(folder))
    address = download_data.DOWNLOAD_LINKS_s2ef["s2ef"]["val_id"]
    assert (tmp_path / "log").read_text() == f"{address} -P {folder}/oc20_val_id --continue\n"
    assert [path.name for path in folder.iterdir()] == ["s2ef"]
    assert len(PhysMolLmdbDataset({"src": str(folder / "s2ef/all/val_id")})) == raw


def program(tmp_path, monkeypatch, script):
    """A wget of our own, first on PATH."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/wget").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "bin/wget").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")


# ---- what can go wrong


def test_no_network(tmp_path, monkeypatch, capsys):
    program(tmp_path, monkeypatch, "exit 4")
    message = refusal(capsys, tmp_path, "s2ef")
    address = download_data.DOWNLOAD_LINKS_s2ef["s2ef"]["200k"]
    assert message == (
        f"error: {address} could not be downloaded (wget's status is 4); check the network, or "
        f"download it by hand and put it in {tmp_path}/data"
    )


def test_no_wget(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "wget is not on PATH; install it" in refusal(capsys, tmp_path, "s2ef")


@pytest.mark.parametrize("damage", ["truncated", "frames missing", "another archive", "bad xz"])
def test_damaged_archive(damage, raw, tmp_path, monkeypatch, capsys):
    """Nothing takes the place of the data, and a good archive then does."""
    archive = tmp_path / "data/s2ef_train_200K.tar"
    good = archive.read_bytes()
    causes = {
        "truncated": "ReadError: unexpected end of data",
        "frames missing": "AssertionError: S2EF 200k count incorrect",
        "another archive": "RuntimeError: No *.txt files found",
        "bad xz": "LZMAError: ",
    }
    if damage == "truncated":
        archive.write_bytes(good[: len(good) // 2])
    elif damage == "frames missing":
        monkeypatch.setitem(download_data.S2EF_COUNTS["s2ef"], "200k", raw + 1)
    elif damage == "another archive":
        archive.write_bytes((tmp_path / "data/s2ef_val_id.tar").read_bytes())
    else:
        (tmp_path / "s2ef_train_200K/s2ef_train_200K/0.txt.xz").write_bytes(b"nothing of the kind")
        pack(tmp_path, archive.name)
    message = refusal(capsys, tmp_path, "s2ef", "--split", "200k")
    assert message.startswith(f"error: {archive} could not be prepared ({causes[damage]}")
    assert "remove this archive" in message and not (tmp_path / "data/s2ef").exists()

    archive.write_bytes(good)
    monkeypatch.setitem(download_data.S2EF_COUNTS["s2ef"], "200k", raw)
    run(tmp_path, "s2ef", "--split", "200k")
    assert len(PhysMolLmdbDataset({"src": str(tmp_path / "data/s2ef/200k/train")})) == raw


def test_a_bug_is_no_damaged_archive(raw, tmp_path, monkeypatch):
    def broken(*args):
        raise TypeError("a bug")

    monkeypatch.setattr(oc20, "convert", broken)
    with pytest.raises(TypeError, match="a bug"):
        oc20.prepare("200k", tmp_path / "data", num_workers=1)


def test_nothing_of_the_process_is_changed(raw, tmp_path):
    before = (os.system, list(sys.argv), list(sys.path))
    run(tmp_path, "s2ef", "--split", "200k")
    assert (os.system, sys.argv, sys.path) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["s2ef", "--num-workers", "0"], "'--num-workers': 0 is not in the range x>=1"),
        (["is2re", "--split", "200k"], "is2re comes with all its splits"),
        (["s2ef", "--split", "3k"], "'3k' is not one of '200k', '2M'"),
    ],
)
def test_wrong_input_is_explained(arguments, message, capsys, tmp_path):
    assert message in refusal(capsys, tmp_path, *arguments)
