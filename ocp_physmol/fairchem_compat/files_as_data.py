"""fairchem unpickles whatever its files hold; with this package it reads data alone."""

import importlib
import types
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from fairchem.core.modules import evaluator, transforms

from ocp_physmol import data_only, trust

# modules of fairchem that open files of a user with torch.load, pickle.loads and np.load
WITH_TORCH = (
    "common.relaxation.ase_utils", "common.utils", "modules.normalization._load_utils",
    "modules.normalization.element_references", "modules.normalization.normalizer",
    "modules.scaling.compat", "trainers.base_trainer",
)  # fmt: skip
WITH_PICKLE = ("datasets.lmdb_dataset", "datasets.oc22_lmdb_dataset")
WITH_NUMPY = ("datasets.base_dataset",)


class _Torch(types.ModuleType):
    """torch, but what it loads is data."""

    load = staticmethod(data_only.load_tensors)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def install() -> None:
    """Replace, in these modules of fairchem, the functions that would run code in a file."""
    for module in (transforms, evaluator):  # which evaluate names that a config gives
        vars(module)["eval"] = vars(module).__getitem__
    arrays = {**vars(np), "load": _load_arrays}
    pickles = SimpleNamespace(loads=data_only.loads, load=lambda file: data_only.loads(file.read()))
    for names, attribute, stand_in in (
        (WITH_TORCH, "torch", _Torch("torch")),
        (WITH_PICKLE, "pickle", pickles),
        (WITH_NUMPY, "np", SimpleNamespace(**arrays)),
    ):
        for name in names:
            setattr(importlib.import_module(f"fairchem.core.{name}"), attribute, stand_in)


def _load_arrays(path: str, **_options: Any) -> Any:
    return np.load(path, allow_pickle=trust.trusted())
