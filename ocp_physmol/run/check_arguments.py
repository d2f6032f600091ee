"""Checks of main.py's own options, beside those of the config."""

import argparse

import torch

from ocp_physmol.errors import UserError
from ocp_physmol.run.check_config import SPLIT_OF_MODE


def check_arguments(args: argparse.Namespace, overrides: list[str]) -> None:
    """Raise a UserError if the options contradict each other or this machine."""
    for text in overrides:  # which must look like --optim.batch_size=8
        if not text.startswith("--") or text.count("=") != 1:
            raise UserError(
                f"unknown option '{text}'; a config key is overridden by --section.key=value, "
                "all other options are listed by --help"
            )
    if args.mode is None:
        raise UserError("--mode is missing; give " + ", ".join(SPLIT_OF_MODE))
    if args.mode != "train" and not args.checkpoint:
        raise UserError(f"--mode {args.mode} needs a trained model; give --checkpoint")
    if args.debug and args.submit:
        raise UserError("--debug leaves no checkpoints, which a job needs; leave out --submit")
    for option in ("num_gpus", "num_nodes", "slurm_mem", "slurm_timeout"):
        if getattr(args, option) < 1:
            option_name = f"--{option.replace('_', '-')}"
            raise UserError(f"{option_name} {getattr(args, option)} is not possible; at least 1 is")
    if args.num_nodes > 1 and not args.submit:
        raise UserError("--num-nodes needs a cluster; add --submit")
    if not args.cpu and not args.submit and args.num_gpus > torch.cuda.device_count():
        raise UserError(
            f"--num-gpus {args.num_gpus}, but {torch.cuda.device_count()} GPUs are here; add --cpu "
            "to run on the processor"
        )
