"""What is no number stops a training, with the structures and the cure; good checkpoints stay."""

import re

import pytest
import torch
from ase.build import molecule
from conftest import STEP_LINE, to_batch, train

from ocp_physmol.errors import UserError
from ocp_physmol.training import numerics


@pytest.mark.parametrize(
    ("name", "place", "sids"), [("energy", 1, "1"), ("forces", 3, "1"), ("forces", 0, "0")]
)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_structures_are_named(name, place, sids, value):
    batch = to_batch(molecule("H2O"), molecule("CH4"))
    outputs = {"energy": torch.zeros(2, 1), "forces": torch.zeros(8, 3)}
    numerics.require_finite_outputs(outputs, batch, 7)
    outputs[name][place, 0] = value
    with pytest.raises(UserError, match=rf"step 7: {name} of the structures {sids} \(sid\) is not"):
        numerics.require_finite_outputs(outputs, batch, 7)


def test_long_lists_are_cut():
    batch = to_batch(*[molecule("H2")] * 9)
    with pytest.raises(UserError, match=r"structures 0, 1, 2, 3, 4, ... \(sid\)"):
        numerics.require_finite_outputs({"energy": torch.full((9,), torch.nan)}, batch, 1)


def test_weights_and_errors():
    model = torch.nn.Linear(2, 1)
    numerics.require_finite_weights(model, 1)
    with torch.no_grad():
        model.bias[0] = torch.inf
    with pytest.raises(UserError, match="step 3: the weights 'bias' are not finite and are not"):
        numerics.require_finite_weights(model, 3)
    numerics.require_finite_metrics({"energy_mae": {"metric": 0.1}}, 1)
    with pytest.raises(UserError, match="step 2: energy_mae of the validation is nan; lower"):
        numerics.require_finite_metrics({"energy_mae": {"metric": float("nan")}}, 2)


def test_a_training_that_explodes_leaves_the_last_good_checkpoint(qm9_folder, tmp_path):
    first = train(qm9_folder, tmp_path, "--optim.max_epochs=1")
    assert first.returncode == 0, first.stdout[-2000:]
    file = tmp_path / "checkpoints/run/checkpoint.pt"
    again = train(
        qm9_folder,
        tmp_path,
        f"--checkpoint={file}",
        "--optim.lr_initial=1e30",
        "--optim.max_steps=30",
    )
    assert again.returncode == 2, again.stdout[-2000:]
    sentence = re.search(r"error: step (\d+): .* not finite.*; lower optim", again.stdout)
    assert sentence and len(STEP_LINE.findall(again.stdout)) <= int(sentence[1]) - 8
    state = torch.load(file, weights_only=True)
    assert state["step"] == 8
    assert all(value.isfinite().all() for value in state["state_dict"].values())
