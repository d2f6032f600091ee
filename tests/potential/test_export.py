"""ocp-physmol export, its files, and PhysMolCalculator, which reads them."""

import json
import shutil

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.optimize import BFGS
from conftest import ends, run_main, small_run

from ocp_physmol.calculators.pool import CalculatorPool, Source
from ocp_physmol.errors import UserError
from ocp_physmol.geometry import environments
from ocp_physmol.potential.calculator import PhysMolCalculator, largest
from ocp_physmol.potential.weights import read, write
from ocp_physmol.relaxation.batched import to_atoms
from ocp_physmol.relaxation.predictor import Predictor, open_labelled


@pytest.fixture(scope="module")
def checkpoint(qm9_folder, tmp_path_factory):
    """Of a small training of the recommended model."""
    folder = tmp_path_factory.mktemp("trained")
    result = run_main(
        "--mode", "train", "--config-yml", "configs/qm9/recommended.yml", "--cpu", "--run-dir",
        folder, "--timestamp-id", "run", *small_run(qm9_folder), "--model.attention_channels=8",
        "--model.vector_channels=8",
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-3000:]
    return folder / "checkpoints/run/best_checkpoint.pt"


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory):
    """The name of the files that a checkpoint was exported to."""
    name = tmp_path_factory.mktemp("exported") / "model"
    ends(0, "export", checkpoint, name, "--about", "small")
    assert read(name).card.about == "small"
    return name


def free(entry):
    atoms = to_atoms(entry)
    atoms.pbc = False
    return atoms


def test_same_as_the_checkpoint(exported, checkpoint, qm9_folder):
    entries = list(open_labelled(qm9_folder / "test"))
    energies, forces = Predictor.open(checkpoint).energies_and_forces(entries)
    calculator = PhysMolCalculator(exported)
    results = calculator.calculate_many([free(entry) for entry in entries])
    np.testing.assert_allclose([r["energy"] for r in results], energies, rtol=0, atol=1e-5)
    for result, force in zip(results, forces):
        np.testing.assert_allclose(result["forces"], force, rtol=0, atol=1e-4)
    assert calculator.calculate_many([]) == []
    atoms = free(entries[0])
    atoms.calc = calculator
    assert atoms.get_potential_energy() == pytest.approx(energies[0], abs=1e-5)


def test_it_relaxes(exported):
    atoms = molecule("CH3CH2OH")
    atoms.calc = PhysMolCalculator(exported)
    energies = []
    relaxation = BFGS(atoms, logfile=None, maxstep=0.01)  # this model is hardly trained
    relaxation.attach(lambda: energies.append(atoms.get_potential_energy()))
    relaxation.run(fmax=1e-5, steps=5)
    assert len(energies) == 6 and energies == sorted(energies, reverse=True)


def test_several_models_give_a_mean_and_a_spread(exported, tmp_path):
    other = tmp_path / "other"
    weights = read(exported).weights
    weights["readout.f_atom.weight"] = 1.5 * weights["readout.f_atom.weight"]
    write(other, read(exported).card.model_dump(), weights)
    atoms = molecule("CH3CH2OH")
    one, two, both = (
        PhysMolCalculator(models).calculate_many([atoms])[0]
        for models in (exported, other, [exported, other])
    )
    assert both["energy"] == pytest.approx((one["energy"] + two["energy"]) / 2)
    assert both["energy_std"] == pytest.approx(abs(one["energy"] - two["energy"]) / 2**0.5)
    assert both["energy_std"] > 0 and both["forces_std"].shape == (len(atoms), 3)
    assert "energy_std" not in one
    calculator = PhysMolCalculator([exported, other])
    assert calculator.doubts(atoms, both) == []  # what is usual is not known
    calculator.usual_spread = 0.5 * largest(both["forces_std"])
    assert "forces of its models differ by" in calculator.doubts(atoms, both)[0]
    assert calculator.doubts(atoms, one) == []
    atoms.calc = calculator
    assert atoms.get_properties(["energy"])["energy"] == pytest.approx(both["energy"])
    assert calculator.results["energy_std"] > 0


def test_elements_that_it_does_not_know(exported):
    calculator = PhysMolCalculator(exported)
    with pytest.raises(UserError, match="SiH4 is refused: it has Si; the model knows H, C, N, O"):
        calculator.calculate(molecule("SiH4"))
    atoms = molecule("H2O")
    atoms.positions[0, 0] = np.nan
    with pytest.raises(UserError, match="not finite"):
        calculator.calculate(atoms)
    assert not calculator.results
    with pytest.raises(UserError, match="give atoms"):
        PhysMolCalculator(exported).calculate()


def test_bonds_that_it_does_not_know(exported, checkpoint, qm9_folder, tmp_path):
    assert PhysMolCalculator(exported).unfamiliar(molecule("O3")) == []  # nobody has looked
    ends(0, "export", checkpoint, tmp_path / "model", "--data", qm9_folder / "train")
    known = read(tmp_path / "model").card.environments
    assert "C(CHHH)" in known and "H(C)" in known and "O(OO)" not in known
    seen = [free(entry) for entry in open_labelled(qm9_folder / "train")]
    rare = {e for e in environments_of_all(seen) if e not in known}
    assert rare  # in too few molecules
    calculator = PhysMolCalculator([tmp_path / "model", tmp_path / "model"])
    assert calculator.unfamiliar(molecule("C2H6")) == []
    assert calculator.unfamiliar(molecule("O3")) == ["O1 as O(O)", "O2 as O(OO)"]
    doubts = ["unlike its training: O1 as O(O), O2 as O(OO)"]
    assert calculator.doubts(molecule("O3"), {}) == doubts
    assert calculator.unfamiliar(molecule("O3", cell=[9, 9, 9], pbc=True)) == ["periodic"]
    ends(2, "export", checkpoint, tmp_path / "model", "--data", tmp_path / "none")


