"""Checks of `loss_functions`, and of what its terms ask of the model, before a run starts."""

from __future__ import annotations

import inspect

from pydantic import ValidationError

from ocp_physmol.errors import UserError
from ocp_physmol.losses.term import Term, active_entries, term_class
from ocp_physmol.run.config_values import lookup, require_known, require_number
from ocp_physmol.training.resolve import model_options


def check_losses(config: dict, ours: bool) -> None:
    """Check every entry; only a trainer of `ours` knows terms."""
    for entry in config["loss_functions"]:
        for name, options in entry.items():
            where = f"loss_functions.{name}"
            for key in ("fn", "coefficient"):
                if key not in options:
                    raise UserError(f"{where}.{key} is missing")
            loss = lookup("loss", f"{where}.fn", options["fn"])
            if not issubclass(loss, Term):
                if name not in config["outputs"]:
                    raise UserError(f"{where} is neither in 'outputs' nor a term of its own")
                require_known(where, options.keys(), {"fn", "coefficient", "reduction"})
                require_number(f"{where}.coefficient", options["coefficient"], 0)
                continue
            try:
                loss.Options(**options)
            except ValidationError as e:
                error = e.errors()[0]
                key = ".".join(map(str, error["loc"]))
                raise UserError(
                    f"{where}.{key} is missing" if error["type"] == "missing"
                    else f"{where}.{key}: {error['input']!r} is not possible; {error['msg']}"
                ) from e  # fmt: skip
    terms = {n: term_class(o) for n, o in active_entries(config["loss_functions"]).items()}
    if None not in terms.values():
        raise UserError("loss_functions has no active term for an output; add energy")
    physics = [name for name, term in terms.items() if term]
    if physics and not ours:
        raise UserError(f"loss_functions.{min(physics)} needs trainer: physmol")


def check_copies(config: dict, model_class: type) -> None:
    """Terms ask for copies of the batch, which fairchem's own models do not evaluate."""
    name = config["model"]["name"]
    for term, options in active_entries(config["loss_functions"]).items():
        loss = term_class(options)
        if loss is None:
            continue
        lacking = sorted(loss.model_options.keys() - model_options(model_class))
        if lacking:
            raise UserError(
                f"loss_functions.{term} needs model.{lacking[0]}, which {name} has not; "
                "only physmol does, so leave it out"
            )
        if "copies" not in inspect.signature(model_class.forward).parameters:
            raise UserError(
                f"loss_functions.{term} needs a model that evaluates copies of the batch, which "
                f"model.name {name} does not; wrap it: model: {{name: conservative, "
                f"energy_model: {{name: {name}, ...}}}}"
            )
