"""The network in numpy against the one that is trained, and its derivative against differences."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from conftest import slab, small_model, tiny_crystal, to_batch

from ocp_physmol.potential.edges import find_pairs
from ocp_physmol.potential.export import weights_of
from ocp_physmol.potential.potential import Potential
from ocp_physmol.potential.weights import Card, Options, Trained

ELEMENTS = ("H", "C", "N", "O", "Al", "Cu")
OPTIONS = {"readout": "atom", "num_rbf": 25}
KINDS = {
    "scalars": OPTIONS,
    "vectors": {**OPTIONS, "vector_channels": 4},
    "vectors, repulsion": {**OPTIONS, "vector_channels": 4, "repulsion": True},
}


@pytest.fixture(params=list(KINDS), ids=lambda name: name.replace(", ", "+"))
def model(request):
    return small_model(**KINDS[request.param])


def in_numpy(model, dtype="float64", shift=0.0, scale=1.0) -> Potential:
    card = Card(
        format="ocp-physmol 1",
        model=Options(**model.config.model_dump()),
        references=dict.fromkeys(ELEMENTS, 0.0),
        shift=shift,
        scale=scale,
        sha256="",
        training={},
    )
    return Potential(Trained(card, weights_of(model)), dtype)


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("count", [2, 600])
def test_a_cell_that_is_flat(count, periodic):
    """It is refused where it is a period, and does not matter elsewhere."""
    positions = np.random.default_rng(0).uniform(0, 20, (count, 3))
    flat = [[9.0, 0, 0], [18.0, 0, 0], [0, 0, 9.0]]
    atoms = Atoms("H" * count, positions, cell=flat, pbc=periodic)
    potential = in_numpy(small_model(**OPTIONS))
    if periodic:
        assert potential.unfit(atoms) == "its cell is flat"
        return
    assert potential.unfit(atoms) is None
    ((energy, _),) = potential.evaluate([atoms])
    ((expected, _),) = potential.evaluate([Atoms("H" * count, positions)])
    assert energy == pytest.approx(expected)


def rattled(name: str, distance: float = 0.1) -> Atoms:
    atoms = molecule(name)
    atoms.rattle(distance, seed=2)
    return atoms


def compressed(name: str) -> Atoms:
    atoms = rattled(name)
    atoms.positions *= 0.6
    return atoms


def periodic(cell) -> Atoms:
    atoms = rattled("CH3CH2OH")
    atoms.set_cell(cell)
    atoms.pbc = True
    return atoms


STRUCTURES = {
    "molecules": [rattled("CH3CH2OH"), rattled("C6H6"), Atoms("H"), rattled("HCN")],
    "compressed": [compressed("CH3CH2OH"), compressed("N2")],
    "slab": [slab(), rattled("H2O")],
    "crystal": [tiny_crystal()],
    "periods": [periodic([0, 0, 0]), periodic([6, 0, 0]), periodic([6, 7, 8])],
    "far apart": [Atoms("CO", [[0, 0, 0], [0, 0, 30]])],
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_same_as_the_trained_model(name, model):
    structures = STRUCTURES[name]
    answers = in_numpy(model).evaluate(structures)
    out = model(to_batch(*structures))
    energies, forces = (np.concatenate([np.atleast_1d(a[k]) for a in answers]) for k in (0, 1))
    np.testing.assert_allclose(energies, out["energy"].detach(), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(forces, out["forces"].detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["molecules", "compressed", "slab"])
def test_forces_are_the_derivative(name, model):
    potential = in_numpy(model)
    (atoms, *_), step = STRUCTURES[name], 1e-4
    ((_, forces),) = potential.evaluate([atoms])
    for index in ((0, 0), (1, 2), (len(atoms) - 1, 1)):
        ends = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[index] += sign * step
            ends.append(potential.evaluate([moved])[0][0])
        slope = (ends[1] - ends[0]) / (2 * step)
        assert forces[index] == pytest.approx(slope, rel=1e-5, abs=1e-6)


def test_single_precision_is_close(model):
    ((energy, forces),) = in_numpy(model).evaluate([rattled("C6H6")])
    ((rough, roughly),) = in_numpy(model, "float32").evaluate([rattled("C6H6")])
    assert rough == pytest.approx(energy, abs=1e-4)
    np.testing.assert_allclose(roughly, forces, atol=1e-3)


def test_structures_do_not_depend_on_each_other(model):
    potential, structures = in_numpy(model), STRUCTURES["molecules"]
    together = potential.evaluate(structures)
    for atoms, (energy, forces) in zip(structures, together):
        ((alone, alone_forces),) = potential.evaluate([atoms])
        assert alone == pytest.approx(energy, abs=1e-12)
        np.testing.assert_allclose(alone_forces, forces, atol=1e-12)


def test_turning_turns_the_forces(model):
    potential, atoms = in_numpy(model), rattled("CH3CH2OH")
    turned = atoms.copy()
    turned.rotate(50, (1, 2, 3))
    (energy, forces), (same, other) = potential.evaluate([atoms, turned])
    assert same == pytest.approx(energy, abs=1e-9)
    carrier = Atoms("H" * len(atoms), forces)
    carrier.rotate(50, (1, 2, 3))
    np.testing.assert_allclose(other, carrier.positions, atol=1e-9)


def test_scale_and_shift(model):
    ((energy, forces),) = in_numpy(model).evaluate([rattled("HCN")])
    ((scaled, scaled_forces),) = in_numpy(model, scale=2.0, shift=5.0).evaluate([rattled("HCN")])
    assert scaled == pytest.approx(2 * energy + 5)
    np.testing.assert_allclose(scaled_forces, 2 * forces)


def test_large_structures_have_the_same_pairs(monkeypatch):
    atoms = Atoms("H60", np.random.default_rng(0).uniform(0, 9, (60, 3)))
    pairs = find_pairs(atoms, 3.0)
    monkeypatch.setattr("ocp_physmol.potential.edges.LARGE", 0)
    listed = find_pairs(atoms, 3.0)
    assert len(pairs.i) == len(listed.i)
    by_list = {(i, j): v for i, j, v in zip(listed.i, listed.j, listed.vector)}
    for i, j, vector in zip(*pairs):
        np.testing.assert_allclose(by_list[i, j], vector)


def test_atoms_in_one_place_are_finite(model):
    ((energy, forces),) = in_numpy(model).evaluate([Atoms("HCO", np.zeros((3, 3)))])
    assert np.isfinite(energy) and np.isfinite(forces).all()
