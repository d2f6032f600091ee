"""Files and folders that are complete or not there. A UserError says why one is not written."""

import errno
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from tqdm import tqdm

from ocp_physmol.errors import UserError, blame, cannot_write

REPORT = "report.json"  # in every folder that `complete_folder` has written
OURS = re.compile(r"report\.json|metadata\.npz|.*\.lmdb(-lock)?")  # names of files in one
WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # what shared file systems say
PATIENCE = 10  # seconds to wait for a lock; what a killed command has started ends sooner


@contextmanager
def complete_or_absent(output: Path) -> Iterator[Path]:
    """A path to write to. Unless an exception comes, it becomes `output`, whose folder is made."""
    if output.is_dir() or not output.name:
        raise UserError(f"{output} is a folder; give the name of a file")
    if output.exists() and not output.is_file():  # /dev/null would become a file, for all programs
        raise UserError(f"{output} is a device; give the name of a file")
    partial = output.with_name(f".{output.name}.{os.getpid()}.partial")
    try:
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
    return str(Path(partial).replace(Path(partial).with_name(name)))


@contextmanager
def room_explained(path: Path, needed: int) -> Iterator[None]:
    """Raise a UserError if torch cannot write `path`, of at least `needed` bytes, in its partial.

    Torch itself does not say why.
    """
    try:
        yield
    except RuntimeError as e:
        if not cannot_write(e):
            raise
        path.with_name(f".{path.name}.partial").unlink(missing_ok=True)
        size = max(needed, path.stat().st_size if path.is_file() else 0)
        room = shutil.disk_usage(path.parent).free
        raise UserError(
            f"{path} cannot be written (at least {tqdm.format_sizeof(size, 'B')} are needed, "
            f"{tqdm.format_sizeof(room, 'B')} are free); make room or allow larger files, and "
            "start the same command again"
        ) from e


def checksum(path: Path, algorithm: str = "sha256") -> str:
    """A checksum of a file's content."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    bar = tqdm(total=path.stat().st_size, unit="B", unit_scale=True, desc=path.name, delay=5)
    with path.open("rb") as file, bar:
        while block := file.read(1 << 20):
            digest.update(block)
            bar.update(len(block))
    return digest.hexdigest()


def write_json(path: Path, content: Any, indent: int | None = None) -> None:
    """Write JSON on one line, or indented. Arrays become lists; Infinity and NaN stay."""
    separators = None if indent else (",", ":")
    text = json.dumps(
        content, indent=indent, separators=separators, ensure_ascii=False, default=np.ndarray.tolist
    )
    with complete_or_absent(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


@contextmanager
def complete_folder(output: Path, report: dict) -> Iterator[Path]:
    """A folder to fill; at the end it becomes `output`, with `report` as its report.json.

    A former `output` stays until then. One that has files but no report.json is refused, and so is
    one that another process fills now: a UserError.
    """
    _require_replaceable(output)
    partial = output.with_name(f".{output.name}.partial")
    with alone_with(output, "is making"):
        shutil.rmtree(partial, ignore_errors=True)  # of a command that was killed
        try:
            partial.mkdir()
            yield partial
            write_json(partial / REPORT, report, indent=2)
            _replace(output, partial)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def resumable_folder(output: Path, plan: dict) -> Iterator[Path]:
    """The same with `plan` as its report, but what an attempt has left is there in the next one.

    What another plan has left is removed. A UserError if another process fills the folder now.
    """
    _require_replaceable(output)
    partial = output.with_name(f".{output.name}.partial")
    with alone_with(output, "is making"):
        known = partial / REPORT
        if not known.is_file() or json.loads(known.read_text()) != plan:
            shutil.rmtree(partial, ignore_errors=True)
            write_json(known, plan, indent=2)
        yield partial
        _replace(output, partial)


@contextmanager
def alone_with(folder: Path, doing: str) -> Iterator[None]:
    """Hold a lock on a folder, to the end of the block or of the process.

    A UserError if another process holds it. The lock ends with its process, however that ends. On
    shared file systems without locks there is none.
    """
    path = folder.with_name(f".{folder.name}.lock")
    lock = FileLock(path, fallback_to_soft=False)
    try:
        lock.acquire(timeout=PATIENCE)
    except Timeout as e:
        raise UserError(f"another command {doing} {folder}; wait until it has ended") from e
    except (NotImplementedError, OSError) as e:
        if isinstance(e, OSError) and e.errno not in WITHOUT_LOCKS:
            raise UserError(f"{folder} cannot be written ({e}); choose another place") from e
        logging.warning(f"{folder} is where files have no locks; use it with one command at a time")
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        lock.release()


def _replace(output: Path, partial: Path) -> None:
    """Make `partial` the folder `output`, and remove a former one."""
    old = output.with_name(f".{output.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if output.exists():
        output.rename(old)
    partial.rename(output)
    shutil.rmtree(old, ignore_errors=True)


@blame("the folder cannot be written", OSError)
def _require_replaceable(output: Path) -> None:
    """Refuse a folder that holds more than one data set of ours; make the folder above it."""
    if output.name in ("", ".."):
        raise UserError(f"'{output}' cannot be made anew; choose a folder with a name of its own")
    empty = not output.exists() or (output.is_dir() and not any(output.iterdir()))
    if not empty and not (output / REPORT).is_file():
        raise UserError(f"{output} exists and is no data set of ours; choose another folder")
    for path in output.rglob("*"):
        nested = path.name == REPORT and path.parent != output
        if nested or (path.is_file() and not OURS.fullmatch(path.name)):
            raise UserError(
                f"{output} would be replaced, and holds {path.relative_to(output)}, too; choose "
                "another folder, or move that elsewhere"
            )
    output.parent.mkdir(parents=True, exist_ok=True)
