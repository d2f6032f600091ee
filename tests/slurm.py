"""Questions and orders to a real SLURM."""

import os
import signal
import subprocess


def call(*command: str) -> str:
    """One of SLURM's programs; what it prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def state(job: str) -> str:
    """As sacct calls it."""
    return call("sacct", "-X", "-n", "-P", "-o", "State", "-j", job).strip()


def kill(job: str) -> None:
    """SIGKILL to each process of a job, as when its machine runs out of memory."""
    # a job that has ended has no processes, which scontrol takes for an error
    found = subprocess.run(["scontrol", "listpids", job], capture_output=True, text=True)
    for line in found.stdout.splitlines()[1:]:
        pid = int(line.split()[0])
        if pid > 0:
            os.kill(pid, signal.SIGKILL)
