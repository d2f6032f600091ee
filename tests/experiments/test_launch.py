"""Chains of small commands."""

import sys

import pytest

from ocp_physmol.errors import UserError
from ocp_physmol.experiments import launch as module
from ocp_physmol.experiments.launch import Chain, launch


@pytest.fixture(autouse=True)
def six_cores(monkeypatch):
    monkeypatch.setattr(module, "threads", lambda jobs: 6 // jobs)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_chains_go_on_where_another_one_fails(tmp_path):
    where = "import os; print(os.environ['OMP_NUM_THREADS'], {!r})"
    chains = {
        "fails": Chain({"first": python("raise SystemExit('error: it is wrong')"),
                        "second": python(where.format("never"))}, tmp_path / "a/log.txt"),
        "runs": Chain({"first": python(where.format("one")), "second": python(where.format("two"))},
                      tmp_path / "b/log.txt"),
    }  # fmt: skip
    assert launch(chains, 1, "Trying", go_on=True) == {"fails": "error: it is wrong"}
    assert "never" not in (tmp_path / "a/log.txt").read_text()
    assert (tmp_path / "b/log.txt").read_text() == "6 one\n6 two\n"


def test_jobs_run_at_the_same_time(tmp_path):
    """Each waits for the file of the other."""
    code = (
        "import os, pathlib, time\nhere = pathlib.Path({!r})\n(here / '{}').touch()\n"
        "end = time.time() + 30\n"
        "while not (here / '{}').exists():\n    assert time.time() < end\n    time.sleep(0.1)\n"
        "print(os.environ['OMP_NUM_THREADS'])"
    )
    chains = {
        a: Chain({"waiting": python(code.format(str(tmp_path), a, b))}, tmp_path / f"{a}.txt")
        for a, b in (("x", "y"), ("y", "x"))
    }
    assert launch(chains, 2, "Trying") == {}
    assert (tmp_path / "x.txt").read_text() == "3\n"


def test_a_failure_quotes_the_log_and_ends_the_others(tmp_path):
    chains = {
        "bad": Chain({"training": python("print('so far'); raise SystemExit('it is wrong')")},
                     tmp_path / "bad.txt"),
        "other": Chain({"training": python("import time; time.sleep(60)")}, tmp_path / "other.txt"),
    }  # fmt: skip
    with pytest.raises(UserError, match=r"(?s)training of 'bad' failed; .*bad\.txt ends with:.*it"):
        launch(chains, 2, "Training")
    assert chains["other"].process.wait(timeout=5) < 0


def test_ctrl_c_ends_all(tmp_path, monkeypatch):
    def interrupt(seconds):
        raise KeyboardInterrupt

    chain = Chain({"training": python("import time; time.sleep(60)")}, tmp_path / "log.txt")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(module.time, "sleep", interrupt)
        launch({"one": chain}, 1, "Training", 60)
    assert chain.process.wait(timeout=5) < 0


def test_a_chain_shows_its_last_validation(tmp_path):
    chain = Chain({}, tmp_path / "log.txt")
    line = "12:00 (INFO): energy_mae: {}, forces_mae: 0.0500, loss: 1.0, epoch: {}\n"
    chain.log.write_text(line.format("0.5000", "1.0000") + line.format("0.2500", "2.0000"))
    chain.doing = "training"
    assert str(chain) == "training, epoch 2, 250 meV, 0.050 eV/Å"
