"""What follows from the rest of a configuration, and how checkpoints name classes."""

import copy

import pytest
import torch
from fairchem.core.common.registry import registry

import ocp_physmol
from ocp_physmol.training.resolve import resolve
from ocp_physmol.training.trainer import import_path

ENERGY = {"energy": {"fn": "mae", "coefficient": 1.0}}
MASKED = {"masked_atoms": {"fn": "masked_atoms", "coefficient": 0.1, "mask_ratio": 0.3}}
OUTPUTS = {"energy": {"level": "system"}, "forces": {"level": "atom"}}


def config(*entries, outputs=OUTPUTS, **model):
    return {"model": {"name": "physmol", **model}, "outputs": outputs,
            "loss_functions": [ENERGY, *entries]}  # fmt: skip


def test_a_term_gets_what_it_asks_of_the_model():
    assert resolve(config(MASKED))["model"]["use_masking"]
    off = {"masked_atoms": {**MASKED["masked_atoms"], "coefficient": 0}}
    assert "use_masking" not in resolve(config(off))["model"]


def test_a_model_gets_the_classifier_that_a_checkpoint_has():
    with_one = {"state_dict": {"module.classifier.0.weight": torch.zeros(1)}}
    assert resolve(config(), with_one)["model"]["use_masking"]
    assert "use_masking" not in resolve(config(), {"state_dict": {}})["model"]


def test_forces_are_computed_where_outputs_name_them():
    assert resolve(config())["model"]["regress_forces"] is True
    energy = {"energy": OUTPUTS["energy"]}
    assert resolve(config(outputs=energy))["model"]["regress_forces"] is False
    asked = resolve(config(outputs=energy, regress_forces=True))
    assert asked["model"]["regress_forces"] is True


def test_a_model_is_given_no_option_that_it_does_not_take():
    wrapped = config(MASKED, name="conservative", energy_model={"name": "schnet"})
    assert "use_masking" not in resolve(wrapped)["model"]


def test_the_configuration_itself_stays_as_it_is():
    given = config(MASKED)
    before = copy.deepcopy(given)
    resolve(given)
    assert given == before


def test_resolving_twice_changes_nothing():
    once = resolve(config(MASKED))
    assert resolve(once) == once


@pytest.mark.parametrize("name", ["PhysMol", "ConservativeModel", "PhysMolTrainer"])
def test_checkpoints_name_classes_by_the_package(name):
    """So that files may move, and old checkpoints open."""
    cls = getattr(ocp_physmol, name)
    assert import_path(cls) == f"ocp_physmol.{name}"
    assert registry.get_class(f"ocp_physmol.{name}", "model_name_mapping") is cls


def test_other_classes_are_named_by_their_modules():
    assert import_path(torch.nn.Linear) == "torch.nn.modules.linear.Linear"
