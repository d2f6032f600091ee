"""fairchem's command line, with our registrations in every process and our checks before a run."""

from __future__ import annotations

import itertools
import logging
import sys
import time
import uuid
import warnings
from pathlib import Path

from fairchem.core.common import distutils
from fairchem.core.common.flags import flags
from fairchem.core.common.utils import setup_logging
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from ocp_physmol.checks import check_arguments, check_config, read_config
from ocp_physmol.errors import EXIT_STATUS, UserError, exit_on_user_error
from ocp_physmol.runner import run_rank
from ocp_physmol.slurm import submit, sweep

# fairchem loads files of its own in a way that torch warns of: nothing that a user could mend
warnings.filterwarnings("ignore", category=FutureWarning, module="fairchem")


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, check what it asks for, and start it here or on the cluster."""
    setup_logging()
    args, overrides = flags.get_parser().parse_known_args(arguments)
    check_arguments(args, overrides)
    config = read_config(args, overrides)
    configs = sweep(config, args.sweep_yml) if args.sweep_yml else [config]
    started = time.strftime("%Y-%m-%d-%H-%M-%S")
    for number, config in enumerate(configs):
        run = f"_run{number}" if args.sweep_yml else ""
        if args.timestamp_id:
            config["timestamp_id"] = args.timestamp_id + run
        check_config(args, config)
        if not args.timestamp_id and not args.debug:
            name = "-".join(filter(None, [started, args.identifier])) + run
            config["timestamp_id"] = reserve(config["run_dir"], name)
    if args.submit:
        submit(args, configs)
    else:
        _run_here(config, args.num_gpus)


def reserve(run_dir: str, name: str) -> str:
    """Make the folder for a run's checkpoints; return `name`, or one like it that is not taken.

    (fairchem names runs by a time in single precision, the same name for two minutes: a second run
    would take the first one's checkpoint for its own.)
    """
    for number in itertools.count(1):
        free = name if number == 1 else f"{name}-{number}"
        try:
            Path(run_dir, "checkpoints", free).mkdir(parents=True)
            return free
        except FileExistsError:
            continue
        except OSError as e:
            raise UserError(f"--run-dir {run_dir} cannot be written to: {e.strerror}") from e


def _run_here(config: dict, ranks: int) -> None:
    """As fairchem does, which however takes the data loaders' workers away from several ranks."""
    if ranks == 1:
        distutils.setup_env_local()
        run_rank(config)
        return
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").addFilter(_unexplained)
    launch = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=ranks, rdzv_backend="c10d", max_restarts=0,
        # a name and a port of its own: else two runs on one machine take each other's ranks
        run_id=str(uuid.uuid4()), rdzv_endpoint="localhost:0",
    )  # fmt: skip
    try:
        elastic_launch(launch, run_rank)(config)
    except ChildFailedError as e:
        rank, failure = e.get_first_failure()
        if failure.exitcode == EXIT_STATUS:
            sys.exit(EXIT_STATUS)
        raise UserError(
            f"rank {rank} died with exit code {failure.exitcode}; its own message is above"
        ) from None


def _unexplained(record: logging.LogRecord) -> bool:
    """False for torch's report of a rank that has already said what was wrong."""
    return f"(exitcode: {EXIT_STATUS})" not in record.getMessage()
