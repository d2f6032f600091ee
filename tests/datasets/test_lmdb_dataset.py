"""Reading data sets: what is damaged is refused with its file, its entry and a cure."""

import pickle
import shutil
import subprocess
import sys

import lmdb
import numpy as np
import pytest
import torch
from ase.build import molecule
from conftest import slab, small_model, to_data
from entries import dataset, entry, with_missing
from fairchem.core.datasets import data_list_collater
from torch_geometric.data import Data

from ocp_physmol import trust
from ocp_physmol.datasets.lmdb_dataset import PhysMolLmdbDataset
from ocp_physmol.datasets.lmdb_writer import write_lmdb
from ocp_physmol.errors import UserError

TRUSTED = b"trusted "  # before an entry that the user trusts


def test_numbers_of_numpy_make_batches(tmp_path):
    numbers = {"natoms": np.int64(3), "energy": np.float32(-1), "sid": np.int64(5)}
    data = dataset(tmp_path, entry(**numbers), entry(**numbers))
    batch = data_list_collater([data[0], data[1]], otf_graph=True)
    assert batch.natoms.sum() == 6 and batch.energy.sum() == -2 and batch.sid.sum() == 10


def test_good_entries_of_old_and_new_kinds(tmp_path):
    """Atomic numbers may be floats, labels plain numbers."""
    data = dataset(tmp_path, entry(energy=-1.0, atomic_numbers=torch.tensor([8.0, 1.0, 1.0])))
    assert data[0].energy == -1.0


def as_pyg1(data) -> Data:
    """What unpickling a Data of PyTorch Geometric 1 gives: its attributes, and None for absent."""
    old = Data.__new__(Data)
    old.__dict__.clear()
    old.__dict__.update({"x": None, "edge_index": None, "face": None, **data.to_dict()})
    return old


def test_entries_of_pyg_1(tmp_path):
    data = dataset(tmp_path, as_pyg1(entry()), as_pyg1(entry()))
    assert {*entry().keys()} <= {*data[1].keys()}
    torch.testing.assert_close(data[1].pos, entry().pos)
    assert data_list_collater([data[0], data[1]], otf_graph=True).natoms.tolist() == [3, 3]


def write_shards(folder, *sizes):
    """A folder of data.0000.lmdb and so on, its entries numbered by their energy, no metadata."""
    folder.mkdir()
    energies = iter(range(sum(sizes)))
    for number, size in enumerate(sizes):
        write_lmdb(folder / "new", [entry(energy=float(next(energies))) for _ in range(size)])
        (folder / "new/data.lmdb").rename(folder / f"data.{number:04}.lmdb")
        shutil.rmtree(folder / "new")


def test_shards_in_order(tmp_path):
    write_shards(tmp_path / "train", 3, 1, 2)
    data = PhysMolLmdbDataset({"src": str(tmp_path / "train"), "required": ["energy"]})
    assert [data[i].energy for i in range(len(data))] == [0, 1, 2, 3, 4, 5]


def test_a_bad_shard_is_named(tmp_path):
    write_shards(tmp_path / "train", 3, 50)
    path = tmp_path / "train/data.0001.lmdb"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r"data\.0001\.lmdb is .* \(it is truncated"):
        PhysMolLmdbDataset({"src": str(tmp_path / "train")})
    path.write_text("hello " * 5000)
    with pytest.raises(UserError, match=r"data\.0001\.lmdb is no complete LMDB"):
        PhysMolLmdbDataset({"src": str(tmp_path / "train")})


def test_a_bad_entry_of_a_shard_is_named(tmp_path):
    write_shards(tmp_path / "train", 3, 50)
    overwrite(tmp_path / "train/data.0001.lmdb", "7", pickle.dumps(with_missing("energy")))
    data = PhysMolLmdbDataset({"src": str(tmp_path / "train"), "required": ["energy"]})
    with pytest.raises(UserError, match=r"data\.0001\.lmdb, entry 7: has no 'energy'"):
        data[10]


def test_what_is_missing_is_supplied(tmp_path):
    """Users' own data know no tags, fixed atoms or identifiers."""
    bare = with_missing("sid")
    del bare.tags, bare.fixed
    data = dataset(tmp_path, bare, bare)
    assert [data[0].sid, data[1].sid] == [0, 1]
    assert data[0].fixed.tolist() == data[0].tags.tolist() == [0, 0, 0]
    required = PhysMolLmdbDataset({"src": str(tmp_path / "train"), "required": ["fixed"]})
    with pytest.raises(UserError, match="has no 'fixed'"):
        required[0]


@pytest.mark.parametrize("energy", [-1.0, torch.tensor(-1.0), torch.tensor([-1.0])])
def test_kinds_that_collate(energy, tmp_path):
    """Skewed cells of shape [3, 3], pbc [3], natoms a tensor: the model takes them as they are."""
    usual = [to_data(slab()), to_data(molecule("H2O"))]
    unusual = [
        Data(
            pos=data.pos, atomic_numbers=data.atomic_numbers.float(), natoms=natoms,
            cell=data.cell[0], pbc=data.pbc[0], energy=energy, forces=torch.zeros_like(data.pos),
        )
        for data, natoms in zip(usual, (torch.tensor(10), torch.tensor(3)))
    ]  # fmt: skip
    data = dataset(tmp_path, *unusual)
    batch = data_list_collater([data[0], data[1]], otf_graph=True)
    assert batch.natoms.tolist() == [10, 3] and batch.energy.tolist() == [-1, -1]
    model = small_model()
    expected = model(data_list_collater(usual, otf_graph=True))["energy"]
    torch.testing.assert_close(model(batch)["energy"], expected)


@pytest.mark.slow
def test_forked_workers_read_what_the_parent_has_opened(qm9_folder):
    """In a fresh process: some releases of lmdb crash there."""
    code = f"""
from ocp_physmol.relaxation.predictor import open_labelled
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


def overwrite(path, key, value):
    with lmdb.open(str(path), subdir=False) as env, env.begin(write=True) as transaction:
        transaction.put(key.encode(), value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (pickle.dumps(entry())[:100], "entry 1 cannot be unpacked .* file is damaged"),
        (b"cnowhere\nThing\n.", "entry 1 is refused: it asks for nowhere.Thing, which is no data"),
        (pickle.dumps(entry().to_dict()), "entry 1 is of type dict; make it a torch_geometric"),
        (pickle.dumps(molecule("H2O")), "entry 1 is refused: it asks for ase.atoms.Atoms, which"),
        (TRUSTED + b"cnowhere\nThing\n.", "entry 1 cannot be unpacked .*'nowhere'.*; install"),
        (
            TRUSTED + pickle.dumps(molecule("H2O")),
            "entry 1 is of type Atoms; make it a torch_geometric",
        ),
    ],
    ids=["truncated", "class not found", "dict", "ASE", "trusted class not found", "trusted ASE"],
)
def test_entry_that_does_not_unpickle(value, message, tmp_path, monkeypatch):
    if value.startswith(TRUSTED):
        monkeypatch.setenv(trust.VARIABLE, "1")
        value = value.removeprefix(TRUSTED)
    dataset(tmp_path, entry(), entry())
    overwrite(tmp_path / "train/data.lmdb", "1", value)
    data = PhysMolLmdbDataset({"src": str(tmp_path / "train")})
    assert data[0].natoms == 3
    with pytest.raises(UserError, match=message):
        data[1]
