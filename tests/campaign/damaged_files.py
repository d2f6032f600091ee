"""Files of every kind that a command reads: damaged, of another kind, or with unfit content."""

import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

from campaign.case import Case

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8
OUT = "{out}"
# commands by the file they read, which takes the place of {file}; a folder is {file}'s parent
READERS = {
    "xyz": [
        ["train", "{file}", "--epochs", "1", "--cpu", "--output", OUT, "--model.hidden_channels=16",
         "--model.num_layers=1", "--model.attention_channels=8", "--model.vector_channels=8"],
        ["data", "files", "{file}", "--output", OUT],
        ["relax", "{file}", "--method", "mmff94", "--steps", "3", "--output", OUT],
    ],
    "csv": [["data", "qm9", "--source", "{file}", "--output", OUT]],
    "tar.bz2": [["data", "qm9", "--source", "{file}", "--output", OUT]],
    "pt": [
        ["recover", "--checkpoint", "{file}", "--data", "{qm9}/test", "--output", OUT,
         "--molecules", "2"],
        ["frequencies", "--checkpoint", "{file}", "--data", "{qm9}/test", "--output", OUT,
         "--molecules", "1"],
        ["bond-parameters", "--checkpoint", "{file}", "--data", "{qm9}/test", "--output", OUT],
    ],
    "lmdb": [
        ["recover", "--checkpoint", "{checkpoint}", "--data", "{file}", "--output", OUT,
         "--molecules", "2"],
        ["stability", "--checkpoint", "{checkpoint}", "--data", "{file}", "--output", OUT,
         "--molecules", "1", "--picoseconds", "0.001"],
    ],
    "npz": [
        ["leaderboard", "check", "s2ef", "{file}", "--data", "{s2ef}"],
        ["leaderboard", "score", "s2ef", "{file}", "--data", "{s2ef}", "--part", "val"],
    ],
    "json": [["report", "--records", "{folder}", "--output", OUT]],
    "yml": [
        ["experiments", "{file}", "--data", "{qm9}", "--runs", "{out}/runs", "--records",
         "{out}/records", "--seconds", "1", "--molecules", "2"],
    ],
}  # fmt: skip


def write(content: bytes) -> Callable[[Path, bytes], None]:
    return lambda path, _good: path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path, bytes], object]] = {
    "missing": lambda path, good: None,
    "empty": write(b""),
    "one byte": write(b"\0"),
    "half": lambda path, good: path.write_bytes(good[: len(good) // 2]),
    "a tenth": lambda path, good: path.write_bytes(good[: len(good) // 10]),
    "without its end": lambda path, good: path.write_bytes(good[:-7]),
    "without its start": lambda path, good: path.write_bytes(good[64:]),
    "zeros in the middle": lambda path, good: path.write_bytes(
        good[: len(good) // 2] + bytes(200) + good[len(good) // 2 + 200 :]
    ),
    "a picture": write(PNG),
    "text": write(b"hello\n"),
    "a list": write(b"[1, 2, 3]\n"),
    "latin-1": write("données: é\n".encode("latin-1")),
    "many lines": write(b"1\n" * 100_000),
    "a folder": lambda path, good: path.mkdir(),
    "a circle of links": lambda path, good: path.symlink_to(path),
    "a pipe": lambda path, good: os.mkfifo(path),
}
NAMES = ["with space", "unicode ☃", "quote'\"", "-dash", "dots..", "percent%20", "a{b}", "$HOME"]


# combinations that are no damage: a text can break off between two frames, and records may be none
FIT = {("xyz", "half"), ("json", "missing")}


def cases(data: dict[str, Path], folder: Path) -> Iterator[Case]:
    folder.mkdir()
    number = count()
    for kind, readers in READERS.items():
        for reader in readers:
            for name, damage in DAMAGE.items():
                file = folder / str(next(number)) / f"file.{kind}"
                certain = name in ("missing", "empty", "a picture", "half")
                refused = True if certain and (kind, name) not in FIT else None
                change = partial(_damaged, damage, file, data[kind])
                yield _case(f"{reader[0]} {kind}: {name}", reader, file, data, change, refused)
            for name in NAMES:  # good files with odd names
                file = folder / str(next(number)) / f"{name}.{kind}"
                copy = partial(_copied, file, data[kind])
                yield _case(f"{reader[0]} {kind}: named {name}", reader, file, data, copy, None)


def _damaged(damage: Callable[[Path, bytes], object], file: Path, good: Path) -> None:
    file.parent.mkdir()
    damage(file, good.read_bytes())


def _copied(file: Path, good: Path) -> None:
    file.parent.mkdir()
    shutil.copy(good, file)


def _case(
    name: str, reader: list[str], file: Path, data: dict[str, Path],
    prepare: Callable[[], None], refused: bool | None,
) -> Case:  # fmt: skip
    out = file.parent.with_name(f"{file.parent.name}_out")
    places = {**data, "file": file, "folder": file.parent, "out": out}
    arguments = ["-m", "ocp_physmol", *(text.format(**places) for text in reader)]
    return Case("damaged files and odd names", name, arguments, refused, prepare=prepare)
