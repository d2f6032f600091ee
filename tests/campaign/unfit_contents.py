"""Files that are well formed, but hold what does not fit: keys missing, values of other kinds."""

import csv
import functools
import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import torch
import yaml
from campaign.case import Case
from campaign.config_values import changed, leaves
from conftest import small_run
from torch_geometric.data import Data

NONE = {"none": None, "text": "text", "list": [1], "mapping": {"a": 1}, "number": -7.5}
WEIGHT = "module.energy.embedding.type_embedding.weight"
# by kind, what no command may take
UNFIT = {
    "entries of a data set": {
        "none", "without pos", "pos: NaN", "pos: infinite", "pos: text", "pos: flat",
        "without atomic_numbers", "atomic_numbers: negative", "atomic_numbers: shorter",
        "without natoms", "natoms: number", "cell: NaN",
    },
    "checkpoints": {
        "none", "without state_dict", "state_dict: empty", "without config",
        f"state_dict.{WEIGHT}: NaN", f"state_dict.{WEIGHT}: shorter",
    },
    "predictions": {
        "empty", "without id_ids", "id_ids: twice", "id_energy: NaN", "id_forces: shorter",
    },
    "rows of QM9": {"without XYZ_Ang", "Elements: text", "InternalEnergy_0K_au: NaN"},
    "records": {"text", "without name", "errors: text", "without recovery"},
    "experiments": {"none", "text", "empty", "without runs", "seconds: text"},
    "sizes of a data set": {"natoms: texts", "without natoms"},
}  # fmt: skip
# of tensors and arrays
ARRAYS: dict[str, Callable[[Any], Any]] = {
    "shorter": lambda a: a[:-1],
    "empty": lambda a: a[:0],
    "flat": lambda a: a.reshape(-1),
    "another dimension": lambda a: a[None],
    "NaN": lambda a: a * float("nan"),
    "infinite": lambda a: a * 0.0 + float("inf"),
    "1e30": lambda a: a * 0.0 + 1e30,
    "negative": lambda a: a * -1 - 1,
    "complex": lambda a: a * 1j,
    "one number": lambda a: a.reshape(-1)[0],
}
OF_NUMPY: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "texts": lambda a: a.astype(str),
    "objects": lambda a: a.astype(object),
    "twice": lambda a: np.concatenate([a, a]),
}


@dataclass(frozen=True)
class Kind:
    """A kind of file: how it is read and written, and by which commands."""

    name: str
    source: str  # of the campaign's data
    load: Callable[[Path], Any]
    save: Callable[[Path, Any, Path], None]  # to a path, the content, the rest as in the source
    readers: list[list[str]]  # of {file}, of {folder} that it is in, of the {root} of that
    keys: Callable[[tuple], bool] = lambda path: True


def kinds(data: dict[str, Path]) -> list[Kind]:
    own = ["-m", "ocp_physmol"]
    train = ["main.py", "--mode", "train", "--config-yml", "configs/qm9/quickstart.yml", "--cpu",
             "--run-dir", "{out}", "--timestamp-id", "run", *small_run(data["qm9"]),
             "--optim.max_epochs=1", "--optim.max_steps=3"]  # fmt: skip
    judged = ["--output", "{out}", "--molecules", "2", "--steps", "2"]
    experiment = [*own, "experiments", "{file}", "--data", str(data["qm9"]), "--runs", "{out}/runs",
                  "--records", "{out}/records", "--seconds", "1", "--molecules", "2"]  # fmt: skip
    return [
        Kind("entries of a data set", "qm9_train", entry, save_entry, [
            [*train, "--dataset.train.src={folder}"],
            [*own, "recover", "--checkpoint", str(data["pt"]), "--data", "{folder}", *judged],
            [*own, "data", "curvature", "{root}", "{out}", "--pushes", "1", "--frequencies", "0"],
        ]),
        Kind("sizes of a data set", "qm9_train", sizes, save_sizes, [
            [*train, "--dataset.train.src={folder}", "--num-gpus", "2",
             "--optim.load_balancing=atoms"],
        ]),
        Kind("checkpoints", "pt", partial(torch.load, weights_only=True), save_checkpoint, [
            [*own, "recover", "--checkpoint", "{file}", "--data", f"{data['qm9']}/test", *judged],
            [*train, "--checkpoint", "{file}"],
        ], in_checkpoint),
        Kind("predictions", "npz", arrays, save_arrays, [
            [*own, "leaderboard", command, "s2ef", "{file}", "--data", str(data["s2ef"])]
            for command in ("check", "score")
        ]),
        Kind("records", "record", read_json, save_record, [
            [*own, "report", "--records", "{folder}", "--output", "{out}"],
        ], in_record),
        Kind("experiments", "experiment", read_yaml, save_yaml, [experiment]),
        Kind("sweeps", "sweep", read_yaml, save_yaml, [[*train, "--sweep-yml", "{file}"]]),
        Kind("rows of QM9", "csv", row, save_row,
             [[*own, "data", "qm9", "--source", "{file}", "--output", "{out}"]]),
    ]  # fmt: skip


def in_checkpoint(path: tuple) -> bool:
    """One weight, and of the config what makes the model."""
    if path[0] == "state_dict":
        return path[1:] in ((), (WEIGHT,))
    deep = path[:2] in (("config", "model"), ("config", "outputs"))
    return len(path) < (4 if deep else 3 if path[0] != "val_metrics" else 2)


