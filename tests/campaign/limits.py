"""Commands that meet a full disk, a limit or a signal: what they say, and what is left of them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import warm
from campaign.contents import contents
from campaign.data import data_in, make_data
from campaign.kills import TIMEOUT, Work, differences, works
from conftest import wait_for
from tqdm import tqdm

CLOCK = str(Path(__file__).with_name("clock_back.py"))
Event = Callable[[BaseProcess | None, Path], None]  # of a command, if it runs, and its folder


@dataclass(frozen=True)
class Limit:
    """What happens to a command."""

    name: str
    kinds: tuple[str, ...]  # of the work that meets it
    limits: dict[str, int] = field(default_factory=dict)  # of the module `resource`
    disk: str = ""  # size of a file system for the folder alone
    event: Event | None = None  # when the first checkpoint is there
    at_once: bool = False  # the event is before the start
    ends: tuple[int, ...] = (2,)  # statuses with which the command may end
    through: tuple[str, ...] = ()  # a program that starts the command


def fill(process: BaseProcess | None, folder: Path) -> None:
    """Leave no room on the folder's disk."""
    with suppress(OSError), (folder.parent / "ballast").open("wb", buffering=0) as ballast:
        while True:
            ballast.write(b"\0" * 4096)


def fill_but_for_lines(process: BaseProcess | None, folder: Path) -> None:
    """Leave room for the lines that a training writes all the time, and not for a checkpoint."""
    fill(process, folder)
    ballast = folder.parent / "ballast"
    os.truncate(ballast, ballast.stat().st_size - (32 << 10))


def lock_disk(process: BaseProcess | None, folder: Path) -> None:
    """Make the folder's disk read-only."""
    subprocess.run(["mount", "-o", "remount,ro", folder.parent], check=True)


def send(number: signal.Signals, times: int = 1) -> Event:
    """Send a signal to all processes of the command, as a terminal does."""

    def event(process: BaseProcess, folder: Path) -> None:
        for _ in range(times):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            time.sleep(0.3)

    return event


TRAINED, OWN, MADE, PREDICTED = (
    "training", "your own files, trained and judged", "data of QM9", "predictions for a leaderboard"
)  # fmt: skip
WRITERS = (TRAINED, OWN, MADE, PREDICTED, "judging", "labels of GFN2-xTB")
LIMITS = [
    Limit("the disk is full", WRITERS, disk="1m", event=fill, at_once=True),
    Limit("the disk fills up", (TRAINED, "training on 2 ranks", OWN), disk="16m",
          event=fill_but_for_lines),
    Limit("a read-only disk", WRITERS, disk="16m", event=lock_disk, at_once=True),
    Limit("files of at most 8 KiB", WRITERS, {"RLIMIT_FSIZE": 8192}, ends=(0, 2)),
    Limit("24 open files", WRITERS, {"RLIMIT_NOFILE": 24}, ends=(0, 2)),  # some need no more
    Limit("8 MiB of memory more", WRITERS, {"RLIMIT_AS": 8 << 20}, ends=(0, 2)),
    Limit("SIGTERM", (TRAINED, "training on 2 ranks", OWN), event=send(signal.SIGTERM),
          ends=(-signal.SIGTERM, 128 + signal.SIGTERM)),
    Limit("SIGINT", (TRAINED, "training on 2 ranks", OWN), event=send(signal.SIGINT),
          ends=(130,)),
    Limit("SIGINT twice", (TRAINED, "training on 2 ranks", OWN), event=send(signal.SIGINT, 2),
          ends=(130, -signal.SIGINT)),
    Limit("a closed terminal (SIGHUP)", (TRAINED, OWN), event=send(signal.SIGHUP),
          ends=(-signal.SIGHUP,)),
    Limit("a clock that goes back an hour", (TRAINED, OWN), ends=(0,), through=(CLOCK,)),
]  # fmt: skip


@dataclass
class Row:
    """Of the table."""

    limit: str
    kind: str
    said: str  # the last sentence
    kept: str  # of the files of the command
    wrong: str  # empty if all was right


