"""Frequencies of molecules at a method's minima, against ASE's own."""

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.constraints import FixAtoms
from ase.vibrations import Vibrations
from conftest import ends

from ocp_physmol.calculators.mmff94 import MMFF94
from ocp_physmol.molecules.methods import OtherMethod
from ocp_physmol.molecules.relaxation import relax
from ocp_physmol.molecules.vibrations import num_modes, vibrations


@pytest.mark.slow
@pytest.mark.parametrize("name", ["CH3CH2OH", "HCN"])
def test_same_as_ase(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    method = OtherMethod("mmff94")
    (end,) = relax(method, [molecule(name)], 1e-3, 300)
    found = vibrations(method, end.atoms)
    atoms = end.atoms.copy()
    atoms.set_masses("most_common")
    atoms.calc = MMFF94()
    reference = Vibrations(atoms, delta=0.003)
    reference.run()
    expected = reference.get_frequencies().real[-len(found.frequencies) :]
    np.testing.assert_allclose(found.frequencies, expected, atol=0.5)
    assert found.zero_point_energy == pytest.approx(reference.get_zero_point_energy(), rel=0.01)


@pytest.mark.parametrize(("name", "modes"), [("H2O", 3), ("CO2", 4), ("HCN", 4), ("H2", 1)])
def test_how_many_modes(name, modes):
    atoms = molecule(name)
    atoms.rotate(40, (1, 2, 3))
    assert num_modes(atoms) == modes
    assert num_modes(Atoms("O")) == 0
    assert vibrations(None, Atoms("O")).zero_point_energy == 0


@pytest.mark.slow
def test_the_command(tmp_path, capsys, monkeypatch):
    """Planar ammonia stays planar, a saddle point with one imaginary mode."""
    monkeypatch.chdir(tmp_path)
    ammonia = molecule("NH3")
    ammonia.positions[:, 2] = 0
    ase.io.write("ammonia.xyz", [ammonia])
    ends(2, "vibrations", "ammonia.xyz", "--smiles", "B", "--method", "mmff94")
    row = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("ammonia"))
    assert row.split()[4] == "1"  # imaginary
    assert "a saddle point, no minimum" in row
    content = json.loads((tmp_path / "vibrations/ammonia.json").read_text())
    assert content["method"] == "mmff94" and content["converged"]
    assert len(content["frequencies_per_cm"]) == 6 and content["frequencies_per_cm"][0] < 0
    assert len(ase.io.read("vibrations/ammonia.xyz")) == 4
    before = (tmp_path / "ammonia.xyz").read_bytes()
    ends(2, "vibrations", "ammonia.xyz", "--method", "mmff94", "--output", ".")
    assert "ammonia.xyz is read and would be replaced" in capsys.readouterr().err
    assert (tmp_path / "ammonia.xyz").read_bytes() == before
    film = ase.io.read("vibrations/ammonia-mode-0.xyz", index=":")
    Path("vibrations/ammonia-mode-7.xyz").touch()
    ends(0, "vibrations", "ammonia.xyz", "--method", "mmff94")
    assert not Path("vibrations/ammonia-mode-7.xyz").exists()
    assert max(np.ptp(atoms.positions[:, 2]) for atoms in film) > 0.2  # Angstrom: it inverts
    assert (tmp_path / "vibrations/ammonia.png").stat().st_size > 10_000


@pytest.mark.parametrize(("pbc", "held"), [(True, []), (False, [FixAtoms([0])])])
def test_only_free_molecules(pbc, held, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    water = molecule("H2O", vacuum=5, pbc=pbc)
    water.set_constraint(held)
    ase.io.write("water.traj", water)
    ends(2, "vibrations", "water.traj", "--method", "mmff94")
    assert "give free molecules" in capsys.readouterr().err
