"""What a model's pair energies are said to be, against the model and against parameters we set."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ase.build import molecule
from conftest import ends, small_model, to_data
from scipy.optimize import minimize_scalar

from ocp_physmol.errors import UserError
from ocp_physmol.evaluation import bond_parameters as module
from ocp_physmol.evaluation.bond_parameters import bond_parameters
from ocp_physmol.relaxation.predictor import Predictor, batches, open_labelled

DEPTH, EXPONENT, STRETCH = 0.5, 6.0, 1.1  # of `lennard_jones`


def untrained(model, rmsd: float | None = None) -> Predictor:
    """A model that has not been trained, as `Predictor.open` would give it."""
    normalizers = {} if rmsd is None else {"energy": SimpleNamespace(rmsd=rmsd)}
    trainer = SimpleNamespace(
        _unwrapped_model=model, normalizers=normalizers, device=torch.device("cpu")
    )
    return Predictor(trainer, "here/checkpoint.pt")


def lennard_jones(**options):
    """A model whose pairs all have the same known parameters: no charge, beta_4 stretched."""
    model = small_model(cutoff=8.0, **options)
    regress = model.energy.readout.f_bond.regress
    with torch.no_grad():
        regress.weight.zero_()
        regress.bias.zero_()
        free = math.log(math.expm1(STRETCH)) - math.log(math.expm1(1.0))
        regress.bias[4] = 5 * math.atanh(free / 5)
    return model


@pytest.fixture
def structures():
    return [to_data(molecule(name)) for name in ("CH3CH2OH", "NH3", "H2O", "CH4")]


def test_parameters_are_those_of_the_model(structures):
    pairs = bond_parameters(untrained(lennard_jones()), structures)["pairs"]
    assert {e for e, kinds in pairs.items() if "bonded" in kinds} == {
        "C-C", "C-O", "C-H", "N-H", "O-H"
    }  # fmt: skip
    assert pairs["C-H"]["bonded"]["count"] == 5 + 4 and pairs["O-H"]["bonded"]["count"] == 1 + 2
    assert pairs["N-H"]["bonded"]["count"] == 3 and "not bonded" not in pairs["N-H"]
    bond = pairs["C-H"]["bonded"]
    expected = {"depth_ev": DEPTH, "exponent": EXPONENT, "coulomb_ev_a": 0,
                "equilibrium_a": STRETCH * (0.76 + 0.31)}  # fmt: skip
    for key, value in expected.items():
        assert bond[key]["median"] == pytest.approx(value, abs=2e-4)
    assert 1.08 < bond["distance_a"]["p10"] < bond["distance_a"]["p90"] < 1.11
    assert bond["correlation"] is None  # of what does not vary
    assert pairs["H-H"]["not bonded"]["distance_a"]["median"] > 1.4


@pytest.mark.parametrize("readout", ["physics", "bonds"])
def test_bonds_are_told_apart_by_their_order(readout):
    """Also by the readout of all pairs, whose parameters know of no order."""
    names = ("C2H6", "C2H4", "C2H2", "C6H6", "HCN", "H2CO", "CH3OH")
    model = small_model(readout=readout)
    structures = [to_data(molecule(name)) for name in names]
    pairs = bond_parameters(untrained(model), structures)["pairs"]
    bonds = {e: kinds["bonded"]["count"] for e, kinds in pairs.items() if "bonded" in kinds}
    carbon = {"C-C": 1, "C=C": 1, "C#C": 1, "C:C": 6}
    assert {e: n for e, n in bonds.items() if "H" not in e} == {
        **carbon, "C#N": 1, "C=O": 1, "C-O": 1
    }  # fmt: skip
    lengths = [pairs[e]["bonded"]["distance_a"]["median"] for e in ("C-C", "C:C", "C=C", "C#C")]
    assert lengths == sorted(lengths, reverse=True)


def test_curve_has_its_minimum_at_beta_4(structures):
    """Far below the cutoff the envelope hardly moves it."""
    curves = bond_parameters(untrained(lennard_jones()), structures)["curves"]
    curve = curves["C-H"]
    energy = np.add(curve["coulomb_ev"], curve["lennard_jones_ev"])
    beta_4 = curve["beta"][4]
    assert beta_4 == pytest.approx(STRETCH * 1.07, abs=1e-4)

    def phi_lennard_jones(d):
        power = (beta_4 / d) ** EXPONENT
        return (np.cos(np.pi * d / 8) + 1) / 2 * DEPTH * (power**2 - 2 * power)

    best = minimize_scalar(phi_lennard_jones, bounds=(0.8, 2), method="bounded")
    assert curve["at_a"][int(energy.argmin())] == pytest.approx(best.x, abs=0.03)
    assert energy.min() == pytest.approx(best.fun, rel=0.01)
    assert np.interp(3.0, curve["at_a"], energy) == pytest.approx(phi_lennard_jones(3.0), rel=0.02)


def test_bonds_alone_have_parameters_with_the_readout_bonds(structures):
    model = small_model(readout="bonds", repulsion=True)
    result = bond_parameters(untrained(model), structures)
    assert all(list(kinds) == ["bonded"] for kinds in result["pairs"].values())
    assert result["pairs"]["C-H"]["bonded"]["equilibrium_a"]["median"] == pytest.approx(
        1.1, abs=0.07
    )
    curve = result["curves"]["O-H"]
    lowest = np.add(curve["coulomb_ev"], curve["lennard_jones_ev"]).argmin()
    assert curve["at_a"][lowest] == pytest.approx(curve["beta"][4], abs=0.02)
    with torch.no_grad():
        predicted = model(next(batches(structures, 4)))["energy"].numpy()
    parts = np.array([result["molecules"][term] for term in module.TERMS])
    np.testing.assert_allclose(parts.sum(axis=0), predicted, atol=2e-4)


def test_terms_add_up_to_the_energy(structures):
    """And with the pair energies' coefficients at zero only the atoms' are left."""
    model = small_model()
    batch = next(batches(structures, 4))
    with torch.no_grad():
        energy = model(batch)["energy"].numpy()
    result = bond_parameters(untrained(model), structures, batch_size=3)
    parts = np.array([result["molecules"][term] for term in module.TERMS])
    assert parts.shape == (3, 4)
    np.testing.assert_allclose(parts.sum(axis=0), energy, atol=2e-4)

    atoms_only = small_model()  # the same weights
    hook = atoms_only.energy.readout.f_bond.register_forward_hook(
        lambda m, i, beta: beta * torch.tensor([0.0, 1, 0, 1, 1])
    )
    with torch.no_grad():
        atoms = atoms_only(batch)["energy"].numpy()
    hook.remove()
    np.testing.assert_allclose(result["molecules"]["atoms_ev"], atoms, atol=2e-4)
    assert np.abs(parts[:2]).min() > 1e-3


def test_energies_are_in_ev_whatever_the_model_learns_in(structures):
    one, other = (
        bond_parameters(untrained(small_model(), rmsd), structures) for rmsd in (None, 3.0)
    )
    for term in module.TERMS:
        tripled = 3 * np.array(one["molecules"][term])
        np.testing.assert_allclose(other["molecules"][term], tripled, atol=5e-4)
    depth, thrice = (r["pairs"]["C-H"]["bonded"]["depth_ev"]["median"] for r in (one, other))
    assert thrice == pytest.approx(3 * depth, rel=1e-3)


def test_lone_atoms_have_no_pairs():
    atoms = [to_data(molecule("CH4")[:1]), to_data(molecule("CH4"))]
    result = bond_parameters(untrained(small_model()), atoms)
    assert result["molecules"]["coulomb_ev"][0] == 0 and len(result["molecules"]["atoms_ev"]) == 2


@pytest.mark.parametrize("model", [small_model(readout="atom"), torch.nn.Linear(1, 1)])
def test_models_without_pair_energy_are_refused(model, structures):
    with pytest.raises(UserError, match=r"here/checkpoint\.pt holds a .*; use one trained with"):
        bond_parameters(untrained(model), structures)


def test_command_line(trained, qm9_folder, tmp_path, capsys):
    checkpoint = trained / "checkpoints/run/best_checkpoint.pt"
    ends(0, "bond-parameters", "--checkpoint", checkpoint, "--data", qm9_folder / "test",
        "--output", tmp_path / "out")  # fmt: skip
    result = json.loads((tmp_path / "out/bond_parameters.json").read_text())
    assert "C-H bonded" in capsys.readouterr().out
    assert (tmp_path / "out/bond_parameters.png").stat().st_size > 20_000
    structures = list(open_labelled(qm9_folder / "test"))
    predictor = Predictor.open(checkpoint)
    predicted = predictor.energies_and_forces(structures)[0]
    elements = predictor.trainer.elementrefs["energy"].element_references.double()
    references = [elements[s.atomic_numbers.long()].sum().item() for s in structures]
    total = np.sum([result["molecules"][term] for term in module.TERMS], axis=0)
    np.testing.assert_allclose(total + references, predicted, atol=5e-3)
