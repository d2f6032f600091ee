"""The cores of this machine that a process may use."""

import os


def threads(jobs: int) -> int:
    """For each of `jobs` processes at the same time, of the cores that this process may use.

    Not more than OMP_NUM_THREADS, where it is set: on a busy machine, threads wait for each other.
    """
    share = max(1, _cores() // jobs)
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(share, int(limit)) if limit.isdigit() and int(limit) else share


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
