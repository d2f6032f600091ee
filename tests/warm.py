"""Runs of main.py in processes forked from one that has already imported the package.

An import costs four seconds of a processor, and hundreds of runs would each pay it. All else is as
on the command line: a process of its own for every run and every rank. Runs that must begin in a
fresh interpreter use `conftest.command` instead.
"""

import functools
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["ocp_physmol.run.cli"])


def run(arguments: list[str], timeout: float) -> subprocess.CompletedProcess:
    """`python main.py` with these arguments; all it prints is in `stdout`.

    Raises:
        subprocess.TimeoutExpired: after `timeout` seconds, when the run has been killed.
    """
    with tempfile.NamedTemporaryFile("r", suffix=".log") as log:
        process = _context.Process(target=_main, args=(arguments, log.name))
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(["main.py", *arguments], timeout, log.read())
        return subprocess.CompletedProcess(arguments, process.exitcode, stdout=log.read())


def _main(arguments: list[str], log: str) -> None:
    """What the forked process does: print to the log, and be main.py."""
    file = open(log, "a", buffering=1)  # noqa: SIM115  # open as long as the process lives
    os.dup2(file.fileno(), 1)
    os.dup2(file.fileno(), 2)
    sys.stdout = sys.stderr = file
    os.chdir(REPOSITORY)
    sys.path.insert(0, str(REPOSITORY))
    sys.argv = ["main.py", *arguments]
    from ocp_physmol.run import local

    # ranks are forked, too; with one thread a process (conftest.py) nothing speaks against it
    local.LaunchConfig = functools.partial(local.LaunchConfig, start_method="fork")
    runpy.run_path("main.py", run_name="__main__")
