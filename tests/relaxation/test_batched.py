"""Relaxations with springs, whose minima are known."""

import numpy as np
import pytest
import torch
from ase.build import molecule
from conftest import to_data
from springs import Springs

from ocp_physmol.evaluation.deviations import deviations, mean_displacement
from ocp_physmol.relaxation.batched import OPTIMIZERS, Descent, placed, relax, relax_batch
from ocp_physmol.relaxation.predictor import Predictor, open_labelled


@pytest.fixture(scope="module")
def structures(qm9_folder):
    return list(open_labelled(qm9_folder / "test"))


def pushed(structures, noise: float = 0.1) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [s.pos.numpy() + rng.normal(scale=noise, size=s.pos.shape) for s in structures]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_finds_the_minimum(structures, optimizer):
    descent = Descent(optimizer, steps=300, fmax=1e-3)
    ends = relax(Springs(structures), structures, pushed(structures), descent, batch_size=4)
    for structure, end in zip(structures, ends):
        assert end.largest_force < 1e-3 and end.energy < 1e-4
        assert mean_displacement(end.positions, structure.pos.numpy()) < 0.03  # flat out of a plane


def test_the_batch_size_does_not_matter(structures):
    starts, descent = pushed(structures), Descent(steps=20)
    one = relax(Springs(structures), structures, starts, descent, batch_size=1)
    all_ = relax(Springs(structures), structures, starts, descent, batch_size=64)
    for a, b in zip(one, all_):
        np.testing.assert_allclose(a.positions, b.positions, atol=1e-4)


def test_structures_stay_as_they_are(structures):
    before = structures[0].pos.clone()
    relax(Springs(structures), structures, pushed(structures), Descent(steps=3))
    assert torch.equal(structures[0].pos, before)


def test_steps_are_as_long_as_is_said():
    """fairchem's L-BFGS cuts a step, and multiplies it then."""
    far = to_data(molecule("H2"))
    far.pos = torch.tensor([[0.0, 0, 0], [10, 0, 0]])
    starts, descent = [np.array([[0.0, 0, 0], [14, 0, 0]])], Descent(steps=1)
    (end,) = relax(Springs([far]), [far], starts, descent)
    moved = abs(np.ptp(end.positions[:, 0]) - 14) / 2
    assert moved == pytest.approx(0.12, rel=1e-3) and "of at most 0.12 Å" in str(descent)


def test_tiny_moves_count():
    """Moves below 1e-5 of the coordinates are moves, after which forces are others."""
    far = to_data(molecule("H2"))
    far.pos = torch.tensor([[0.0, 0, 0], [40, 0, 0]])
    starts, springs = [np.array([[0.0, 0, 0], [40.0001, 0, 0]])], Springs([far])
    assert relax(springs, [far], starts, Descent(steps=0))[0].largest_force > 5e-4
    (end,) = relax(springs, [far], starts, Descent(steps=50, fmax=1e-4))
    assert end.largest_force < 1e-4


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_explosion_does_not_hurt_the_others(structures, optimizer, value):
    starts, descent = pushed(structures), Descent(optimizer, fmax=1e-2)
    springs = Springs(structures, diseased=int(structures[1].sid), value=value)
    ends = relax(springs, structures, starts, descent)
    found = deviations(springs, structures, starts, ends, descent.fmax)
    others = [i for i in range(len(structures)) if i != 1]
    assert found["displacements"][1] == found["energy_changes_ev"][1] == np.inf
    assert not found["converged"][1] and found["broken"][1]
    assert all(found["converged"][i] and not found["broken"][i] for i in others)
    share = 1 / len(structures)
    for key in ("exploded_fraction", "drifted_fraction", "broken_fraction"):
        assert found[key] == pytest.approx(share)
    assert found["converged_fraction"] == pytest.approx(1 - share)
    assert found["delta_p_a"] == pytest.approx(np.mean([found["displacements"][i] for i in others]))
    assert found["median_delta_p_a"] < 0.1


def test_energies_are_the_models(trained, structures):
    predictor = Predictor.open(trained / "checkpoints/run/best_checkpoint.pt")
    energies = predictor.energies_and_forces(structures, batch_size=4)[0]
    there = [s.pos.numpy() for s in structures]
    for optimizer in OPTIMIZERS[:2]:
        ends = relax(predictor, structures, there, Descent(optimizer, steps=0), batch_size=4)
        np.testing.assert_allclose([end.energy for end in ends], energies, atol=1e-3)
    moved = placed(structures[0], structures[0].pos.numpy() * 1.1)
    assert abs(predictor.energies_and_forces([moved])[0][0] - energies[0]) > 1e-3


def test_frames_lead_from_the_start_to_the_end(structures):
    starts = pushed(structures)
    for optimizer in OPTIMIZERS[:2]:
        descent = Descent(optimizer, steps=5, fmax=1e-3)
        ends = relax(Springs(structures), structures, starts, descent)
        entries = [placed(s, start - start.mean(axis=0)) for s, start in zip(structures, starts)]
        found = relax_batch(Springs(structures), entries, descent)
        for entry, frames, end in zip(entries, found, ends):
            assert len(frames) == 6
            np.testing.assert_array_equal(frames[0].positions, entry.pos.numpy())
            np.testing.assert_array_equal(frames[-1].positions, end.positions)
            assert frames[-1].energy < frames[0].energy


def test_a_batch_at_its_minima_stays_where_it_is(structures):
    found = relax_batch(Springs(structures), structures, Descent(steps=3))
    for structure, frames in zip(structures, found):
        np.testing.assert_allclose(frames[-1].positions, structure.pos.numpy(), atol=1e-3)


def test_batches_that_do_not_fit_in_memory_are_halved(structures):
    class Small(Springs):
        def predict(self, batch):
            if len(batch.natoms) > 2:
                raise torch.cuda.OutOfMemoryError
            return super().predict(batch)

    starts, descent = pushed(structures), Descent(steps=20)
    halved = relax(Small(structures), structures, starts, descent)
    one = relax(Springs(structures), structures, starts, descent, batch_size=1)
    for a, b in zip(halved, one):
        np.testing.assert_allclose(a.positions, b.positions, atol=1e-4)
