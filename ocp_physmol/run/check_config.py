"""Checks before a run starts: each says which key of which file is wrong, and the cure.

They run in the command itself, before ranks or jobs are started, where a message is still readable.
"""

from __future__ import annotations

import inspect
from pathlib import Path

import torch
import yaml
from fairchem.core.common.relaxation.optimizers.lbfgs_torch import LBFGS
from fairchem.core.common.utils import build_config, setup_imports
from fairchem.core.datasets.base_dataset import create_dataset
from pydantic import ValidationError

from ocp_physmol.checkpoint import read_checkpoint, require_same_architecture
from ocp_physmol.datasets.lmdb_dataset import find_problem
from ocp_physmol.errors import UserError
from ocp_physmol.run.config_values import lookup, require_known, require_number
from ocp_physmol.run.loss_checks import check_copies, check_losses
from ocp_physmol.training.resolve import model_options, resolve
from ocp_physmol.training.trainer import PhysMolTrainer

SECTIONS = {
    "trainer", "logger", "dataset", "model", "outputs", "evaluation_metrics", "loss_functions",
    "optim", "task", "slurm", "hide_eval_progressbar",
}  # fmt: skip

OPTIM_KEYS = {
    "batch_size", "eval_batch_size", "num_workers", "load_balancing", "load_balancing_on_error",
    "optimizer", "optimizer_params", "lr_initial", "scheduler", "warmup_steps", "warmup_factor",
    "lr_gamma", "lr_milestones", "max_epochs", "max_seconds", "eval_every", "checkpoint_every",
    "ema_decay", "clip_grad_norm",
}  # fmt: skip

SPLIT_OF_MODE = {
    "train": "train", "validate": "val", "predict": "test", "run-relaxations": "relax",
}  # fmt: skip


TASK_KEYS = {
    "strict_load", "relaxation_steps", "relaxation_fmax", "relax_opt", "save_full_traj",
    "write_pos",
}  # fmt: skip


def check_arguments(args, overrides: list[str]) -> None:
    """Raise a UserError if the options contradict each other or this machine."""
    for text in overrides:  # which must look like --optim.batch_size=8
        if not text.startswith("--") or text.count("=") != 1:
            raise UserError(
                f"unknown option '{text}'; a config key is overridden by --section.key=value, "
                "all other options are listed by --help"
            )
    if args.mode is None:
        raise UserError("--mode is missing; give " + ", ".join(SPLIT_OF_MODE))
    if args.mode != "train" and not args.checkpoint:
        raise UserError(f"--mode {args.mode} needs a trained model; give --checkpoint")
    if args.debug and args.submit:
        raise UserError("--debug leaves no checkpoints, which a job needs; leave out --submit")
    for option in ("num_gpus", "num_nodes", "slurm_mem", "slurm_timeout"):
        if getattr(args, option) < 1:
            option_name = f"--{option.replace('_', '-')}"
            raise UserError(f"{option_name} {getattr(args, option)} is not possible; at least 1 is")
    if args.num_nodes > 1 and not args.submit:
        raise UserError("--num-nodes needs a cluster; add --submit")
    if not args.cpu and not args.submit and args.num_gpus > torch.cuda.device_count():
        raise UserError(
            f"--num-gpus {args.num_gpus}, but {torch.cuda.device_count()} GPUs are here; add --cpu "
            "to run on the processor"
        )


def read_config(args, overrides: list[str]) -> dict:
    """The configuration with its includes and overrides."""
    try:
        return build_config(args, overrides)
    except (OSError, yaml.YAMLError, ValueError, AttributeError, KeyError, TypeError) as e:
        raise UserError(
            f"config {args.config_yml} cannot be read: {' '.join(str(e).split())}"
        ) from e


def check_config(args, config: dict) -> None:
    """Raise a UserError if the run that the configuration describes cannot start."""
    try:
        setup_imports(config)
        checkpoint = read_checkpoint(args.checkpoint) if args.checkpoint else None
        model = _check_sections(config, checkpoint if args.mode != "train" else None)
        if args.mode == "run-relaxations":
            _check_relaxation(config.get("task") or {})
        _check_data(config, SPLIT_OF_MODE[args.mode])
        if checkpoint:
            _check_not_in_the_way(args, config)
            require_same_architecture(model, config["model"], checkpoint, args.checkpoint)
    except UserError as e:
        raise UserError(f"config {args.config_yml}: {e}") from e


def _check_sections(config: dict, checkpoint: dict | None) -> torch.nn.Module:
    """Check every section; return the model that the config describes."""
    run_keys = {
        "mode", "identifier", "timestamp_id", "seed", "is_debug", "run_dir", "print_every", "amp",
        "checkpoint", "cpu", "submit", "summit", "world_size", "distributed_backend", "gp_gpus",
    }  # fmt: skip
    require_known("top level", config.keys() - run_keys, SECTIONS)
    require_known("task", (config.get("task") or {}).keys(), TASK_KEYS)
    for section in ("trainer", "dataset", "model", "outputs", "loss_functions", "optim"):
        if not config.get(section):
            raise UserError(f"section '{section}' is missing; see configs/qm9/base.yml")
    trainer = lookup("trainer", "trainer", config["trainer"])
    check_losses(config, issubclass(trainer, PhysMolTrainer))
    if "name" not in config["model"]:
        raise UserError("model.name is missing; for example physmol")
    model_class = lookup("model", "model.name", config["model"]["name"])
    _check_normalizer(config, model_class)
    check_copies(config, model_class)
    _check_optim(config["optim"])
    plateau = config["optim"].get("scheduler") == "ReduceLROnPlateau"
    if plateau and not config["dataset"].get("val") and config["mode"] == "train":
        raise UserError("optim.scheduler ReduceLROnPlateau needs dataset.val")
    metric = config.get("evaluation_metrics", {}).get("primary_metric")
    if metric is None:
        raise UserError("evaluation_metrics.primary_metric is missing; for example energy_mae")
    config["model"] = resolve(config, checkpoint)["model"]
    return _build_model(config, model_class)


