"""Trainings that begin with the weights of a trained model."""

import pytest
import torch
from ase.build import molecule
from conftest import ends, run_main, slab, small_model, small_run, to_batch
from torch import nn

from ocp_physmol.errors import UserError
from ocp_physmol.potential.export import weights_of
from ocp_physmol.potential.weights import read, write
from ocp_physmol.training.start import start_from

OPTIONS = {"readout": "atom", "vector_channels": 8}


def export(model, folder):
    """A model and its files, with 3 eV for each unit of its energy."""
    card = {
        "format": "ocp-physmol 1", "model": model.config.model_dump(), "references": {"H": -13.0},
        "shift": 0.0, "scale": 3.0, "training": {},
    }  # fmt: skip
    write(folder / "model", card, weights_of(model))
    return model, folder / "model"


@pytest.fixture
def exported(tmp_path):
    return export(small_model(**OPTIONS), tmp_path)


def test_energies_in_ev_are_those_of_the_trained_model(exported):
    trained, name = exported
    model = small_model(seed=1, use_masking=True, **OPTIONS)
    start_from(model, str(name), scale=2.0)
    batch = to_batch(molecule("CH3CH2OH"), slab())
    for key in ("energy", "forces"):
        torch.testing.assert_close(2.0 * model(batch)[key], 3.0 * trained(batch)[key])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_layers": 1}, "has num_layers: 2, not 1; set model.num_layers to that"),
        ({"cutoff": 5.0}, "has cutoff: 4.0, not 5.0"),
        ({"prior": "gfn2"}, "has prior: None, not gfn2"),
    ],
)
def test_other_architectures_are_refused(options, message, exported):
    with pytest.raises(UserError, match=message):
        start_from(small_model(**{**OPTIONS, **options}), str(exported[1]), 1.0)


def test_a_repulsion_in_other_units_is_refused(tmp_path):
    """A normalizer's stdev scales it, too, and no weight can undo that."""
    model, name = export(small_model(repulsion=True, **OPTIONS), tmp_path)
    with pytest.raises(UserError, match=r"set that to 3\.0"):
        start_from(model, str(name), scale=2.0)
    start_from(model, str(name), scale=3.0)


def test_other_models_and_missing_files_are_refused(exported):
    with pytest.raises(UserError, match="for PhysMol, not for Linear"):
        start_from(nn.Linear(1, 1), str(exported[1]), 1.0)
    with pytest.raises(UserError, match=r"optim.start_from: nowhere.json does not exist"):
        start_from(small_model(**OPTIONS), "nowhere", 1.0)


@pytest.mark.slow
def test_a_training_goes_on_where_another_ended(qm9_folder, tmp_path):
    """Without a step of its own it has the weights of the other."""

    def trained(name, *more):
        result = run_main(
            "--mode", "train", "--config-yml", "configs/qm9/recommended.yml", "--cpu", "--run-dir",
            tmp_path / name, "--timestamp-id", "run", *small_run(qm9_folder),
            "--model.attention_channels=8", "--model.vector_channels=8", *more,
        )  # fmt: skip
        assert result.returncode == 0, result.stdout[-3000:]
        checkpoint = tmp_path / name / "checkpoints/run/best_checkpoint.pt"
        ends(0, "export", checkpoint, tmp_path / f"{name}-exported")
        return read(tmp_path / f"{name}-exported").weights

    first = trained("first")
    start = f"--optim.start_from={tmp_path / 'first-exported'}"
    again, other = trained("again", start, "--optim.lr_initial=0"), trained("other", start)
    assert all((first[key] == again[key]).all() for key in first)
    assert any((first[key] != other[key]).any() for key in first)