def in_record(path: tuple) -> bool:
    first = not any(isinstance(key, int) and key for key in path)  # of the items of a list
    return first and len(path) < 3 and "complete" not in path


def entry(folder: Path) -> dict:
    with lmdb.open(str(folder / "data.lmdb"), subdir=False, readonly=True, lock=False) as env:
        return Data.to_dict(pickle.loads(env.begin().get(b"0")))


def save_entry(path: Path, content: Any, source: Path) -> None:
    """In the place of the data set's first."""
    shutil.copytree(source, path.parent, dirs_exist_ok=True)
    value = Data.from_dict(content) if isinstance(content, dict) else content
    file = str(path.parent / "data.lmdb")
    with lmdb.open(file, subdir=False, lock=False) as env, env.begin(write=True) as transaction:
        transaction.put(b"0", pickle.dumps(value))


def sizes(folder: Path) -> dict:
    return arrays(folder / "metadata.npz")


def save_sizes(path: Path, content: Any, source: Path) -> None:
    shutil.copytree(source, path.parent, dirs_exist_ok=True)
    np.savez(path.parent / "metadata.npz", **named(content))


def save_checkpoint(path: Path, content: Any, _source: Path) -> None:
    torch.save(content, path)


def arrays(path: Path) -> dict:
    with np.load(path) as content:
        return dict(content)


def save_arrays(path: Path, content: Any, _source: Path) -> None:
    np.savez(path, **named(content))


def named(content: Any) -> dict:
    return content if isinstance(content, dict) else {"value": content}


def read_json(path: Path) -> dict:
    return json.loads(path.read_text())


def save_record(path: Path, content: Any, _source: Path) -> None:
    """In the folder of an experiment."""
    folder = path.parent / "experiment"
    folder.mkdir()
    (folder / path.name).write_text(json.dumps(content))


def read_yaml(path: Path) -> dict:
    return yaml.safe_load(path.read_text())


def save_yaml(path: Path, content: Any, _source: Path) -> None:
    path.write_text(yaml.safe_dump(content))


def row(path: Path) -> dict:
    with path.open(newline="") as file:
        return next(csv.DictReader(file))


def save_row(path: Path, content: Any, source: Path) -> None:
    """In the place of the first; columns that are missing are so in all rows."""
    with source.open(newline="") as file:
        rows, content = list(csv.DictReader(file)), named(content)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(content), extrasaction="ignore")
        writer.writeheader()
        writer.writerows([content, *rows[1:]])


def others(value: Any) -> Iterator[tuple[str, Any]]:
    """What may stand in the place of a value, by name."""
    if isinstance(value, torch.Tensor | np.ndarray):
        yield from NONE.items()
        own = OF_NUMPY if isinstance(value, np.ndarray) else {}
        for name, change in (ARRAYS | own).items():
            with suppress(TypeError, ValueError, IndexError, np.exceptions.DTypePromotionError):
                yield name, change(value)  # not of texts, or of one number
    elif isinstance(value, dict | list) and value:
        yield from NONE.items()
        yield "empty", type(value)()
    else:
        yield from ((name, other) for name, other in NONE.items() if other != value)
        yield from (("NaN", float("nan")), ("huge", 1e30))


def alterations(content: dict, keys: Callable[[tuple], bool]) -> Iterator[tuple[str, Any]]:
    """The content with one key missing, or one value another."""
    yield from NONE.items()
    yield "empty", {}
    for path, value in leaves(content):
        if not keys(path):
            continue
        name = ".".join(map(str, path))
        yield f"without {name}", without(content, path)
        for kind, other in others(value):
            yield f"{name}: {kind}", changed(content, path, other)


def without(content: Any, path: tuple) -> Any:
    content = changed(content, path, None)
    place = functools.reduce(lambda inner, key: inner[key], path[:-1], content)
    del place[path[-1]]
    return content


def cases(data: dict[str, Path], folder: Path) -> Iterator[Case]:
    folder.mkdir()
    number = count()
    for kind in kinds(data):
        source = data[kind.source]
        content = kind.load(source)
        for reader in kind.readers:
            yield _case(
                kind, reader, content, "as it is", folder / str(next(number)), source, False
            )
            for name, other in alterations(content, kind.keys):
                place = folder / str(next(number))
                refused = True if name in UNFIT.get(kind.name, ()) else None
                yield _case(kind, reader, other, name, place, source, refused)


def _case(
    kind: Kind, reader: list[str], content: Any, name: str, place: Path, source: Path,
    refused: bool | None,
) -> Case:  # fmt: skip
    file = place / "train" / source.name

    def prepare() -> None:
        file.parent.mkdir(parents=True)
        kind.save(file, content, source)

    texts = {"file": file, "folder": file.parent, "root": place, "out": place / "out"}
    arguments = [text.format(**texts) for text in reader]
    command = next(word for word in arguments if word in COMMANDS)
    return Case("contents of files", f"{kind.name}, {command}: {name}", arguments, refused,
                prepare=prepare)  # fmt: skip


COMMANDS = ("train", "recover", "curvature", "check", "score", "report", "experiments", "qm9")
