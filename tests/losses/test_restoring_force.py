"""Pushed molecules: how far, in which directions, and the same in any batch."""

import pytest
import torch
from ase.build import molecule
from conftest import slab, to_batch

from ocp_physmol.errors import UserError
from ocp_physmol.losses import restoring_force
from ocp_physmol.losses.draws import structure_generators
from ocp_physmol.losses.restoring_force import SCALES, Push


def pushed(batch, noise=0.12, step=0, chosen=None):
    if chosen is None:
        chosen = [True] * len(batch.natoms)
    generators = structure_generators(batch, 0, step, "test")
    return Push(batch, torch.tensor(chosen), noise, generators)


def many(name="CH3CH2OH", count=200):
    batch = to_batch(*[molecule(name)] * count)
    batch.sid = list(range(count))
    return batch


@pytest.fixture
def never_cleft(monkeypatch):
    monkeypatch.setattr(restoring_force, "CLEFT", 0.0)


def test_sizes_are_between_the_smallest_and_the_largest(never_cleft):
    batch = many()
    shift = (pushed(batch).pos - batch.pos).view(200, -1)
    size = shift.square().mean(dim=1).sqrt()
    assert float(size.max()) <= 0.12 and float(size.max()) > 0.09
    assert 0.95 * 0.12 / SCALES < float(size.min()) < 0.02
    # log-uniform
    assert float(size.log().mean().exp()) == pytest.approx(0.12 / SCALES**0.5, rel=0.1)


def test_heat_pushes_soft_directions_further(never_cleft, monkeypatch):
    def stiffness(soft):
        monkeypatch.setattr(restoring_force, "SOFT", soft)
        batch = many("C2H6")
        push = pushed(batch)
        shift = push.network.padded(push.pos - batch.pos).flatten(1)
        energy = torch.einsum("bi,bij,bj->b", shift, push.network.hessian(), shift)
        return float((energy / shift.square().sum(dim=1)).mean())

    assert stiffness(soft=1.0) < 0.5 * stiffness(soft=0.0)


def test_cleft_molecules_are_two_rigid_parts(monkeypatch):
    monkeypatch.setattr(restoring_force, "CLEFT", 1.0)
    batch = many(count=50)
    push = pushed(batch)
    stretched = torch.cdist(push.pos.view(50, -1, 3), push.pos.view(50, -1, 3))
    change = (stretched - push.network.distance).abs()
    change.diagonal(dim1=1, dim2=2).zero_()
    together = (change < 1e-6).to(torch.float64)  # who stays at whose distance: two groups or one
    assert (torch.linalg.matrix_rank(together) <= 2).all()
    assert 0.4 < float(change.max()) <= restoring_force.APART + 1e-6


def test_some_molecules_are_cleft():
    batch = many()
    push = pushed(batch)
    farthest = (torch.cdist(*[push.pos.view(200, -1, 3)] * 2) - push.network.distance).amax((1, 2))
    assert 0.03 < float((farthest > 0.4).double().mean()) < 0.2


def test_target_is_the_network_s_force():
    batch = many(count=3)
    push = pushed(batch)
    _, forces = push.network.energy_and_forces(push.network.padded(push.pos))
    torch.testing.assert_close(push.weighed(forces[push.network.mask]), push.target)
    assert (push.weighed(torch.zeros_like(batch.pos)) == 0).all()


def test_small_pushes_weigh_less_than_large_ones_but_not_in_proportion(never_cleft):
    batch = many()
    push = pushed(batch)
    size = (push.pos - batch.pos).view(200, -1).square().mean(dim=1).sqrt().log()
    slope = torch.cov(torch.stack([size, push.target.norm(dim=1).log()]))[0, 1] / size.var()
    assert float(slope) == pytest.approx(0.5, abs=0.1)


def test_a_molecule_is_pushed_the_same_in_any_batch():
    together = to_batch(molecule("C6H6"), molecule("H2O"))
    alone = to_batch(molecule("H2O"))
    alone.sid = together.sid[1:]
    torch.testing.assert_close(pushed(together).pos[12:], pushed(alone).pos)
    assert not torch.allclose(pushed(alone, step=1).pos, pushed(alone).pos)


def test_only_the_structures_asked_for_are_pushed():
    batch = to_batch(molecule("C6H6"), molecule("H2O"))
    assert pushed(batch, chosen=[False, True]).pos.shape == (3, 3)
    push = pushed(batch, chosen=[False, False])
    assert push.pos.shape == (0, 3) and push.weighed(push.pos).shape == push.target.shape == (0, 0)


def test_an_atom_alone_has_nothing_to_be_pushed():
    batch = to_batch(molecule("H"))
    assert torch.isfinite(pushed(batch).target).all()


def test_fixed_atoms_are_refused():
    batch = to_batch(slab())
    batch.fixed[:4] = 1
    with pytest.raises(UserError, match="restoring_force is for free molecules"):
        pushed(batch)
