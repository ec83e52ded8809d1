"""A finished tool call in, the same call out if it is valid, else repaired or with its error.

In: the tools of a request, and the name and arguments that a model wrote. Out: `CheckedCall`.
Must not know: which server wrote it, streams, dialects.

A call is valid if its name is declared, its arguments are JSON and the tool's schema holds. A
valid call comes out as it went in, letter for letter. Of any other call is changed only what
leaves no choice:

- the name: `functions.` before it and `:3` after it go; another case, if one tool alone fits;
- no arguments at all become `{}`;
- arguments that are not JSON are read as `lenient_json` says;
- a string that holds JSON becomes that value where the schema wants an object, an array, a number
  or a boolean and no string: the whole of the arguments, or a value in them.

Then the schema must hold, or the call has failed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, cast

import jsonschema_rs

from openk2.server.upstream.lenient_json import MAX_DEPTH, read_json, read_lenient
from openk2.types import ToolSpec

MAX_ARGUMENTS = 2**20
"""Characters of one call's arguments; more is not examined."""

_ROUNDS = 4
"""A value that was unpacked may hold further ones; each round is one level."""

_MAX_ERRORS = 256
_PROBLEM = 300
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


@dataclass(frozen=True, slots=True)
class CheckedCall:
    """What became of a call."""

    name: str
    arguments: str
    outcome: Literal["valid", "repaired", "failed"]
    problem: str = ""
    """Why it failed, for the model that wrote it."""


class ToolValidator:
    """Checks calls of one request's tools; a schema is compiled when its tool is first called."""

    def __init__(self, tools: Sequence[ToolSpec]) -> None:
        """Remember the tools."""
        self._tools = {tool.name: tool for tool in tools}
        self._compiled: dict[str, jsonschema_rs.Validator | None] = {}
        self.unusable: list[str] = []
        """Tools whose schema cannot be compiled: of their calls only name and JSON are checked."""

    def declares(self, name: str) -> bool:
        """Whether a tool has exactly this name."""
        return name in self._tools

    def check(self, name: str, arguments: str) -> CheckedCall:
        """Validate one call, and repair it where that leaves no choice."""
        declared = self._declared(name)
        if declared is None:
            names = ", ".join(sorted(self._tools))
            return CheckedCall(
                name, arguments, "failed", f"there is no tool {name[:64]!r}; the tools are {names}"
            )
        if len(arguments) > MAX_ARGUMENTS:
            return CheckedCall(declared, arguments, "failed", "the arguments are too long")
        try:
            value, exact = _read(arguments)
        except ValueError as error:
            return CheckedCall(
                declared, arguments, "failed", f"the arguments are not JSON: {error}"[:_PROBLEM]
            )
        schema = self._schema(declared)
        if exact and not _problem(schema, value):
            outcome = "valid" if declared == name else "repaired"
            return CheckedCall(declared, arguments, outcome)
        value, problem = _fit(schema, value)
        if problem:
            return CheckedCall(declared, arguments, "failed", problem)
        try:
            return CheckedCall(declared, write_json(value), "repaired")
        except RecursionError:
            return CheckedCall(declared, arguments, "failed", "the arguments are nested too deeply")

    def _declared(self, name: str) -> str | None:
        if name in self._tools:
            return name
        bare = re.sub(r":\d+$", "", name.strip().removeprefix("functions."))
        if bare in self._tools:
            return bare
        alike = [tool for tool in self._tools if tool.casefold() == bare.casefold()]
        return alike[0] if len(alike) == 1 else None

    def _schema(self, name: str) -> jsonschema_rs.Validator | None:
        if name not in self._compiled:
            self._compiled[name] = validator = compile_schema(self._tools[name].parameters)
            if validator is None:
                self.unusable.append(name)
        return self._compiled[name]


def compile_schema(schema: Mapping[str, Any]) -> jsonschema_rs.Validator | None:
    """Compile a stranger's schema, or return None if that cannot be done.

    Nothing is fetched for a `$ref`, and patterns take time in proportion to the text: those that
    would need backtracking are refused.
    """
    plain = dict(schema)
    for candidate in (plain, {key: plain[key] for key in plain if key != "$schema"}):
        try:
            return jsonschema_rs.validator_for(
                candidate, pattern_options=jsonschema_rs.RegexOptions(), offline=True
            )
        except (ValueError, TypeError):
            continue
    return None


def write_json(value: Any) -> str:
    """Write JSON in K2's style: Python's own separators, characters as they are."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair can only be written as an escape
        return json.dumps(value, allow_nan=False)
    return text


def _read(arguments: str) -> tuple[Any, bool]:
    """Return the value, and whether it stands there as it should."""
    if not arguments.strip():
        return {}, False
    try:
        return read_json(arguments), True
    except ValueError as error:
        try:
            return read_lenient(arguments), False
        except ValueError:
            raise error from None


def _problem(schema: jsonschema_rs.Validator | None, value: Any) -> str:
    """Say what is wrong with arguments, "" if nothing is."""
    if not isinstance(value, dict):
        return "the arguments must be a JSON object"
    try:
        if schema is None or schema.is_valid(cast("Any", value)):
            return ""
        error = next(iter(schema.iter_errors(cast("Any", value))))
    except (ValueError, StopIteration) as refused:  # deeper than the validator goes, half a pair
        return f"the arguments cannot be checked: {refused}"[:_PROBLEM]
    path = "".join(f"[{json.dumps(step)}]" for step in error.instance_path)
    return f"arguments{path}: {error.message}"[:_PROBLEM]


def _fit(schema: jsonschema_rs.Validator | None, value: Any) -> tuple[Any, str]:
    """Unpack strings that hold what the schema wants; return the value and what is still wrong."""
    if isinstance(value, str):
        value = _unpacked(value, ["object"])
    for _ in range(_ROUNDS):
        problem = _problem(schema, value)
        if not problem or not _unpack_once(schema, value):
            return value, problem
    return value, _problem(schema, value)


def _unpack_once(schema: jsonschema_rs.Validator | None, value: Any) -> bool:
    changed = False
    try:
        errors = [] if schema is None else list(islice(schema.iter_errors(value), _MAX_ERRORS))
    except ValueError:
        return False
    for error in errors:
        types = getattr(error.kind, "types", None)
        if not types or len(error.instance_path) > MAX_DEPTH or "string" in types:
            continue
        changed |= _unpack_at(value, list(error.instance_path), types)
    return changed


def _unpack_at(value: Any, path: list[str | int], types: list[str]) -> bool:
    if not path:
        return False
    for step in path[:-1]:
        value = value[step]
    old = value[path[-1]]
    if not isinstance(old, str):
        return False
    new = _unpacked(old, types)
    value[path[-1]] = new
    return new is not old


def _unpacked(text: str, types: list[str]) -> Any:
    """Return the value in `text` if it has one of `types`, else `text`."""
    try:
        value, _ = _read(text)
    except ValueError:
        return text
    if not text.strip():
        return text
    for name in types:
        fits = isinstance(value, _TYPES.get(name, ()))
        if fits and (name == "boolean" or not isinstance(value, bool)) and value is not None:
            return value
    return text
