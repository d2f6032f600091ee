"""Checks before a run starts: each says which key of which file is wrong, and the cure.

They run in the command itself, before ranks or jobs are started, where a message is still readable.
They change nothing.
"""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from fairchem.core.common.registry import registry
from fairchem.core.common.relaxation.optimizers.lbfgs_torch import LBFGS
from fairchem.core.common.utils import setup_imports
from fairchem.core.datasets.base_dataset import create_dataset
from fairchem.core.modules import evaluator
from fairchem.core.modules.scheduler import LRScheduler

from ocp_physmol.checkpoint import read_checkpoint, require_same_architecture
from ocp_physmol.datasets.lmdb_dataset import find_problem
from ocp_physmol.errors import UserError, did_you_mean, validate
from ocp_physmol.losses.term import Term, active_entries, term_class
from ocp_physmol.run import schema
from ocp_physmol.run.signatures import options_of
from ocp_physmol.training.resolve import model_options, resolve
from ocp_physmol.training.trainer import PhysMolTrainer

if TYPE_CHECKING:
    import argparse

SPLIT_OF_MODE = {
    "train": "train", "validate": "val", "predict": "test", "run-relaxations": "relax",
}  # fmt: skip


def check_config(args: argparse.Namespace, config: dict) -> dict:
    """The configuration, completed, of a run that can start.

    Raises:
        UserError: if it cannot.
    """
    try:
        setup_imports(config)
        checkpoint = read_checkpoint(args.checkpoint) if args.checkpoint else None
        _check_sections(config)
        config = resolve(config, checkpoint if args.mode != "train" else None)
        model = _build_model(config["model"])
        _check_data(config, SPLIT_OF_MODE[args.mode])
        if checkpoint:
            _check_not_in_the_way(args, config)
            require_same_architecture(model, config["model"], checkpoint, args.checkpoint)
    except UserError as e:
        raise UserError(f"config {args.config_yml}: {e}") from e
    return config


def _check_sections(config: dict) -> None:
    own = schema.Run.model_fields.keys() & config.keys()
    validate(schema.Run, {key: config[key] for key in own})
    validate(schema.Config, {key: config[key] for key in config.keys() - own})
    trainer = _lookup("trainer", "trainer", config["trainer"])
    logger = config.get("logger", "wandb")
    _lookup("logger", "logger", logger if isinstance(logger, str) else logger["name"])
    model_class = _lookup("model", "model.name", config["model"]["name"])
    _check_losses(config, model_class, issubclass(trainer, PhysMolTrainer))
    _check_metrics(config["evaluation_metrics"])
    _check_optim(config)
    _check_task(config)
    _check_model(config["model"], model_class)
    for split in config["dataset"]:
        _check_split(config["dataset"], split)
    _check_normalizer(config, model_class)
    _require_finite(config)


def _lookup(kind: str, key: str, name: str) -> type:
    """The class registered as `name`, or found at that import path."""
    known = registry.mapping[f"{kind}_name_mapping"]
    if "." not in name and name not in known and not (kind, name) == ("logger", "wandb_singleton"):
        raise UserError(f"{key} has the unknown name '{name}'; {did_you_mean(name, known)}")
    try:
        return registry.get_class(name, f"{kind}_name_mapping")
    except RuntimeError as e:
        raise UserError(f"{key}: {name} cannot be imported ({e.__cause__})") from e


# ---- losses and metrics


def _check_losses(config: dict, model_class: type, ours: bool) -> None:
    """Check every entry; only a trainer of `ours` knows terms."""
    for entry in config["loss_functions"]:
        for name, options in entry.items():
            _check_loss(f"loss_functions.{name}", options, name in config["outputs"])
    terms = {n: term_class(o) for n, o in active_entries(config["loss_functions"]).items()}
    if None not in terms.values():
        raise UserError("loss_functions has no active term for an output; add energy")
    model = config["model"]["name"]
    for name, term in terms.items():
        if term is None:
            continue
        if not ours:
            raise UserError(f"loss_functions.{name} needs trainer: physmol")
        lacking = sorted(term.model_options.keys() - model_options(model_class))
        if lacking:
            raise UserError(
                f"loss_functions.{name} needs model.{lacking[0]}, which {model} has not; "
                "only physmol does, so leave it out"
            )
        if "copies" not in inspect.signature(model_class.forward).parameters:
            raise UserError(
                f"loss_functions.{name} needs a model that evaluates copies of the batch, which "
                f"model.name {model} does not; wrap it: model: {{name: conservative, "
                f"energy_model: {{name: {model}, ...}}}}"
            )


