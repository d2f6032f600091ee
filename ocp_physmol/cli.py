"""fairchem's command line, with our registrations in every process and our checks before the run.

A process may start in four ways: as the command itself, as one of its ranks, as a job of submitit,
or as a notebook that opens a checkpoint. The first three unpickle what is defined here, and with
this module comes the whole package; for the fourth a checkpoint names classes by import path.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import warnings

from fairchem.core import _cli
from fairchem.core.common.flags import flags
from fairchem.core.common.utils import setup_logging
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from ocp_physmol.checks import check_run, parse_overrides
from ocp_physmol.errors import EXIT_STATUS, UserError, exit_on_user_error

# fairchem loads files of its own in a way that torch warns of: nothing that a user could mend
warnings.filterwarnings("ignore", category=FutureWarning, module="fairchem")


class Runner(_cli.Runner):
    """fairchem's runner, pickled by reference to this module."""

    def checkpoint(self, *args, **kwargs):
        submission = super().checkpoint(*args, **kwargs)
        submission.function = type(self)()
        return submission


@exit_on_user_error
def run_rank(config: dict) -> None:
    """What each rank of a local run executes."""
    threading.Thread(target=_die_with, args=(os.getppid(),), daemon=True).start()
    runner = Runner()
    try:
        runner(config)
    finally:
        # torch 2.4 hangs if the process group is freed, with the runner that holds its trainer,
        # while gloo's thread still waits for the interpreter to let go of its last tensor
        time.sleep(0.2)


def _die_with(parent: int) -> None:
    """End this rank when the command that started it is gone, even by SIGKILL.

    It would otherwise train on and overwrite the checkpoints of the run that takes over.
    """
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _unexplained(record: logging.LogRecord) -> bool:
    """False for torch's report of a rank that has already said what was wrong."""
    return f"(exitcode: {EXIT_STATUS})" not in record.getMessage()


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, check what it asks for, and hand over to fairchem."""
    setup_logging()
    args, overrides = flags.get_parser().parse_known_args(arguments)
    parse_overrides(overrides)
    check_run(args, overrides)
    _cli.Runner, _cli.runner_wrapper = Runner, run_rank
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").addFilter(_unexplained)
    try:
        _cli.main(args, overrides)
    except ChildFailedError as e:
        rank, failure = e.get_first_failure()
        if failure.exitcode == EXIT_STATUS:
            sys.exit(EXIT_STATUS)
        raise UserError(
            f"rank {rank} died with exit code {failure.exitcode}; its own message is above"
        ) from None
