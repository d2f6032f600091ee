"""Checks before a run starts, in the command itself, where a message is still readable.

Each says which key of which file is wrong, and the cure. They start nothing.
"""

import argparse
import inspect
import math
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fairchem.core.common.registry import registry
from fairchem.core.common.utils import setup_imports
from fairchem.core.datasets.base_dataset import create_dataset
from torch import nn

from ocp_physmol.checkpoint import read_checkpoint, require_same_architecture
from ocp_physmol.datasets.entry_check import find_problem
from ocp_physmol.errors import UserError, blame, lacks_memory
from ocp_physmol.run import schema
from ocp_physmol.run.check_training import check_losses, check_metrics, check_optim, check_task
from ocp_physmol.run.signatures import lookup, options_of
from ocp_physmol.training.former import of_today
from ocp_physmol.training.resolve import resolve
from ocp_physmol.training.trainer import PhysMolTrainer
from ocp_physmol.validation import validate

LARGEST = {  # of options of models, by what is in their names
    "cutoff|radius": 100.0,  # Angstrom
    "layers|blocks|interactions|lmax|mmax|degree": 1000,
    "": 1_000_000,
}
AT_LEAST_ONE = ("max_neighbors", "num_layers", "num_blocks", "num_interactions")
SPLIT_OF_MODE = {"train": "train", "validate": "val", "predict": "test", "run-relaxations": "relax"}


def check_config(args: argparse.Namespace, config: dict) -> dict:
    """The configuration, completed, of a run that can start; a UserError if it cannot."""
    with blame(f"config {args.config_yml}", UserError):
        setup_imports(config)
        checkpoint = of_today(read_checkpoint(args.checkpoint)) if args.checkpoint else None
        _check_sections(config)
        if (
            config.get("world_size") != args.num_nodes * args.num_gpus
        ):  # ranks would wait for others
            problem = f"world_size: {config.get('world_size')} is not possible"
            raise UserError(f"{problem}; it follows from --num-nodes and --num-gpus, give those")
        config = resolve(config, checkpoint if args.mode != "train" else None)
        name, options = _name_and_options(config["model"])
        with blame("model", UserError):
            model = _build(registry.get_model_class(name), options)
        _check_data(config)
        if checkpoint:
            _check_not_in_the_way(args, config)
            require_same_architecture(model, config["model"], checkpoint, args.checkpoint)
            if args.mode == "train":
                _require_same_optimizer(config, checkpoint, args.checkpoint)
    return config


def _require_same_optimizer(config: dict, checkpoint: dict, path: str) -> None:
    """A training goes on with the state of its optimizer, which no other one can read."""
    optims = checkpoint["config"]["optim"], config["optim"]
    former, now = (optim.get("optimizer", "AdamW") for optim in optims)
    if "optimizer" in checkpoint and former != now:
        raise UserError(
            f"optim.optimizer: {path} has the state of {former}, not of {now}; set it to {former}, "
            "or begin anew with another --timestamp-id"
        )


def _build(model_class: type, options: dict) -> nn.Module:
    """The model; a UserError for options that only its constructor finds unfit."""
    try:
        return model_class(**options)
    except Exception as e:  # fairchem's models check little, and differ in how they fail
        if lacks_memory(e):
            raise
        raise UserError(f"{' '.join(str(e).split())} ({type(e).__name__})") from e


def _check_sections(config: dict) -> None:
    own = schema.CommandLine.model_fields
    validate(schema.CommandLine, {key: config[key] for key in config if key in own})
    validate(schema.Config, {key: config[key] for key in config if key not in own})
    trainer = lookup("trainer", "trainer", config["trainer"])
    logger = config.get("logger", "wandb")
    logger = logger if isinstance(logger, str) else logger["name"]
    if logger != "wandb_singleton":  # which fairchem knows, but has not registered
        lookup("logger", "logger", logger)
    model_class = lookup("model", "model.name", config["model"]["name"])
    check_losses(config, model_class, issubclass(trainer, PhysMolTrainer))
    check_metrics(config["evaluation_metrics"])
    check_optim(config, issubclass(trainer, PhysMolTrainer))
    check_task(config)
    _check_model(config["model"])
    for split, options in _splits(config).items():
        where = f"dataset.{split}"
        validate(schema.AnySplit, options, where)
        dataset_class = lookup("dataset", f"{where}.format", options.get("format", "lmdb"))
        if dataset_class.__module__.startswith(("fairchem", "ocp_physmol")):
            validate(schema.Split, options, where)
    relax = config["dataset"].get("relax") or {}
    if given := [key for key in ("first_n", "sample_n", "max_atoms", "subset_to") if key in relax]:
        raise UserError(f"dataset.relax.{given[0]}: all structures are relaxed; leave it out")
    _check_normalizer(config, model_class)
    _require_finite(config)
    _require_buildable(config["model"])


