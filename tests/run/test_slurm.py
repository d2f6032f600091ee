"""Runs on a real SLURM: submitted, preempted, killed, swept."""

import re
import shutil
import time
from pathlib import Path

import pytest
import slurm
import torch
from conftest import losses_by_step, run_main, small_run, train

EPOCHS, STEPS = 40, 320

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("sbatch") is None, reason="no SLURM here: sbatch is not installed"
    ),
]


class Submitted:
    """A run of quickstart.yml, small, submitted by main.py."""

    def __init__(self, qm9_folder: Path, run_dir: Path, *more) -> None:
        self.run_dir = run_dir
        result = run_main(
            "--mode", "train", "--config-yml", "configs/qm9/quickstart.yml", "--cpu", "--submit",
            "--run-dir", run_dir, "--logdir", run_dir / "logs", "--slurm-mem", 2,
            "--slurm-timeout", 1, "--print-every", 1, *small_run(qm9_folder),
            f"--optim.max_epochs={EPOCHS}", "--optim.eval_every=100000", *more,
        )  # fmt: skip
        assert result.returncode == 0, result.stdout[-3000:]
        self.jobs = dict(re.findall(r"Job (\S+): (\S+), log", result.stdout))
        self.job = next(iter(self.jobs))

    def log(self, job: str | None = None) -> str:
        folder = self.run_dir / "logs" / (job or self.job)
        return "".join(p.read_text() for p in sorted(folder.glob("*_log.*")))

    def step(self) -> int:
        return max(losses_by_step(self.log()), default=0)

    def wait(self, condition, seconds: int = 120) -> None:
        end = time.time() + seconds
        while not condition():
            assert time.time() < end, slurm.call("sacct", "-j", self.job) + self.log()[-3000:]
            time.sleep(0.1)

    def wait_until_finished(self) -> None:
        for job in self.jobs:
            self.wait(lambda job=job: "job completed" in self.log(job).lower())
            self.wait(lambda job=job: slurm.state(job) == "COMPLETED")

    def checkpoint(self, job: str | None = None) -> dict:
        path = self.run_dir / "checkpoints" / self.jobs[job or self.job] / "checkpoint.pt"
        return torch.load(path, weights_only=True)


@pytest.fixture(scope="module")
def uninterrupted(qm9_folder, tmp_path_factory) -> Path:
    """The same run without SLURM."""
    folder = tmp_path_factory.mktemp("whole")
    result = train(qm9_folder, folder, f"--optim.max_epochs={EPOCHS}", "--optim.eval_every=100000")
    (folder / "log.txt").write_text(result.stdout)
    return folder


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_preempted_run_goes_on_where_it_was(ranks, qm9_folder, uninterrupted, tmp_path):
    """To the last bit, though the warning comes at any moment of a step, to data loaders too."""
    run = Submitted(qm9_folder, tmp_path, "--num-gpus", ranks, f"--optim.batch_size={4 // ranks}",
                    "--optim.num_workers=1")  # fmt: skip
    run.wait(lambda: run.step() >= 20)
    slurm.call("scancel", run.job, "--signal", "SIGTERM")  # as in a real preemption
    slurm.call("scancel", run.job, "--signal", "SIGUSR2")
    run.wait_until_finished()
    log = run.log()
    # SLURM's own count: it may end the job before submitit has logged that it asked for this
    assert "Restarts=1 " in slurm.call("scontrol", "show", "job", run.job)
    stopped = int(re.search(r"Loaded .*checkpoint\.pt, step (\d+)", log)[1])
    assert 20 <= stopped < STEPS
    found, expected = losses_by_step(log), losses_by_step((uninterrupted / "log.txt").read_text())
    assert set(found) == set(expected) == set(range(1, STEPS + 1))
    assert ranks == 2 or found == expected
    assert run.checkpoint()["step"] == STEPS


def test_a_killed_run_takes_up_its_newest_checkpoint(qm9_folder, uninterrupted, tmp_path):
    run = Submitted(qm9_folder, tmp_path, "--optim.checkpoint_every=10")
    run.wait(lambda: run.step() >= 25)
    slurm.kill(run.job)
    run.wait(lambda: slurm.state(run.job) in ("FAILED", "NODE_FAIL", "CANCELLED"))
    slurm.call("scontrol", "requeue", run.job)
    run.wait_until_finished()
    start = int(re.search(r"Loaded .*checkpoint\.pt, step (\d+)", run.log())[1])
    assert start >= 20 and start % 10 == 0
    whole = losses_by_step((uninterrupted / "log.txt").read_text())
    assert losses_by_step(run.log()) == whole


def test_a_sweep_is_a_job_array(qm9_folder, tmp_path):
    sweep = tmp_path / "sweep.yml"
    sweep.write_text("optim: {lr_initial: [0.001, 0.002]}\nmodel: {num_layers: [1]}\n")
    run = Submitted(qm9_folder, tmp_path, "--sweep-yml", sweep, "--identifier", "rates",
                    "--optim.max_epochs=1")  # fmt: skip
    run.wait_until_finished()
    assert [name[-10:] for name in run.jobs.values()] == ["rates_run0", "rates_run1"]
    rates = [run.checkpoint(job)["config"]["optim"]["lr_initial"] for job in run.jobs]
    assert rates == [0.001, 0.002]


def test_what_slurm_refuses_is_one_sentence(qm9_folder, tmp_path):
    result = run_main(
        "--mode", "train", "--config-yml", "configs/qm9/quickstart.yml", "--cpu", "--submit",
        "--run-dir", tmp_path, "--logdir", tmp_path, "--slurm-partition", "nowhere",
        *small_run(qm9_folder),
    )  # fmt: skip
    assert result.returncode == 2 and "Traceback" not in result.stdout
    assert "error: SLURM refused the job" in result.stdout
    assert "invalid partition" in result.stdout
