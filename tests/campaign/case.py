"""One input, how the program takes it, and what would be wrong with that."""

import math
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import warm

TIMEOUT = 300  # seconds; the longest accepted input takes thirty
VERDICTS = ("answered", "accepted", "traceback", "hang", "wrong")
BAD = VERDICTS[2:]


@dataclass(frozen=True)
class Case:
    """A command with one input that may be unfit."""

    kind: str  # a row of the table
    name: str
    arguments: list[str]  # of python
    refused: bool | None = None  # whether it must be, or must not be; None: either is right
    folder: Path = warm.REPOSITORY  # to start in
    prepare: Callable[[], object] = lambda: None  # writes its files, when its turn has come


@dataclass(frozen=True)
class Outcome:
    case: Case
    verdict: str
    printed: str


def run(case: Case) -> Outcome:
    """Start the command in a process of its own, and judge how it ends."""
    case.prepare()
    try:
        result = warm.run(case.arguments, TIMEOUT, case.folder)
    except subprocess.TimeoutExpired as e:
        return Outcome(case, "hang", str(e.output))
    return Outcome(case, verdict(case, result.returncode, result.stdout), result.stdout)


def verdict(case: Case, status: int | None, printed: str) -> str:
    """One of VERDICTS."""
    if "Traceback (most recent call last)" in printed:
        return "traceback"
    if status == 0:
        fits = case.refused is not True and _finite(printed)
        return "accepted" if fits else "wrong"
    sentences = re.findall(r"^(?:error|Error|main\.py: error): \S.+", printed, re.MULTILINE)
    fits = status == 2 and sentences and case.refused is not False
    return "answered" if fits else "wrong"


def _finite(printed: str) -> bool:
    """Whether no loss or error of a model is NaN or infinite."""
    values = re.findall(r"(?:loss|mae): (nan|-?inf|-?[\d.]+(?:e[+-]?\d+)?)", printed)
    return all(math.isfinite(float(value)) for value in values)
