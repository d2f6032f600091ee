"""Checks of what is trained for, and how: losses, metrics, optimizer, scheduler, relaxations."""

import inspect
import logging
from collections import Counter
from collections.abc import Collection
from typing import Any

import torch
from fairchem.core.common.relaxation.optimizers.lbfgs_torch import LBFGS
from fairchem.core.modules import evaluator
from fairchem.core.modules.scheduler import LRScheduler

from ocp_physmol.errors import UserError, blame, did_you_mean
from ocp_physmol.fairchem_compat.optimizers import BEYOND_TORCH, find_optimizer
from ocp_physmol.losses.term import Term, active_entries, term_class
from ocp_physmol.run import schema
from ocp_physmol.run.signatures import lookup, options_of
from ocp_physmol.training.budget import follows_budget
from ocp_physmol.training.resolve import model_options
from ocp_physmol.validation import Section, validate

RISING = ("cosine_similarity", "within_threshold")  # metrics that are the better the larger


def check_losses(config: dict, model_class: type[torch.nn.Module], ours: bool) -> None:
    """Check every entry; only a trainer of `ours` knows terms."""
    for entry in config["loss_functions"]:
        for name, options in entry.items():
            where = f"loss_functions.{name}"
            loss = lookup("loss", f"{where}.fn", options["fn"])
            if not issubclass(loss, Term) and name not in config["outputs"]:
                raise UserError(f"{where} is neither in 'outputs' nor a term of its own")
            validate(loss.Options if issubclass(loss, Term) else schema.Loss, options, where)
    names = Counter(name for entry in config["loss_functions"] for name in entry)
    for name, times in names.items() if ours else ():
        if times > 1:
            raise UserError(f"loss_functions has {times} entries '{name}'; leave one")
    terms = {n: term_class(o) for n, o in active_entries(config["loss_functions"]).items()}
    if None not in terms.values():
        raise UserError("loss_functions has no active term for an output; add energy")
    model = config["model"]["name"]
    masks = any(term and "use_masking" in term.model_options for term in terms.values())
    if config["mode"] == "train" and config["model"].get("use_masking") and not masks:
        raise UserError(
            "model.use_masking adds weights that no loss trains; leave it out, or add masked_atoms "
            "to loss_functions"
        )
    for name, term in terms.items():
        if term is None:
            continue
        if not ours:
            raise UserError(f"loss_functions.{name} needs trainer: physmol")
        if lacking := sorted(term.model_options.keys() - model_options(model_class)):
            raise UserError(
                f"loss_functions.{name} needs model.{lacking[0]}, which {model} has not; "
                "only physmol does, so leave it out"
            )
        if "copies" not in inspect.signature(model_class.forward).parameters:
            raise UserError(
                f"loss_functions.{name} needs copies of the batch, which model.name {model} cannot "
                f"evaluate; wrap it: model: {{name: conservative, energy_model: {{name: {model}, "
                "...}}"
            )


def check_metrics(section: dict) -> None:
    """Metrics are functions of fairchem; the primary one is among them."""
    where, names = "evaluation_metrics", []
    functions = {n for n, f in vars(evaluator).items() if inspect.isfunction(f) and n[0] != "_"}
    for target, metrics in section.get("metrics", {}).items():
        for metric in metrics:
            _check_metric(f"{where}.metrics.{target}", metric, functions)
            own = target == "misc" or target in metric  # as fairchem names what it computes
            names.append(metric if own else f"{target}_{metric}")
    if names:
        primary = section["primary_metric"]
        _check_metric(f"{where}.primary_metric", primary, names)
        if "mae" not in primary and not any(part in primary for part in RISING):
            raise UserError(
                f"{where}.primary_metric {primary} is an error, of which fairchem would keep the "
                "weights with the largest; give one whose name has 'mae'"
            )


def _check_metric(where: str, metric: str, known: Collection[str]) -> None:
    if metric not in known:
        raise UserError(f"{where} has the unknown metric '{metric}'; {did_you_mean(metric, known)}")