def environments_of_all(structures):
    return {e for atoms in structures for e in environments(atoms.numbers, atoms.positions)}


def test_the_prior_is_added(exported, tmp_path):
    pytest.importorskip("tblite")
    name = tmp_path / "on_gfn2"
    card = read(exported).card.model_dump()
    write(name, {**card, "model": {**card["model"], "prior": "gfn2"}}, read(exported).weights)
    atoms = [molecule("CH3CH2OH"), molecule("H2O")]
    alone = PhysMolCalculator(exported).calculate_many(atoms)
    together = PhysMolCalculator(name).calculate_many(atoms)
    gfn2 = CalculatorPool(Source.named("gfn2"), processes=1).evaluate(
        {"numbers": a.numbers, "positions": a.positions} for a in atoms
    )
    for one, both, (energy, forces) in zip(alone, together, gfn2):
        assert both["energy"] - one["energy"] == pytest.approx(energy, abs=1e-6)
        np.testing.assert_allclose(both["forces"] - one["forces"], forces, atol=1e-6)
    periodic = molecule("H2O", cell=[9, 9, 9], pbc=True)
    with pytest.raises(UserError, match="free molecules"):
        PhysMolCalculator(name).calculate(periodic)
    with pytest.raises(UserError, match="different priors"):
        PhysMolCalculator([name, exported])


def changed_card(name, **changes):
    card = json.loads(name.with_suffix(".json").read_text())
    name.with_suffix(".json").write_text(json.dumps({**card, **changes}))


def changed_model(name, **options):
    card = json.loads(name.with_suffix(".json").read_text())
    changed_card(name, model={**card["model"], **options})


DAMAGE = {
    "no weights": (lambda n: n.with_suffix(".safetensors").unlink(), "safetensors does not exist"),
    "no card": (lambda n: n.with_suffix(".json").unlink(), "json does not exist"),
    "a card of text": (lambda n: n.with_suffix(".json").write_text("weights"), "no card"),
    "other weights": (lambda n: n.with_suffix(".safetensors").write_bytes(b"0" * 99), "not the"),
    "a newer format": (lambda n: changed_card(n, format="ocp-physmol 9"), "format"),
    "no elements": (lambda n: changed_card(n, references={}), "references"),
    "an unknown element": (lambda n: changed_card(n, references={"Xx": 1.0}), "'Xx' is no element"),
    "another model": (lambda n: changed_model(n, readout="cls"), "readout"),
    "heads that do not share the width": (lambda n: changed_model(n, num_heads=3), "num_heads"),
    "a model with unknown options": (lambda n: changed_model(n, num_hads=8), "num_heads"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_files(name, exported, tmp_path):
    for end in (".json", ".safetensors"):
        shutil.copy(exported.with_suffix(end), tmp_path / f"model{end}")
    damage, message = DAMAGE[name]
    damage(tmp_path / "model")
    with pytest.raises(UserError, match=message):
        PhysMolCalculator(tmp_path / "model")


def test_weights_of_other_sizes(exported, tmp_path):
    trained = read(exported)
    for key, value in trained.weights.items():
        weights = {**trained.weights, key: value[..., :1]}
        if value.shape == weights[key].shape:
            continue
        write(tmp_path / "model", trained.card.model_dump(), weights)
        with pytest.raises(UserError, match=key):
            PhysMolCalculator(tmp_path / "model")


def test_checkpoints_that_cannot_be_exported(checkpoint, trained, tmp_path, capsys):
    with_pairs = trained / "checkpoints/run/best_checkpoint.pt"
    ends(2, "export", with_pairs, tmp_path / "model")
    assert "model.readout: 'physics' is not possible; it must be 'atom'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    ends(2, "export", tmp_path / "none.pt", tmp_path / "model")
    assert "none.pt does not exist" in capsys.readouterr().err
    ends(2, "export", checkpoint, ".")
    assert "'.' is no name of a model" in capsys.readouterr().err
    ends(2, "export", checkpoint, tmp_path / "model", "--elements", "H,Cu")
    assert "has no energy of Cu" in capsys.readouterr().err
    content = torch.load(checkpoint, weights_only=True)
    torch.save({**content, "elementrefs": {}}, tmp_path / "without.pt")
    ends(2, "export", tmp_path / "without.pt", tmp_path / "model")
    assert "give them with --elements" in capsys.readouterr().err
    ends(2, "export", tmp_path / "without.pt", tmp_path / "model", "--elements", "H,Qq")
    assert "'Qq' is no element" in capsys.readouterr().err
    ends(0, "export", tmp_path / "without.pt", tmp_path / "model", "--elements", "H,C,N,O")
    assert list(read(tmp_path / "model").card.references) == ["H", "C", "N", "O"]
