"""Harmonic frequencies against springs whose frequencies are known, and with a real model."""

import json

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.vibrations import Vibrations
from conftest import ends, to_data
from scipy import constants
from scipy.spatial.transform import Rotation

from ocp_physmol.datasets import lmdb_writer
from ocp_physmol.evaluation import vibrations as module
from ocp_physmol.evaluation.vibrations import hessian_of, vibrations
from ocp_physmol.harmonic import harmonic_frequencies
from ocp_physmol.relaxation.batched import Descent
from ocp_physmol.relaxation.predictor import Predictor, open_labelled

C12, O16, H1, CL35 = 12.0, 15.9949146, 1.00782503, 34.9688527  # amu


def per_cm(square: float) -> float:
    """Frequency in 1/cm of omega^2 in eV/A^2/amu, from CODATA constants."""
    omega = np.sqrt(square * constants.e / constants.angstrom**2 / constants.atomic_mass)
    return omega / (2 * np.pi * constants.c) / 100


class Springs(Predictor):
    """Springs between atoms i and j, and one that keeps three atoms on a line.

    Args:
        bonds: (i, j): (k in eV/A^2, length in A), of every molecule in the batch.
        bend: k in eV of 1/2 k |u_1 + u_2|^2, the unit vectors from atom 0 to its neighbours.
    """

    device = "cpu"

    def __init__(self, bonds: dict, bend: float = 0.0) -> None:
        self.bonds, self.bend = bonds, bend

    def energy(self, pos):
        energy = sum(
            k / 2 * ((pos[:, i] - pos[:, j]).norm(dim=-1) - length) ** 2
            for (i, j), (k, length) in self.bonds.items()
        )
        if self.bend:
            arms = pos[:, 1:3] - pos[:, :1]
            units = arms / arms.norm(dim=-1, keepdim=True)
            energy = energy + self.bend / 2 * units.sum(dim=1).square().sum(-1)
        return energy

    def predict(self, batch):
        pos = batch.pos.detach().double().view(len(batch.natoms), -1, 3).requires_grad_()
        energy = self.energy(pos)
        forces = -torch.autograd.grad(energy.sum(), pos)[0].reshape(-1, 3)
        return {"energy": energy.detach(), "forces": forces.to(batch.pos.dtype)}


class SpringsCalculator(Calculator):
    """The same for ASE."""

    implemented_properties = ("energy", "forces")

    def __init__(self, springs: Springs) -> None:
        super().__init__()
        self.springs = springs

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        pos = torch.tensor(atoms.positions)[None].requires_grad_()
        energy = self.springs.energy(pos)
        forces = -torch.autograd.grad(energy.sum(), pos)[0][0]
        self.results = {"energy": float(energy), "forces": forces.numpy()}


def entry(atoms, frequencies):
    """A structure as QM9's LMDBs have it, in single precision in the middle of a box."""
    data = to_data(atoms)
    data.pos = (data.pos - data.pos.mean(dim=0) + 20).float()
    data.cell, data.frequencies = 40 * torch.eye(3)[None], torch.tensor(frequencies).float()
    del data.pbc
    return data


def model_frequencies(result) -> list[float]:
    return [model for _, model in result["pairs"]]


def water_springs():
    water = molecule("H2O")
    length, across = water.get_distance(0, 1), water.get_distance(1, 2)
    return water, {(0, 1): (50.0, length), (0, 2): (50.0, length), (1, 2): (9.0, across)}


def test_diatomic_molecule():
    expected = per_cm(30.0 * (1 / H1 + 1 / CL35))
    data = entry(Atoms("HCl", [[0, 0, 0], [0.3, -0.4, 1.2]]), [2 * expected])
    result = vibrations(Springs({(0, 1): (30.0, 1.3)}), [data], at="reference")
    assert model_frequencies(result) == pytest.approx([expected], abs=0.2)
    assert result["median_ratio"] == pytest.approx(0.5, rel=1e-3)
    assert result["mae_per_cm"] == pytest.approx(expected, rel=1e-3)
    assert result["bands"]["2000 and above"]["modes"] == result["modes"] == 1
    assert result["bands"]["below 1000"] == {
        "modes": 0, "mae_per_cm": None, "median_ratio": None, "imaginary_fraction": None
    }  # fmt: skip