def _check_model(section: dict, where: str = "model") -> None:
    """Check the options of a model, and of the model inside if there is one."""
    validate(schema.Named, section, where)
    name, options = _name_and_options(section)
    model_class = lookup("model", f"{where}.name", name)
    validate(getattr(model_class, "Config", None) or options_of(model_class), options, where)
    if "energy_model" in options:
        _check_model(options["energy_model"], f"{where}.energy_model")
    if isinstance(backbone := options.get("backbone"), dict):  # of fairchem's models with heads
        renamed = {{"model": "name"}.get(key, key): value for key, value in backbone.items()}
        _check_model(renamed, f"{where}.backbone")


def _name_and_options(section: dict) -> tuple[str, dict]:
    return section["name"], {key: value for key, value in section.items() if key != "name"}


def _check_normalizer(config: dict, model_class: type) -> None:
    """Forces that are the derivative of the energy need the energy's scale, and no offset."""
    train = config["dataset"].get("train") or {}
    normalizer = (train.get("transforms") or {}).get("normalizer")
    direct = inspect.signature(model_class).parameters.get("direct_forces")
    direct = config["model"].get("direct_forces", direct is not None and direct.default)
    if not normalizer or "forces" not in config["outputs"] or direct:
        return
    energy, forces = (normalizer.get(name) or {} for name in ("energy", "forces"))
    scales = [part.get("stdev", part.get("rmsd", 1.0)) for part in (energy, forces)]
    if "fit" in normalizer or scales[0] != scales[1] or forces.get("mean", 0) != 0:
        raise UserError(
            "dataset.train.transforms.normalizer: forces are the derivative of the energy, so give "
            "both the same stdev, and forces the mean 0"
        )
    if config["mode"] == "train" and config["model"].get("repulsion") and scales[0] != 1:
        raise UserError(
            "dataset.train.transforms.normalizer: model.repulsion is in eV, so set stdev: 1 for "
            "energy and forces, or leave out the repulsion"
        )


def _splits(config: dict) -> dict[str, dict]:
    """The splits that are given or needed; all but their `src` they take over from `train`."""
    given = {name: own for name, own in config["dataset"].items() if own is not None}
    shared = {**given.get("train", {}), "src": None}
    return {
        name: {**(shared if own.get("use_train_settings", True) else {}), **own}
        for name, own in {SPLIT_OF_MODE[config["mode"]]: {}, **given}.items()
    }


def _check_data(config: dict) -> None:
    """Open every split of the config once and look at its first entry."""
    for split, options in _splits(config).items():
        for src in options["src"] if isinstance(options["src"], list) else [options["src"]]:
            if not Path(src).exists():
                raise UserError(
                    f"dataset.{split}.src: {src} does not exist; make the data first (QM9: "
                    "ocp-physmol data qm9, your own: ocp-physmol data files) or correct the path"
                )
        options["required"] = list(config["outputs"]) if split in ("train", "val") else []
        unfit = (ValueError, AssertionError, KeyError, pickle.UnpicklingError)
        with blame(f"dataset.{split}", *unfit):
            entry = create_dataset(options, split)[0]
        if problem := find_problem(entry, options["required"]):
            raise UserError(f"dataset.{split}.src: {options['src']}, an entry {problem}")


def _check_not_in_the_way(args: argparse.Namespace, config: dict) -> None:
    """A training that starts from one checkpoint must not overwrite another run's newest one."""
    if args.mode == "train" and config["timestamp_id"]:
        newest = Path(config["run_dir"], "checkpoints", config["timestamp_id"], "checkpoint.pt")
        if newest.is_file() and not newest.samefile(args.checkpoint):
            raise UserError(
                f"--timestamp-id {config['timestamp_id']}: {newest} is there already; leave "
                "--checkpoint out to go on from it, or choose another --timestamp-id"
            )


def _leaves(value: Any, where: str = "", key: str = "") -> Iterator[tuple[str, str, Any]]:
    """Place, key and value of whatever is no mapping or list; items have the key of their list."""
    if isinstance(value, (dict, list)):
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            own = name if isinstance(value, dict) else key
            yield from _leaves(inner, f"{where}.{name}".lstrip("."), str(own))
    else:
        yield where, key, value


def _require_finite(config: dict) -> None:
    for where, _, value in _leaves(config):
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{where}: {value} is not possible; it must be a finite number")


def _require_buildable(model: dict) -> None:
    """Refuse sizes that no model has, with which building one would never end."""
    for where, key, value in _leaves(model, "model"):
        if not isinstance(value, (int, float)):
            continue
        limits = (limit for pattern, limit in LARGEST.items() if re.search(pattern, key))
        if value > (limit := next(limits)):
            raise UserError(f"{where}: {value} is not possible; it must be at most {limit:g}")
        if key in AT_LEAST_ONE and value < 1:
            raise UserError(f"{where}: {value} is not possible; it must be at least 1")
        if re.search("cutoff|radius", key) and value <= 0:
            raise UserError(f"{where}: {value} is not possible; it must be greater than 0")