def _check_normalizer(config: dict, model_class: type) -> None:
    """Forces that are the derivative of the energy need the energy's scale, and no offset."""
    normalizer = (config["dataset"].get("train") or {}).get("transforms", {}).get("normalizer")
    direct = inspect.signature(model_class.__init__).parameters.get("direct_forces")
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


def _check_optim(optim: dict) -> None:
    # fairchem warms up and then steps down at milestones where no scheduler is named
    name = optim.get("scheduler", "Null" if optim.get("max_seconds") else "LambdaLR")
    if name == "LambdaLR" and "lr_milestones" not in optim:
        raise UserError("optim.scheduler is missing; name one, or give max_seconds")
    scheduler = getattr(torch.optim.lr_scheduler, str(name), None)
    if scheduler is None and name != "Null":
        raise UserError(f"optim.scheduler: torch.optim.lr_scheduler has no {name}")
    options = set(inspect.signature(scheduler).parameters) if scheduler else set()
    require_known("optim", optim.keys(), OPTIM_KEYS | options)
    for key in ("batch_size", "num_workers", "max_epochs", "lr_initial"):
        if key not in optim:
            raise UserError(f"optim.{key} is missing")
    for key in ("batch_size", "eval_batch_size", "max_epochs"):
        require_number(f"optim.{key}", optim.get(key, 1), 1, whole=True)
    require_number("optim.num_workers", optim["num_workers"], 0, whole=True)
    for key in ("lr_initial", "max_seconds", "clip_grad_norm", "ema_decay"):
        if optim.get(key) is not None:
            require_number(f"optim.{key}", optim[key], 0)
    if not hasattr(torch.optim, str(optim.get("optimizer", "AdamW"))):
        raise UserError(f"optim.optimizer: torch.optim has no {optim['optimizer']}")


def _build_model(config: dict, model_class: type) -> torch.nn.Module:
    options = {key: value for key, value in config["model"].items() if key != "name"}
    require_known("model", options.keys(), _options_of(model_class))
    if "energy_model" in options:
        _check_energy_model(options["energy_model"])
    try:
        return model_class(**options)
    except ValidationError as e:
        error = e.errors()[0]
        where, reason = ".".join(map(str, error["loc"])), error["msg"].replace("Value error, ", "")
        raise UserError(f"model.{where}: {error['input']!r} is not possible; {reason}") from e
    except (ValueError, TypeError, AssertionError) as e:
        raise UserError(str(e)) from e


def _options_of(model_class: type) -> set[str]:
    return set(model_options(model_class))


def _check_energy_model(options) -> None:
    """Check the section of the model inside a `conservative` one."""
    where = "model.energy_model"
    if not isinstance(options, dict) or "name" not in options:
        raise UserError(f"{where} must have a name and options; for example {{name: schnet}}")
    model_class = lookup("model", f"{where}.name", options["name"])
    require_known(where, options.keys() - {"name"}, _options_of(model_class))


def _check_not_in_the_way(args, config: dict) -> None:
    """A training that starts from one checkpoint must not overwrite another run's newest one."""
    if args.mode == "train" and config["timestamp_id"]:
        newest = Path(config["run_dir"], "checkpoints", config["timestamp_id"], "checkpoint.pt")
        if newest.is_file() and not newest.samefile(args.checkpoint):
            raise UserError(
                f"--timestamp-id {config['timestamp_id']}: {newest} is there already; leave "
                "--checkpoint out to go on from it, or choose another --timestamp-id"
            )


def _check_relaxation(task: dict) -> None:
    for key, least in (("relaxation_steps", 0), ("relaxation_fmax", 0)):
        if key in task:
            require_number(f"task.{key}", task[key], least, whole=key.endswith("steps"))
    ours = {"self", "optimizable_batch", "save_full_traj", "traj_names"}
    known = set(inspect.signature(LBFGS.__init__).parameters) - ours
    require_known("task.relax_opt", (task.get("relax_opt") or {}).keys(), known)
    if not (task.get("relax_opt") or {}).get("traj_dir"):
        raise UserError("task.relax_opt.traj_dir is missing; give a folder for the trajectories")


def _check_data(config: dict, needed: str) -> None:
    """Open every split of the config once and look at its first entry."""
    splits = config["dataset"]
    for split in {needed, *splits}:
        if not (splits.get(split) or {}).get("src"):
            raise UserError(f"dataset.{split}.src is missing; give the path of an LMDB")
        shared = splits.get("train") or {} if splits[split].get("use_train_settings", True) else {}
        options = {**shared, **splits[split]}
        for src in options["src"] if isinstance(options["src"], list) else [options["src"]]:
            if not Path(str(src)).exists():
                raise UserError(
                    f"dataset.{split}.src: {src} does not exist; make the data first (QM9: "
                    "python -m ocp_physmol.datasets.qm9, your own: ocp_physmol.datasets.ase_files) "
                    "or correct the path"
                )
        lookup("dataset", f"dataset.{split}.format", options.get("format", "lmdb"))
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