def test_linear_molecule_has_one_more():
    """Carbon dioxide, with the normal modes of a linear triatomic molecule in closed form."""
    stretch, bend, length = 60.0, 4.0, 1.16
    atoms = Atoms("CO2", [[0, 0, 0], [0, 0, length], [0, 0, -length]])
    atoms.rotate(40, (1, 2, 3))
    springs = Springs({(0, 1): (stretch, length), (0, 2): (stretch, length)}, bend)
    expected = [
        *[per_cm(bend / length**2 * (2 / O16 + 4 / C12))] * 2,
        per_cm(stretch / O16),
        per_cm(stretch * (1 / O16 + 2 / C12)),
    ]
    result = vibrations(springs, [entry(atoms, expected)], at="reference")
    np.testing.assert_allclose(model_frequencies(result), expected, atol=0.3)
    assert result["mae_per_cm"] < 0.3 and result["imaginary_fraction"] == 0


def test_against_ase(tmp_path):
    water, bonds = water_springs()
    water.set_masses("most_common")
    water.calc = SpringsCalculator(Springs(bonds))
    reference = Vibrations(water, name=str(tmp_path / "vib"))
    reference.run()
    expected = reference.get_frequencies()[-3:].real
    result = vibrations(Springs(bonds), [entry(water, expected)], at="reference")
    np.testing.assert_allclose(model_frequencies(result), expected, rtol=2e-4)


def test_relaxation_finds_the_minimum():
    """From a stretched start, whose own curvatures are others."""
    water, bonds = water_springs()
    springs = Springs(bonds)
    at_minimum = model_frequencies(vibrations(springs, [entry(water, [1.0] * 3)], at="reference"))
    water.rattle(0.1, seed=2)
    result = vibrations(springs, [entry(water, [1.0] * 3)], at="minimum")
    assert result["converged_fraction"] == 1 and result["molecules"] == 1
    np.testing.assert_allclose(model_frequencies(result), at_minimum, atol=2)
    start = vibrations(springs, [entry(water, [1.0] * 3)], at="reference")
    assert np.abs(np.subtract(model_frequencies(start), at_minimum)).max() > 10
    assert start["converged_fraction"] is None


def test_saddle_has_one_imaginary_mode():
    water, bonds = water_springs()
    bonds[1, 2] = (-9.0, bonds[1, 2][1])  # no force, but downhill to either side
    result = vibrations(Springs(bonds), [entry(water, [1600.0, 3700.0, 3800.0])], at="reference")
    frequencies = model_frequencies(result)
    assert frequencies[0] < -500 and min(frequencies[1:]) > 1000
    assert result["imaginary_fraction"] == pytest.approx(1 / 3)
    assert result["imaginary_molecule_fraction"] == 1
    assert result["bands"]["1000 to 2000"]["imaginary_fraction"] == 1


def test_saddle_is_left_downhill():
    """Flat ammonia, which has no force out of its plane."""
    ammonia = molecule("NH3")
    length, across = ammonia.get_distance(0, 1), ammonia.get_distance(1, 2)
    bonds = {(0, 1): (40.0, length), (0, 2): (40.0, length), (0, 3): (40.0, length)}
    bonds |= {(1, 2): (9.0, across), (1, 3): (9.0, across), (2, 3): (9.0, across)}
    expected = vibrations(Springs(bonds), [entry(ammonia, [1.0] * 6)])
    assert expected["saddle_fraction"] == expected["imaginary_fraction"] == 0
    turns = np.deg2rad([0, 120, 240])
    flat = np.column_stack([np.cos(turns), np.sin(turns), np.zeros(3)])
    start = entry(Atoms("NH3", [[0, 0, 0], *(length * flat)]), [1.0] * 6)
    found = vibrations(Springs(bonds), [start])
    assert found["saddle_fraction"] == found["converged_fraction"] == 1
    assert found["imaginary_molecule_fraction"] == found["imaginary_fraction"] == 0
    np.testing.assert_allclose(model_frequencies(found), model_frequencies(expected), atol=5)


