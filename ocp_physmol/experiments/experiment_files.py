"""Experiment files: which trainings are compared, each for how long."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from fairchem.core.common.utils import UniqueKeyLoader, load_config, merge_dicts
from pydantic import Field, create_model, model_validator

from ocp_physmol.datasets.qm9 import SPLITS
from ocp_physmol.errors import UserError, blame
from ocp_physmol.experiments.launch import Chain, model_command
from ocp_physmol.run.config_file import UNREADABLE, find_config
from ocp_physmol.run.schema import Config, Seed
from ocp_physmol.run.sweep import folder_name, sweep
from ocp_physmol.validation import Section, validate

Seconds = Annotated[float, Field(gt=0, examples=[900])]


class Entry(Section):
    """One of `runs`: a config, and changes of its sections."""

    config: str = Field(examples=["configs/qm9/quickstart.yml"])
    seconds: Seconds | None = None
    seed: Seed = 0
    note: str = ""  # for the foot of a table
    paper: str = ""  # the model of the paper's table that it is to be compared with


SECTIONS: Any = {name: (Any, None) for name in Config.model_fields}
EntryWithSections = create_model("EntryWithSections", __base__=Entry, **SECTIONS)


class Experiment(Section):
    """A file: `title`, `seconds`, and either `runs` by name, or `config` and `sweep`."""

    title: str = Field(examples=["'Models, trained for the same time'"])
    seconds: Seconds
    runs: dict[Any, EntryWithSections] = Field({}, min_length=1)  # type: ignore[valid-type]
    config: str = ""
    sweep: str = ""  # the path of a sweep file, each of whose rows is a run

    @model_validator(mode="after")
    def _one_kind(self) -> "Experiment":
        if bool(self.runs) == bool(self.sweep) or bool(self.config) != bool(self.sweep):
            raise ValueError("give either 'runs', each with a config, or 'config' and 'sweep'")
        return self


@dataclass(frozen=True)
class Run:
    """One training of an experiment."""

    name: str
    slug: str  # the name, as files and folders can have it
    place: int  # in the file, from 0
    entry: Entry
    config: dict  # complete: with includes, changes, data and budget
    seconds: float

    def as_yaml(self) -> str:
        return yaml.safe_dump(self.config, sort_keys=False)

    def chain(self, folder: Path, seed: int, **more: list[str]) -> Chain:
        """Write `folder`/config.yml, whose model the chain trains there, before `more` commands."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yml").write_text(self.as_yaml())
        training = model_command("train", folder / "config.yml", folder, "--seed", seed)
        return Chain({"training": training, **more}, folder / "log.txt")


def read_experiment(
    path: Path, data: Path, seconds: float | None = None
) -> tuple[str, dict[str, Run]]:
    """The title and the runs, by name, of an experiment file; `path` may be of a shipped one.

    Runs train on the splits in the folder `data`, for `seconds` if given instead of the file's.

    Raises:
        UserError: if the file, or one that it names, is missing or not of the form `Experiment`.
    """
    with blame(f"experiment {path} cannot be read", OSError, yaml.YAMLError, ValueError):
        tree = yaml.load(find_config(path).read_text(), Loader=UniqueKeyLoader)
    runs: dict[str, Run] = {}
    dataset = {split: {"src": str(data / split)} for split in SPLITS}
    with blame(f"experiment {path}", UserError):
        experiment = validate(Experiment, tree if isinstance(tree, dict) else {})
        for name, entry, config in _configs(experiment):
            slug, used = folder_name(name), seconds or entry.seconds or experiment.seconds
            other = [run.name for run in runs.values() if run.slug == slug]
            if other or not slug:
                problem = f"shares the folder '{slug}' with '{other[0]}'" if slug else "is empty"
                raise UserError(f"run '{name}' {problem}; give it another name")
            own = {"dataset": dataset, "optim": {"max_seconds": used}}
            runs[name] = Run(name, slug, len(runs), entry, merge_dicts(config, own)[0], used)
    return experiment.title, runs


def _configs(experiment: Experiment) -> Iterator[tuple[str, Entry, dict]]:
    """Name, options and config of each of `runs`, or of each row of the sweep file."""
    entry: Any
    for name, entry in experiment.runs.items():
        changes = entry.model_dump(include=Config.model_fields.keys() & entry.model_fields_set)
        yield str(name), entry, merge_dicts(_load(entry.config), changes)[0]
    if experiment.sweep:
        base = {"identifier": "", **_load(experiment.config)}
        for name, config in sweep(base, find_config(Path(experiment.sweep))).items():
            del config["identifier"]
            yield name, Entry(config=experiment.config), config


def _load(path: str) -> dict:
    with blame(f"config {path} cannot be read", *UNREADABLE):
        return load_config(str(find_config(Path(path))))[0]
