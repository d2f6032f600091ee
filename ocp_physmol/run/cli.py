"""fairchem's command line with our checks before a run."""

import argparse
import time
from contextlib import nullcontext, suppress
from itertools import chain, count
from pathlib import Path

import torch
from fairchem.core.common.flags import flags
from fairchem.core.common.utils import setup_logging

from ocp_physmol import register, trust
from ocp_physmol.errors import UserError, blame, exit_on_user_error
from ocp_physmol.fairchem_compat.warnings_filter import without_fairchems_warnings
from ocp_physmol.run.check_config import SPLIT_OF_MODE, check_config
from ocp_physmol.run.config_file import read_config
from ocp_physmol.run.local import run_here, run_in_turn
from ocp_physmol.run.slurm import submit
from ocp_physmol.run.sweep import sweep

LONGEST_NAME = 150  # bytes; a folder's name has at most 255, with a date and a run of a sweep


@exit_on_user_error()
def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, check what it asks for, and start it here or on the cluster."""
    register()
    setup_logging()
    parser = argparse.ArgumentParser(parents=[flags.get_parser()], add_help=False)
    parser.add_argument("--trust", action="store_true", help=trust.HELP)
    args, overrides = parser.parse_known_args(arguments)
    if args.trust:
        trust.allow_code()
    check_arguments(args, overrides)
    configs = checked_configs(args, read_config(args, overrides))
    if args.submit:
        submit(args, list(configs.values()))
    elif args.sweep_yml:
        run_in_turn(configs, args.num_gpus)
    else:
        run_here(configs[""], args.num_gpus)


def check_arguments(args: argparse.Namespace, overrides: list[str]) -> None:
    """Raise a UserError if the options contradict each other or this machine."""
    for text in overrides:  # which must look like --optim.batch_size=8
        if not text.startswith("--") or text.count("=") != 1:
            cure = "a config key is overridden by --section.key=value, and --help lists the options"
            raise UserError(f"unknown option '{text}'; {cure}")
    for option, value in vars(args).items():
        if value == []:  # what argparse makes of --option=--
            raise UserError(f"--{option.replace('_', '-')} has no value; give one")
    for option, name in (("identifier", args.identifier), ("timestamp-id", args.timestamp_id)):
        unfit = "/" in (name or "") or name in (".", "..")
        if name and (unfit or len(name.encode()) > LONGEST_NAME):
            raise UserError(
                f"--{option} {name[:80]} cannot name a folder; give at most {LONGEST_NAME} bytes "
                "without '/'"
            )
    if args.mode is None:
        raise UserError("--mode is missing; give " + ", ".join(SPLIT_OF_MODE))
    if args.mode != "train" and not args.checkpoint:
        raise UserError(f"--mode {args.mode} needs a trained model; give --checkpoint")
    if args.debug and args.submit:
        raise UserError("--debug leaves no checkpoints, which a job needs; leave out --submit")
    for option in ("--num-gpus", "--num-nodes", "--slurm-mem", "--slurm-timeout"):
        value = getattr(args, option[2:].replace("-", "_"))
        if value < 1:
            raise UserError(f"{option} {value} is not possible; at least 1 is")
    if args.num_nodes > 1 and not args.submit:
        raise UserError("--num-nodes needs a cluster; add --submit")
    if args.cpu or args.submit:
        return
    if args.num_gpus > (gpus := torch.cuda.device_count()):
        raise UserError(f"--num-gpus {args.num_gpus}, but {gpus} GPUs are here; add --cpu")


def checked_configs(args: argparse.Namespace, config: dict) -> dict[str, dict]:
    """The configurations of a sweep's runs by name, or of one run with an empty name.

    Each is completed and has a folder of its own. If one cannot start, a UserError says why.
    """
    configs = sweep(config, args.sweep_yml) if args.sweep_yml else {"": config}
    started = filter(None, [time.strftime("%Y-%m-%d-%H-%M-%S"), args.identifier])
    common = args.timestamp_id or "-".join(started)
    for name, config in configs.items():
        folder = "_".join(filter(None, [common, name]))
        if args.timestamp_id:
            config["timestamp_id"] = folder
        of_sweep = blame(f"--sweep-yml {args.sweep_yml}, {name}", UserError)
        with of_sweep if name else nullcontext(), without_fairchems_warnings():
            config = configs[name] = check_config(args, config)
        if not args.timestamp_id and not args.debug:
            config["timestamp_id"] = reserve(config["run_dir"], folder)
    return configs


def reserve(run_dir: str, name: str) -> str:
    """Make the folder for a run's checkpoints; return `name`, or one like it that is not taken.

    Two runs that fairchem names in the same two minutes share a name, as it holds times in single
    precision; the second would go on from the first one's checkpoint.
    """
    with blame(f"--run-dir {run_dir} cannot be written to", OSError):
        for free in chain([name], (f"{name}-{number}" for number in count(2))):
            with suppress(FileExistsError):
                Path(run_dir, "checkpoints", free).mkdir(parents=True)
                break
    return free