def _check_loss(where: str, options: dict, of_an_output: bool) -> None:
    if not isinstance(options.get("fn"), str):
        validate(schema.Loss, options, where)
    loss = _lookup("loss", f"{where}.fn", options["fn"])
    if issubclass(loss, Term):
        validate(loss.Options, options, where)
        return
    if not of_an_output:
        raise UserError(f"{where} is neither in 'outputs' nor a term of its own")
    validate(schema.Loss, options, where)


def _check_metrics(section: dict) -> None:
    """Metrics are functions of fairchem; the primary one is among them."""
    names = []
    functions = {n for n, f in vars(evaluator).items() if inspect.isfunction(f) and n[0] != "_"}
    for target, metrics in section.get("metrics", {}).items():
        for metric in metrics:
            if metric not in functions:
                where = f"evaluation_metrics.metrics.{target}"
                cure = did_you_mean(metric, functions)
                raise UserError(f"{where} has the unknown metric '{metric}'; {cure}")
            own = target == "misc" or target in metric  # as fairchem names what it computes
            names.append(metric if own else f"{target}_{metric}")
    primary = section["primary_metric"]
    if names and primary not in names:
        where = "evaluation_metrics.primary_metric"
        raise UserError(
            f"{where} has the unknown metric '{primary}'; {did_you_mean(primary, names)}"
        )


# ---- optimisation and task


def _check_optim(config: dict) -> None:
    optim = config["optim"]
    # fairchem warms up and then steps down at milestones where no scheduler is named
    name = optim.get("scheduler") or ("Null" if optim.get("max_seconds") else "LambdaLR")
    if name == "LambdaLR" and "lr_milestones" not in optim:
        raise UserError("optim.scheduler is missing; name one, or give max_seconds")
    scheduler = getattr(torch.optim.lr_scheduler, str(name), None)
    if scheduler is None and name != "Null":
        raise UserError(f"optim.scheduler: torch.optim.lr_scheduler has no {name}")
    options: type[schema.Section] = schema.Optim
    if name not in ("Null", "LambdaLR"):
        without = {"optimizer", "verbose", "last_epoch"}
        options = options_of(scheduler, "Optim", without, schema.Optim)
    validate(options, optim, "optim")
    unjudged = config["mode"] == "train" and not config["dataset"].get("val")
    if unjudged and name == "ReduceLROnPlateau":
        raise UserError("optim.scheduler ReduceLROnPlateau needs dataset.val")
    optimizer_class = getattr(torch.optim, optim.get("optimizer", "AdamW"), None)
    if not inspect.isclass(optimizer_class):
        raise UserError(f"optim.optimizer: torch.optim has no {optim['optimizer']}")
    params = optim.get("optimizer_params", {})
    known = options_of(optimizer_class, "OptimizerParams", ("params", "lr"))
    validate(known, params, "optim.optimizer_params")
    weights = [torch.nn.Parameter(torch.zeros(1))]
    try:  # torch knows the ranges
        optimizer = optimizer_class(weights, lr=optim["lr_initial"], **params)
        LRScheduler(optimizer, {**optim, "scheduler": "Null"} if name == "Null" else optim)
    except KeyError as e:
        raise UserError(f"optim.{e.args[0]} is missing") from e
    except Exception as e:
        raise UserError(f"optim: {' '.join(str(e).split())}") from e


def _check_task(config: dict) -> None:
    options = config.get("task", {}).get("relax_opt", {})
    known = options_of(LBFGS, "RelaxOpt", ("optimizable_batch", "save_full_traj", "traj_names"))
    validate(known, options, "task.relax_opt")
    if config["mode"] == "run-relaxations" and not options.get("traj_dir"):
        raise UserError("task.relax_opt.traj_dir is missing; give a folder for the trajectories")


