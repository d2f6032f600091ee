"""Importing any module of the package leaves a notebook as it was, but files are data."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import REPOSITORY

# What a fresh process runs: a look at its state, all imports, another look.
PROBE = """
import importlib, logging, os, pkgutil, random, signal, sys, warnings

import ocp_physmol.scatter_fallback  # the one thing that is meant to stay
from fairchem.core.common.utils import setup_imports
setup_imports()
import ase.calculators.emt, ase.db, ase.io, ase.optimize, matplotlib, numba, numpy, torch
import pymatgen.core, rdkit.Chem.rdDetermineBonds, submitit, torch.distributed.launcher.api

def state():
    root = logging.getLogger()
    return {
        **{f"matplotlib's {k}": matplotlib.rcParams._get(k) for k in matplotlib.rcParams},
        "logging": (root.level, list(root.handlers), list(root.filters), root.manager.disable),
        "warnings": list(warnings.filters),
        "arguments": list(sys.argv),
        "path": list(sys.path),
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "signals": {s: signal.getsignal(s) for s in signal.valid_signals()},
        "hooks": (sys.excepthook, sys.displayhook, os.system, sys.stdout, sys.stderr),
        "torch": (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()),
        "random numbers": (random.getstate(), str(numpy.random.get_state()), torch.initial_seed()),
        "numpy": (numpy.geterr(), numpy.get_printoptions()),
    }

def attributes():
    found = {}
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "fairchem":
            for key, value in list(vars(module).items()):
                found[name, key] = value
                if isinstance(value, type) and value.__module__ == name:
                    found.update({(name, key, k): v for k, v in vars(value).items()})
    return found

before, known = state(), attributes()
for module in pkgutil.walk_packages(ocp_physmol.__path__, "ocp_physmol."):
    importlib.import_module(module.name)
after, now = state(), attributes()
for what, value in before.items():
    if isinstance(value, list):
        value, after[what] = ([x for x in a if x not in b] for a, b in
                              ((value, after[what]), (after[what], value)))
    if after[what] != value:
        print(f"{what}: {value} became {after[what]}")
from ocp_physmol.fairchem_compat import files_as_data as own  # the other thing that is meant
readers = {"torch": own.WITH_TORCH, "pickle": own.WITH_PICKLE, "np": own.WITH_NUMPY}
meant = {(f"fairchem.core.{name}", key) for key, names in readers.items() for name in names}
for place, value in known.items():
    if now.get(place) is not value and not place[-1].startswith(("__", "_abc_")):
        if place not in meant:
            print("fairchem has changed:", *place)
    elif place in meant:
        print("fairchem still reads files as code:", *place)
"""


@pytest.mark.slow
def test_every_module_can_be_imported_in_a_notebook():
    assert output_of(PROBE) == ""


def test_the_calculator_needs_neither_fairchem_nor_torch():
    code = "import sys; from ocp_physmol import PhysMolCalculator; print(*sys.modules)"
    imported = {name.split(".")[0] for name in output_of(code).split()}
    assert not imported & {"fairchem", "torch", "torch_geometric", "matplotlib", "pandas"}


@pytest.mark.slow
def test_a_name_of_fairchems_registry_registers_everything():
    code = """
import ocp_physmol
ocp_physmol.PhysMol
from fairchem.core.common.registry import registry
print(registry.get_trainer_class("physmol").__name__, registry.get_loss_class("bound").__name__)
"""
    assert output_of(code).split() == ["PhysMolTrainer", "Bound"]


@pytest.mark.slow
def test_data_are_data_without_the_plugin_too(qm9_folder, tmp_path):
    """fairchem itself would unpickle metadata.npz."""
    shutil.copytree(qm9_folder / "val", tmp_path / "data")
    np.savez(tmp_path / "data/metadata.npz", natoms=np.array([print], dtype=object))
    code = f"""
from ocp_physmol.datasets.lmdb_dataset import PhysMolLmdbDataset
try:
    PhysMolLmdbDataset({{"src": {str(tmp_path / "data")!r}}})._metadata
except ValueError as e:
    print(e)
"""
    assert "metadata.npz cannot be read" in output_of(code)


def test_packages_make_fairchem_importable_before_they_import_it():
    """fairchem needs torch_scatter, whose stand-in must be there first."""
    for file in sorted((REPOSITORY / "ocp_physmol").rglob("*.py")):
        text = file.read_text()
        if "\nfrom fairchem" in text or "\nimport fairchem" in text:
            first = text.split("fairchem.")[0] + (file.parent / "__init__.py").read_text()
            assert "import ocp_physmol.scatter_fallback" in first, file


def output_of(code: str) -> str:
    """What a fresh process prints that runs this code."""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120,
        cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout
