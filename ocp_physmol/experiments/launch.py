"""Commands in processes of their own: some at the same time, each on its share of the cores."""

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from ocp_physmol import parent
from ocp_physmol.cores import threads
from ocp_physmol.errors import UserError

# of a run, below its folder
BEST, LAST = (Path("checkpoints/run", f"{name}.pt") for name in ("best_checkpoint", "checkpoint"))
VALIDATION = re.compile(
    r"INFO\): energy_mae: ([\d.]+),(?: forces_mae: ([\d.]+),)?.* loss: [\d.]+, epoch: ([\d.]+)"
)


def ocp_physmol(name: str, *arguments: object) -> list[str]:
    """The command `ocp-physmol NAME ...`, with the Python that runs this."""
    return [sys.executable, "-m", "ocp_physmol", name, *map(str, arguments)]


def model_command(name: str, config: str | Path, folder: Path, *options: object) -> list[str]:
    """`train`, `validate`, `predict` or `relax` on the processor, into `folder`."""
    fixed = ("--cpu", f"--run-dir={folder}", "--timestamp-id", "run", "--print-every", 50)
    return ocp_physmol(name, f"--config-yml={config}", *fixed, *options)


@dataclass
class Chain:
    """Commands that run one after the other, until one fails."""

    commands: dict[str, list[str]]  # by what they do ("training")
    log: Path  # the file to which their output is appended
    process: subprocess.Popen | None = field(default=None, init=False)
    doing: str = field(default="", init=False)

    def poll(self, num_threads: int) -> int | None:
        """Begin the next command, if none runs; return the status of the last or failed one."""
        status = self.process.poll() if self.process else 0
        if status or status is None or not self.commands:
            return status
        self.doing = next(iter(self.commands))
        own = {
            "OMP_NUM_THREADS": str(num_threads),
            "TQDM_DISABLE": "1",
            parent.ASKED: str(os.getpid()),
        }
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                self.commands.pop(self.doing), stdout=log, stderr=log, env={**os.environ, **own}
            )
        return None

    def end_of_log(self, lines: int) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def __str__(self) -> str:
        """What runs, and the last validation in the log."""
        found = VALIDATION.findall(self.log.read_text(errors="replace"))
        if not found:
            return self.doing
        energy, force, epoch = found[-1]
        errors = f"{1000 * float(energy):.0f} meV" + (f", {float(force):.3f} eV/Å" if force else "")
        return f"{self.doing}, epoch {float(epoch):.0f}, {errors}"


def launch(
    chains: dict[str, Chain],
    jobs: int,
    title: str,
    seconds: float | None = None,
    go_on: bool = False,
) -> dict[str, str]:
    """Run all chains to their ends, `jobs` at a time. All are killed if an exception ends this.

    The progress bar counts finished chains, or `seconds`, if all takes so long. With `go_on`, a
    chain that fails does not end the others; the last line of its log is returned, by its name.

    Raises:
        UserError: if a chain fails and `go_on` is not set. It quotes the end of the log.
    """
    started, total = time.monotonic(), round(seconds) if seconds else len(chains)
    unit, shown = " s" if seconds else "", "{desc}: {n_fmt}/{total_fmt}{unit} |{bar:20}|{postfix}"
    bar = tqdm(desc=title, total=total, unit=unit, bar_format=shown, mininterval=1)
    left, failed = dict(chains), {}
    try:
        while left:
            running = dict(list(left.items())[:jobs])
            for name, chain in running.items():
                status = chain.poll(threads(jobs))
                if status is not None:
                    del left[name]
                if status and not go_on:
                    raise UserError(f"{title}: {chain.doing} of '{name}' failed; {chain.log} ends "
                                    f"with:\n{chain.end_of_log(15)}")  # fmt: skip
                if status:
                    failed[name] = chain.end_of_log(1)
                    bar.write(f"{name} failed while {chain.doing}: {failed[name]}")
            done = time.monotonic() - started if seconds else len(chains) - len(left)
            bar.n = min(round(done), total)
            states = [f"{name}: {chain}" for name, chain in running.items() if name in left]
            bar.set_postfix_str("; ".join(states))
            time.sleep(0.5 if states else 0)
    finally:
        for chain in left.values():
            if chain.process:
                chain.process.kill()
        bar.close()
    return failed
