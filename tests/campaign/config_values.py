"""Every key of every shipped config with every wrong kind of value."""

import copy
import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from campaign.case import Case
from fairchem.core.common.utils import load_config
from warm import REPOSITORY

from ocp_physmol.experiments.experiment_files import needs_labels

KINDS = {
    "text": "text", "empty text": "", "unicode": "☃\u202e", "list": [1], "empty list": [],
    "mapping": {"a": 1}, "empty mapping": {}, "true": True, "number": 7, "none": None,
}  # fmt: skip
NUMBERS = {
    "nan": float("nan"), "inf": float("inf"), "-inf": float("-inf"), "-1": -1, "0": 0,
    "-0.5": -0.5, "1e30": 1e30, "1e12 whole": 10**12,
}  # fmt: skip
# kinds of values that are wrong for a key whose value is of this type
WRONG = {
    bool: {"text", "empty text", "unicode", "list", "empty list", "mapping", "empty mapping"},
    int: {
        "text",
        "empty text",
        "unicode",
        "list",
        "mapping",
        "empty mapping",
        "true",
        "nan",
        "inf",
    },
    str: {"list", "mapping", "number", "true"},
    list: {"text", "unicode", "mapping", "number", "true"},
    dict: {"text", "unicode", "list", "number", "true"},
}
WRONG[float] = WRONG[int]
SMALL = {
    "hidden_channels": 16, "num_layers": 1, "num_blocks": 1, "num_interactions": 1, "num_rbf": 8,
    "attention_channels": 8, "vector_channels": 8,
}  # fmt: skip
BUDGET = {
    "max_epochs": 1, "max_steps": 3, "num_workers": 0, "batch_size": 2, "eval_batch_size": 2,
    "max_seconds": None,
}  # fmt: skip


def shipped() -> list[str]:
    """The configs that train as they are, or as the base of others."""
    paths = sorted((REPOSITORY / "configs").glob("*/*.yml"))
    needed = {"model", "loss_functions"}
    without = () if importlib.util.find_spec("torch_sparse").loader else ("dimenetpp", "gemnet_dt")
    return [
        str(path.relative_to(REPOSITORY))
        for path in paths
        if needed <= read(path).keys() and not path.stem.endswith(without)
    ]


def read(path: Path) -> dict:
    return load_config(str(path))[0]


def small(config: str, data: dict[str, Path]) -> dict:
    """A config on small data, with a small model, for three steps."""
    content = copy.deepcopy(read(REPOSITORY / config))
    task = Path(config).parts[1]
    source = data["labelled" if needs_labels(content) else task]
    names = {"train": "train", "val": "val" if task == "qm9" else "val_id"}
    for split, name in names.items():
        content["dataset"].setdefault(split, {})["src"] = str(source / name)
    if "relax" in content["dataset"]:
        content["dataset"]["relax"]["src"] = str(data["is2re"] / "val_id")
    content["dataset"].pop("test", None)
    for section in (content["model"], content["model"].get("energy_model", {})):
        section.update({key: value for key, value in SMALL.items() if key in section})
    content["optim"].update(BUDGET)
    content["logger"] = "tensorboard"
    return content


def leaves(content: Any, path: tuple = ()) -> Iterator[tuple[tuple, Any]]:
    """Every key and item below the top, with its value."""
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items:
        yield (*path, key), value
        if isinstance(value, dict | list):
            yield from leaves(value, (*path, key))


def changed(content: dict, path: tuple, value: Any) -> dict:
    content = copy.deepcopy(content)
    place: Any = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return content


def values_of(value: Any) -> Iterator[tuple[str, Any, bool | None]]:
    """Other values by name, and whether they must be refused."""
    kind = type(value)
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    for name, other in {**KINDS, **(NUMBERS if numeric else {})}.items():
        if type(other) is not kind or numeric:
            yield name, other, True if name in WRONG.get(kind, ()) else None


def cases(data: dict[str, Path], folder: Path) -> Iterator[Case]:
    """One case for each key and value, with the first config that has both."""
    folder.mkdir()
    seen: set[tuple] = set()
    for config in shipped():
        content = small(config, data)
        model = content["model"].get("energy_model", content["model"])["name"]
        whole = folder / config.replace("/", "_")
        yield _case(whole, partial(copy.deepcopy, content), f"{config} as it is", False)
        for path, value in leaves(content):
            of_model = model if path[0] == "model" else ""
            for name, other, refused in values_of(value):
                if name == "true" and isinstance(path[-1], int):
                    refused = None  # fairchem's models do not check items; to Python it is 1
                key = (of_model, *path, name)
                if key in seen or path[-1] in ("src",):
                    continue
                seen.add(key)
                title = f"{config}: {'.'.join(map(str, path))}: {name} for {value!r}"
                change = partial(changed, content, path, other)
                yield _case(folder / f"{len(seen)}.yml", change, title, refused)


def _case(file: Path, content: Callable[[], dict], title: str, refused: bool | None) -> Case:
    def prepare() -> None:
        file.write_text(yaml.safe_dump(content(), allow_unicode=True))

    return Case("values in configs", title, train(file, file.parent), refused, prepare=prepare)


def train(config: Path, runs: Path) -> list[str]:
    return [
        "main.py", "--mode", "train", "--config-yml", str(config), "--cpu", "--run-dir",
        str(runs / f"{config.stem}_run"), "--print-every", "1",
    ]  # fmt: skip
