"""The tools of a Responses request, of all kinds that a client runs: one list of functions.

In: entries of `tools`, and the choice among them. Out: `ToolSpec`s, and for each what the client
calls it.
Must not know: messages, answers, or any other field of the body.

A `custom` tool takes a text as it is: for the model it is a function with one argument, `input`.
The functions of a `namespace` are functions whose names begin with its name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from pydantic import Field

from openk2.server.dialects.body import Json, bad, is_object, read
from openk2.server.dialects.openai_body import MAX_TOOLS, Function, Shape
from openk2.server.dialects.openai_tools import decode_function
from openk2.types import ToolSpec

_EXAMPLE_TOOL = (
    '{"type": "function", "name": "search", "parameters": {"type": "object", "properties": {}}}'
)


@dataclass(frozen=True, slots=True)
class Origin:
    """A tool as the client has declared it."""

    name: str
    namespace: str | None = None
    custom: bool = False
    """It takes a text and not an object."""


@dataclass(slots=True)
class Declared:
    """All tools of a request."""

    specs: dict[str, ToolSpec] = field(default_factory=lambda: {})
    origins: dict[str, Origin] = field(default_factory=lambda: {})
    """By the name that the model knows; a function that has no other is not here."""
    echo: list[Json] = field(default_factory=lambda: [])
    """The tools as an answer repeats them."""
    warnings: list[str] = field(default_factory=lambda: [])

    def add(self, path: str, spec: ToolSpec, origin: Origin | None = None) -> None:
        """Add one tool, which the body has at `path`."""
        if spec.name in self.specs:
            raise bad(f"{path}.name", f"{spec.name!r} is the name of an earlier tool")
        if len(self.specs) == MAX_TOOLS:
            raise bad("tools", f"has more than {MAX_TOOLS} tools")
        self.specs[spec.name] = spec
        if origin is not None:
            self.origins[spec.name] = origin


class _Format(Shape):
    type: Literal["text", "grammar"] = "text"
    syntax: Literal["lark", "regex"] = "lark"
    definition: str = ""


class _Custom(Shape):
    name: str
    description: str = ""
    format: _Format = Field(default_factory=_Format)


class _Namespace(Shape):
    name: str = Field(min_length=1)
    description: str = ""
    tools: list[Any] = Field(default_factory=lambda: [], max_length=MAX_TOOLS)


def flat_name(namespace: str | None, name: str) -> str:
    """Return the name by which the model knows a function of a namespace."""
    if not namespace:
        return name
    return f"{namespace}{name}" if namespace.endswith("_") else f"{namespace}__{name}"


def decode_tools(entries: Sequence[object]) -> Declared:
    """Read all tools; those that only the platform can run are left out.

    Raises:
        ApiError: 400, naming the entry that is wrong.
    """
    declared = Declared()
    for index, entry in enumerate(entries):
        path = f"tools[{index}]"
        kind, tool = _entry(path, entry)
        match kind:
            case "function":
                spec = decode_function(path, read(Function, tool, path))
                declared.add(path, spec)
                declared.echo.append(_encode_function(spec, spec.name))
            case "custom":
                _add_custom(declared, path, read(_Custom, tool, path))
            case "namespace":
                _add_namespace(declared, path, read(_Namespace, tool, path))
            case _:
                declared.warnings.append(_left_out(path, kind))
    return declared


def _entry(path: str, entry: object) -> tuple[str, Json]:
    if not is_object(entry):
        problem = f"must be an object such as {_EXAMPLE_TOOL}, not {json.dumps(entry)[:40]}"
        raise bad(path, problem)
    kind = entry.get("type")
    if not isinstance(kind, str):
        raise bad(f"{path}.type", "must be a string" if "type" in entry else "is required")
    return kind, entry


def _add_custom(declared: Declared, path: str, tool: _Custom) -> None:
    described = tool.description
    form: Json = {"type": "text"}
    if tool.format.type == "grammar":
        # Shown to the model, which mostly keeps to it; the tool itself says when it does not.
        described = f"{described}\n\nThe input has this grammar:\n{tool.format.definition}".strip()
        form = tool.format.model_dump()
        declared.warnings.append(f"{path}.format: the grammar is shown, not enforced")
    argument = {"type": "string", "description": "The input of the tool, as it is."}
    parameters: Json = {
        "type": "object",
        "properties": {"input": argument},
        "required": ["input"],
        "additionalProperties": False,
    }
    spec = decode_function(
        path, Function(name=tool.name, description=described, parameters=parameters)
    )
    declared.add(path, spec, Origin(tool.name, custom=True))
    head = {"type": "custom", "name": tool.name, "description": tool.description}
    declared.echo.append(head | {"format": form})


def _add_namespace(declared: Declared, path: str, space: _Namespace) -> None:
    told: list[Json] = []
    for index, entry in enumerate(space.tools):
        at = f"{path}.tools[{index}]"
        kind, tool = _entry(at, entry)
        if kind != "function":
            declared.warnings.append(_left_out(at, kind))
            continue
        function = read(Function, tool, at)
        own = function.name
        function.name = flat_name(space.name, own)
        spec = decode_function(at, function)
        declared.add(at, spec, Origin(own, space.name))
        told.append(_encode_function(spec, own))
    head = {"type": "namespace", "name": space.name, "description": space.description}
    declared.echo.append(head | {"tools": told})


def _left_out(path: str, kind: str) -> str:
    return f"{path}: left out; {ascii(kind)[:80]} is not known here"


def _encode_function(spec: ToolSpec, name: str) -> Json:
    return {
        "type": "function",
        "name": name,
        "description": spec.description,
        "parameters": spec.parameters,
        "strict": True,
    }


# The choice among them --------------------------------------------------------------------------


def plain_choice(choice: object) -> object:
    """Say a choice as if all tools were functions with plain names."""
    if not is_object(choice):
        return choice
    entries = choice.get("tools")
    if choice.get("type") == "allowed_tools" and isinstance(entries, list):
        return choice | {"tools": [_plain(entry) for entry in cast("list[object]", entries)]}
    return _plain(choice)


def _plain(entry: object) -> object:
    if not is_object(entry):
        return entry
    name, space = entry.get("name"), entry.get("namespace")
    if entry.get("type") == "custom":
        return {"type": "function", "name": name}
    if isinstance(name, str) and isinstance(space, str):
        return {"type": "function", "name": flat_name(space, name)}
    return entry


def named(name: str, origins: Mapping[str, Origin]) -> Json:
    """Return a tool of a choice as this dialect names it."""
    origin = origins.get(name, Origin(name))
    fields: Json = {"type": "custom" if origin.custom else "function", "name": origin.name}
    return fields if origin.namespace is None else fields | {"namespace": origin.namespace}


# Calls ------------------------------------------------------------------------------------------

_BEGINNING = re.compile(r'\s*\{\s*"input"\s*:\s*"')
_READABLE = re.compile(
    r'(?:[^"\\]|\\[^u]|\\u(?![dD][89abAB])[0-9a-fA-F]{4}|\\u[0-9a-fA-F]{4}\\u[0-9a-fA-F]{4})*'
)
"""As much of a JSON string as can be read already: half of a surrogate pair waits for the other."""


class ArgumentText:
    """The text of the one argument `input`, out of arguments that come in pieces."""

    def __init__(self) -> None:
        """Start a call."""
        self._pieces: list[str] = []
        self._unread = ""
        self._begun = self._over = False

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._pieces)

    def feed(self, piece: str) -> str:
        """Return what `piece` adds to the text."""
        self._unread += piece
        if not self._begun and (beginning := _BEGINNING.match(self._unread)):
            self._begun, self._unread = True, self._unread[beginning.end() :]
        if not self._begun or self._over:
            return ""
        found = _READABLE.match(self._unread)
        assert found is not None
        self._unread = self._unread[found.end() :]
        self._over = self._unread.startswith('"')
        try:
            text: str = json.loads(f'"{found[0]}"', strict=False)
        except ValueError:  # no server that holds calls to their schemas writes such an escape
            text = found[0]
        self._pieces.append(text)
        return text
