"""Shared by all tests: real molecules and slabs, small models, a temporary QM9 data set."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ase.build import bulk, fcc111, molecule
from ase.data import atomic_numbers

import ocp_physmol  # noqa: F401  # before fairchem: registers, and stands in for torch_scatter
from fairchem.core.datasets import data_list_collater
from ocp_physmol.model.physmol import PhysMol
from torch_geometric.data import Data

REPOSITORY = Path(__file__).parents[1]
SAMPLE_CSV = REPOSITORY / "tests/data/qm9_sample.csv"
SAMPLE_ARCHIVE = REPOSITORY / "tests/data/dsgdb9nsd_sample.xyz.tar.bz2"

VARIANTS = {
    "atom": {"readout": "atom"},
    "atom, cls": {"readout": "atom", "use_cls": True},
    "cls": {"readout": "cls", "use_cls": True},
    "cls, adjacency": {"readout": "cls", "use_cls": True, "use_adjacency": True},
    "physics": {"readout": "physics"},
    "physics, cls": {"readout": "physics", "use_cls": True},
    "physics, adjacency": {"readout": "physics", "use_adjacency": True},
}


def small_model(seed: int = 0, cutoff: float = 4.0, **options) -> PhysMol:
    """A PhysMol in double precision whose weights are all random, also those that start at zero."""
    torch.manual_seed(seed)
    options = {"hidden_channels": 16, "num_layers": 2, "num_heads": 4, "num_rbf": 8, **options}
    model = PhysMol(cutoff=cutoff, **options).double().eval()
    for parameter in model.readout.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def to_data(atoms, sid: int = 0) -> Data:
    """An ASE structure in double precision; periodic if its cell is."""
    data = Data(
        pos=torch.tensor(atoms.positions),
        atomic_numbers=torch.tensor(atoms.numbers),
        natoms=len(atoms),
        tags=torch.zeros(len(atoms), dtype=torch.long),
        fixed=torch.zeros(len(atoms), dtype=torch.long),
        sid=sid,
    )
    data.cell = torch.tensor(atoms.cell.array)[None]
    data.pbc = torch.tensor(atoms.pbc)[None]
    return data


def to_batch(*structures):
    """A fairchem batch of ASE structures."""
    data = [to_data(atoms, sid) for sid, atoms in enumerate(structures)]
    return data_list_collater(data, otf_graph=True)


def water_like(name: str = "H2O"):
    return molecule(name)


def slab():
    """Cu(111) with a CO on it, in a skewed cell smaller than twice the cutoff, out of its symmetry."""
    atoms = fcc111("Cu", (2, 2, 2), vacuum=6.0)
    top = atoms.positions[-1] + [0.3, 0.2, 1.8]
    atoms += molecule("CO", positions=[top, top + [0.1, 0.0, 1.15]])
    atoms.rattle(0.1, seed=1)
    return atoms


def tiny_crystal():
    """Primitive aluminium: one atom whose only neighbours are images of itself."""
    return bulk("Al", "fcc", a=4.05)


@pytest.fixture(params=list(VARIANTS), ids=lambda name: name.replace(", ", "+"))
def variant(request) -> dict:
    """Options of the model: every readout, with every switch."""
    return VARIANTS[request.param]


@pytest.fixture
def structures() -> list:
    """A batch of mixed sizes, periodic and not, with a lone atom and one without neighbours."""
    far = molecule("H2")
    far.positions *= 20
    return [molecule("CH3CH2OH"), slab(), molecule("CH4")[:1], far, tiny_crystal()]


def numbers(*symbols: str) -> torch.Tensor:
    return torch.tensor([atomic_numbers[s] for s in symbols])
