"""A configuration completed with the options of the model that follow from its other sections."""

import copy
import inspect
from collections.abc import Set

from fairchem.core.common.registry import registry

from ocp_physmol.checkpoint import has_classifier
from ocp_physmol.losses.term import active_entries, term_class


def resolve(config: dict, checkpoint: dict | None = None) -> dict:
    """A copy of a configuration with a complete section `model`.

    The active terms of `loss_functions` ask for options, as does a classifier in the `checkpoint`
    that is to be evaluated. Forces are computed by default only where `outputs` names them.
    """
    config = copy.deepcopy(config)
    splits = config.get("dataset") or {}
    for split in splits.values() if isinstance(splits, dict) else splits:
        if split and split.get("transforms", {}) is None:  # which fairchem does not take
            del split["transforms"]
    model = config["model"]
    taken = model_options(registry.get_model_class(model["name"]))
    terms = map(term_class, active_entries(config["loss_functions"]).values())
    wanted = {key: value for term in terms if term for key, value in term.model_options.items()}
    if checkpoint is not None and has_classifier(checkpoint):
        wanted["use_masking"] = True
    model.update({key: value for key, value in wanted.items() if key in taken})
    if "regress_forces" in taken:
        model.setdefault("regress_forces", "forces" in config["outputs"])
    return config


def model_options(model_class: type) -> Set[str]:
    """Names of the options that a model takes."""
    if hasattr(model_class, "Config"):
        return model_class.Config.model_fields.keys()
    return inspect.signature(model_class).parameters.keys()
