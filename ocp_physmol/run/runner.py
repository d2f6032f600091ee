"""What each process of a run executes: fairchem's runner, on this machine or in a SLURM job.

Jobs are pickled by reference to this module.
"""

import multiprocessing
import os
import signal
import time
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

from fairchem.core import _cli
from submitit.helpers import DelayedSubmission, TorchDistributedEnvironment

import ocp_physmol
from ocp_physmol.errors import exit_on_user_error, naming
from ocp_physmol.fairchem_compat.warnings_filter import without_fairchems_warnings
from ocp_physmol.files import alone_with
from ocp_physmol.training.preemption import warning_signal


class Runner(_cli.Runner):
    """fairchem's runner. In a SLURM job it also finds its rank and the run's newest checkpoint."""

    @exit_on_user_error()
    def __call__(self, config: dict) -> None:
        if config["cpu"]:  # fairchem takes a GPU for each rank wherever there are any
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        ocp_physmol.register()
        if config["submit"]:
            config = self._in_job(config)
        if config["mode"] != "train":  # ranks may have to wait long for the last one to finish
            config = {"timeout": 24 * 60, **config}  # minutes
        with without_fairchems_warnings(), naming(config["run_dir"]), self._alone(config):
            super().__call__(config)

    @staticmethod
    def _alone(config: dict) -> AbstractContextManager:
        """Held by the first rank of a training: two in one folder would overwrite each other's."""
        first = int(os.environ.get("RANK", 0)) == 0
        if config["mode"] != "train" or not config["timestamp_id"] or not first:
            return nullcontext()
        folder = Path(config["run_dir"], "checkpoints", config["timestamp_id"])
        folder.parent.mkdir(parents=True, exist_ok=True)
        return alone_with(folder, "trains in")

    @staticmethod
    def _in_job(config: dict) -> dict:
        """The configuration of a run whose ranks SLURM has started."""
        # fairchem's own way from SLURM to ranks knows only GPUs, and one port for all jobs
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        # SLURM also sends its warnings to data loaders, which would die or requeue the job again
        signals = {signal.SIGTERM, warning_signal()}
        block = partial(signal.pthread_sigmask, signal.SIG_BLOCK, signals)
        os.register_at_fork(after_in_child=block)
        config = {**config, "submit": False}
        newest = Path(config["run_dir"], "checkpoints", config["timestamp_id"], "checkpoint.pt")
        restarted = int(os.environ.get("SLURM_RESTART_COUNT", 0)) > 0
        if restarted and config["mode"] == "train" and newest.is_file():
            # whatever ended the job, the newest checkpoint is ahead of the one it began with
            config["checkpoint"] = str(newest)
        return config

    def checkpoint(self, config: dict) -> DelayedSubmission:
        """What submitit is to run next after a warning of preemption or time-out."""
        trainer = getattr(self, "trainer", None)
        if trainer is not None:
            getattr(trainer, "save_if_training", trainer.save)()  # also a trainer of fairchem's
            if trainer.logger is not None:
                trainer.logger.mark_preempting()
        return DelayedSubmission(type(self)(), config)


@exit_on_user_error()
def run_rank(config: dict) -> None:
    """What the one rank, or each of several, of a run on this machine executes."""
    # a spawned rank would spawn its data loaders, and an open LMDB cannot be pickled for them
    multiprocessing.set_start_method("fork", force=True)
    runner = Runner()
    try:
        runner(config)
    finally:
        # gloo's thread needs the interpreter to free its last tensor; torch 2.4 hangs if the
        # process group is freed before that, together with the runner that holds the trainer
        time.sleep(0.2)