# ---- model


def _check_model(section: dict, model_class: type, where: str = "model") -> None:
    options = {key: value for key, value in section.items() if key != "name"}
    known = getattr(model_class, "Config", None) or options_of(model_class, "Model")
    validate(known, options, where)
    if "energy_model" in options:  # of a conservative model
        inner = options["energy_model"]
        validate(schema.Named, inner, f"{where}.energy_model")
        inner_class = _lookup("model", f"{where}.energy_model.name", inner["name"])
        _check_model(inner, inner_class, f"{where}.energy_model")


def _build_model(section: dict) -> torch.nn.Module:
    options = {key: value for key, value in section.items() if key != "name"}
    try:
        return registry.get_model_class(section["name"])(**options)
    except (ValueError, TypeError, AssertionError) as e:
        raise UserError(f"model: {' '.join(str(e).split())}") from e


def _check_normalizer(config: dict, model_class: type) -> None:
    """Forces that are the derivative of the energy need the energy's scale, and no offset."""
    normalizer = (_taken_over(config["dataset"], "train").get("transforms") or {}).get("normalizer")
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


# ---- data


def _taken_over(splits: dict, split: str) -> dict:
    """A split with what it takes over from `train`, as fairchem does."""
    own = splits.get(split) or {}
    shared = splits.get("train") or {} if own.get("use_train_settings", True) else {}
    return {**shared, **own}


def _check_split(splits: dict, split: str) -> None:
    if splits[split] is None:
        return
    where, options = f"dataset.{split}", _taken_over(splits, split)
    if not splits[split].get("src"):
        raise UserError(f"{where}.src is missing; give the path of an LMDB")
    name = options.get("format", "lmdb")
    dataset_class = _lookup("dataset", f"{where}.format", name) if isinstance(name, str) else None
    known = dataset_class is None or dataset_class.__module__.startswith(
        ("fairchem", "ocp_physmol")
    )
    validate(schema.Split if known else schema.ForeignSplit, options, where)


def _check_data(config: dict, needed: str) -> None:
    """Open every split of the config once and look at its first entry."""
    splits = config["dataset"]
    if not splits.get(needed):
        raise UserError(f"dataset.{needed}.src is missing; give the path of an LMDB")
    for split in (name for name, options in splits.items() if options is not None):
        options = _taken_over(splits, split)
        for src in options["src"] if isinstance(options["src"], list) else [options["src"]]:
            if not Path(src).exists():
                raise UserError(
                    f"dataset.{split}.src: {src} does not exist; make the data first (QM9: "
                    "ocp-physmol data qm9, your own: ocp-physmol data files) or correct the path"
                )
        options["required"] = list(config["outputs"]) if split in ("train", "val") else []
        try:
            entry = create_dataset(options, split)[0]
        except UserError:
            raise
        except (ValueError, AssertionError, KeyError) as e:  # what fairchem's data sets say
            raise UserError(f"dataset.{split}: {' '.join(str(e).split())}") from e
        problem = find_problem(entry, options["required"])
        if problem:
            raise UserError(f"dataset.{split}.src: {options['src']}, an entry {problem}")


# ---- the whole


def _check_not_in_the_way(args: argparse.Namespace, config: dict) -> None:
    """A training that starts from one checkpoint must not overwrite another run's newest one."""
    if args.mode == "train" and config["timestamp_id"]:
        newest = Path(config["run_dir"], "checkpoints", config["timestamp_id"], "checkpoint.pt")
        if newest.is_file() and not newest.samefile(args.checkpoint):
            raise UserError(
                f"--timestamp-id {config['timestamp_id']}: {newest} is there already; leave "
                "--checkpoint out to go on from it, or choose another --timestamp-id"
            )


def _require_finite(value: Any, where: str = "") -> None:
    if isinstance(value, (dict, list)):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in pairs:
            _require_finite(inner, f"{where}.{key}".lstrip("."))
    elif isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where}: {value} is not possible; it must be a finite number")
