"""Chains of small commands."""

import sys

from ocp_physmol.experiments.queued import Chain, run_queue


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
    assert run_queue(chains, jobs=1, threads=3) == {"fails": "error: it is wrong"}
    assert "never" not in (tmp_path / "a/log.txt").read_text()
    assert (tmp_path / "b/log.txt").read_text() == "3 one\n3 two\n"


def test_jobs_run_at_the_same_time(tmp_path):
    """Each waits for the file of the other."""
    code = (
        "import pathlib, time\nhere = pathlib.Path({!r})\n(here / '{}').touch()\n"
        "end = time.time() + 30\n"
        "while not (here / '{}').exists():\n    assert time.time() < end\n    time.sleep(0.1)"
    )
    chains = {
        a: Chain({"waiting": python(code.format(str(tmp_path), a, b))}, tmp_path / f"{a}.txt")
        for a, b in (("x", "y"), ("y", "x"))
    }
    assert run_queue(chains, jobs=2, threads=1) == {}
