"""Experiment files: which trainings are compared, each for how long."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, product
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from fairchem.core.common.utils import UniqueKeyLoader, load_config, merge_dicts
from pydantic import Field, create_model, model_validator

from ocp_physmol.calculators.pool import Source
from ocp_physmol.datasets.qm9 import SPLITS
from ocp_physmol.datasets.surfaces import Splitting, part_folder
from ocp_physmol.errors import UserError, blame
from ocp_physmol.experiments.launch import Chain, model_command
from ocp_physmol.pushes.curvature import PUSHES
from ocp_physmol.pushes.teachers import NEEDED
from ocp_physmol.run.config_file import UNREADABLE, find_config
from ocp_physmol.run.schema import Config, Seed
from ocp_physmol.run.sweep import folder_name, sweep
from ocp_physmol.validation import Section, validate

SMALL: Literal[7] = 7  # heavy atoms, of the molecules that a laptop trains on in minutes
Seconds = Annotated[float, Field(gt=0, examples=[900])]


class Entry(Section):
    """One of `runs`: a config, and changes of its sections; or a calculator that is only judged."""

    config: str = Field("", examples=["configs/qm9/quickstart.yml"])
    calculator: str = Field("", examples=["gfn2"])  # or MODULE:NAME of one of ASE's
    seconds: Seconds | None = None
    seed: Seed = 0
    note: str = ""  # for the foot of a table
    paper: str = ""  # the model of the paper's table that it is to be compared with

    @model_validator(mode="after")
    def _one_kind(self) -> "Entry":
        if bool(self.config) == bool(self.calculator):
            raise ValueError("give either 'config' or 'calculator'")
        if self.calculator:
            Source.named(self.calculator)
        return self


SECTIONS: Any = {name: (Any, None) for name in Config.model_fields}
EntryWithSections = create_model("EntryWithSections", __base__=Entry, **SECTIONS)


class Surfaces(Splitting):
    """How relaxations on surfaces are split, and how the trained models relax them."""

    steps: Annotated[int, Field(ge=1)] = 100  # at most
    fmax: Annotated[float, Field(gt=0)] = 0.03  # eV/Angstrom


class Experiment(Section):
    """A file: `title`, `seconds`, and either `runs` by name, or `config` and `sweep`.

    With `seeds`, each run is trained with each of them. The data are QM9's molecules of at most
    `max_heavy_atoms`, or with `surfaces` relaxations on surfaces, and each run is trained on each
    of their parts.
    """

    title: str = Field(examples=["'Models, trained for the same time'"])
    seconds: Seconds
    seeds: list[Seed] = Field([], min_length=1)
    max_heavy_atoms: Literal[7, 9] = SMALL  # of molecules: small ones, or all of QM9
    surfaces: Surfaces | None = None
    runs: dict[Any, EntryWithSections] = Field({}, min_length=1)  # type: ignore[valid-type]
    config: str = ""
    sweep: str = ""  # the path of a sweep file, each of whose rows is a run

    @model_validator(mode="after")
    def _one_kind(self) -> "Experiment":
        if bool(self.runs) == bool(self.sweep) or bool(self.config) != bool(self.sweep):
            raise ValueError("give either 'runs', each with a config, or 'config' and 'sweep'")
        entries: list[Any] = list(self.runs.values())
        if self.surfaces and "max_heavy_atoms" in self.model_fields_set:
            raise ValueError("'max_heavy_atoms' is of molecules, not of surfaces")
        if (self.seeds or self.surfaces) and any(entry.calculator for entry in entries):
            raise ValueError("a 'calculator' is for molecules, and has no 'seeds'")
        if self.seeds and any("seed" in entry.model_fields_set for entry in entries):
            raise ValueError("give either 'seeds' or the 'seed' of a run")
        return self

    @property
    def default_data(self) -> Path:
        """The folder of the splits, where none is named."""
        if self.surfaces:
            return Path("data/surfaces")
        return Path("data/quickstart" if self.max_heavy_atoms == SMALL else "data/qm9")


@dataclass(frozen=True)
class Run:
    """One training of an experiment."""

    name: str
    slug: str  # the name, as files and folders can have it
    place: int  # in the file, from 0
    entry: Entry
    config: dict  # complete: with includes, changes, data and budget
    seconds: float
    model: str  # its name in the file, which runs on other parts or with other seeds share
    part: str  # of the data; empty where they have none
    seed: int

    @property
    def pushes(self) -> int | None:
        """How many of a molecule `ocp-physmol data curvature` is to label; None: no labels."""
        if not needs_labels(self.config):
            return None
        return PUSHES if "data" in teachers(self.config) else 0

    def as_yaml(self) -> str:
        return yaml.safe_dump(self.config, sort_keys=False)

    def chain(self, folder: Path, seed: int, **more: list[str]) -> Chain:
        """Write `folder`/config.yml, whose model the chain trains there, before `more` commands."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yml").write_text(self.as_yaml())
        if self.entry.calculator:
            return Chain(more, folder / "log.txt")
        training = model_command("train", folder / "config.yml", folder, "--seed", seed)
        return Chain({"training": training, **more}, folder / "log.txt")


