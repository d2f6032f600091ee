"""Files and folders that are either complete or not there."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from ocp_physmol.errors import UserError

REPORT = "report.json"  # in every folder that `complete_folder` has written


@contextmanager
def complete_or_absent(output: Path) -> Iterator[Path]:
    """A path to write to; the file becomes `output` at the end, unless an exception comes before.

    Folders above `output` are made.

    Raises:
        UserError: if the file cannot be written.
    """
    partial = _beside(output, "partial")
    try:
        if output.is_dir():
            raise IsADirectoryError("it is a folder")
        output.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()  # fails before the work rather than after it
        yield partial
        move_into_place(partial, output.name)
    except OSError as e:
        raise UserError(f"{output} cannot be written ({e}); choose another place") from e
    finally:
        with suppress(OSError):
            partial.unlink()


def move_into_place(partial: str | Path, name: str) -> str:
    """Give a completely written file its final name, in one step; return the new path."""
    with open(partial, "rb") as f:
        os.fsync(f.fileno())
    path = os.path.join(os.path.dirname(partial), name)
    os.replace(partial, path)
    return path


def write_json(path: Path, content: Any, indent: int | None = None) -> None:
    """Write `content` as JSON on one line, or indented; arrays become lists.

    Infinity and NaN are written as Python's json reads them.

    Raises:
        UserError: if the file cannot be written.
    """
    text = json.dumps(
        content,
        indent=indent,
        separators=None if indent else (",", ":"),
        ensure_ascii=False,
        default=np.ndarray.tolist,
    )
    with complete_or_absent(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


@contextmanager
def complete_folder(output: Path, report: dict) -> Iterator[Path]:
    """A folder to fill; at the end it becomes `output`, with `report` as its report.json.

    What was there before stays until then. It is replaced only if it is empty or has a report.json.

    Raises:
        UserError: if `output` holds something else.
    """
    replaceable = not output.exists() or (
        output.is_dir() and ((output / REPORT).is_file() or not any(output.iterdir()))
    )
    if not replaceable:
        raise UserError(f"{output} exists and is no data set of ours; choose another --output")
    output.parent.mkdir(parents=True, exist_ok=True)
    partial, old = _beside(output, "partial"), _beside(output, "old")
    partial.mkdir()
    try:
        yield partial
        write_json(partial / REPORT, report, indent=2)
        if output.exists():
            output.rename(old)
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _beside(output: Path, kind: str) -> Path:
    """A hidden path of this process in the same folder."""
    return output.with_name(f".{output.name}.{os.getpid()}.{kind}")
