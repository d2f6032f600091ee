"""Where numbers come from: the machine, the versions and the state of the code."""

import os
import platform
import re
import subprocess
from datetime import date
from importlib.metadata import version
from pathlib import Path

import torch


def provenance(jobs: int) -> dict:
    """What else a measurement depends on, of which so many are made at the same time: `machine`,
    `versions`, `git` and `date`."""
    return {
        "machine": {"processor": _processor(), "cores": cores(), "threads": threads(jobs)},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "fairchem-core": version("fairchem-core"),
        },
        "git": {"revision": _git("rev-parse", "HEAD"),
                "dirty": bool(_git("status", "--porcelain", "--untracked-files=no"))},
        "date": date.today().isoformat(),
    }  # fmt: skip


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


def threads(jobs: int) -> int:
    """For each of so many processes at the same time."""
    return max(1, cores() // jobs)


def _processor() -> str:
    """Its model; Linux alone says it in full."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", cpuinfo.read_text()) if cpuinfo.is_file() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


def _git(*arguments: str) -> str | None:
    """What git prints; None without git or a repository."""
    try:
        result = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()
