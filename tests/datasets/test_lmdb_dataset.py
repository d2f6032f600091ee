"""Data sets that must not be learned from: each is refused with its file, its entry and a cure."""

import pickle
import shutil
import subprocess
import sys

import lmdb
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from conftest import slab, small_model, to_data
from fairchem.core.datasets import data_list_collater
from torch_geometric.data import Data

from ocp_physmol import trust
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


TRUSTED = b"trusted "  # before an entry that the user trusts
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
    "cell NaN": (lambda: entry(cell=torch.full((1, 3, 3), torch.nan)), "'cell' holds NaN"),
    "cell a box": (lambda: entry(cell=torch.rand(3)), r"'cell' has the shape \[3\]"),
    "relaxed NaN": (
        lambda: entry(pos_relaxed=torch.full((3, 3), torch.nan)), "'pos_relaxed' holds NaN"
    ),
    "cell in a plane": (lambda: entry(cell=torch.ones(1, 3, 3)), "'cell' lie in a plane"),
    "positions are text": (lambda: entry(pos="x"), "'pos' is of type str, not a tensor"),
    "positions are whole": (lambda: entry(pos=torch.eye(3).long()), "'pos' is of type torch.int64"),
    "numbers complex": (lambda: entry(atomic_numbers=torch.ones(3) * 1j), "is complex"),
    "half an element": (lambda: entry(atomic_numbers=torch.tensor([8, 1.5, 1])), "holds 1.5"),
    "two energies": (lambda: entry(energy=torch.ones(2)), r"'energy' has the shape \[2\]"),
    "forces of two atoms": (
        lambda: entry(forces=torch.zeros(2, 3)), r"has the shape \[2, 3\], not \[3, 3\]"
    ),
    "tags a list": (lambda: entry(tags=[0, 0, 0]), "'tags' is of type list"),
    "one position": (lambda: entry(pos=torch.tensor(1.0)), r"'pos' has the shape \[\], not"),
    "a huge sid": (lambda: entry(sid=2**64), "not one whole number or text"),
    "two sids": (lambda: entry(sid=torch.tensor([1, 2])), "not one whole number or text"),
    "natoms text": (lambda: entry(natoms="3"), "'natoms' is of type str"),
    "relaxed partly": (
        lambda: entry(pos_relaxed=torch.rand(2, 3)), r"'pos_relaxed' has the shape \[2, 3\]"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_unfit_entries_are_refused(name, tmp_path):
    make, message = BAD[name]
    data = dataset(tmp_path, entry(), make())
    assert data[0].natoms == 3
    with pytest.raises(UserError, match=message) as error:
        data[1]
    assert str(tmp_path / "train") in str(error.value) and "entry 1" in str(error.value)


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


RELAXED = {"pos_relaxed": torch.rand(3, 3)}
UNLIKE = {
    "one lacks a key": (
        entry(**RELAXED),
        entry(),
        "lacks 'pos_relaxed', which the first entry has",
    ),
    "one has a key": (entry(), entry(**RELAXED), "has 'pos_relaxed', which the first entry lacks"),
    "sid is text": (entry(sid=1), entry(sid="a"), "'sid' is of type str, .* first entry a number"),
    "energy is a number": (
        entry(),
        entry(energy=-1.0),
        "'energy' is a number, .* first entry a te",
    ),
    "another width": (
        entry(stress=torch.zeros(1, 6)),
        entry(stress=torch.zeros(1, 9)),
        r"'stress' is a tensor of shape \[n, 9\], that of the first entry .* \[n, 6\]",
    ),
    "own key": (
        entry(x=torch.ones(3)),
        entry(x=[1]),
        r"'x' is of type list, .* a tensor of shape \[n\]",
    ),
}


@pytest.mark.parametrize("name", UNLIKE)
def test_entries_that_make_no_batch(name, tmp_path):
    first, other, message = UNLIKE[name]
    mixed = dataset(tmp_path, first, other)
    assert mixed[0].natoms == 3
    with pytest.raises(UserError, match=f"entry 1: {message}"):
        mixed[1]
