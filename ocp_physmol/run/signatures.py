"""Classes that a config names, and schemas of the options that their signatures declare."""

import builtins
import inspect
from collections.abc import Callable, Collection
from pathlib import Path
from typing import (
    Any,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from fairchem.core.common.registry import registry
from pydantic import BaseModel, ConfigDict, create_model

from ocp_physmol.errors import UserError, did_you_mean
from ocp_physmol.run.schema import Section

SIMPLE = {bool, int, float, str, type(None)}


def lookup(kind: str, key: str, name: str) -> type:
    """The class registered as `name`, or found at that import path."""
    known = registry.mapping[f"{kind}_name_mapping"]
    if "." not in name and name not in known:
        raise UserError(f"{key} has the unknown name '{name}'; {did_you_mean(name, known)}")
    try:
        return registry.get_class(name, f"{kind}_name_mapping")
    except RuntimeError as e:
        raise UserError(f"{key}: {name} cannot be imported ({e.__cause__})") from e


def options_of(
    function: Callable, without: Collection[str] = (), base: type[BaseModel] = Section
) -> type[BaseModel]:
    """A schema of the arguments of a function or class, beside the fields of `base`.

    An argument is checked as far as its annotation is simple; without one, by its default. A class
    that takes any keyword allows unknown keys.
    """
    parameters, hints = inspect.signature(function).parameters, _hints(function)
    fields: dict[str, Any] = {
        name: (_kind(hints.get(name), p.default), ... if p.default is p.empty else None)
        for name, p in parameters.items()
        if p.kind is not p.VAR_KEYWORD and name not in {*without, *base.model_fields}
    }
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        base = type(base.__name__, (base,), {"model_config": ConfigDict(extra="allow")})
    return create_model(getattr(function, "__name__", "Options"), __base__=base, **fields)


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
    if get_origin(hint) is Literal or hint in SIMPLE:
        return hint | None if default is None else hint
    kinds = [str if kind is Path else kind for kind in get_args(hint)]
    if get_origin(hint) in (list, dict, tuple, type) or not set(kinds) <= SIMPLE or not kinds:
        return Any
    return Union.__getitem__((*kinds, type(default)) if default is None else tuple(kinds))