def test_rigid_motions_are_projected_out():
    """Even where forces remain, and rotations have a curvature of their own."""
    water, bonds = water_springs()
    water.positions[1:] *= 1.1
    hessian = hessian_of(Springs(bonds), entry(water, []))
    everything = harmonic_frequencies(water, hessian, 9)
    internal = harmonic_frequencies(water, hessian, 3)
    assert len(internal) == 3 and np.abs(everything[:6]).max() > 100
    assert internal[0] > 1000


def test_molecules_without_finite_frequencies_are_counted():
    class Failing(Springs):
        def predict(self, batch):
            out = super().predict(batch)
            out["forces"][batch.atomic_numbers == 16] = torch.nan
            return out

    water, bonds = water_springs()
    sulfide = water.copy()
    sulfide.numbers[0] = 16
    frequencies = [1600.0, 3700.0, 3800.0]
    structures = [entry(water, frequencies), entry(sulfide, frequencies)]
    for at in module.PLACES:
        result = vibrations(Failing(bonds), structures, at=at)
        assert (result["failed"], result["molecules"], result["modes"]) == (1, 2, 3)
        assert np.isfinite(result["mae_per_cm"])
    none = vibrations(Failing(bonds), structures[1:], at="reference")
    assert none["failed"] == 1 and none["mae_per_cm"] is None and none["pairs"] == []


def test_orientation_does_not_matter(trained, qm9_folder):
    predictor = Predictor.open(trained / "checkpoints/run/best_checkpoint.pt")
    structures = list(open_labelled(qm9_folder / "test"))[:3]
    rotation = torch.tensor(Rotation.random(random_state=0).as_matrix(), dtype=torch.float32)
    turned = [s.clone() for s in structures]
    for s in turned:
        s.pos = (s.pos - 20) @ rotation.T + 23
    one, other = (vibrations(predictor, s, at="reference") for s in (structures, turned))
    # near zero a frequency is the root of a small difference
    sharp = np.abs(model_frequencies(one)) > 20
    assert sharp.sum() > 20
    difference = np.subtract(model_frequencies(one), model_frequencies(other))
    assert np.abs(difference[sharp]).max() < 2


def test_command_line(trained, qm9_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(module, "TO_MINIMUM", Descent(steps=10, fmax=0.005))
    checkpoint = trained / "checkpoints/run/checkpoint.pt"
    ends(0, "frequencies", "--checkpoint", checkpoint, "--checkpoint", f"again={checkpoint}",
        "--data", qm9_folder / "test", "--molecules", 2, "--output", tmp_path / "out")  # fmt: skip
    report = json.loads((tmp_path / "out/frequencies.json").read_text())
    names = [f"{name}, {at}" for name in (trained.name, "again") for at in module.PLACES]
    assert list(report["models"]) == names and report["protocol"]["fmax"] == 0.005
    expected = sum(len(s.frequencies) for s in list(open_labelled(qm9_folder / "test"))[:2])
    assert all(result["modes"] == expected for result in report["models"].values())
    assert all(name in capsys.readouterr().out for name in names[:1])
    assert (tmp_path / "out/frequencies.png").stat().st_size > 20_000


def test_data_without_frequencies(trained, qm9_folder, tmp_path, capsys):
    def without():
        for structure in open_labelled(qm9_folder / "test"):
            del structure.frequencies
            yield structure

    lmdb_writer.write_lmdb(tmp_path / "test", without())
    checkpoint = trained / "checkpoints/run/checkpoint.pt"
    ends(2, "frequencies", "--checkpoint", checkpoint, "--data", tmp_path / "test")
    error = capsys.readouterr().err
    assert "holds no 'frequencies'; make it anew" in error
