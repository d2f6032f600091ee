"""Runs as jobs of SLURM: main.py ... --submit, through submitit."""

from __future__ import annotations

import copy
import itertools
import logging
import shutil
from typing import TYPE_CHECKING

import yaml
from fairchem.core.common.utils import UniqueKeyLoader, dict_set_recursively, save_experiment_log
from submitit import AutoExecutor
from submitit.core.utils import FailedJobError

from ocp_physmol.errors import UserError
from ocp_physmol.runner import Runner

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from submitit import Job

MAX_TIMEOUTS = 3  # a job that reaches its time limit is requeued so many times


def submit(args: argparse.Namespace, configs: list[dict]) -> list[Job]:
    """Submit a run for each configuration, several of them as one job array.

    Raises:
        UserError: if there is no SLURM here, or it refuses the job.
    """
    if shutil.which("sbatch") is None:
        raise UserError(
            "--submit needs SLURM, and there is no sbatch on this machine; submit from the "
            "cluster's login node, or run here without --submit"
        )
    executor = AutoExecutor(
        folder=args.logdir / "%j", cluster="slurm", slurm_max_num_timeout=MAX_TIMEOUTS
    )
    executor.update_parameters(
        name=args.identifier or "ocp-physmol",
        mem_gb=args.slurm_mem,
        timeout_min=args.slurm_timeout * 60,
        nodes=args.num_nodes,
        tasks_per_node=args.num_gpus,
        gpus_per_node=None if args.cpu else args.num_gpus,
        cpus_per_task=configs[0]["optim"]["num_workers"] + 1,
        slurm_partition=args.slurm_partition,
        slurm_qos=args.slurm_qos,
        slurm_account=args.slurm_account,
        # a rank that dies takes the others along, which would wait for it
        slurm_srun_args=["--kill-on-bad-exit=1"],
        slurm_additional_parameters={"requeue": True, **(configs[0].get("slurm") or {})},
    )
    for config in configs:
        config["slurm"] = copy.deepcopy(executor.parameters)
    try:
        jobs = executor.map_array(Runner(), configs)
    except FailedJobError as e:
        raise UserError(f"SLURM refused the job: {' '.join(str(e).split())[:500]}") from e
    for job, config in zip(jobs, configs):
        logging.info(f"Job {job.job_id}: {config['timestamp_id']}, log {job.paths.stdout}")
    logging.info(f"What was submitted: {save_experiment_log(args, jobs, configs)}")
    return jobs


def sweep(config: dict, path: Path) -> list[dict]:
    """One configuration for each combination of the values listed in a YAML file.

    The file has the config's own nesting, with a list of values in each place. (fairchem's
    `create_grid` needs Python < 3.10.) Runs are told apart by their identifiers.

    Raises:
        UserError: if the file is missing, is no YAML, or holds something else than lists.
    """
    try:
        tree = yaml.load(path.read_text(), Loader=UniqueKeyLoader)
    except (OSError, yaml.YAMLError, ValueError) as e:
        raise UserError(f"--sweep-yml {path} cannot be read: {' '.join(str(e).split())}") from e
    axes = dict(_axes(tree, path))
    configs = []
    for number, values in enumerate(itertools.product(*axes.values())):
        one = copy.deepcopy(config)
        for keys, value in zip(axes, values):
            dict_set_recursively(one, list(keys), value)
        one["identifier"] = f"{config['identifier']}_run{number}"
        configs.append(one)
    return configs


def _axes(tree, path: Path, keys: tuple[str, ...] = ()):
    """Pairs of a key's path and the values that it takes."""
    if isinstance(tree, list) and keys and tree:
        yield keys, tree
    elif isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from _axes(value, path, (*keys, key))
    else:
        where = ".".join(keys) or "the file"
        raise UserError(f"--sweep-yml {path}: {where} must hold a list of values, or keys that do")