def check_optim(config: dict, ours: bool) -> None:
    """Check the section, the options of optimizer and scheduler with it.

    Only a trainer of `ours` knows budgets.
    """
    optim = config["optim"]
    if not ours:
        _check_without_budget(optim)
    budgeted = ours and follows_budget(optim)
    name = optim.get("scheduler") or ("Null" if budgeted else "LambdaLR")
    _check_budget(optim, budgeted)
    options: type[Section] = schema.Optim
    if name not in ("LambdaLR", "Null"):
        scheduler = getattr(torch.optim.lr_scheduler, str(name), None)
        if scheduler is None:
            raise UserError(f"optim.scheduler: torch.optim.lr_scheduler has no {name}")
        options = options_of(scheduler, ("optimizer", "verbose", "last_epoch"), options)
    validate(options, optim, "optim")
    unjudged = config["mode"] == "train" and not config["dataset"].get("val")
    if unjudged and name == "ReduceLROnPlateau":
        raise UserError("optim.scheduler ReduceLROnPlateau needs dataset.val")
    name_of_optimizer = optim.get("optimizer", "AdamW")
    if name_of_optimizer in BEYOND_TORCH and not ours:
        raise UserError(f"optim.optimizer {name_of_optimizer} needs trainer: physmol")
    optimizer_class: Any = find_optimizer(name_of_optimizer)
    if optimizer_class is None:
        raise UserError(
            f"optim.optimizer: torch.optim has no {name_of_optimizer}, which is not one of "
            f"{', '.join(BEYOND_TORCH)}, either"
        )
    params = optim.get("optimizer_params", {})
    validate(options_of(optimizer_class, ("params", "lr")), params, "optim.optimizer_params")
    weights = [torch.nn.Parameter(torch.zeros(1))]
    weights[0].grad = torch.zeros(1)
    with blame("optim", Exception):  # torch knows the ranges
        optimizer = optimizer_class(weights, lr=optim["lr_initial"], **params)
        optimizer.step()  # which some take in ways of their own
        LRScheduler(optimizer, {**optim, "scheduler": "Null"} if name == "Null" else optim)


def _check_without_budget(optim: dict) -> None:
    """Raise a UserError where a trainer of fairchem would need to know what only ours does."""
    for key in ("max_seconds", "max_steps", "evaluations", "start_from"):
        if optim.get(key) is not None:
            raise UserError(f"optim.{key} needs trainer: physmol")
    if follows_budget(optim):
        raise UserError("optim.scheduler is missing; name one, or use trainer: physmol")


def _check_budget(optim: dict, budgeted: bool) -> None:
    """Say which options of a budget have no effect, or exclude each other."""
    if optim.get("scheduler") == "LambdaLR":  # takes a function, which no config can hold
        raise UserError(
            "optim.scheduler LambdaLR cannot be named; leave it out, and the learning rate falls "
            "to the end of the training"
        )
    unused = [key for key in ("scheduler", "lr_milestones") if optim.get(key)]
    if budgeted and unused:
        given = "max_seconds" if optim.get("max_seconds") is not None else "max_steps"
        logging.warning(
            f"optim.{unused[0]} {optim[unused[0]]} is not used: with optim.{given} the learning "
            "rate falls to the end of that budget"
        )
    if optim.get("evaluations") is None:
        return
    if not budgeted:
        raise UserError(
            "optim.evaluations divides a budget; leave out optim.scheduler, or give "
            "optim.eval_every and --optim.evaluations=None"
        )
    if "eval_every" in optim:
        raise UserError(
            "optim.evaluations and optim.eval_every are both given; leave one out, or add "
            "--optim.evaluations=None"
        )


def check_task(config: dict) -> None:
    """Check the options of relaxations' optimizer, and that trajectories have a folder."""
    options = config.get("task", {}).get("relax_opt", {})
    known = options_of(LBFGS, ("optimizable_batch", "save_full_traj", "traj_names"))
    validate(known, options, "task.relax_opt")
    if config["mode"] == "run-relaxations" and not options.get("traj_dir"):
        raise UserError("task.relax_opt.traj_dir is missing; give a folder for the trajectories")
