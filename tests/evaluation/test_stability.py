"""Molecules that springs hold together, or that fall apart on purpose; and the command."""

import json

import numpy as np
import pytest
import torch
from ase import units
from ase.build import molecule
from conftest import ends, to_data
from torch.nn.functional import pdist

from ocp_physmol.evaluation.dynamics import simulate
from ocp_physmol.evaluation.stability import (
    ROWS,
    Protocol,
    distance_of_contact,
    stability,
)
from ocp_physmol.relaxation.predictor import Predictor

SHORT = Protocol(picoseconds=0.2)


class Springs(Predictor):
    """Springs between all atoms of known molecules; two of them would be 50 Angstrom apart.

    `stiffness` in eV/A^2, by the number of atoms.
    """

    device = "cpu"

    def __init__(self, stiffness: dict[int, float], molecules) -> None:
        self.stiffness, self.rest, self.energies = stiffness, {}, []
        for atoms in molecules:
            one = torch.tensor(atoms.positions)
            two = torch.cat([one, one + torch.tensor([50.0, 0, 0])])
            self.rest |= {len(one): pdist(one), len(two): pdist(two)}

    def predict(self, batch):
        pos = batch.pos.detach().double().requires_grad_()
        energies = []
        for part in pos.split(batch.natoms.tolist()):
            stretch = pdist(part) - self.rest[len(part)]
            energies.append(self.stiffness.get(len(part), 30.0) / 2 * stretch.square().sum())
        energy = torch.stack(energies)
        self.energies.append(energy.detach().numpy())
        forces = -torch.autograd.grad(energy.sum(), pos)[0]
        return {"energy": energy.detach(), "forces": forces.float()}


@pytest.fixture
def molecules():
    return [molecule("H2O"), molecule("CH4")]


def data_of(molecules):
    return [to_data(atoms, sid) for sid, atoms in enumerate(molecules)]


def test_springs_hold_molecules_together(molecules):
    result = stability(Springs({}, molecules), data_of(molecules), SHORT)
    assert result["compressed_rise_ev"] > 1 and result["compressed_pushed_fraction"] == 1
    assert result["compressed_returned_fraction"] == 1
    assert result["fates"] == ["intact", "intact"] and result["hot_mean_ps"] == 0.2
    water = molecules[0].get_all_distances()[np.triu_indices(3, k=1)]
    expected = 15 * np.square(0.3 * water).sum()
    assert result["compressed_rises_ev"][0] == pytest.approx(expected, rel=1e-4)
    assert set(ROWS) <= result.keys()


def test_molecules_that_repel_each_other_are_pushed_apart(molecules):
    result = stability(Springs({}, molecules), data_of(molecules), SHORT)
    assert result["collision_pushed_fraction"] == 1 and result["collision_rise_ev"] > 0


def test_molecules_without_a_minimum_do_not_last(molecules):
    model = Springs({3: -30.0, 5: -30.0}, molecules)
    fates = simulate(model, data_of(molecules), 1000.0, 1.0, 0.5)
    assert all(fate.end != "intact" and fate.picoseconds < 1 for fate in fates)


@pytest.mark.parametrize(("picoseconds", "timestep"), [(0.03, 0.5), (0.03, 1.5)])
def test_bonds_are_looked_at_to_the_end(picoseconds, timestep, molecules):
    """Molecules that begin in the places of other ones have other bonds than at their start."""
    model = Springs({}, molecules)
    model.rest = {n: 2 * rest for n, rest in model.rest.items()}  # twice as large
    fates = simulate(model, data_of(molecules), 10.0, picoseconds, timestep)
    assert [fate.end for fate in fates] == ["broken", "broken"]


def test_a_molecule_that_falls_apart_leaves_the_others_alone(molecules):
    """Methane explodes at once; water goes on as if it were alone."""
    model = Springs({5: -1e6}, molecules)
    water, methane = simulate(model, data_of(molecules), 1000.0, 0.2, 0.5)
    assert water.end == "intact" and methane.end != "intact" and methane.picoseconds < 0.05


def test_temperature_is_what_was_asked_for():
    """k_B T / 2 in the spring of each of 20 molecules, once they are warm."""
    hydrogen = molecule("H2")
    model = Springs({}, [hydrogen])
    simulate(model, data_of([hydrogen] * 20), 300.0, 1.0, 0.5)
    assert np.mean(model.energies[400:]) == pytest.approx(units.kB * 300 / 2, rel=0.15)


def test_contact_is_where_the_first_atoms_touch():
    own, other = np.array([[0, 0, 0], [1.0, 0, 0]]), np.array([[0, 0, 0], [0, 0.5, 0]])
    moved = distance_of_contact(own, other, np.array([1.0, 0, 0]), np.full((2, 2), 0.7))
    gaps = np.linalg.norm(own[:, None] - other[None] - [moved, 0, 0], axis=-1)
    assert moved > 1 and gaps.min() == pytest.approx(0.7)


def test_command_line(trained, qm9_folder, tmp_path, capsys):
    checkpoint = trained / "checkpoints/run/best_checkpoint.pt"
    ends(0, "stability", "--checkpoint", f"small={checkpoint}", "--data", qm9_folder / "test",
         "--molecules", 3, "--picoseconds", 0.05, "--output", tmp_path / "out")  # fmt: skip
    report = json.loads((tmp_path / "out/stability.json").read_text())
    assert len(report["models"]["small"]["fates"]) == 3
    assert report["protocol"]["temperature"] == 1000
    assert "hot molecules intact" in capsys.readouterr().out
