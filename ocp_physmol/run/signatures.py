"""Classes that a config names, and schemas of the options that their signatures declare."""

import inspect
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from fairchem.core.common.registry import registry
from pydantic import create_model

from ocp_physmol.errors import UserError, did_you_mean
from ocp_physmol.validation import Section


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
    function: Callable, without: Collection[str] = (), base: type[Section] = Section
) -> type[Section]:
    """A schema of the arguments of a function or class, beside the fields of `base`.

    An argument is checked as far as its annotation is simple; without one, by its default. A class
    that takes any keyword allows unknown keys.
    """
    called: Any = function.__init__ if inspect.isclass(function) else function
    names = getattr(called, "__globals__", {})
    parameters = inspect.signature(function).parameters
    fields: dict[str, Any] = {
        name: (_kind(p, names), ... if p.default is p.empty else None)
        for name, p in parameters.items()
        if p.kind is not p.VAR_KEYWORD and name not in {*without, *base.model_fields}
    }
    any_keyword = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    kwargs = {"extra": "allow"} if any_keyword else None
    return create_model("Options", __base__=base, __cls_kwargs__=kwargs, **fields)


def _kind(parameter: inspect.Parameter, names: dict[str, Any]) -> Any:
    """The type of an argument, as far as it can be told from a config."""
    hint, default = parameter.annotation, parameter.default
    if hint is parameter.empty:
        # of numbers without a point nothing is known: momentum=0 takes 0.9, too
        return {bool: bool, int: float, float: float, str: str}.get(type(default), Any)
    if isinstance(hint, str):
        with suppress(NameError):  # of a type that is imported for type checkers alone
            hint = eval(hint, names)
    alternatives = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    kinds = [str if kind is Path else kind for kind in alternatives]
    simple = (bool, int, float, str, NoneType)
    if not all(kind in simple or get_origin(kind) is Literal for kind in kinds):
        return Any
    return Union.__getitem__((*kinds, NoneType) if default is None else tuple(kinds))
