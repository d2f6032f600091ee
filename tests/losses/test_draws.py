"""Displaced and masked structures: what is drawn, and that it does not depend on the batch."""

import pytest
import torch
from ase.build import molecule
from conftest import slab, to_batch

from ocp_physmol.losses.draws import displaced_positions, structure_generators
from ocp_physmol.losses.equilibrium import at_equilibrium
from ocp_physmol.losses.masked_atoms import draw_masked


def batch_with_fixed_atoms():
    batch = to_batch(slab(), molecule("CH3CH2OH"), molecule("H2O"))
    batch.fixed[:4] = 1
    return batch


def displaced(batch, noise, generators):
    """Positions of all structures, displaced."""
    return displaced_positions(batch, torch.ones(len(batch.natoms), dtype=bool), noise, generators)


def generators(batch, step=0, seed=0):
    return structure_generators(batch, seed, step, "test")


def test_only_free_atoms_are_displaced():
    batch = batch_with_fixed_atoms()
    moved = displaced(batch, 0.5, generators(batch)) - batch.pos
    assert (moved[:4] == 0).all() and (moved[4:] != 0).all()


def test_only_the_structures_asked_for_are_displaced():
    batch = batch_with_fixed_atoms()
    every = displaced(batch, 0.5, generators(batch))
    second, none = torch.tensor([False, True, False]), torch.zeros(3, dtype=torch.bool)
    moved = displaced_positions(batch, second, 0.5, generators(batch))
    assert torch.equal(moved, every[batch.batch == 1])
    assert displaced_positions(batch, none, 0.5, generators(batch)).shape == (0, 3)


def test_noise_has_the_width_asked_for():
    batch = to_batch(*[molecule("C60")] * 20)
    batch.sid = list(range(20))
    moved = displaced(batch, 0.5, generators(batch)) - batch.pos
    assert float(moved.std()) == pytest.approx(0.5, rel=0.05)


def test_about_the_ratio_and_at_least_one_atom_a_structure_is_masked():
    batch = to_batch(*[molecule("C60")] * 20)
    batch.sid = list(range(20))
    share = draw_masked(batch, 0.3, generators(batch)).double().mean()
    assert float(share) == pytest.approx(0.3, abs=0.05)
    masked = draw_masked(batch, 0.0, generators(batch))
    assert (torch.stack([m.sum() for m in masked.split(60)]) == 1).all()


def test_a_structure_draws_the_same_in_any_batch():
    together = to_batch(molecule("H2O"), molecule("CH4"))
    alone = to_batch(molecule("CH4"))
    alone.sid = together.sid[1:]
    for draw in (
        lambda b: displaced(b, 0.5, generators(b)) - b.pos,
        lambda b: draw_masked(b, 0.5, generators(b)),
    ):
        assert torch.equal(draw(together)[3:], draw(alone))


def test_seed_step_and_structure_each_change_the_draw():
    batch = to_batch(molecule("H2O"), molecule("H2O"))

    def draw(**at):
        return displaced(batch, 0.5, generators(batch, **at)) - batch.pos

    first = draw()
    assert torch.equal(first, draw())
    assert not torch.equal(first, draw(step=1)) and not torch.equal(first, draw(seed=1))
    assert not torch.equal(first[:3], first[3:])


def test_identifiers_may_be_text():
    batch = to_batch(molecule("H2O"))
    batch.sid = ["random1234"]
    assert len(generators(batch)) == 1


def test_equilibrium_looks_at_free_atoms_only():
    batch = batch_with_fixed_atoms()
    batch.forces = torch.zeros_like(batch.pos)
    batch.forces[0] = 1.0  # fixed
    batch.forces[-1, 0] = 0.06  # the last structure
    assert at_equilibrium(batch).tolist() == [True, True, False]
