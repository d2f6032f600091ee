"""Files that would run code, on every road by which files come in: nothing is run."""

import io
import os
import pickle
import re
import shutil
import tarfile
from contextlib import suppress

import lmdb
import numpy as np
import pytest
import torch
import yaml
from ase.build import molecule
from conftest import ends, run_command, run_main, small_run, train
from fairchem.core import OCPCalculator
from fairchem.core.datasets import LmdbDataset
from fairchem.core.modules.evaluator import Evaluator

from ocp_physmol.data_only import loads
from ocp_physmol.datasets import oc20
from ocp_physmol.datasets.lmdb_dataset import PhysMolLmdbDataset
from ocp_physmol.errors import UserError
from ocp_physmol.trust import VARIABLE

ASKED = "give --trust"


class Hostile:
    """Makes the file `marker` when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mknod, (str(self.marker),)


@pytest.fixture
def marker(tmp_path):
    """The file that none of the hostile ones is to make."""
    path = tmp_path / "marker"
    yield path
    assert not path.exists()


@pytest.fixture
def hostile(tmp_path, marker):
    """A file of torch.save."""
    torch.save({"energy": Hostile(marker)}, tmp_path / "hostile.pt")
    return tmp_path / "hostile.pt"


@pytest.fixture
def arrays(tmp_path, marker):
    """A file of NumPy arrays, one of which holds an object."""
    content = np.array([Hostile(marker)] * 32, dtype=object)
    np.savez(tmp_path / "hostile.npz", natoms=content, coeff=content)
    return tmp_path / "hostile.npz"


@pytest.fixture
def data(tmp_path, qm9_folder):
    """A copy of the data, to be made hostile."""
    return shutil.copytree(qm9_folder, tmp_path / "data")


def put(folder, key: str, content) -> None:
    with lmdb.open(str(folder / "data.lmdb"), subdir=False) as env, env.begin(write=True) as txn:
        txn.put(key.encode(), pickle.dumps(content))


def refused(result, *named) -> None:
    """One sentence, which names the file and the cure."""
    assert result.returncode == 2 and "Traceback" not in result.stdout, result.stdout[-3000:]
    sentence = [line for line in result.stdout.splitlines() if line.startswith("error: ")][-1]
    assert all(str(name) in sentence for name in named), sentence


# ---- data


def test_entry(data, marker, tmp_path):
    put(data / "train", "3", Hostile(marker))
    result = train(data, tmp_path)
    refused(result, data / "train/data.lmdb", "entry 3 is refused: it asks for posix.mknod", ASKED)


@pytest.mark.parametrize("kind", [PhysMolLmdbDataset, LmdbDataset])
def test_entries_of_both_data_sets(kind, data, marker):
    put(data / "train", "0", Hostile(marker))
    with pytest.raises((UserError, pickle.UnpicklingError), match=ASKED):
        kind({"src": str(data / "train")})[0]
    put(data / "train", "length", Hostile(marker))
    with pytest.raises((UserError, pickle.UnpicklingError), match=ASKED):
        kind({"src": str(data / "train")})


def test_sizes(data, marker, arrays, tmp_path):
    shutil.copy(arrays, data / "train/metadata.npz")
    refused(train(data, tmp_path, "--optim.load_balancing=atoms"), data / "train", "metadata.npz")


def test_metadata_path_and_linear_reference(data, marker, arrays):
    named = {"src": str(data / "train"), "metadata_path": str(arrays)}
    with pytest.raises((UserError, ValueError), match="Object arrays cannot be loaded"):
        PhysMolLmdbDataset(named)._metadata  # noqa: B018
    with pytest.raises((UserError, ValueError), match="Object arrays cannot be loaded"):
        PhysMolLmdbDataset({"src": str(data / "train"), "lin_ref": str(arrays)})


def test_an_entry_that_changes_what_it_is_given():
    """A pickle can set attributes of a function, and so the defaults of all later calls."""
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n"
    defaults = b"(N(dX\x0c\x00\x00\x00__defaults__(}X\x03\x00\x00\x00neg\x88stsbtb"
    before = torch._utils._rebuild_tensor_v2.__defaults__
    with suppress(pickle.UnpicklingError):
        loads(b"\x80\x02" + rebuild + defaults + b"K\x01.")
    assert torch._utils._rebuild_tensor_v2.__defaults__ == before


# ---- models


@pytest.mark.parametrize("arguments", [["--mode=validate"], ["--mode=train"], ["--mode=predict"]])
def test_checkpoint_of_a_run(arguments, hostile, qm9_folder, tmp_path):
    result = run_main(
        *arguments, "--config-yml=configs/qm9/quickstart.yml", "--cpu", f"--run-dir={tmp_path}",
        f"--checkpoint={hostile}", *small_run(qm9_folder),
    )  # fmt: skip
    refused(result, hostile, "posix.mknod", ASKED)


@pytest.mark.parametrize("command", ["recover", "frequencies", "assemble", "stability"])
def test_checkpoint_of_a_command(command, hostile, qm9_folder, capsys):
    ends(2, command, "--checkpoint", hostile, "--data", qm9_folder / "test")
    error = capsys.readouterr().err
    assert str(hostile) in error and ASKED in error


def test_checkpoint_of_fairchems_calculator(hostile):
    with pytest.raises(UserError, match=ASKED):
        molecule("H2O").calc = OCPCalculator(checkpoint_path=str(hostile), cpu=True, seed=0)


@pytest.mark.parametrize("transform", ["normalizer", "element_references"])
def test_file_of_a_transform(transform, hostile, qm9_folder, tmp_path):
    key = f"--dataset.train.transforms.{transform}.file={hostile}"
    refused(train(qm9_folder, tmp_path, key), hostile, "posix.mknod", ASKED)


def test_scale_file(hostile, qm9_folder, tmp_path):
    result = run_main(
        "--mode=train", "--config-yml=configs/qm9/painn.yml", "--cpu", f"--run-dir={tmp_path}",
        f"--model.energy_model.scale_file={hostile}",
        *(f"--dataset.{split}.src={qm9_folder / split}" for split in ("train", "val", "test")),
    )  # fmt: skip
    refused(result, hostile, "posix.mknod", ASKED)


def test_trust_lets_it_run(tmp_path, qm9_folder):
    """The other side: what is trusted runs, also in what a command starts."""
    torch.save({"state_dict": Hostile(tmp_path / "made")}, tmp_path / "own.pt")
    checkpoint = ["--checkpoint", tmp_path / "own.pt"]
    result = run_command("--trust", "recover", *checkpoint, "--data", qm9_folder / "test")
    assert result.returncode and (tmp_path / "made").exists()


# ---- text


@pytest.mark.parametrize("option", ["--config-yml", "--sweep-yml"])
def test_yaml(option, marker, tmp_path):
    (tmp_path / "hostile.yml").write_text(f"model: !!python/object/apply:os.mknod ['{marker}']\n")
    options = {"--config-yml": "configs/qm9/quickstart.yml", option: tmp_path / "hostile.yml"}
    given = [f"{name}={value}" for name, value in options.items()]
    refused(run_main("--mode=train", "--cpu", *given), tmp_path / "hostile.yml", "python/object")


def test_experiment_and_include(marker, tmp_path, capsys):
    text = f"title: !!python/object/apply:os.mknod ['{marker}']\n"
    (tmp_path / "hostile.yml").write_text(text)
    ends(2, "experiments", tmp_path / "hostile.yml")
    assert "could not determine a constructor" in capsys.readouterr().err
    config = {"includes": [str(tmp_path / "hostile.yml")]}
    (tmp_path / "config.yml").write_text(yaml.safe_dump(config))
    result = run_main("--mode=train", "--cpu", f"--config-yml={tmp_path / 'config.yml'}")
    refused(result, "hostile.yml", "could not determine a constructor")


def test_expression_as_a_metric(marker, tmp_path, qm9_folder):
    """fairchem evaluates the names of metrics."""
    metric = f"__import__('os').mknod('{marker}')"
    with pytest.raises(KeyError, match="mknod"):
        Evaluator(eval_metrics={"energy": [metric]}).eval({}, {})
    key = f"--evaluation_metrics.metrics.energy=[{metric!r}]"
    refused(train(qm9_folder, tmp_path, key), "evaluation_metrics.metrics", "mknod")


def test_expression_as_a_transform(marker, qm9_folder, tmp_path):
    """fairchem evaluates the names of transforms."""
    text = f"__import__('os').mknod('{marker}')"
    config = {"src": str(qm9_folder / "train"), "transforms": {text: {}}}
    for kind in (PhysMolLmdbDataset, LmdbDataset):
        with pytest.raises((UserError, KeyError), match="mknod"):
            kind(config)[0]
    own = {"includes": ["configs/qm9/quickstart.yml"], "dataset": {"train": config}}
    (tmp_path / "config.yml").write_text(yaml.safe_dump(own))
    result = run_main("--mode=train", "--cpu", f"--config-yml={tmp_path / 'config.yml'}")
    refused(result, "dataset.train.transforms", "mknod")


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "..", "a/b", "x" * 300])
@pytest.mark.parametrize("option", ["--identifier", "--timestamp-id"])
def test_name_of_a_run(option, name, tmp_path):
    result = run_main(
        "--mode=train", "--config-yml=configs/qm9/quickstart.yml", "--cpu", option, name,
        f"--run-dir={tmp_path / 'runs'}",
    )  # fmt: skip
    refused(result, option, "cannot name a folder")
    assert not list(tmp_path.iterdir())


# ---- archives


@pytest.mark.parametrize("kind", ["path", "link", "absolute"])
def test_archive_stays_in_its_folder(kind, tmp_path, monkeypatch, capsys):
    """Also one that the user trusts, so that its checksum is not asked for."""
    (tmp_path / "data").mkdir()
    with tarfile.open(tmp_path / "data/s2ef_val_id.tar", "w") as tar:
        names = {"path": "../../marker", "absolute": f"{tmp_path}/marker", "link": "folder"}
        member = tarfile.TarInfo(names[kind])
        if kind == "link":
            member.type, member.linkname = tarfile.SYMTYPE, str(tmp_path)
            tar.addfile(member)
            member = tarfile.TarInfo("folder/marker")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"code"))
    monkeypatch.setenv(VARIABLE, "1")
    ends(2, "data", "oc20", "s2ef", "--split", "val_id", "--data-path", tmp_path / "data")
    assert "s2ef_val_id.tar could not be prepared" in capsys.readouterr().err
    assert not (tmp_path / "marker").exists()


def test_archive_is_the_published_one(tmp_path, monkeypatch, capsys):
    (tmp_path / "s2ef_val_id.tar").write_bytes(b"another archive")
    arguments = ["data", "oc20", "s2ef", "--split", "val_id", "--data-path", tmp_path]
    ends(2, *arguments)
    error = capsys.readouterr().err
    found = re.search(r"s2ef_val_id.tar is not the published archive \(its MD5 is (\w+)", error)
    assert found and ASKED in error
    monkeypatch.setitem(oc20.MD5, "val_id", found[1])
    ends(2, *arguments)
    assert "could not be prepared" in capsys.readouterr().err