def teachers(config: dict) -> set[str]:
    """The teachers of a config's losses."""
    losses = [item for entry in config.get("loss_functions", []) for item in entry.values()]
    return {item["teacher"] for item in losses if "teacher" in item}


def needs_labels(config: dict) -> bool:
    """Whether a config has a prior, or a loss whose labels `ocp-physmol data curvature` makes."""
    taught = any(NEEDED[teacher] for teacher in teachers(config))
    return taught or config.get("model", {}).get("prior") is not None


def labelled_folder(data: Path) -> Path:
    """Where the splits in `data` are with GFN2-xTB's labels."""
    named = data if data.name.strip(".") else data.resolve()
    return named.with_name(f"{named.name}-gfn2")


def read_experiment(
    path: Path, data: Path | None = None, seconds: float | None = None
) -> tuple[Experiment, dict[str, Run]]:
    """An experiment file, which may be a shipped one, and its runs by name.

    Runs train on the splits in the folder `data`, for `seconds`, if given instead of the file's.

    Raises:
        UserError: if the file, or one that it names, is missing or not of the form `Experiment`.
    """
    with blame(f"experiment {path} cannot be read", OSError, yaml.YAMLError, ValueError):
        tree = yaml.load(find_config(path).read_text(), Loader=UniqueKeyLoader)
    runs: dict[str, Run] = {}
    with blame(f"experiment {path}", UserError):
        experiment = validate(Experiment, tree if isinstance(tree, dict) else {})
        for run in _runs(experiment, data or experiment.default_data, seconds):
            slug, other = run.slug, [name for name in runs if runs[name].slug == run.slug]
            if other or not slug:
                problem = f"shares the folder '{slug}' with '{other[0]}'" if slug else "is empty"
                raise UserError(f"run '{run.name}' {problem}; give it another name")
            runs[run.name] = run
    return experiment, runs


def _runs(experiment: Experiment, data: Path, seconds: float | None) -> Iterator[Run]:
    """Each config with each seed and on each part of the data."""
    parts = experiment.surfaces.parts if experiment.surfaces else [""]
    # fairchem predicts a test split after training, which on surfaces takes minutes
    splits = ("train", "val") if experiment.surfaces else tuple(SPLITS)
    place = count()
    for model, entry, config in _configs(experiment):
        for seed, part in product(experiment.seeds or [entry.seed], parts):
            numbered = f"seed {seed}" if len(experiment.seeds) > 1 else ""
            name = ", ".join(filter(None, [model, part, numbered]))
            folder = part_folder(data, part) if part else data
            if needs_labels(config):
                folder = labelled_folder(folder)
            budget = seconds or entry.seconds or experiment.seconds
            own = {
                "dataset": {split: {"src": str(folder / split)} for split in splits},
                "optim": {"max_seconds": budget},
            }
            complete = merge_dicts(config, own)[0]
            if entry.calculator:
                budget, complete = 0.0, config
            slug = folder_name(name)
            yield Run(name, slug, next(place), entry, complete, budget, model, part, seed)


def _configs(experiment: Experiment) -> Iterator[tuple[str, Entry, dict]]:
    """Name, options and config of each of `runs`, or of each row of the sweep file."""
    entry: Any
    for name, entry in experiment.runs.items():
        if entry.calculator:
            yield str(name), entry, {"calculator": entry.calculator}
            continue
        changes = entry.model_dump(include=Config.model_fields.keys() & entry.model_fields_set)
        yield str(name), entry, merge_dicts(_load(entry.config), changes)[0]
    if experiment.sweep:
        base = {"identifier": "", **_load(experiment.config)}
        for name, config in sweep(base, find_config(Path(experiment.sweep))).items():
            del config["identifier"]
            yield name, Entry(config=experiment.config, calculator=""), config


def _load(path: str) -> dict:
    with blame(f"config {path} cannot be read", *UNREADABLE):
        return load_config(str(find_config(Path(path))))[0]
