"""Checkpoints are opened by models that mean the same by their weights."""

import pytest
from conftest import small_model

from ocp_physmol.checkpoint import require_same_architecture
from ocp_physmol.errors import UserError
from ocp_physmol.fairchem_compat.conservative import ConservativeModel

SIZES = {"hidden_channels": 16, "num_layers": 1, "num_rbf": 8, "attention_channels": 16}


def opened(trained: dict, options: dict, model=small_model) -> None:
    """Open with `options` what was trained with `trained`; both have the same shapes."""
    built = model(**{k: v for k, v in options.items() if k != "name"})
    checkpoint = {"state_dict": built.state_dict(), "config": {"model": trained}}
    require_same_architecture(built, options, checkpoint, "last.pt")


@pytest.mark.parametrize("key, former, now", [
    ("repulsion", False, True), ("prior", "gfn2", None), ("cutoff", 5.0, 6.0), ("num_heads", 8, 4),
])  # fmt: skip
def test_what_the_shapes_do_not_show_is_compared(key, former, now):
    given = {"name": "physmol", "readout": "atom", **SIZES}
    with pytest.raises(UserError, match=rf"last.pt was trained with model.{key} {former}, not"):
        opened({**given, key: former}, {**given, key: now})


def test_what_is_left_to_its_default_is_compared():
    given = {"name": "physmol", "readout": "atom", **SIZES}
    opened({**given, "repulsion": False}, given)
    with pytest.raises(UserError, match=r"model.repulsion True, not False"):
        opened({**given, "repulsion": True}, given)


def test_a_model_inside_is_compared():
    name = "fairchem.core.models.schnet.SchNetWrap"
    inner = {"name": name, "hidden_channels": 8, "num_filters": 8, "num_interactions": 1}
    given = {"name": "conservative", "energy_model": {**inner, "cutoff": 5.0}}
    now = {"name": "conservative", "energy_model": {**inner, "cutoff": 8.0}}
    opened(given, given, ConservativeModel)
    with pytest.raises(UserError, match=r"model.energy_model.cutoff 5.0, not 8.0"):
        opened(given, now, ConservativeModel)


def test_what_weights_do_not_depend_on_may_differ():
    given = {"name": "physmol", "readout": "atom", **SIZES}
    opened({**given, "name": "ocp_physmol.PhysMol", "regress_forces": False}, given)
