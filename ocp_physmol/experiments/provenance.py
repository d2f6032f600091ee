"""Where numbers come from: the machine, the versions and the state of the code."""

import os
import platform
import re
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from subprocess import DEVNULL, CalledProcessError, check_output

import click
import torch

from ocp_physmol.cores import threads
from ocp_physmol.files import write_json


def provenance(jobs: int) -> dict:
    """`machine`, `versions`, `git` and `date` of a measurement, `jobs` of which run together."""
    return {
        "machine": {"processor": _processor(), "cores": len(os.sched_getaffinity(0)),
                    "threads": threads(jobs)},
        "versions": {"python": platform.python_version(), "torch": torch.__version__,
                     "fairchem-core": version("fairchem-core")},
        "git": {"revision": _git("rev-parse", "HEAD"),
                "dirty": bool(_git("status", "--porcelain", "--untracked-files=no"))},
        "date": date.today().isoformat(),
    }  # fmt: skip


def write_result(path: Path, content: dict, jobs: int, started: float, beside: str) -> None:
    """Write numbers, their provenance and the seconds since `started`, by `time.monotonic`."""
    seconds = time.monotonic() - started
    write_json(path, {**content, **provenance(jobs), "seconds": round(seconds)}, indent=2)
    click.echo(f"\nWritten in {seconds / 60:.1f} minutes: {path}{beside}")


def _processor() -> str:
    """The model's name; Linux alone says it in full."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", cpuinfo.read_text()) if cpuinfo.is_file() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


def _git(*arguments: str) -> str | None:
    """Git's output where this package is; None without git or a repository."""
    here = Path(__file__).parent
    try:
        check_output(["git", "ls-files", "--error-unmatch", __file__], cwd=here, stderr=DEVNULL)
        return check_output(["git", *arguments], cwd=here, stderr=DEVNULL, text=True).strip()
    except (OSError, CalledProcessError):
        return None
