"""One file, many runs: main.py ... --sweep-yml. A grid of values, or rows with names."""

import copy
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from fairchem.core.common.utils import UniqueKeyLoader, dict_set_recursively, merge_dicts
from pydantic import Field

from ocp_physmol.errors import UserError, blame
from ocp_physmol.run.config_file import find_config
from ocp_physmol.validation import Section, validate


class Rows(Section):
    """A sweep file with rows; each has keys of the config, {} is the config as it is."""

    runs: dict[Any, dict] = Field(min_length=1)


def sweep(config: dict, path: Path) -> dict[str, dict]:
    """The configurations of a sweep by name; the names of their folders end in it.

    A file is of one of two kinds; any other is a UserError.
    - `runs` holds rows by name. A row has keys of the config: mappings are merged into the base
      configuration, all else, lists too, replaces what is there.
    - Or the file has the nesting of the config, with a list of values at each key. Each combination
      is a run: `run0`, `run1`... (fairchem's `create_grid` needs Python < 3.10.)
    """
    with blame(f"--sweep-yml {path} cannot be read", OSError, yaml.YAMLError, ValueError):
        tree = yaml.load(find_config(path).read_text(), Loader=UniqueKeyLoader)
    with blame(f"--sweep-yml {path}", UserError):
        rows = isinstance(tree, dict) and "runs" in tree
        configs = _by_row(config, validate(Rows, tree)) if rows else _grid(config, tree)
    for name, one in configs.items():
        one["identifier"] = "_".join(filter(None, [config["identifier"], name]))
    return configs


def folder_name(text: str) -> str:
    """A name as files and folders can have it; empty if nothing of it is left."""
    return re.sub(r"[^\w.+-]+", "_", text, flags=re.ASCII).strip("_.")


def _by_row(config: dict, rows: Rows) -> dict[str, dict]:
    configs: dict[str, dict] = {}
    for row, changes in rows.runs.items():
        name = folder_name(str(row))
        if not name or name in configs:
            problem = f"shares the folder '{name}' with another row" if name else "has no letters"
            raise UserError(f"row '{row}' {problem}; give it another name")
        configs[name] = merge_dicts(config, changes)[0]
    return configs


def _grid(config: dict, tree: Any) -> dict[str, dict]:
    paths, values = zip(*_axes(tree))
    configs = {}
    for number, combination in enumerate(itertools.product(*values)):
        one = configs[f"run{number}"] = copy.deepcopy(config)
        for path, value in zip(paths, combination):
            dict_set_recursively(one, list(path), value)
    return configs


def _axes(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], list]]:
    """Pairs of a key's path and the values that it takes."""
    if isinstance(tree, list) and path and tree:
        yield path, tree
    elif isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from _axes(value, (*path, key))
    else:
        where = ".".join(path) or "the file"
        raise UserError(f"{where} must hold a list of values, or keys that do")
