"""A calculator where a trained model is expected."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.optimize import BFGS
from conftest import slab, to_data

from ocp_physmol.errors import UserError
from ocp_physmol.evaluation.recovery import Protocol, recover
from ocp_physmol.relaxation.calculator import CalculatorPredictor, is_calculator, open_model
from ocp_physmol.relaxation.predictor import Predictor, batches

EMT_NAME = "ase.calculators.emt:EMT"
NAMES = ("CH3CH2OH", "H2O", "CH4", "C2H6")


def labelled(name, sid, per_element=0.0):
    """A molecule with EMT's energy, and so much more for each unit of nuclear charge."""
    atoms = molecule(name)
    entry = to_data(atoms, sid)
    atoms.calc = EMT()
    entry.energy = atoms.get_potential_energy() + per_element * atoms.numbers.sum()
    return entry


def test_energies_and_forces_are_the_calculator_s():
    entries = [labelled(name, sid) for sid, name in enumerate(NAMES)]
    predictor = open_model(EMT_NAME)
    energies, forces = predictor.energies_and_forces(entries, batch_size=3)
    for entry, energy, force in zip(entries, energies, forces, strict=True):
        atoms = Atoms(entry.atomic_numbers.numpy(), entry.pos.numpy(), calculator=EMT())
        assert energy == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
        np.testing.assert_allclose(force, atoms.get_forces(), atol=1e-6)
        assert energy == pytest.approx(float(entry.energy), abs=1e-9)


def test_references_take_off_what_elements_explain():
    entries = [labelled(name, sid, per_element=3.0) for sid, name in enumerate(NAMES)]
    predictor = CalculatorPredictor(EMT_NAME)
    predictor.fit_references(entries)
    energies, _ = predictor.energies_and_forces(entries)
    np.testing.assert_allclose(energies, [float(e.energy) for e in entries], atol=1e-6)
    predictor.fit_references(entries)  # there is nothing left to take off
    np.testing.assert_allclose(predictor.energies_and_forces(entries)[0], energies, atol=1e-6)


def test_what_is_refused_is_nan_and_remembered():
    pair = [to_data(molecule("H2O"), sid=1), to_data(molecule("SiH4"), sid=7)]
    predictor = CalculatorPredictor(EMT_NAME)
    (batch,) = batches(pair, 2)
    out = predictor.predict(batch)
    assert out["energy"].isnan().tolist() == [False, True]
    assert out["forces"].isnan().any(dim=1).tolist() == [False] * 3 + [True] * 5
    assert list(predictor.refused) == [7] and "Si" in predictor.refused[7]


def test_a_molecule_that_flies_apart_over_its_cell_is_refused_alone():
    pair = [to_data(molecule(name, vacuum=5), sid=sid) for sid, name in enumerate(("H2O", "CH4"))]
    predictor = CalculatorPredictor(EMT_NAME)
    (batch,) = batches(pair, 2)
    batch.pbc = torch.ones(2, 3, dtype=torch.bool)  # as where data say nothing
    whole = predictor.predict(batch)
    batch.pos[1] += batch.cell[0].sum(0) - 1.5  # a hydrogen of water, to another image of oxygen
    out = predictor.predict(batch)
    assert out["energy"].isnan().tolist() == [True, False]
    torch.testing.assert_close(out["forces"][3:], whole["forces"][3:])
    assert predictor.refused == {0: "larger than its cell"}


def test_periodic_structures_are_refused():
    with pytest.raises(UserError, match="the data are periodic"):
        open_model(EMT_NAME).energies_and_forces([to_data(slab())])


def test_molecules_are_relaxed_as_with_a_model():
    minimum = molecule("CH3CH2OH")
    minimum.calc = EMT()
    BFGS(minimum, logfile=None).run(fmax=1e-3)
    found = recover(open_model(EMT_NAME), [to_data(minimum)], Protocol(noise=0.05, fmax=0.01))
    assert found["converged"] == [True] and found["delta_p_a"] < 0.05


def test_names_of_files_are_no_calculators(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_calculator("gfn2") and is_calculator(EMT_NAME)
    assert not is_calculator("runs/best_checkpoint.pt")
    (tmp_path / "a:b").touch()
    assert not is_calculator("a:b")


def test_checkpoints_are_opened_as_ever(monkeypatch):
    opened = []
    monkeypatch.setattr(Predictor, "open", lambda path, cpu: opened.append((path, cpu)))
    open_model("some.pt", cpu=False)
    assert [(str(path), cpu) for path, cpu in opened] == [("some.pt", False)]


def test_a_calculator_has_no_weights():
    predictor = CalculatorPredictor(EMT_NAME)
    assert not list(predictor.model.parameters()) and predictor.device == torch.device("cpu")
