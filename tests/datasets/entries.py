"""A small structure, and data sets of such."""

import torch
from ase.build import molecule
from conftest import to_data

from ocp_physmol.datasets.lmdb_dataset import PhysMolLmdbDataset
from ocp_physmol.datasets.lmdb_writer import write_lmdb


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
