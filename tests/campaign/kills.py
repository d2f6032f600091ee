"""Commands that are killed at a random moment and started again, and whether they end the same."""

import random
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import slurm
import warm
import yaml
from campaign.contents import contents
from campaign.data import data_in, make_data
from campaign.table import table
from conftest import small_run, wait_for
from tqdm import tqdm

TIMEOUT = 900  # seconds
VERDICTS = ("the same end", "another end", "half-written file", "failed when started again")
SMALL = ["--model.hidden_channels=16", "--model.num_layers=1", "--model.attention_channels=8",
         "--model.vector_channels=8"]  # fmt: skip


@dataclass(frozen=True)
class Work:
    """A command that fills a folder, for which {out} stands in its arguments."""

    kind: str
    share: int  # of a hundred kills
    arguments: list[str]  # of python

    def start(
        self, folder: Path, log: Path | None = None, through: Sequence[str] = (), limits=None
    ) -> BaseProcess:
        """The running command; `through` is a program that starts it."""
        arguments = [*through, *(text.replace("{out}", str(folder)) for text in self.arguments)]
        return warm.start(arguments, str(log or folder.with_suffix(".log")), limits=limits)

    def kill(self, folder: Path, moment: float) -> None:
        """Start, and SIGKILL to all that runs after `moment` seconds."""
        process = self.start(folder)
        warm.join(process, moment)
        warm.kill(process)

    def finish(self, folder: Path) -> bool:
        """Run to the end; whether it got there."""
        process = self.start(folder)
        warm.join(process, TIMEOUT)
        warm.kill(process)
        return process.exitcode == 0


class OnSlurm(Work):
    """A command that submits a job; the job is what is killed."""

    def submitted(self, folder: Path) -> str:
        process = self.start(folder)
        warm.join(process, TIMEOUT)
        printed = folder.with_suffix(".log").read_text()
        return re.findall(r"Job (\S+): ", printed)[-1]

    def kill(self, folder: Path, moment: float) -> None:
        job = self.submitted(folder)
        wait_for(lambda: slurm.state(job) not in ("", "PENDING"), TIMEOUT)
        time.sleep(moment)
        slurm.kill(job)
        self.wait(job)

    def finish(self, folder: Path) -> bool:
        return self.wait(self.submitted(folder)) == "COMPLETED"

    def wait(self, job: str) -> str:
        """Until the job has ended, and how."""
        wait_for(lambda: slurm.state(job) not in ("", "PENDING", "RUNNING", "COMPLETING"), TIMEOUT)
        return slurm.state(job)


def works(data: dict[str, Path], folder: Path) -> list[Work]:
    """What is killed: whatever takes long and leaves files."""
    train = ["main.py", "--mode", "train", "--config-yml", "configs/qm9/quickstart.yml", "--cpu",
             "--run-dir", "{out}", "--timestamp-id", "run", *small_run(data["qm9"]),
             "--optim.max_epochs=4", "--optim.checkpoint_every=3"]  # fmt: skip
    command = ["-m", "ocp_physmol"]
    judged = ["--checkpoint", str(data["checkpoint"]), "--data", str(data["qm9"] / "test"),
              "--output", "{out}"]  # fmt: skip
    run = {"config": str(warm.REPOSITORY / "configs/qm9/quickstart.yml"),
           "optim": {"batch_size": 4, "max_steps": 12, "checkpoint_every": 5},
           "model": {"hidden_channels": 16, "attention_channels": 8, "num_layers": 1}}  # fmt: skip
    experiment = folder / "killed.yml"
    content = {"title": "Killed", "seconds": 1000, "runs": {"One": run, "Two": run}}
    experiment.write_text(yaml.safe_dump(content))
    submit = ["--submit", "--logdir", "{out}/logs", "--slurm-mem", "2"]
    on_slurm = (
        [OnSlurm("training on SLURM", 5, [*train, *submit])] if shutil.which("sbatch") else []
    )
    return [
        Work("training", 20, train),
        Work("training with SOAP", 10, [*train, "--optim.optimizer=SOAP"]),
        Work("training on 2 ranks", 15, [*train, "--num-gpus", "2", "--optim.batch_size=2"]),
        Work("your own files, trained and judged", 10,
             [*command, "train", str(data["xyz"]), "--epochs", "2", "--cpu", "--output", "{out}",
              *SMALL]),
        Work("data of QM9", 5, [*command, "data", "qm9", "--source", str(data["csv"]), "--output",
                                "{out}"]),
        Work("data of your own files", 5,
             [*command, "data", "files", str(data["xyz"]), "--output", "{out}"]),
        Work("data made with EMT", 5, [*command, "data", "emt", "--relaxations", "8", "--frames",
                                       "2", "--output", "{out}", "--workers", "1"]),
        Work("labels of GFN2-xTB", 5, [*command, "data", "curvature", str(data["qm9"]), "{out}",
                                       "--pushes", "2", "--frequencies", "4"]),
        Work("experiments", 10,
             [*command, "experiments", str(experiment), "--data", str(data["qm9"]), "--runs",
              "{out}/runs", "--records", "{out}/records", "--molecules", "1"]),
        Work("judging", 5, [*command, "recover", *judged, "--steps", "20"]),
        Work("predictions for a leaderboard", 5,
             ["main.py", "--mode", "predict", "--config-yml", "configs/qm9/quickstart.yml", "--cpu",
              "--checkpoint", str(data["checkpoint"]), "--run-dir", "{out}", "--timestamp-id",
              "run", *small_run(data["qm9"])]),
        *on_slurm,
    ]  # fmt: skip


