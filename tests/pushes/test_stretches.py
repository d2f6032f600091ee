"""Springs along bonds: their forces are their slope, and the fit finds what is there."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from conftest import SAMPLE_CSV, to_batch

from ocp_physmol.calculators.pool import CalculatorPool, Source
from ocp_physmol.datasets import qm9
from ocp_physmol.harmonic import DISPLACEMENT, displaced, harmonic_frequencies, hessian
from ocp_physmol.pushes.stretches import LENGTH, RANGE, Curved, Stretches, stretch_forces

SPRINGS = {(1, 6): (-3.0, 20.0), (1, 8): (5.0, 0.0), (6, 6): (2.0, -4.0), (6, 8): (7.0, 1.0)}


def frequencies_of(curved, stretches):
    atoms = Atoms(curved.numbers, curved.positions)
    atoms.set_masses("most_common")
    total = curved.hessian + stretches.hessian(curved.numbers, curved.positions)
    return harmonic_frequencies(atoms, total, len(curved.frequencies))


@pytest.fixture(scope="module")
def by_gfn2():
    """20 molecules with GFN2-xTB's second derivatives at DFT's minima, and DFT's frequencies."""
    chosen = [m for m in qm9.read_csv(SAMPLE_CSV) if len(m.numbers) <= 12][:20]
    found = []
    with CalculatorPool(Source.named("gfn2")) as pool:
        for one in chosen:
            numbers, positions = one.numbers, one.positions
            copies = [{"numbers": numbers, "positions": x} for x in displaced(positions)]
            forces = np.array([forces for _, forces in pool.evaluate(copies)])
            found.append(Curved(numbers, positions, hessian(forces), one.frequencies))
    return found


def forces_of(atoms, positions):
    """What SPRINGS add to the forces on a molecule whose minimum is given, at other positions."""
    batch = to_batch(atoms)
    batch.pos = torch.tensor(atoms.positions)
    batch.update(Stretches(SPRINGS).of_bonds(atoms.numbers, atoms.positions))
    batch.stretch_stiffness = batch.stretch_stiffness.double()
    return stretch_forces(batch, torch.tensor([True]), torch.tensor(positions)).numpy()


def test_forces_vanish_at_the_minimum_and_have_the_hessian_as_their_slope():
    atoms = molecule("CH3CH2OH")
    assert (forces_of(atoms, atoms.positions) == 0).all()
    forces = np.array([forces_of(atoms, x) for x in displaced(atoms.positions)])
    expected = Stretches(SPRINGS).hessian(atoms.numbers, atoms.positions)
    np.testing.assert_allclose(hessian(forces), expected, atol=20 * (DISPLACEMENT / RANGE) ** 2)


def test_forces_neither_push_nor_turn_a_molecule():
    atoms, rng = molecule("CH3CH2OH"), np.random.default_rng(0)
    moved = atoms.positions + rng.normal(scale=0.1, size=atoms.positions.shape)
    forces = forces_of(atoms, moved)
    assert np.abs(forces).max() > 0.1
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(np.cross(moved, forces).sum(axis=0), 0, atol=1e-12)


def test_springs_give_way_where_bonds_are_broken():
    water = molecule("H2O")
    apart = water.positions.copy()
    apart[1:] += 5 * (apart[1:] - apart[0])
    assert np.abs(forces_of(water, apart)).max() < 1e-6


def test_an_atom_alone_has_no_springs():
    assert forces_of(molecule("H"), np.zeros((1, 3))).tolist() == [[0, 0, 0]]


def test_the_fit_finds_springs_that_were_taken_away(by_gfn2):
    taken = Stretches({kind: (a, 0.0) for kind, (a, _) in SPRINGS.items()})
    molecules = []
    for curved in by_gfn2:
        lacking = curved.hessian - taken.hessian(curved.numbers, curved.positions)
        frequencies = frequencies_of(curved, Stretches({}))
        molecules.append(curved._replace(hessian=lacking, frequencies=frequencies))
    found = Stretches.fitted(molecules)
    for m in molecules:
        np.testing.assert_allclose(frequencies_of(m, found), m.frequencies, atol=15)
    a, b = found.springs[1, 6]
    assert a + b * (1.09 - LENGTH) == pytest.approx(-3, abs=0.5)


def test_frequencies_of_other_molecules_come_nearer(by_gfn2):
    """To DFT's, from GFN2-xTB's, whose stretches are too slow."""
    found = Stretches.fitted(by_gfn2[::2])

    def error(stretches):
        differences = [frequencies_of(m, stretches) - m.frequencies for m in by_gfn2[1::2]]
        return np.abs(np.concatenate(differences)).mean()

    assert error(found) < 0.7 * error(Stretches({}))
