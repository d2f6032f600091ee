"""A checkpoint opened for evaluation."""

import functools
import logging

import numpy as np
import pytest
import torch
from ase.build import molecule
from conftest import small_model, to_data

from ocp_physmol.errors import UserError
from ocp_physmol.relaxation.predictor import Predictor, open_labelled


@pytest.fixture(scope="module")
def checkpoint(trained):
    return trained / "checkpoints/run/best_checkpoint.pt"


def test_energies_and_forces_do_not_depend_on_batches(checkpoint, qm9_folder):
    predictor, structures = Predictor.open(checkpoint), open_labelled(qm9_folder / "test")
    energies, forces = predictor.energies_and_forces(structures, batch_size=4)
    alone, forces_alone = predictor.energies_and_forces([structures[4]])
    assert energies.shape == (len(structures),) and energies.dtype == np.float64
    assert [len(f) for f in forces] == [int(s.natoms) for s in structures]
    np.testing.assert_allclose(alone[0], energies[4], atol=1e-4)
    np.testing.assert_allclose(forces_alone[0], forces[4], atol=1e-4)
    assert predictor.energies_and_forces([])[0].shape == (0,)


def test_opening_leaves_logging_and_random_numbers_alone(checkpoint):
    root = logging.getLogger()
    before = root.level, list(root.handlers), root.manager.disable
    state = torch.get_rng_state()
    Predictor.open(checkpoint)
    assert (root.level, list(root.handlers), root.manager.disable) == before
    assert torch.equal(torch.get_rng_state(), state)


def test_weights_are_the_average_that_predicts(trained):
    """The newest checkpoint of a training holds both, and its last weights under the usual name."""
    path = trained / "checkpoints/run/checkpoint.pt"
    state = torch.load(path, weights_only=True)
    opened = dict(Predictor.open(path).model.named_parameters())
    average = state["ema"]["shadow_params"]
    assert all(map(torch.equal, opened.values(), average)) and len(opened) == len(average)
    last = {name.removeprefix("module."): value for name, value in state["state_dict"].items()}
    assert not all(torch.equal(value, last[name]) for name, value in opened.items())


def test_models_without_forces_are_refused():
    class EnergyOnly:
        device = torch.device("cpu")

        def predict(self, batch, per_image, disable_tqdm):
            return {"energy": small_model()(batch)["energy"]}

    predictor = Predictor(EnergyOnly(), "here/checkpoint.pt")
    with pytest.raises(
        UserError, match=r"checkpoint here/checkpoint\.pt predicts no forces, but energy"
    ):
        predictor.energies_and_forces([to_data(molecule("H2O"))])


@pytest.mark.parametrize("content", [b"", b"no checkpoint"])
def test_damaged_checkpoints(content, tmp_path):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"checkpoint\.pt cannot be read .*; use an undamaged one"):
        Predictor.open(path)


UNFIT = {
    "no weights": (("state_dict",), {}, "state_dict: {} is not possible"),
    "weights are text": (("state_dict",), "text", "state_dict: 'text' is not possible"),
    "normalizers a list": (("normalizers",), [1], r"normalizers: \[1\] is not possible"),
    "no config": (("config",), None, "config is missing"),
    "no model": (("config", "model"), None, "config.model is missing"),
    "a model of text": (("config", "model"), "text", "config.model: 'text' is not possible"),
    "a width of text": (("config", "model", "hidden_channels"), "text", "hidden_channels"),
    "another model": (("config", "model", "hidden_channels"), 24, "another architecture"),
    "an unknown model": (("config", "model", "name"), "text", "Failed to find the model 'text'"),
    "no level": (("config", "outputs"), {"energy": {}}, "outputs.energy.level is missing"),
    "an unknown trainer": (("config", "trainer"), "text", "Failed to find the trainer"),
    "no references": (
        ("elementrefs", "energy", "element_references"),
        torch.zeros(0),
        "it must be a vector of energies",
    ),
    "references of text": (("elementrefs", "energy"), {"element_references": "x"}, "elementrefs"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_checkpoints_of_unfit_content(name, checkpoint, tmp_path):
    path, value, problem = UNFIT[name]
    content = torch.load(checkpoint, weights_only=True)
    place = functools.reduce(dict.__getitem__, path[:-1], content)
    place[path[-1]] = value
    torch.save(content, tmp_path / "unfit.pt")
    with pytest.raises(UserError, match=rf"checkpoint .*unfit\.pt .*{problem}"):
        Predictor.open(tmp_path / "unfit.pt")


def test_a_checkpoint_of_nan(checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    next(iter(content["state_dict"].values()))[:] = float("nan")
    torch.save(content, tmp_path / "unfit.pt")
    with pytest.raises(UserError, match=r"unfit\.pt does not fit: state_dict\.module\S+ holds NaN"):
        Predictor.open(tmp_path / "unfit.pt")
