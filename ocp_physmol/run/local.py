"""Runs on this machine: one, or a sweep's runs one after the other."""

import logging
import multiprocessing
import os
import signal
import sys
import uuid

from fairchem.core.common import distutils
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from tqdm import tqdm

from ocp_physmol.errors import EXIT_STATUS, UserError, exit_on_user_error
from ocp_physmol.parent import end_with
from ocp_physmol.run.runner import run_rank


def run_here(config: dict, ranks: int) -> None:
    """Run on this machine, each rank in its own process; a UserError if one dies unexplained."""
    if ranks == 1:
        distutils.setup_env_local()
        run_rank(config)
        return
    # fairchem's own launcher leaves data loaders no workers where there are several ranks
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").addFilter(_unexplained)
    launch = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=ranks, rdzv_backend="c10d", max_restarts=0,
        # an id and a port of its own keep the ranks of two runs on one machine apart
        run_id=str(uuid.uuid4()), rdzv_endpoint="localhost:0",
    )  # fmt: skip
    try:
        elastic_launch(launch, _run_one_of_several)(config, os.getpid())
    except SignalException as e:  # to this process; its ranks have had theirs
        if e.sigval == signal.SIGINT:
            raise KeyboardInterrupt from None
        sys.exit(128 + e.sigval)
    except ChildFailedError as e:
        rank, failure = e.get_first_failure()
        if failure.exitcode == EXIT_STATUS:
            sys.exit(EXIT_STATUS)
        raise UserError(
            f"rank {rank} died with exit code {failure.exitcode}; its own message is above"
        ) from None


def _run_one_of_several(config: dict, parent: int) -> None:
    end_with(parent)
    run_rank(config)


def _unexplained(record: logging.LogRecord) -> bool:
    """False for torch's report of a rank that has already said what was wrong."""
    return f"(exitcode: {EXIT_STATUS})" not in record.getMessage()


def run_in_turn(configs: dict[str, dict], ranks: int) -> None:
    """Run each configuration in a fresh process; at the end, a UserError if some have failed."""
    failed, spawn = [], multiprocessing.get_context("spawn")
    for name, config in tqdm(configs.items(), desc="Sweep", unit=" runs"):
        logging.info(f"Run {name}: checkpoints/{config['timestamp_id']}")
        process = spawn.Process(target=_run_apart, args=(config, ranks, os.getpid()), name=name)
        process.start()
        process.join()
        if process.exitcode != 0:
            failed.append(name)
    if failed:
        raise UserError(
            f"{len(failed)} of {len(configs)} runs failed: {', '.join(failed)}; their own messages "
            "are above, and the same command with --timestamp-id goes on with what is unfinished"
        )


@exit_on_user_error()
def _run_apart(config: dict, ranks: int, parent: int) -> None:
    end_with(parent)
    run_here(config, ranks)