def kill_once(work: Work, moment: float, folder: Path, whole: dict) -> str:
    """Start, kill after `moment` seconds, start again; one of VERDICTS."""
    work.kill(folder, moment)
    try:
        contents(folder)
        if not work.finish(folder):
            return "failed when started again"
        found = contents(folder)
    except ValueError as e:
        return f"half-written file: {e}"
    different = differences(found, whole)
    return f"another end: {', '.join(different)}" if different else "the same end"


def differences(found: dict, whole: dict) -> list[str]:
    """The files that are not in both, or not the same."""
    names = sorted(found.keys() | whole.keys())
    return [name for name in names if found.get(name) != whole.get(name)]


@click.command(context_settings={"show_default": True})
@click.option("--kills", type=click.IntRange(1), default=100, help="In all.")
@click.option("--jobs", type=click.IntRange(1), default=2, help="At the same time.")
@click.option("--seed", type=int, default=0, help="Of the moments.")
@click.option("--only", default="", help="Kinds of work with this text.")
def main(kills: int, jobs: int, seed: int, only: str) -> None:
    """Kill commands at random moments; exit with status 1 if one is the worse for it."""
    started = time.monotonic()
    with TemporaryDirectory() as name:
        make_data(Path(name))
        data = data_in(Path(name))
        chosen = [work for work in works(data, Path(name)) if only in work.kind]
        counts = try_all(chosen, kills, jobs, seed, Path(name))
    print(table(counts, VERDICTS))
    print(f"{sum(counts.values())} kills in {(time.monotonic() - started) / 60:.0f} minutes")
    sys.exit(any(counts[kind, verdict] for kind, verdict in counts if verdict != VERDICTS[0]))


def try_all(chosen: list[Work], kills: int, jobs: int, seed: int, folder: Path) -> Counter:
    """How often each kind of work ended how."""
    draw, tries = random.Random(seed), []
    for number, work in enumerate(chosen):
        begun, place = time.monotonic(), folder / f"{number}_whole"
        if not work.finish(place):
            raise RuntimeError(place.with_suffix(".log").read_text())
        seconds, whole = time.monotonic() - begun, contents(place)
        for k in range(max(1, round(kills * work.share / 100))):
            tries.append((work, draw.uniform(0, seconds), folder / f"{number}_{k}", whole))
    counts: Counter = Counter()
    with ThreadPool(jobs) as pool:
        ends = pool.imap(lambda try_: kill_once(*try_), tries)
        for (work, moment, place, _), end in zip(tries, tqdm(ends, "Kills", len(tries))):
            verdict = next(verdict for verdict in VERDICTS if end.startswith(verdict))
            counts[work.kind, verdict] += 1
            if verdict == VERDICTS[0]:
                shutil.rmtree(place, ignore_errors=True)
            else:
                tqdm.write(f"{work.kind}, killed after {moment:.2f} s: {end}\n"
                           + place.with_suffix(".log").read_text()[-1500:])  # fmt: skip
    return counts


if __name__ == "__main__":
    main()
