"""The quick part of the campaign: a fixed choice of inputs of every kind, each taken rightly."""

import pytest
from campaign import (
    command_options,
    config_values,
    damaged_files,
    odd_structures,
    unfit_contents,
)
from campaign.case import BAD, Case, Outcome, run, verdict

EVERY = {
    config_values: 97, command_options: 61, damaged_files: 43, odd_structures: 37,
    unfit_contents: 307,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("source", EVERY, ids=lambda source: source.__name__.split(".")[-1])
def test_inputs(source, small_data, tmp_path):
    cases = list(source.cases(small_data, tmp_path / "inputs"))
    outcomes = [run(case) for case in cases[:: EVERY[source]]]
    assert len(outcomes) >= 4
    wrong = {o.case.name: (o.verdict, o.printed[-1000:]) for o in outcomes if o.verdict in BAD}
    assert not wrong


@pytest.mark.parametrize(
    ("refused", "status", "printed", "judged"),
    [
        (True, 2, "error: file x is empty; make it again", "answered"),
        (None, 0, "loss: 1.5e-01, energy_mae: 0.25", "accepted"),
        (True, 0, "loss: 1.5", "wrong"),
        (False, 2, "error: no", "wrong"),
        (None, 0, "energy_mae: nan", "wrong"),
        (None, 2, "", "wrong"),
        (None, 1, "error: something", "wrong"),
        (None, -9, "", "wrong"),
        (True, 2, "Traceback (most recent call last)\nerror: x", "traceback"),
    ],
)
def test_verdicts(refused, status, printed, judged):
    assert verdict(Case("kind", "name", [], refused), status, printed) == judged


def test_what_hangs(monkeypatch):
    monkeypatch.setattr("campaign.case.TIMEOUT", 1)
    outcome = run(Case("kind", "name", ["-m", "timeit", "-n", "1", "import time; time.sleep(60)"]))
    assert isinstance(outcome, Outcome) and outcome.verdict == "hang"
