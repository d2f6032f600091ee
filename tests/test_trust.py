"""Pickles give data and nothing else, unless the user trusts them."""

import os
import pickle
import re
import tarfile
from pathlib import Path

import fairchem.core
import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from numpy.core.multiarray import _reconstruct
from numpy.core.numeric import _frombuffer
from torch_geometric.data import Data

from ocp_physmol import data_only, trust
from ocp_physmol.errors import UserError
from ocp_physmol.fairchem_compat.files_as_data import WITH_NUMPY, WITH_PICKLE, WITH_TORCH


class Hostile:
    """Calls `function` when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_structures_are_data(protocol):
    structure = Data(
        pos=torch.rand(3, 3), atomic_numbers=torch.tensor([8, 1, 1]), natoms=3, sid=np.int64(7),
        fid="frame1", pbc=torch.tensor([True, False, True]), cell=np.eye(3), y=np.float32(-1.5),
        half=torch.ones(2, dtype=torch.bfloat16), size=torch.Size([3]), kind=torch.float64,
        weight=torch.nn.Parameter(torch.ones(2)), groups={1, 2}, edge_attr=None,
    )  # fmt: skip
    read = data_only.loads(pickle.dumps(structure, protocol))
    assert read.keys() == structure.keys()
    for key, value in structure.to_dict().items():
        filled = [data_only._Array] if type(value) is np.ndarray else []
        assert type(read[key]) in [type(value), *filled]
        same = read[key] == value
        assert same.all() if isinstance(value, torch.Tensor | np.ndarray) else same, key


@pytest.mark.parametrize(
    ("hostile", "named"),
    [
        (Hostile(os.system, "touch marker"), "posix.system"),
        (Hostile(eval, "open('marker', 'w')"), "builtins.eval"),
        (Hostile(getattr, os, "system"), "of <module 'os'|posix"),
        (Hostile(getattr, torch._C._VariableFunctionsClass, "from_file"), "attribute from_file"),
        (Hostile(torch.load, "file.pt"), "torch.serialization.load"),
        (Hostile(np.load, "file.npy", None, True), "numpy.load"),
        (Hostile(np.memmap, "marker", float, "w+", 0, (3,)), "numpy.memmap"),
        (torch.nn.Linear(1, 1), "Linear"),
        ({"deep": [Data(pos=Hostile(os.remove, "x"))]}, "posix.remove"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_data_is_refused_by_name(hostile, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        try:
            content = pickle.dumps(hostile, protocol)
        except TypeError:  # os, a module, is never pickled
            continue
        with pytest.raises(data_only.Refused, match=named):
            data_only.loads(content)
    assert not list(tmp_path.iterdir())


def test_a_pickle_in_a_tensors_storage(tmp_path, monkeypatch):
    """torch keeps the storage of a pickled tensor as a file of torch.save, which is a pickle."""
    monkeypatch.chdir(tmp_path)
    torch.save(Hostile(os.system, "touch marker"), tmp_path / "inner.pt")
    inner = (tmp_path / "inner.pt").read_bytes()
    with pytest.raises(pickle.UnpicklingError):
        data_only.loads(pickle.dumps(Hostile(torch.storage._load_from_bytes, inner)))
    assert not (tmp_path / "marker").exists()


class Stated:
    """Calls a function, and then sets a state, when it is unpickled."""

    def __init__(self, function, *arguments, state):
        self.call = function, arguments, state

    def __reduce__(self):
        return self.call


PLAIN = np.dtype("f8")
NO_NUMBERS = {
    "an object field": Hostile(
        _frombuffer, b"A" * 8,
        Stated(np.dtype, "V8", state=(3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0)),
        (1,), "C",
    ),
    "a false size": Hostile(
        np.ndarray, (1,), Stated(np.dtype, "f8", state=(3, "<", (PLAIN, (1000,)), None, None, -1,
                                                        -1, 0)), b"A" * 8,
    ),
    "fields": Hostile(np.dtype, "f8,O"),
    "objects": np.array([1, "x"], dtype=object),
    "memory that is not set": Hostile(np.ndarray, (1 << 40,)),
    "too few bytes": Stated(_reconstruct, np.ndarray, (0,), b"b",
                            state=(1, (1 << 40,), PLAIN, False, b"A" * 8)),
    "a negative size": Stated(_reconstruct, np.ndarray, (0,), b"b",
                              state=(1, (-1, -1), PLAIN, False, b"A" * 8)),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_NUMBERS)
def test_arrays_are_numbers(name):
    """NumPy believes what a pickled dtype says, and would read and write anywhere."""
    with pytest.raises(pickle.UnpicklingError):
        data_only.loads(pickle.dumps({"deep": NO_NUMBERS[name]}))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_stay_what_they_are(protocol):
    arrays = [np.arange(6).reshape(2, 3), np.ones((2, 2), ">f4"), np.array(["a", "bc"]),
              np.asfortranarray(np.eye(2)[:, ::-1]), np.zeros((0, 3)), np.array(1.5)]  # fmt: skip
    read = data_only.loads(pickle.dumps(arrays, protocol))
    again = pickle.loads(pickle.dumps(read))  # as from a data loader's process
    for array, other in zip([*arrays, *arrays], [*read, *again]):
        assert other.dtype.newbyteorder("=") == array.dtype.newbyteorder("=")
        assert np.array_equal(other, array)
    assert all(type(array) is np.ndarray for array in again)


def test_an_archive_of_an_old_torch(tmp_path):
    """torch unpacks such a file and follows its links, whatever `weights_only` says."""
    with tarfile.open(tmp_path / "old.pt", "w") as tar:
        link = tarfile.TarInfo("storages")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "outside")
        tar.addfile(link)
    with pytest.raises(UserError, match=r"old.pt is refused: it is a tar archive.* give --trust"):
        data_only.load_tensors(tmp_path / "old.pt")
    inner = Hostile(torch.storage._load_from_bytes, (tmp_path / "old.pt").read_bytes())
    with pytest.raises(data_only.Refused, match="it is a tar archive"):
        data_only.loads(pickle.dumps(inner))


@pytest.mark.parametrize("content", [b"", b"\x80\x04", b"garbage", b"(" * 100000 + b"."])
def test_damage_is_one_kind_of_error(content):
    with pytest.raises(pickle.UnpicklingError):
        data_only.loads(content) if content else data_only.loads(b"\x80")


@pytest.mark.parametrize(
    "content", [b"", b"hello\n", b"\x80\x02K\x01", b"PK\x03\x04", bytes(100), bytes(20480)]
)
def test_damaged_files_are_refused(content, tmp_path):
    (tmp_path / "file.pt").write_bytes(content)
    with pytest.raises(
        UserError, match=r"weights .*file\.pt cannot be read .*; use an undamaged one"
    ):
        data_only.load_tensors(tmp_path / "file.pt", kind="weights")


def test_a_user_may_trust(tmp_path, monkeypatch):
    monkeypatch.setenv(trust.VARIABLE, "1")
    content = Hostile(os.path.join, "a", "b")
    torch.save(content, tmp_path / "file.pt")
    assert (
        data_only.loads(pickle.dumps(content))
        == data_only.load_tensors(tmp_path / "file.pt")
        == "a/b"
    )
    monkeypatch.setenv(trust.VARIABLE, "0")
    with pytest.raises(UserError, match=r"asks for posixpath.join, .* give --trust"):
        data_only.load_tensors(tmp_path / "file.pt")


# ---- that there is no other way in

WAYS = (
    r"pickle\.loads?\(|torch\.load\(|allow_pickle=True|(?<![.\w])(?:eval|exec)\("
    r"|yaml\.(?:unsafe|full)_load|yaml\.load\((?!.*Loader=UniqueKeyLoader)"
)
# the only file of the package that unpickles, and one that reads annotations of classes
OPENED = {"data_only.py", "run/signatures.py"}
# of fairchem: what it reads of its own package, of a job that this user submitted, the names of its
# tasks, and scripts that this package does not call
OF_THE_HOST = {
    "common/slurm.py", "models/equiformer_v2/wigner.py", "models/escn/escn_exportable.py",
    "models/escn/so3.py", "models/esen/esen.py", "models/esen/esen_dens.py",
    "models/scn/spherical_harmonics.py", "models/equiformer_v2/eqv2_to_eqv2_hydra.py",
    "scripts/make_submission_file.py", "scripts/make_challenge_submission_file.py",
    "scripts/convert_hydra_to_release.py", "scripts/preprocess_relaxed.py",
    "trainers/ocp_trainer.py",
}  # fmt: skip


def unpicklers(root: Path) -> set[str]:
    """The modules below `root` that can run code of a file."""
    return {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if re.search(WAYS, path.read_text())
    }


def test_no_other_module_unpickles():
    assert unpicklers(REPOSITORY / "ocp_physmol") == OPENED
    modules = (*WITH_TORCH, *WITH_PICKLE, *WITH_NUMPY, "modules.transforms", "modules.evaluator")
    replaced = {f"{name.replace('.', '/')}.py" for name in modules}
    assert unpicklers(Path(fairchem.core.__file__).parent) == OF_THE_HOST | replaced
