"""Chains of commands of which some run at the same time, whatever becomes of the others."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tqdm import tqdm

from ocp_physmol.experiments.processes import start, tail

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path


@dataclass
class Chain:
    """Commands that follow each other, if none of them fails.

    Args:
        commands: by what they do ("training").
        log: the file to which each appends what it prints.
    """

    commands: dict[str, list[str]]
    log: Path
    process: subprocess.Popen | None = field(default=None, init=False)

    def begin_next(self, threads: int) -> None:
        """Start the next command."""
        self.doing = next(iter(self.commands))
        self.since = time.time()
        self.process = start(self.commands.pop(self.doing), self.log, threads)

    @property
    def failed(self) -> bool:
        return bool(self.process.poll())

    def __str__(self) -> str:
        return f"{self.doing}, {time.time() - self.since:.0f} s"


def run_queue(chains: dict[str, Chain], jobs: int, threads: int) -> dict[str, str]:
    """Run all chains to their ends, `jobs` at a time, each on `threads` threads.

    Returns:
        Of those in which a command failed the last line of the log, by name.
    """
    waiting, running, failed = list(chains), {}, {}
    bar = tqdm(total=len(chains), desc="Experiment", unit=" runs", mininterval=1)
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                name = waiting.pop(0)
                running[name] = chains[name]
                running[name].begin_next(threads)
            for name, chain in list(running.items()):
                if chain.process.poll() is None:
                    continue
                if chain.failed or not chain.commands:
                    del running[name]
                    bar.update()
                    if chain.failed:
                        failed[name] = tail(chain.log, 1)
                        bar.write(f"{name} failed while {chain.doing}: {failed[name]}")
                else:
                    chain.begin_next(threads)
            bar.set_postfix_str("; ".join(f"{n}: {chain}" for n, chain in running.items()))
            time.sleep(1 if running else 0)
    finally:
        for chain in running.values():
            chain.process.kill()
        bar.close()
    return failed
