"""Where molecules are pushed: how far, in which directions, and the same in any batch."""

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from conftest import slab, to_batch, to_data

from ocp_physmol.pushes import draw
from ocp_physmol.pushes.draw import SCALES, obstacle, pushed_positions, size
from ocp_physmol.pushes.elastic_network import ElasticNetwork


def network(name="CH3CH2OH", count=200):
    batch = to_batch(*[molecule(name)] * count)
    return ElasticNetwork(batch.pos, batch.atomic_numbers, batch.natoms)


def pushes(springs, seed=0):
    """Displacements of each molecule of the network."""
    count = len(springs.minimum)
    generators = [np.random.default_rng([seed, k]) for k in range(count)]
    return pushed_positions(springs, 0.12, generators) - springs.minimum


@pytest.fixture
def never_cleft(monkeypatch):
    monkeypatch.setattr(draw, "CLEFT", 0.0)


def test_sizes_are_between_the_smallest_and_the_largest(never_cleft):
    springs = network()
    sizes = size(springs, pushes(springs))
    assert float(sizes.max()) <= 0.12 and float(sizes.max()) > 0.09
    assert 0.95 * 0.12 / SCALES < float(sizes.min()) < 0.02
    # log-uniform
    assert float(sizes.log().mean().exp()) == pytest.approx(0.12 / SCALES**0.5, rel=0.1)


def test_heat_pushes_soft_directions_further(never_cleft, monkeypatch):
    def stiffness(soft):
        monkeypatch.setattr(draw, "SOFT", soft)
        springs = network("C2H6")
        shift = pushes(springs).flatten(1)
        energy = torch.einsum("bi,bij,bj->b", shift, springs.hessian(), shift)
        return float((energy / shift.square().sum(dim=1)).mean())

    assert stiffness(soft=1.0) < 0.5 * stiffness(soft=0.0)


def test_cleft_molecules_are_two_rigid_parts(monkeypatch):
    monkeypatch.setattr(draw, "CLEFT", 1.0)
    springs = network(count=50)
    pos = springs.minimum + pushes(springs)
    change = (torch.cdist(pos, pos) - springs.distance).abs()
    change.diagonal(dim1=1, dim2=2).zero_()
    together = (change < 1e-6).to(torch.float64)  # who stays at whose distance: two groups or one
    assert (torch.linalg.matrix_rank(together) <= 2).all()
    assert 0.4 < float(change.max()) <= draw.APART + 1e-6


def test_a_plane_through_the_last_atom():
    """A number below 1 is 1 in float32 if it is near enough."""
    springs, up = network(count=1), torch.tensor([[0.0, 0.0, 1.0]]).double()
    push = draw._parting(springs, up, torch.ones(1, 1, 1), 1.0)
    assert push.shape == springs.minimum.shape


def test_some_molecules_are_cleft():
    springs = network()
    pos = springs.minimum + pushes(springs)
    farthest = (torch.cdist(pos, pos) - springs.distance).amax((1, 2))
    assert 0.03 < float((farthest > 0.4).double().mean()) < 0.2


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"pos_relaxed": torch.zeros(9, 3)}, "pos_relaxed"),
        ({"fixed": torch.eye(9)[0].long()}, "fixed atoms"),
    ],
)
def test_what_is_not_free_is_named(change, named):
    entry = to_data(molecule("CH3CH2OH"))
    assert obstacle(entry) is None
    for key, value in change.items():
        entry[key] = value
    assert named in obstacle(entry)


def test_bonds_across_the_cell_are_named():
    assert "boundaries of the cell" in obstacle(to_data(slab()))
    assert "boundaries of the cell" in obstacle(to_data(bulk("Al", "fcc", a=4.05)))
    alone = molecule("CH3CH2OH", vacuum=8.0, pbc=True)
    assert obstacle(to_data(alone)) is None
