"""Sections of files as pydantic models, and one sentence on what is wrong with their content."""

import inspect
import re
from contextlib import suppress
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from ocp_physmol.errors import UserError, did_you_mean

LONGEST = 200  # characters of a value in a message


class Section(BaseModel):
    """Keys and values of a mapping. Unknown keys are refused, and no value is converted."""

    model_config = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, frozen=True, protected_namespaces=()
    )

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        unknown = [key for key in content if key not in cls.model_fields]
        if unknown and cls.model_config["extra"] == "forbid":
            cure = did_you_mean(unknown[0], cls.model_fields)
            raise PydanticCustomError("key", f"{unknown[0]} is an unknown key; {cure}")
        for key, field in cls.model_fields.items():
            if field.is_required() and content.get(key) is None:
                hint = f"for example {field.examples[0]}" if field.examples else field.description
                hint = hint or f"it must be {_described(field.annotation)}"
                raise PydanticCustomError("key", f"{key} is missing; {hint}")
        return content


def _described(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, Section):
        return "a mapping of keys to values"
    return inspect.formatannotation(kind)


Schema = TypeVar("Schema", bound=Section)


def validate(schema: type[Schema], content: object, where: str = "") -> Schema:
    """The content of a file, or of its section `where`; a UserError names key, value and cure."""
    try:
        return schema.model_validate(content, strict=True)
    except ValidationError as e:
        raise UserError(_sentence(e, content, where)) from e


def _sentence(error: ValidationError, content: object, where: str) -> str:
    """One sentence on the worst problem: an unknown or missing key, else what lies deepest."""
    problems = error.errors()
    problems = [problem for problem in problems if problem["type"] == "key"] or problems
    worst = max(problems, key=lambda problem: len(problem["loc"]))
    name, value = _path(worst["loc"], content, where), worst["input"]
    if worst["type"] == "key":
        return f"{name}.{worst['msg']}".lstrip(".")
    alternatives = [p["msg"] for p in problems if _path(p["loc"], content, where) == name]
    texts = (re.sub(r"^(Value error, it must|\w+ should)", "it must", msg) for msg in alternatives)
    text = " or ".join(dict.fromkeys(texts)).replace(" or it must be ", " or ")
    text = re.sub(r"valid dictionary( or instance of \w+)?", "mapping of keys to values", text)
    if not text.startswith("it must"):
        return f"{name}: {text.removeprefix('Value error, ')}".removeprefix(": ")
    if isinstance(value, str) and re.fullmatch(r"[+-]?[\d.]+[eE][+-]?\d+", value):
        text += "; YAML takes this for text, a number has a dot and a sign: 1.0e-3"
    shown = repr(value)
    shown = f"{shown[:LONGEST]}..." if len(shown) > LONGEST else shown
    return f"{name}: {' '.join(shown.split())} is not possible; {text}"


def _path(location: tuple, content: Any, where: str) -> str:
    """Where a problem lies; pydantic also names the types of a union, which are no keys."""
    for key in location:
        with suppress(KeyError, IndexError, TypeError):
            content = content[key]
            where += f"[{key}]" if isinstance(key, int) else f".{key}"
    return where.lstrip(".")
