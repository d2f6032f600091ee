"""One file, many runs: main.py ... --sweep-yml. A grid of values, or rows with names."""

import copy
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from fairchem.core.common.utils import UniqueKeyLoader, dict_set_recursively, merge_dicts

from ocp_physmol.errors import UserError


def sweep(config: dict, path: Path) -> dict[str, dict]:
    """The configurations of a sweep by name; the names of their folders end in it.

    A file is of one of two kinds:
    - `runs` holds rows by name. A row has keys of the config: mappings are merged into the base
      configuration, all else, lists too, replaces what is there.
    - Or the file has the nesting of the config, with a list of values at each key. Each combination
      is a run: `run0`, `run1`... (fairchem's `create_grid` needs Python < 3.10.)

    Raises:
        UserError: if the file is missing, is no YAML, or is of neither kind.
    """
    try:
        tree = yaml.load(path.read_text(), Loader=UniqueKeyLoader)
    except (OSError, yaml.YAMLError, ValueError) as e:
        raise UserError(f"--sweep-yml {path} cannot be read: {' '.join(str(e).split())}") from e
    if isinstance(tree, dict) and "runs" in tree:
        configs = _rows(config, tree, path)
    else:
        configs = _grid(config, tree, path)
    for name, one in configs.items():
        one["identifier"] = "_".join(filter(None, [config["identifier"], name]))
    return configs


def folder_name(text: str) -> str:
    """A name as files and folders can have it; empty if nothing of it is left."""
    return re.sub(r"[^\w.+-]+", "_", text, flags=re.ASCII).strip("_.")


def _rows(config: dict, tree: dict, path: Path) -> dict[str, dict]:
    if tree.keys() != {"runs"}:
        other = min(str(key) for key in tree if key != "runs")
        raise UserError(f"--sweep-yml {path}: '{other}' stands beside 'runs'; move it into a row")
    if not isinstance(tree["runs"], dict) or not tree["runs"]:
        raise UserError(f"--sweep-yml {path}: 'runs' must hold rows, each with a name")
    configs = {}
    for row, fragment in tree["runs"].items():
        if not isinstance(fragment, dict):
            raise UserError(
                f"--sweep-yml {path}: row '{row}' must be a mapping of config keys; "
                "{} is the config as it is"
            )
        name = folder_name(str(row))
        if not name or name in configs:
            problem = f"shares the folder '{name}' with another row" if name else "has no letters"
            raise UserError(f"--sweep-yml {path}: row '{row}' {problem}; give it another name")
        configs[name] = merge_dicts(config, fragment)[0]
    return configs


def _grid(config: dict, tree: Any, path: Path) -> dict[str, dict]:
    axes = dict(_axes(tree, path))
    configs = {}
    for number, values in enumerate(itertools.product(*axes.values())):
        one = configs[f"run{number}"] = copy.deepcopy(config)
        for keys, value in zip(axes, values):
            dict_set_recursively(one, list(keys), value)
    return configs


def _axes(
    tree: Any, path: Path, keys: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], list]]:
    """Pairs of a key's path and the values that it takes."""
    if isinstance(tree, list) and keys and tree:
        yield keys, tree
    elif isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from _axes(value, path, (*keys, key))
    else:
        where = ".".join(keys) or "the file"
        raise UserError(f"--sweep-yml {path}: {where} must hold a list of values, or keys that do")
