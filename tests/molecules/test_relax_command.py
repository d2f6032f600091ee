"""Relaxations of many structures at once, and the command that makes them."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.calculators.morse import MorsePotential
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.optimize import LBFGS
from conftest import ends

from ocp_physmol.calculators.pool import Refusal
from ocp_physmol.errors import UserError
from ocp_physmol.molecules.relax import moved_by, remarks, table
from ocp_physmol.molecules.relaxation import MAXSTEP, End, relax
from ocp_physmol.molecules.structures import Structure, read
from ocp_physmol.potential import shipped

NAMES = ("CH3CH2OH", "H2O", "CH4", "CH3CN")


class Emt:
    """A method in this process; it refuses methane."""

    def answer(self, structures):
        return [self._one(atoms.copy()) for atoms in structures]

    def doubts(self, atoms, results):
        return ["oxygen"] if "O" in atoms.symbols and np.isfinite(results["energy"]) else []

    def _one(self, atoms):
        if len(atoms) == 5:
            return Refusal("it is methane")
        atoms.calc, atoms.constraints = EMT(), []
        return {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}


def structure_of(atoms) -> Structure:
    return Structure("x", atoms, "x", None, None)


class Morse(Emt):
    def _one(self, atoms):
        atoms.calc = MorsePotential(rho0=6.0, r0=1.0, rcut1=9.0, rcut2=10.0)
        return {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}


@pytest.mark.parametrize("distance", [1.2, 1.5, 1.8])
def test_no_relaxation_goes_uphill(distance):
    """Beyond 1.12 the curvature is negative: ASE's L-BFGS goes to and fro there."""
    (end,) = relax(Morse(), [Atoms("N2", [[0, 0, 0], [0, 0, distance]])], 0.01, 100)
    assert end.converged and end.results["energy"] == pytest.approx(-1, abs=1e-3)
    assert end.atoms.get_distance(0, 1) == pytest.approx(1.0, abs=0.01)


def test_each_relaxation_is_ases_own():
    structures = [molecule(name) for name in NAMES]
    structures[3].set_constraint(FixAtoms([0, 1]))
    found = relax(Emt(), structures, fmax=0.02, steps=25)
    assert found[2] == "it is methane"
    for before, end in zip(structures, found):
        if isinstance(end, Refusal):
            continue
        alone = before.copy()
        alone.calc = EMT()
        optimizer = LBFGS(alone, maxstep=MAXSTEP, logfile=None)
        converged = optimizer.run(fmax=0.02, steps=25)
        np.testing.assert_allclose(end.atoms.positions, alone.positions, atol=1e-10)
        assert (end.converged, end.steps) == (converged, optimizer.nsteps)
        assert end.results["energy"] == pytest.approx(alone.get_potential_energy())
        assert end.largest_force == pytest.approx(np.linalg.norm(alone.get_forces(), axis=1).max())
    assert {end.converged for end in found if isinstance(end, End)} == {True, False}
    np.testing.assert_array_equal(found[3].atoms.positions[:2], structures[3].positions[:2])
    assert relax(Emt(), [], 0.02, 25) == []


class EmtThatEnds(Emt):
    """A method whose process dies after a while."""

    def __init__(self, answers):
        self.left = answers

    def answer(self, structures):
        self.left -= 1
        if self.left < 0:
            raise UserError("the process has ended")
        return super().answer(structures)


def test_what_has_ended_stays_where_a_method_fails():
    structures = [molecule(name) for name in ("H2O", "CH3CH2OH")]
    alone = relax(Emt(), structures, 0.05, 100)
    fewest, most = sorted(end.steps for end in alone)
    assert fewest < most
    found = relax(EmtThatEnds(fewest + 2), structures, 0.05, 100)
    assert sorted(map(str, found))[-1] == "the process has ended"
    (end,) = (one for one in found if isinstance(one, End))
    assert end.steps == fewest and end.converged
    with pytest.raises(UserError, match="has ended"):
        relax(EmtThatEnds(0), structures, 0.05, 100)


