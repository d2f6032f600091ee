"""GFN2-xTB under the network: the sum is what it says, and nothing is computed twice."""

import numpy as np
import pytest
import torch
from ase.build import molecule
from conftest import small_model, to_batch
from scipy.spatial.transform import Rotation

from ocp_physmol.calculators.pool import CalculatorPool, Source
from ocp_physmol.model import prior
from ocp_physmol.model.copies import Copy

NAMES = ("CH3CH2OH", "H2O", "CH4")
MODEL = {"readout": "atom", "vector_channels": 4}


@pytest.fixture(scope="module")
def model():
    return small_model(prior="gfn2", **MODEL)


@pytest.fixture(scope="module")
def network():
    return small_model(**MODEL)


@pytest.fixture(scope="module")
def gfn2():
    def evaluate(batch):
        sizes = batch.natoms.tolist()
        given = [
            {"numbers": z.numpy(), "positions": x.double().numpy()}
            for z, x in zip(batch.atomic_numbers.split(sizes), batch.pos.split(sizes))
        ]
        energies, forces = zip(*pool.evaluate(given))
        return torch.tensor(energies), torch.from_numpy(np.concatenate(forces))

    with CalculatorPool(Source.named("gfn2"), 1) as pool:
        yield evaluate


def rattled(seed=0):
    batch = to_batch(*map(molecule, NAMES))
    generator = torch.Generator().manual_seed(seed)
    batch.pos += 0.05 * torch.randn(batch.pos.shape, generator=generator, dtype=batch.pos.dtype)
    return batch


def with_stored(batch, energy, forces):
    batch.gfn2_pos, batch.gfn2_energy, batch.gfn2_forces = batch.pos.clone(), energy, forces
    return batch


def no_pool(name):
    raise AssertionError("computed")


def test_energies_and_forces_are_the_sums(model, network, gfn2):
    batch = rattled()
    found, learned, (energy, forces) = model(batch), network(batch), gfn2(batch)
    torch.testing.assert_close(found["energy"], learned["energy"] + energy)
    torch.testing.assert_close(found["forces"], learned["forces"] + forces)


def test_what_is_stored_is_not_computed(model, network, monkeypatch):
    batch = rattled()
    energy, forces = torch.tensor([1.0, 2.0, 3.0]).double(), torch.ones_like(batch.pos)
    with_stored(batch, energy, forces)
    monkeypatch.setattr(prior, "_pool", no_pool)
    found, learned = model(batch), network(batch)
    torch.testing.assert_close(found["energy"], learned["energy"] + energy)
    torch.testing.assert_close(found["forces"], learned["forces"] + forces)


def test_what_is_stored_is_not_used_elsewhere(model, gfn2):
    batch = with_stored(rattled(), torch.zeros(3), torch.zeros(17, 3))
    expected = model(rattled(seed=1))
    batch.pos = rattled(seed=1).pos
    torch.testing.assert_close(model(batch)["energy"], expected["energy"])
    batch.gfn2_pos = batch.gfn2_pos[:9]
    torch.testing.assert_close(model(batch)["forces"], expected["forces"])


def test_copies_have_priors_of_their_own(model, network, monkeypatch):
    monkeypatch.setattr(prior, "_pool", no_pool)
    batch = with_stored(rattled(), torch.zeros(3), torch.zeros(17, 3))
    chosen = torch.tensor([True, False, True])
    pos = rattled(seed=1).pos[chosen[batch.batch]]
    forces = torch.full_like(pos, 2.0)
    stored = {"gfn2_pos": pos, "gfn2_energy": torch.tensor([5.0, 6.0]), "gfn2_forces": forces}
    pushed = Copy("pushed", ("forces",), pos, chosen, stored=stored)
    found = model(batch, copies=[pushed])["pushed"]
    learned = network(batch, copies=[Copy("pushed", ("forces",), pos, chosen)])["pushed"]
    torch.testing.assert_close(found["forces"], learned["forces"] + 2)
    expected = learned["energy"] + torch.tensor([5.0, 6.0]).double()
    torch.testing.assert_close(found["energy"], expected)


def test_forces_are_the_derivative(model):
    batch = rattled()
    batch.pos.requires_grad_()
    energy = model(batch, outputs=("energy",))["energy"]
    (gradient,) = torch.autograd.grad(energy.sum(), batch.pos)
    batch.pos = batch.pos.detach()
    torch.testing.assert_close(model(batch)["forces"], -gradient, rtol=0, atol=1e-4)
    step = 1e-3
    for atom, axis in ((0, 1), (10, 0), (14, 2)):
        energies = []
        for sign in (1, -1):
            moved = rattled()
            moved.pos[atom, axis] += sign * step
            energies.append(float(model(moved, outputs=("energy",))["energy"].sum()))
        slope = (energies[0] - energies[1]) / (2 * step)
        assert float(gradient[atom, axis]) == pytest.approx(slope, abs=2e-3)


def test_second_derivatives_are_refused(model):
    """The prior's are not known, so that they would be those of the network alone."""
    batch = rattled()
    batch.pos.requires_grad_()
    energy = model(batch, outputs=("energy",))["energy"]
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(energy.sum(), batch.pos, create_graph=True)
    forces = model(batch)["forces"]
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(forces.sum(), batch.pos)


def test_turning_a_molecule_turns_its_forces(model):
    turn = torch.from_numpy(Rotation.random(random_state=0).as_matrix())
    batch = rattled()
    expected = model(batch)
    batch.pos = batch.pos @ turn.T
    found = model(batch)
    torch.testing.assert_close(found["energy"], expected["energy"], rtol=0, atol=1e-5)
    torch.testing.assert_close(found["forces"], expected["forces"] @ turn.T, rtol=0, atol=1e-3)


def test_nothing_is_computed_in_training(monkeypatch):
    monkeypatch.setattr(prior, "_pool", no_pool)
    model = small_model(prior="gfn2", **MODEL).train()
    with pytest.raises(ValueError, match=r"the data hold no gfn2 .* ocp-physmol data curvature"):
        model(rattled())


def test_molecules_that_are_refused_are_nan_and_the_others_as_ever(model, caplog):
    batch = rattled()
    expected = model(batch)
    batch.pos[10] = batch.pos[9]  # of water
    found = model(batch)
    assert found["energy"].isnan().tolist() == [False, True, False]
    torch.testing.assert_close(found["forces"][:9], expected["forces"][:9])
    model(batch)
    assert caplog.text.count("gfn2 refuses a molecule of 3 atoms: Too close") == 1


def test_molecules_that_have_flown_apart_are_nan_alone(network, caplog):
    """In a vacuum that was large enough before: neighbours of the network, not of the prior."""
    model = small_model(prior="gfn2", **MODEL)
    boxed = [molecule(name, vacuum=4.0, pbc=True) for name in ("H2O", "CH4")]
    expected = model(to_batch(*boxed))
    boxed[0].positions[0] += [0, 0, 5.0]  # nearer to an image
    found = model(to_batch(*boxed))
    assert found["energy"].isnan().tolist() == [True, False]
    torch.testing.assert_close(found["energy"][1], expected["energy"][1])
    assert found["forces"][:3].isnan().all() and found["forces"][3:].isfinite().all()
    assert "gfn2 refuses a molecule of 3 atoms: larger than its cell" in caplog.text


def test_periodic_structures_are_refused():
    model = small_model(prior="gfn2", **MODEL)
    crowded = molecule("CH4", cell=[3, 3, 3], pbc=True)
    with pytest.raises(ValueError, match="for free molecules"):
        model(to_batch(crowded))
