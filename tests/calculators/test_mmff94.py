"""MMFF94: forces are its derivative, lengths are those of chemistry, and refusals are clear."""

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.calculator import CalculatorSetupError
from ase.optimize import BFGS

from ocp_physmol.calculators.mmff94 import MMFF94
from ocp_physmol.calculators.pool import CalculatorPool, Source


@pytest.mark.parametrize("name", ["CH3CH2OH", "C6H6", "CH3CN", "HCOOH"])
def test_forces_are_the_derivative(name):
    atoms = molecule(name)
    atoms.rattle(0.03, seed=0)
    atoms.calc = MMFF94()
    forces, step = atoms.get_forces(), 1e-4
    for atom, axis in ((0, 0), (1, 1), (len(atoms) - 1, 2)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * step
            moved.calc = MMFF94()
            energies.append(moved.get_potential_energy())
        assert forces[atom, axis] == pytest.approx(
            (energies[1] - energies[0]) / (2 * step), abs=1e-5
        )


def test_ethanol_has_ethanol_s_bonds():
    atoms = molecule("CH3CH2OH")
    atoms.calc = MMFF94()
    BFGS(atoms, logfile=None).run(fmax=1e-3)
    assert list(atoms.symbols[:3]) == ["C", "C", "O"]
    to_oxygen = [atoms.get_distance(carbon, 2) for carbon in (0, 1)]
    assert min(to_oxygen) == pytest.approx(1.42, abs=0.03)
    assert atoms.get_distance(0, 1) == pytest.approx(1.52, abs=0.03)


def test_atoms_without_bonds_are_refused():
    apart = molecule("CH3CH2OH")
    apart.positions *= 3
    apart.calc = MMFF94()
    with pytest.raises(CalculatorSetupError):
        apart.get_potential_energy()


def test_two_molecules_repel_each_other():
    def energy(distance):
        pair = molecule("CH4")
        other = molecule("CH4")
        other.translate([distance, 0, 0])
        pair += other
        pair.calc = MMFF94()
        return pair.get_potential_energy()

    assert energy(2.6) > energy(3.0) + 0.05 > energy(10.0)


def test_it_is_known_by_its_name():
    atoms = molecule("H2O")
    given = {"numbers": atoms.numbers, "positions": atoms.positions}
    with CalculatorPool(Source.named("mmff94"), 1) as pool:
        energy, forces = next(pool.evaluate([given]))
    atoms.calc = MMFF94()
    assert energy == pytest.approx(atoms.get_potential_energy())
    np.testing.assert_allclose(forces, atoms.get_forces())
