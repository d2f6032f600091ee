"""Runs as jobs of SLURM: main.py ... --submit, through submitit."""

import argparse
import copy
import logging
import shutil

from fairchem.core.common.utils import save_experiment_log
from submitit import AutoExecutor, Job
from submitit.core.utils import FailedJobError

from ocp_physmol.errors import UserError, blame
from ocp_physmol.run.runner import Runner

MAX_TIMEOUTS = 3  # how often a job that reaches its time limit is requeued
_RESOURCES = {  # of which all jobs of an array have the same
    "optim.num_workers": lambda config: config["optim"]["num_workers"],
    "slurm": lambda config: config.get("slurm"),
}


def submit(args: argparse.Namespace, configs: list[dict]) -> list[Job]:
    """Submit one job, or a job array; a UserError if SLURM is absent or refuses it."""
    if shutil.which("sbatch") is None:
        raise UserError(
            "there is no sbatch on this machine; submit from the cluster's login node, or leave "
            "out --submit"
        )
    for key, value in _RESOURCES.items():
        if any(value(config) != value(configs[0]) for config in configs):
            raise UserError(
                f"{key} differs between the runs of the sweep, which are one array of jobs; give "
                "it in the config alone, or submit the runs one by one"
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
        # when a rank dies, the others would wait for it: end them, too
        slurm_srun_args=["--kill-on-bad-exit=1"],
        slurm_additional_parameters={"requeue": True, **(configs[0].get("slurm") or {})},
    )
    for config in configs:
        config["slurm"] = copy.deepcopy(executor.parameters)
    with blame("SLURM refused the job", FailedJobError):
        jobs = executor.map_array(Runner(), configs)
    for job, config in zip(jobs, configs):
        logging.info(f"Job {job.job_id}: {config['timestamp_id']}, log {job.paths.stdout}")
    logging.info(f"What was submitted: {save_experiment_log(args, jobs, configs)}")
    return jobs
