"""Errors that a user can mend, and the sentences that explain them."""

import difflib
import functools
import re
import sys
from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

Schema = TypeVar("Schema", bound=BaseModel)
Result = TypeVar("Result")
Keys = tuple[Any, ...]  # of mappings, and indices of lists, from the outermost in

EXIT_STATUS = 2  # of a command that has explained what is wrong with its input


class UserError(ValueError):
    """Wrong input. The message is one sentence that names the file, the key and the cure."""


def exit_on_user_error(main: Callable[..., Result]) -> Callable[..., Result]:
    """Make a command line print a UserError as its one sentence and exit."""

    @functools.wraps(main)
    def wrapped(*args: Any, **kwargs: Any) -> Result:
        try:
            return main(*args, **kwargs)
        except UserError as e:
            print(f"error: {e}", file=sys.stderr, flush=True)
            sys.exit(EXIT_STATUS)

    return wrapped


def did_you_mean(name: object, known: Collection[str]) -> str:
    """The cure for an unknown name: the known one that is most like it, or all of them."""
    close = difflib.get_close_matches(str(name), known, n=1)
    return f"did you mean '{close[0]}'?" if close else "known are " + ", ".join(sorted(known))


def validate(schema: type[Schema], content: object, where: str = "") -> Schema:
    """The content of a file, or of a section of it, as its schema describes it.

    No value is converted: the text "8" is no number. Validators of the schema raise ValueErrors
    that begin with "it must be".

    Args:
        where: the path of the section in its file; empty for the file itself.

    Raises:
        UserError: names the path and the value of what is wrong, and what it may be.
    """
    try:
        return schema.model_validate(content, strict=True)
    except ValidationError as e:
        raise UserError(explain(e, content, schema.model_json_schema(), where)) from e


def explain(error: ValidationError, content: object, definition: dict, where: str = "") -> str:
    """One sentence on the worst of the problems: an unknown key, else what lies deepest."""
    found = [(_path(problem, content), problem) for problem in error.errors()]
    path, problem = min(found, key=lambda x: (x[1]["type"] != "extra_forbidden", -len(x[0])))
    name = (f"{where}." if where and path else where) + _spelled(path)
    if problem["type"] == "extra_forbidden":
        section = name.rpartition(".")[0] or "top level"
        nodes = _nodes(definition, path[:-1])
        known = {key for node in nodes for key in node.get("properties", ())}
        return f"{section} has the unknown key '{path[-1]}'; {did_you_mean(path[-1], known)}"
    nodes = _nodes(definition, path)
    value = problem["input"]
    sections = any(node.get("type") in ("object", "array") for node in nodes)
    if problem["type"] == "missing" or (value is None and not sections):
        if sections:
            return f"section '{name}' is missing"
        example = next((f"; for example {node['examples'][0]}" for node in nodes
                        if "examples" in node), f"; it must be {_described(nodes)}")  # fmt: skip
        return f"{name} is missing{example}"
    if problem["type"] in ("value_error", "assertion_error"):
        text = str(problem["ctx"]["error"])
        if not text.startswith("it must be"):
            return f"{name}: {text}" if name else text
        return f"{name}: {value!r} is not possible; {text}"
    exponent = isinstance(value, str) and re.fullmatch(r"[+-]?[\d.]+[eE][+-]?\d+", value)
    hint = "; YAML takes this for text, a number has a dot and a sign: 1.0e-3" if exponent else ""
    return f"{name}: {value!r} is not possible; it must be {_described(nodes)}{hint}"


def _path(problem: Any, content: Any) -> Keys:
    """Where in the content a problem lies: pydantic also names the types that it has tried."""
    path = []
    for key in problem["loc"]:
        inside = isinstance(content, dict) and key in content
        if inside or (isinstance(content, list) and isinstance(key, int) and key < len(content)):
            path.append(key)
            content = content[key]
    if problem["type"] == "missing":
        path.append(problem["loc"][-1])
    return tuple(path)


def _spelled(path: Keys) -> str:
    parts = (f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return "".join(parts).lstrip(".")


def _nodes(definition: dict, path: Keys) -> list[dict]:
    """What the value at a path may be: the alternatives in a JSON schema."""

    def alternatives(node: dict) -> Iterator[dict]:
        if "$ref" in node:
            yield from alternatives(definition["$defs"][node["$ref"].rpartition("/")[2]])
        elif "anyOf" in node:
            for one in node["anyOf"]:
                yield from alternatives(one)
        else:
            yield node

    nodes = list(alternatives(definition))
    for key in path:
        below = []
        for node in nodes:
            inner = node.get("properties", {}).get(key, node.get("additionalProperties"))
            inner = node.get("items") if isinstance(key, int) else inner
            if isinstance(inner, dict):
                examples = {"examples": inner["examples"]} if "examples" in inner else {}
                below += [{**one, **examples} for one in alternatives(inner)]
        nodes = below
    return nodes


def _described(nodes: list[dict]) -> str:
    """What a value may be, in words."""
    return " or ".join(dict.fromkeys(_one_described(node) for node in nodes)) or "something else"


def _one_described(node: dict) -> str:
    if "const" in node or "enum" in node:
        values = node.get("enum", [node.get("const")])
        return ("one of " if len(values) > 1 else "") + ", ".join(map(_literal, values))
    noun = {
        "integer": "a whole number", "number": "a number", "boolean": "true or false",
        "string": "text", "array": "a list", "object": "a mapping of keys to values",
        "null": "null",
    }.get(node.get("type", ""), "something else")  # fmt: skip
    if node.get("minItems") or node.get("minProperties"):
        noun += " that is not empty"
    limits = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    ranges = [f"{sign} {node[key]}" for key, sign in limits.items() if key in node]
    return " ".join([noun, " and ".join(ranges)]).strip()


def _literal(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
