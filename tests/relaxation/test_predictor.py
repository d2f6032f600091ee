"""A checkpoint opened for evaluation."""

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


def test_models_without_forces_are_refused():
    class EnergyOnly:
        device = torch.device("cpu")

        def predict(self, batch, per_image, disable_tqdm):
            return {"energy": small_model()(batch)["energy"]}

    predictor = Predictor(EnergyOnly(), "here/checkpoint.pt")
    with pytest.raises(UserError, match=r"checkpoint here/checkpoint\.pt predicts no forces"):
        predictor.energies_and_forces([to_data(molecule("H2O"))])


@pytest.mark.parametrize("content", [b"", b"no checkpoint"])
def test_damaged_checkpoints(content, tmp_path):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"checkpoint\.pt cannot be read .*; use an undamaged one"):
        Predictor.open(path)
