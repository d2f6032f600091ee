"""Commands of main.py that run at the same time, each on its share of the processor's cores."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from tqdm import tqdm

from ocp_physmol.errors import UserError
from ocp_physmol.experiments.provenance import threads

if TYPE_CHECKING:
    from pathlib import Path

VALIDATION = re.compile(
    r"INFO\): energy_mae: ([\d.]+),(?: forces_mae: ([\d.]+),)?.* loss: [\d.]+, epoch: ([\d.]+)"
)


def main_py(mode: str, config: str, run_dir: Path, *options) -> list[str]:
    """`python main.py ...` on the processor, with checkpoints in `run_dir`/checkpoints/run."""
    return [
        sys.executable, "main.py", "--mode", mode, "--config-yml", config, "--cpu",
        "--run-dir", str(run_dir), "--timestamp-id", "run", "--print-every", "50",
        *map(str, options),
    ]  # fmt: skip


def run_together(
    commands: dict[str, list[str]], logs: dict[str, Path], title: str, seconds: float | None = None
) -> None:
    """Run all commands at the same time to their end, and show how they do.

    Args:
        commands: by name.
        logs: the file to which each appends what it prints.
        title: of the progress bar.
        seconds: how long it will take, if that is known.

    Raises:
        UserError: if one fails; it holds the end of its log. The others are ended, too.
    """
    running = {}
    try:
        for name, command in commands.items():
            running[name] = start(command, logs[name], threads(len(commands)))
        _watch(running, logs, title, seconds)
    finally:
        for process in running.values():
            process.kill()


def start(command: list[str], log: Path, num_threads: int) -> subprocess.Popen:
    """Start a command on so many threads that appends what it prints, but for bars, to a log."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(num_threads), "TQDM_DISABLE": "1"}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, env=environment)


def _watch(running: dict, logs: dict[str, Path], title: str, seconds: float | None) -> None:
    known = "{n:.0f}/{total:.0f} s |{bar:20}|" if seconds else "{n:.0f} s"
    bar = tqdm(
        total=seconds and round(seconds), desc=title, mininterval=1,
        bar_format=f"{{desc}}: {known} {{postfix}}",
    )  # fmt: skip
    started, alive = time.time(), True
    while alive:
        alive = any(process.poll() is None for process in running.values())
        for name, process in running.items():
            if process.poll():
                end = tail(logs[name], 15)
                raise UserError(f"{title} of '{name}' stopped; {logs[name]} ends with:\n{end}")
        elapsed = round(time.time() - started)
        bar.n = min(elapsed, bar.total) if seconds else elapsed
        progress = {name: _progress(logs[name]) for name in running if logs[name].is_file()}
        bar.set_postfix_str("; ".join(f"{n}: {text}" for n, text in progress.items() if text))
        time.sleep(1 if alive else 0)
    bar.close()


def tail(log: Path, lines: int) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def _progress(log: Path) -> str:
    """The last validation in a log."""
    found = VALIDATION.findall(log.read_text(errors="replace"))
    if not found:
        return ""
    energy, force, epoch = found[-1]
    errors = f"{1000 * float(energy):.0f} meV" + (f", {float(force):.3f} eV/Å" if force else "")
    return f"epoch {float(epoch):.0f}, {errors}"
