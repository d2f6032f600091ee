"""Data sets that must not be learned from: each is refused with its file, its entry and a cure."""

import pickle
import subprocess
import sys

import lmdb
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from conftest import to_data

from ocp_physmol.datasets.lmdb_dataset import PhysMolLmdbDataset
from ocp_physmol.datasets.lmdb_writer import write_lmdb
from ocp_physmol.errors import UserError


def entry(**changes):
    data = to_data(molecule("H2O"))
    data.energy, data.forces = torch.tensor([-1.0]), torch.zeros(3, 3)
    for key, value in changes.items():
        data[key] = value
    return data


def dataset(folder, *entries):
    write_lmdb(folder / "train", entries)
    return PhysMolLmdbDataset({"src": str(folder / "train"), "required": ["energy", "forces"]})


def with_missing(key):
    data = entry()
    del data[key]
    return data


def moved(first, second):
    data = to_data(Atoms("OH2", [[0, 0, 0], first, second]))
    data.energy, data.forces = torch.tensor([-1.0]), torch.zeros(3, 3)
    return data


BAD = {
    "no energy": (lambda: with_missing("energy"), "has no 'energy'"),
    "no positions": (lambda: with_missing("pos"), "has no 'pos'"),
    "energy None": (lambda: entry(energy=None), "has no 'energy'"),
    "energy NaN": (lambda: entry(energy=torch.tensor([float("nan")])), "'energy' holds NaN"),
    "force infinite": (lambda: entry(forces=torch.full((3, 3), torch.inf)), "'forces' holds NaN"),
    "no atoms": (lambda: entry(pos=torch.zeros(0, 3)), "'pos' is empty"),
    "element 0": (lambda: entry(atomic_numbers=torch.tensor([8, 0, 1])), "holds 0"),
    "element 119": (lambda: entry(atomic_numbers=torch.tensor([8.0, 1, 119])), "holds 119"),
    "sizes differ": (lambda: entry(pos=torch.rand(2, 3)), "2 positions, 3 atomic_numbers"),
    "atoms in one place": (lambda: moved([0, 0, 1.0], [0, 0, 1.01]), "atoms 1 and 2 are 0.010"),
}


@pytest.mark.parametrize("name", BAD)
def test_unfit_entries_are_refused(name, tmp_path):
    make, message = BAD[name]
    data = dataset(tmp_path, entry(), make())
    assert data[0].natoms == 3
    with pytest.raises(UserError, match=message) as error:
        data[1]
    assert str(tmp_path / "train") in str(error.value) and "entry 1" in str(error.value)


def test_good_entries_of_old_and_new_kinds(tmp_path):
    """Atomic numbers may be floats, labels plain numbers."""
    data = dataset(tmp_path, entry(energy=-1.0, atomic_numbers=torch.tensor([8.0, 1.0, 1.0])))
    assert data[0].energy == -1.0


def test_forked_workers_read_what_the_parent_has_opened(qm9_folder):
    """In a fresh process: some releases of lmdb crash there."""
    code = f"""
from ocp_physmol.evaluation.predictor import open_labelled
from fairchem.core.datasets import data_list_collater
from torch.utils.data import DataLoader
data = open_labelled({str(qm9_folder / "train")!r})
loader = DataLoader(data, batch_size=4, num_workers=2, collate_fn=data_list_collater)
assert sum(len(batch.natoms) for batch in loader) == 32
"""
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True)
    assert result.returncode == 0, result.stderr.decode()[-2000:]


def test_one_file_may_be_open_twice(tmp_path):
    first = dataset(tmp_path, entry())
    second = PhysMolLmdbDataset({"src": str(tmp_path / "train")})
    assert len(first) == len(second) == 1


def test_missing_path(tmp_path):
    with pytest.raises(UserError, match="does not exist; make the data first"):
        PhysMolLmdbDataset({"src": str(tmp_path / "nowhere")})


def test_folder_without_lmdb(tmp_path):
    with pytest.raises(UserError, match=r"holds no \*\.lmdb file"):
        PhysMolLmdbDataset({"src": str(tmp_path)})


def test_empty_file(tmp_path):
    (tmp_path / "data.lmdb").touch()
    with pytest.raises(UserError, match=r"make or download it again"):
        PhysMolLmdbDataset({"src": str(tmp_path / "data.lmdb")})


def test_no_entries(tmp_path):
    with pytest.raises(UserError, match="is empty"):
        dataset(tmp_path)


def test_no_lmdb_at_all(tmp_path):
    (tmp_path / "data.lmdb").write_text("hello " * 5000)
    with pytest.raises(UserError, match="is no complete LMDB"):
        PhysMolLmdbDataset({"src": str(tmp_path / "data.lmdb")})


def test_truncated_file_does_not_give_garbage(tmp_path):
    """Reading past the end of a memory map would kill the process: the size is checked first."""
    write_lmdb(tmp_path / "train", [entry() for _ in range(200)])
    path = tmp_path / "train/data.lmdb"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match="truncated"):
        PhysMolLmdbDataset({"src": str(path)})


def test_entry_that_does_not_unpickle(tmp_path):
    data = dataset(tmp_path, entry(), entry())
    del data
    with (
        lmdb.open(str(tmp_path / "train/data.lmdb"), subdir=False) as env,
        env.begin(write=True) as t,
    ):
        t.put(b"1", pickle.dumps(entry())[:100])
    data = PhysMolLmdbDataset({"src": str(tmp_path / "train")})
    with pytest.raises(UserError, match="entry 1 cannot be unpacked"):
        data[1]
