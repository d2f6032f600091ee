"""Classes that a config names, and schemas of the options that their signatures declare."""

from __future__ import annotations

import builtins
import inspect
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    Optional,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from fairchem.core.common.registry import registry
from pydantic import BaseModel, ConfigDict, create_model

from ocp_physmol.errors import UserError, did_you_mean
from ocp_physmol.run.schema import Section

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

SIMPLE: dict[Any, Any] = {
    bool: bool,
    int: int,
    float: float,
    str: str,
    Path: str,
    type(None): type(None),
}


def lookup(kind: str, key: str, name: str) -> type:
    """The class registered as `name`, or found at that import path."""
    known = registry.mapping[f"{kind}_name_mapping"]
    if "." not in name and name not in known and not (kind, name) == ("logger", "wandb_singleton"):
        raise UserError(f"{key} has the unknown name '{name}'; {did_you_mean(name, known)}")
    try:
        return registry.get_class(name, f"{kind}_name_mapping")
    except RuntimeError as e:
        raise UserError(f"{key}: {name} cannot be imported ({e.__cause__})") from e


def options_of(
    function: Callable,
    title: str,
    without: Collection[str] = (),
    base: type[BaseModel] = Section,
) -> type[BaseModel]:
    """A schema of the arguments of a function or class, beside the fields of `base`.

    An argument is checked as far as its annotation is simple; without one, by its default. A class
    that takes any keyword allows unknown keys.
    """
    signature = inspect.signature(function)
    hints = _hints(function)
    fields: dict[str, Any] = {}
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            fields["model_config"] = None
        elif name not in {*without, *base.model_fields}:
            kind = _kind(hints.get(name), parameter.default)
            default = ... if parameter.default is parameter.empty else None
            fields[name] = (kind, default)
    if fields.pop("model_config", ...) is None:
        base = type(base.__name__, (base,), {"model_config": ConfigDict(extra="allow")})
    return create_model(title, __base__=base, **fields)


class _Names(dict):
    """Names in annotations; those that are imported for type checkers alone may be anything."""

    def __missing__(self, name: str) -> Any:
        return Any


def _hints(function: Callable) -> dict[str, Any]:
    called: Any = function.__init__ if inspect.isclass(function) else function
    try:
        names = _Names({**vars(builtins), **called.__globals__})
        return get_type_hints(called, localns=names)
    except (AttributeError, TypeError):  # compiled, or in the syntax of a newer Python
        return {}


def _kind(hint: Any, default: Any) -> Any:
    """The type of an argument, as far as it can be told from a config."""
    if hint is None:
        # of numbers without a point nothing is known: momentum=0 takes 0.9, too
        hint = {bool: bool, int: float, float: float, str: str}.get(type(default), Any)
    kinds = get_args(hint) if get_origin(hint) is not Literal and get_args(hint) else (hint,)
    if get_origin(hint) in (list, dict, tuple, type) or not all(
        k in SIMPLE or get_origin(k) is Literal for k in kinds
    ):
        return Any
    found: Any = Union.__getitem__(tuple(SIMPLE.get(k, k) for k in kinds))
    return Optional[found] if default is None else found
