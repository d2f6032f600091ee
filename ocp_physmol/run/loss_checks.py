"""Checks of `loss_functions`, and of what its terms ask of the model, before a run starts."""

from __future__ import annotations

from ocp_physmol.errors import UserError
from ocp_physmol.fairchem_compat.conservative import ConservativeModel
from ocp_physmol.losses.functions import PHYSICS_TERMS, active_terms
from ocp_physmol.run.config_values import lookup, require_known, require_number

COPIES_OF_TERM = {
    "masked_atoms": "masked", "bound": "displaced", "restoring_force": "displaced",
}  # fmt: skip
TERM_KEYS = {"masked_atoms": "mask_ratio", "bound": "noise", "restoring_force": "noise"}


def check_losses(config: dict, ours: bool) -> None:
    """Check every entry; only a trainer of `ours` knows the physics terms."""
    for entry in config["loss_functions"]:
        for name, options in entry.items():
            where = f"loss_functions.{name}"
            if name not in PHYSICS_TERMS and name not in config["outputs"]:
                raise UserError(
                    f"{where} is neither in 'outputs' nor one of {', '.join(PHYSICS_TERMS)}"
                )
            needed = {"fn", "coefficient", *filter(None, [TERM_KEYS.get(name)])}
            require_known(where, options.keys(), needed | {"reduction"})
            for key in sorted(needed):
                if key not in options:
                    raise UserError(f"{where}.{key} is missing")
                if key != "fn":
                    require_number(f"{where}.{key}", options[key], 0)
            lookup("loss", f"{where}.fn", options["fn"])
    terms = active_terms(config["loss_functions"])
    if not terms.keys() - set(PHYSICS_TERMS):
        raise UserError("loss_functions has no active term for an output; add energy")
    if {"bound", "restoring_force"} <= terms.keys():
        raise UserError(
            "loss_functions: bound and restoring_force each displace structures in their own way; "
            "leave one out"
        )
    physics = terms.keys() & set(PHYSICS_TERMS)
    if physics and not ours:
        raise UserError(f"loss_functions.{min(physics)} needs trainer: physmol")


def check_copies(config: dict, model_class: type) -> None:
    """Some terms compare copies of the batch, which not every model evaluates."""
    name, taken = config["model"]["name"], getattr(model_class, "copies", ())
    for term in sorted(active_terms(config["loss_functions"]).keys() & COPIES_OF_TERM.keys()):
        kind = COPIES_OF_TERM[term]
        if kind in taken:
            continue
        cure = "only physmol does, so leave it out"
        if kind in ConservativeModel.copies:
            cure = f"wrap it: model: {{name: conservative, energy_model: {{name: {name}, ...}}}}"
        raise UserError(
            f"loss_functions.{term} needs a model that evaluates {kind} copies of the batch, which "
            f"model.name {name} does not; {cure}"
        )
