"""Commands in processes forked from one that has already imported the package.

An import costs six seconds of a processor, and hundreds of runs would each pay it. All else is as
on the command line: a process of its own for every run, every rank, and every command that another
one starts. The tutorial's, the quickstart's and SLURM's runs begin in a fresh interpreter.
"""

import functools
import multiprocessing
import os
import resource
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace

from ocp_physmol import parent

REPOSITORY = Path(__file__).parents[1]
_context = multiprocessing.get_context("forkserver")
_forking = multiprocessing.get_context("fork")
_context.set_forkserver_preload(["ocp_physmol.run.cli"])
# a process that starts or ends asks for the status of all others, which can be read only once
_alone = threading.Lock()


class Popen:
    """What the package uses of `subprocess.Popen`, for `python main.py ...` or `python -m ...`."""

    def __init__(self, command: list[str], stdout, stderr=None, env=None) -> None:
        own = {key: value for key, value in (env or {}).items() if key != parent.ASKED}
        arguments = (command[1:], stdout.name, os.getcwd(), os.getpgrp(), own)
        self.process = _context.Process(target=_be, args=arguments)
        self.process.start()

    def poll(self) -> int | None:
        return self.process.exitcode

    def kill(self) -> None:
        self.process.kill()

    def wait(self) -> None:
        self.process.join()


STARTED = SimpleNamespace(Popen=Popen)  # in place of the module `subprocess`


def run(
    arguments: list[str], timeout: float, folder: Path = REPOSITORY
) -> subprocess.CompletedProcess:
    """`python` in `folder` with these arguments; all it prints is in `stdout`.

    Raises:
        subprocess.TimeoutExpired: after `timeout` seconds, when the run has been killed.
    """
    with tempfile.NamedTemporaryFile("r", suffix=".log") as log:
        process = start(arguments, log.name, folder)
        try:
            in_time = join(process, timeout)
        finally:
            kill(process)
        if not in_time:
            raise subprocess.TimeoutExpired(["python", *arguments], timeout, log.read())
        return subprocess.CompletedProcess(arguments, process.exitcode, stdout=log.read())


def start(
    arguments: list[str], log: str, folder: Path = REPOSITORY, limits: dict[str, int] | None = None
) -> BaseProcess:
    """`python` in `folder` with these arguments, in a group of processes of its own.

    `limits` are those of the module `resource`, by name; RLIMIT_AS is beyond what is taken already.
    """
    process = _context.Process(target=_be, args=(arguments, log, folder, 0, None, limits))
    with _alone:
        process.start()
    return process


def join(process: BaseProcess, timeout: float | None = None) -> bool:
    """Wait for the process as its own `join` does, from any thread; whether it has ended."""
    wait([process.sentinel], timeout)
    with _alone:
        return not process.is_alive()


def kill(process: BaseProcess) -> None:
    """SIGKILL to the process and to all that it has started, as at the end of a job."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with _alone:
        process.kill()  # it may not have made its group yet
    join(process)


def _be(
    arguments: list[str], log: str, folder: Path | str, group: int = 0, env=None, limits=None
) -> None:
    """What the forked process does: print to the log, and be `python` with the arguments."""
    os.setpgid(0, group)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests ignore them
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    file = open(log, "a", buffering=1)  # noqa: SIM115  # open as long as the process lives
    os.dup2(file.fileno(), 1)
    os.dup2(file.fileno(), 2)
    sys.stdout = sys.stderr = file
    os.environ.update(env or {})
    os.chdir(folder)
    sys.path.insert(0, str(REPOSITORY))
    from ocp_physmol.experiments import launch
    from ocp_physmol.run import local

    # ranks and the runs of a sweep are forked, too; with one thread a process (conftest.py) nothing
    # speaks against it
    local.LaunchConfig = functools.partial(local.LaunchConfig, start_method="fork")
    local.multiprocessing = SimpleNamespace(get_context=lambda _: _forking)
    launch.subprocess = STARTED
    for name, limit in (limits or {}).items():
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        taken = pages * resource.getpagesize() if name == "RLIMIT_AS" else 0
        resource.setrlimit(getattr(resource, name), (taken + limit,) * 2)
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")
