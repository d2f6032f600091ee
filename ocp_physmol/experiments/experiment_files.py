"""Experiment files: which trainings are compared, each for how long."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml
from fairchem.core.common.utils import UniqueKeyLoader, load_config, merge_dicts

from ocp_physmol.datasets.qm9 import SPLITS
from ocp_physmol.errors import UserError
from ocp_physmol.run.schema import Config
from ocp_physmol.run.sweep import folder_name, sweep

SECTIONS = Config.model_fields.keys()
TOP_LEVEL = {"title", "seconds", "runs", "config", "sweep"}
OF_A_RUN = {"config", "seconds", "seed", "note", "paper"} | SECTIONS


@dataclass(frozen=True)
class Run:
    """One training of an experiment."""

    name: str
    place: int  # in the file, from 0
    source: str  # the path of the config that it starts from
    config: dict  # complete: with includes, changes, data and budget
    seconds: float
    seed: int = 0
    note: str = ""  # for the foot of a table
    paper: str = ""  # the model of the paper's table that it is to be compared with

    @property
    def slug(self) -> str:
        """The name, as files and folders can have it."""
        return folder_name(self.name)


def read_experiment(
    path: Path, data: Path, seconds: float | None = None
) -> tuple[str, dict[str, Run]]:
    """The title and the runs, by name, of a file with `title`, `seconds`, and either

    - `runs`: by name, each with `config` (a path), and where wanted `seconds`, `seed`, `note` (for
      the foot of tables), `paper` (the row of the paper's table to compare it with) and sections of
      a config, which are merged into it;
    - or `config` and `sweep`, the path of a sweep file: each of its rows is a run.

    Args:
        data: the folder with the splits to train and judge on.
        seconds: of training of each run, instead of what the file says.

    Raises:
        UserError: if the file, or one that it names, is missing or none of these.
    """
    try:
        tree = yaml.load(path.read_text(), Loader=UniqueKeyLoader)
    except (OSError, yaml.YAMLError, ValueError) as e:
        raise UserError(f"experiment {path} cannot be read: {' '.join(str(e).split())}") from e
    try:
        _check(tree)
        entries = _swept(tree) if "sweep" in tree else _listed(tree)
        runs = [_run(place, *entry, tree, data, seconds) for place, entry in enumerate(entries)]
        _require_own_folders(runs)
    except UserError as e:
        raise UserError(f"experiment {path}: {e}") from e
    return tree["title"], {run.name: run for run in runs}


def _check(tree) -> None:
    if not isinstance(tree, dict) or not isinstance(tree.get("title"), str):
        raise UserError("'title' is missing; give the experiment one in words")
    for key in tree.keys() - TOP_LEVEL:
        raise UserError(f"'{key}' is no key; the file may hold {', '.join(sorted(TOP_LEVEL))}")
    if ("runs" in tree) == ("sweep" in tree) or ("config" in tree) != ("sweep" in tree):
        raise UserError("give either 'runs', each with a config, or 'config' and 'sweep'")
    _seconds("seconds", tree.get("seconds"))
    if "runs" in tree and (not isinstance(tree["runs"], dict) or not tree["runs"]):
        raise UserError("'runs' must hold rows, each with a name")


def _seconds(where: str, value) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise UserError(f"{where}: {value!r} is not possible; it must be a number above 0")
    return value


def _listed(tree: dict):
    """Name, options and config of each of `runs`."""
    for name, options in tree["runs"].items():
        if not isinstance(options, dict) or not isinstance(options.get("config"), str):
            raise UserError(f"runs.{name}.config is missing; give the path of a config")
        for key in options.keys() - OF_A_RUN:
            raise UserError(
                f"runs.{name}.{key} is neither one of config, note, paper, seconds, seed nor a "
                "section of a config; correct it"
            )
        changes = {key: value for key, value in options.items() if key in SECTIONS}
        yield str(name), options, merge_dicts(_load(options["config"]), changes)[0]


def _swept(tree: dict):
    """The same of the rows of a sweep file."""
    base = {"identifier": "", **_load(tree["config"])}
    for name, config in sweep(base, Path(tree["sweep"])).items():
        del config["identifier"]
        yield name, {"config": tree["config"]}, config


def _load(path: str) -> dict:
    try:
        config = load_config(path)[0]
    except (OSError, yaml.YAMLError, ValueError, AttributeError, KeyError, TypeError) as e:
        raise UserError(f"config {path} cannot be read: {' '.join(str(e).split())}") from e
    for section in ("dataset", "optim"):
        if not isinstance(config.get(section), dict):
            raise UserError(f"config {path}: section '{section}' is missing")
    return config


def _run(place, name, options, config, tree, data: Path, seconds: float | None) -> Run:
    seconds = seconds or _seconds(f"runs.{name}.seconds", options.get("seconds", tree["seconds"]))
    own = {
        "dataset": {split: {"src": str(data / split)} for split in SPLITS},
        "optim": {"max_seconds": seconds},
    }
    kept = {key: options[key] for key in ("seed", "note", "paper") if key in options}
    return Run(name, place, options["config"], merge_dicts(config, own)[0], seconds, **kept)


def _require_own_folders(runs: list[Run]) -> None:
    names = {}
    for run in runs:
        if not run.slug or run.slug in names:
            raise UserError(
                f"run '{run.name}' "
                + (f"shares the folder '{run.slug}' with '{names[run.slug]}'" if run.slug
                   else "has no letters")
                + "; give it another name"
            )  # fmt: skip
        names[run.slug] = run.name