def meet(limit: Limit, work: Work, folder: Path, whole: dict) -> Row:
    """Start the command under the limit; start it again without; what was to be seen."""
    folder.mkdir()
    out, log = folder / "1_out", folder.with_suffix(".log")
    if limit.disk:
        mount(folder, limit.disk)
    try:
        ended, before = _under(limit, work, out, log)
        printed = log.read_text()
        kept, wrong = contents(out), _wrong_end(limit, ended, printed)
        if lost := before - kept.keys():
            wrong = f"lost {', '.join(lost)}"
        if limit.disk:
            subprocess.run(["mount", "-o", "remount,rw,size=64m", folder], check=True)
            (folder / "ballast").unlink(missing_ok=True)
        if not (ended == 0 or work.finish(out)):
            wrong = "fails when started again"
        elif different := differences(contents(out), whole):
            wrong = f"another end: {', '.join(different)}"
    except ValueError as e:  # of a file that is half-written
        return Row(limit.name, work.kind, "", "", str(e))
    finally:
        if limit.disk:
            subprocess.run(["umount", "-l", folder], check=True)
    if wrong:
        tqdm.write(f"{limit.name}, {work.kind}: {wrong}\n{printed[-2500:]}")
    said = last_sentence(printed) if ended else "it came to its end"
    return Row(limit.name, work.kind, said, f"{len(kept)} files" if kept else "none", wrong)


def _under(limit: Limit, work: Work, out: Path, log: Path) -> tuple[int | None, set[str]]:
    """The command's status under the limit, and its files before the event."""
    before: set[str] = set()
    if limit.event and limit.at_once:
        limit.event(None, out)
    process = work.start(out, log, limit.through, limit.limits)
    if limit.event and not limit.at_once:
        newest = out / "checkpoints/run/checkpoint.pt"
        wait_for(lambda: newest.is_file() or warm.join(process, 0), TIMEOUT)
        before = set(contents(out))
        limit.event(process, out)
    warm.join(process, TIMEOUT)
    status = process.exitcode
    warm.kill(process)
    return status, before


def _wrong_end(limit: Limit, status: int | None, printed: str) -> str:
    if "Traceback (most recent" in printed:
        return "a traceback"
    if status not in limit.ends:
        return f"status {status}"
    if status in (2, 130) and not last_sentence(printed):
        return "no sentence"
    return ""


def last_sentence(printed: str) -> str:
    found = [line for line in printed.splitlines() if line.startswith("error: ")]
    return found[-1] if found else ""


def mount(folder: Path, size: str) -> None:
    """A file system of `size` in memory, at `folder`."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)


def can_mount(folder: Path) -> bool:
    """Whether this process may mount anything, as root may."""
    with suppress(subprocess.CalledProcessError, OSError):
        mount(folder, "4k")
        subprocess.run(["umount", folder], check=True)
        return True
    return False


@click.command()
@click.option("--only", default="", help="Limits and kinds of work with this text.")
def main(only: str) -> None:
    """Let commands meet limits; exit with status 1 if one is not taken as it should be."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        make_data(folder)
        data = data_in(folder)
        mountable = can_mount(folder / "qm9")
        by_kind = {work.kind: work for work in works(data, folder)}
        pairs = [
            (limit, by_kind[kind])
            for limit in LIMITS
            for kind in limit.kinds
            if only in f"{limit.name}: {kind}" and (mountable or not limit.disk)
        ]
        whole, rows = {}, []
        for number, (limit, work) in enumerate(tqdm(pairs, "Limits")):
            if work.kind not in whole:
                place = folder / f"{number}_whole"
                if not work.finish(place):
                    raise RuntimeError(place.with_suffix(".log").read_text())
                whole[work.kind] = contents(place)
            rows.append(meet(limit, work, folder / f"{number}_limit", whole[work.kind]))
    print("| | while it writes | it says | of its files, complete | right |\n" + "| --- " * 5 + "|")
    for row in rows:
        said = row.said.replace(name, "...").removeprefix("error: ")
        print(f"| {row.limit} | {row.kind} | {said} | {row.kept} | {row.wrong or 'yes'} |")
    sys.exit(any(row.wrong for row in rows))


if __name__ == "__main__":
    main()