def test_what_to_know_of_an_end():
    before, after = structure_of(molecule("C2H6")), molecule("C2H6")
    end, method = End(after, {"energy": 0.0}, 7, True), Emt()
    assert remarks(before, end, method) == []
    after.rotate(70, (1, 2, 3))
    after.positions += 3.0
    assert moved_by(before.atoms, after) == pytest.approx(0, abs=1e-6)
    after.positions[7] += 4.0
    assert remarks(before, end, method) == ["C2-H8 broken"]
    assert moved_by(before.atoms, after) > 0.5
    after.calc = SinglePointCalculator(after, forces=np.full((8, 3), 0.3))
    unfinished = remarks(before, end._replace(converged=False), method)
    assert unfinished[0] == "not converged: 0.520 eV/Å are left"
    methyl = molecule("CH3")
    (remark,) = remarks(structure_of(methyl), End(methyl, {"energy": 0.0}, 7, True), method)
    assert remark.startswith("an odd number of electrons: a radical, or an ion")
    methyl.pbc = True
    assert remarks(structure_of(methyl), End(methyl, {"energy": 0.0}, 7, True), method) == []


def test_biradicals_are_named():
    (diradical,), _ = read([], ["[CH2]C[CH2]"])
    end = End(diradical.atoms, {"energy": 0.0}, 7, True)
    assert remarks(diradical, end, Emt()) == ["its 2 unpaired electrons are taken for paired ones"]


def test_doubts_of_a_method_are_remarks():
    atoms = [molecule("CH3CH2OH"), molecule("C2H6")]
    structures = [Structure(str(k), a, str(k), None, None) for k, a in enumerate(atoms)]
    ended = list(zip(structures, relax(Emt(), atoms, 10, 1)))
    *_, ethanol, ethane = table(ended, Emt()).splitlines()
    assert ethanol.endswith("oxygen") and "oxygen" not in ethane


def test_the_method_where_none_is_named(monkeypatch):
    monkeypatch.setattr(shipped, "find_spec", lambda name: None)
    assert shipped.best_available() == "physmol"
    monkeypatch.setattr(shipped, "find_spec", lambda name: name)
    assert shipped.best_available() == "physmol-gfn2"


def test_what_has_ended_stays_after_an_interruption(tmp_path, capsys, monkeypatch):
    class Interrupted(Emt):
        def answer(self, structures):
            if len(structures) < 2:
                raise KeyboardInterrupt
            return super().answer(structures)

    monkeypatch.setattr(
        "ocp_physmol.molecules.request.open_methods", lambda *_: {"emt": Interrupted()}
    )
    monkeypatch.chdir(tmp_path)
    ase.io.write("two.xyz", [Atoms("N2", [[0, 0, 0], [0, 0, 1.0]]), molecule("CH3CH2OH")])
    ends(130, "relax", "two.xyz")
    captured = capsys.readouterr()
    assert "two-0" in captured.out and "two-1" not in captured.out
    assert "interrupted" in captured.err
    assert len(ase.io.read("relaxed/two.xyz")) == 2


@pytest.mark.slow
def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ase.io.write("two.xyz", [molecule("CH3CH2OH"), Atoms("Pt2", [[0, 0, 0], [0, 0, 2.4]])])
    ends(2, "relax", "two.xyz", "--smiles", "CC#N", "--method", "mmff94",
         "--method", "ase.calculators.emt:EMT", "--steps", 60)  # fmt: skip
    printed = capsys.readouterr().out
    refused = next(line for line in printed.splitlines() if line.startswith("two-1"))
    assert "refused: " in refused
    assert "Written: relaxed/mmff94/two.xyz" in printed and "moved by (Å)" in printed
    assert len(ase.io.read("relaxed/mmff94/two.xyz", index=":")) == 1
    assert len(ase.io.read("relaxed/ase.calculators.emt-EMT/two.xyz", index=":")) == 2
    acetonitrile = ase.io.read(next(Path("relaxed/mmff94").glob("CC_N-*.xyz")))
    assert acetonitrile.info["smiles"] == "CC#N" and acetonitrile.info["method"] == "mmff94"
    assert np.linalg.norm(acetonitrile.get_forces(), axis=1).max() <= 0.01


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is nothing to do"),
        (["--smiles", "CO", "--method", "pm6"], "--method 'pm6' is unknown"),
        (["--smiles", "CO", "--model", "nowhere"], "nowhere.json does not exist"),
        (["--smiles", "CO", "--model", ""], "is no name of a model"),
        (["--smiles", "CO", "--model", "a", "--method", "gfn2"], "give either --model or --method"),
        (["--smiles", "CO", "--fmax", "0"], "--fmax"),
        (["--smiles", "CO", "--method", "nowhere:Nothing"], "nowhere:Nothing cannot be loaded"),
    ],
)
def test_wrong_input_is_one_sentence(arguments, message, capsys):
    ends(2, "relax", *arguments)
    captured = capsys.readouterr()
    assert message in captured.err and "Traceback" not in captured.err
