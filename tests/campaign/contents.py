"""What the files of a folder hold, but for what differs between two equal runs."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import torch
from ase.io import read

# of checkpoints and JSON: when and where a run was made, and how long it took
VOLATILE = {"config", "seconds", "used", "date", "machine", "versions", "git"}


def contents(folder: Path) -> dict[str, Any]:
    """By path below `folder`, what each file holds; of a data set or a checkpoint a digest.

    Hidden and partial files are left out, and what programs write line by line.

    Raises:
        ValueError: if one is damaged.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    own = [path.relative_to(folder) for path in files if ".partial" not in path.suffixes]
    return {
        str(path): _content(folder / path)
        for path in own
        if path.suffix in READERS and not any(part.startswith(".") for part in path.parts)
    }


def _content(path: Path) -> Any:
    try:
        return READERS[path.suffix](path)
    except Exception as e:
        raise ValueError(f"{path} cannot be read: {e}") from e


def _tensors(path: Path) -> str:
    return _digest(_stable(torch.load(path, weights_only=False)))  # made by the tests themselves


def _lmdb(path: Path) -> str:
    environment = lmdb.open(str(path), subdir=False, readonly=True, lock=False)
    with environment, environment.begin() as transaction:
        return _digest(list(transaction.cursor()))


def _json(path: Path) -> str:
    return _digest(_stable(json.loads(_text(path))))


def _text(path: Path) -> str:
    """But for the name of its own folder."""
    return re.sub(r"(/\d+_\w+\b)+", "/", path.read_text())


def _frames(path: Path) -> str:
    return _digest([(atoms.positions, atoms.numbers) for atoms in read(path, ":")])


def _arrays(path: Path) -> str:
    with np.load(path) as arrays:
        return _digest(dict(arrays))


READERS: dict[str, Callable[[Path], Any]] = {
    ".pt": _tensors, ".lmdb": _lmdb, ".npz": _arrays,
    ".json": _json, ".yml": _text, ".xyz": _frames, ".traj": _frames, ".csv": _text, ".md": _text,
}  # fmt: skip


def _stable(value: Any) -> Any:
    if isinstance(value, torch.nn.Module):
        value = value.state_dict()
    if isinstance(value, dict):
        return {key: _stable(inner) for key, inner in value.items() if key not in VOLATILE}
    return [_stable(inner) for inner in value] if isinstance(value, list | tuple) else value


def _digest(value: Any) -> str:
    digest = hashlib.sha256()

    def add(part: Any) -> None:
        if isinstance(part, dict):
            part = [*part.items()]
        if isinstance(part, list | tuple):
            for inner in part:
                add(inner)
        else:
            part = part.detach().cpu().numpy() if isinstance(part, torch.Tensor) else part
            digest.update(part.tobytes() if isinstance(part, np.ndarray) else repr(part).encode())

    add(value)
    return digest.hexdigest()
