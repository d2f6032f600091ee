"""Options of schedulers and budgets, and what contradicts them."""

import pytest
from refusals import CONFIG, read, refusal

from ocp_physmol.errors import UserError
from ocp_physmol.run.check_config import check_config

PLATEAU = {
    "optim.patience=few": "optim.patience: 'few' is not possible; it must be a valid number",
    "optim.patiense=3": "optim.patiense is an unknown key; did you mean 'patience'?",
    "optim.factor=2": "optim: Factor should be < 1.0.",
    "optim.mode=down": "optim.mode: 'down' is not possible; it must be 'min' or 'max'",
}


@pytest.mark.parametrize("override", PLATEAU)
def test_options_of_a_scheduler(override):
    assert PLATEAU[override] in refusal(override, config="configs/qm9/physmol.yml")


def test_budgets_and_what_contradicts_them(caplog):
    assert "optim.evaluations and optim.eval_every are both given" in refusal(
        "optim.evaluations=5", "optim.eval_every=5"
    )
    assert "optim.evaluations divides a budget; leave out optim.scheduler" in refusal(
        "optim.max_seconds=None", "optim.scheduler=Null", "optim.evaluations=5"
    )
    energies = ("trainer=ocp", "loss_functions=[{'energy':{'fn':'mae','coefficient':1.0}}]")
    assert "optim.max_seconds needs trainer: physmol" in refusal(*energies)
    assert "optim.scheduler is missing; name one, or use trainer: physmol" in refusal(
        *energies, "optim.max_seconds=None"
    )
    args, config = read(CONFIG, "optim.scheduler=Null", "dataset.train.src=nowhere")
    with pytest.raises(UserError, match="nowhere does not exist"):
        check_config(args, config)
    assert "optim.scheduler Null is not used: with optim.max_seconds" in caplog.text
