"""What values of a config are checked for: each message names the key and the cure."""

from __future__ import annotations

import difflib

from fairchem.core.common.registry import registry

from ocp_physmol.errors import UserError


def require_known(where: str, given, known, noun: str = "key") -> None:
    """Raise a UserError if one of the `given` keys of a section is none of the `known`."""
    for key in sorted(given - known):
        close = difflib.get_close_matches(str(key), known, n=1)
        cure = f"did you mean '{close[0]}'?" if close else "known are " + ", ".join(sorted(known))
        raise UserError(f"{where} has the unknown {noun} '{key}'; {cure}")


def lookup(kind: str, key: str, name: str) -> type:
    """The class registered as `name`, or found at that import path."""
    if "." not in str(name):
        require_known(key, {name}, registry.mapping[f"{kind}_name_mapping"].keys(), "name")
    try:
        return registry.get_class(name, f"{kind}_name_mapping")
    except RuntimeError as e:
        raise UserError(f"{key}: {name} cannot be imported ({e.__cause__})") from e


def require_number(where: str, value, least: float, whole: bool = False) -> None:
    """Raise a UserError if a value is no number, or too small a one."""
    kind = int if whole else (int, float)
    if not isinstance(value, kind) or isinstance(value, bool) or not value >= least:
        noun = "whole number" if whole else "number"
        raise UserError(f"{where}: {value!r} is not possible; it must be a {noun} >= {least}")
