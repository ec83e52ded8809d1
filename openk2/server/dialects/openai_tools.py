"""Tools and the choice among them, as Chat Completions says them.

In: entries of `tools` whose shape is checked. Out: `ToolSpec`s and a `ToolChoice`.
Must not know: messages, or how a call is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

from openk2.server.dialects.body import bad, is_object, shown
from openk2.server.dialects.openai_body import MAX_TOOLS, Function, Tool
from openk2.server.request import NamedTool, ToolChoice
from openk2.types import ToolSpec

_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,128}")
_CHOICES = '"auto", "none", "required" or {"type": "function", "function": {"name": ...}}'


def decode_tools(lists: Iterable[tuple[str, Sequence[Tool]]]) -> tuple[ToolSpec, ...]:
    """Read lists of tools, each with the path at which the body has it.

    Raises:
        ApiError: A name that cannot be called or comes twice, built-in tools, wrong parameters.
    """
    specs: dict[str, ToolSpec] = {}
    for path, tools in lists:
        for index, tool in enumerate(tools):
            for spec in _tool_spec(f"{path}[{index}]", tool):
                if spec.name in specs:
                    field = f"{path}[{index}].function.name"
                    raise bad(field, f"{spec.name!r} is the name of an earlier tool")
                specs[spec.name] = spec
    if len(specs) > MAX_TOOLS:
        raise bad("tools", f"has more than {MAX_TOOLS} tools")
    return tuple(specs.values())


def left_out(path: str, kinds: Iterable[str]) -> Iterator[str]:
    """Say which tools are of a kind that only other servers run, in ASCII."""
    for index, kind in enumerate(kinds):
        if kind != "function":
            yield f"{path}[{index}]: left out; {ascii(kind)[:80]} is not known here"


def _tool_spec(path: str, tool: Tool) -> Iterator[ToolSpec]:
    name = tool.function.name if tool.function else ""
    if tool.type == "builtin_function" or name.startswith("$"):
        field = f"{path}.function.name" if name else f"{path}.type"
        raise bad(field, f"this server has no built-in tools, {name!r} neither; leave it out")
    if tool.type != "function":
        return  # a kind that only other servers run: nobody waits for a call of it
    if tool.function is None:
        raise bad(f"{path}.function", "is required")
    yield decode_function(f"{path}.function", tool.function)


def decode_function(path: str, function: Function) -> ToolSpec:
    """Read one function that the body has at `path`.

    Raises:
        ApiError: A name that cannot be called, wrong parameters.
    """
    name, described = function.name, function.description
    if not _NAME.fullmatch(name):
        problem = "must be 1 to 128 letters, digits, underscores, dots and hyphens"
        raise bad(f"{path}.name", problem)
    parameters = _parameters(f"{path}.parameters", function.parameters)
    return ToolSpec(name, described, parameters) if parameters else ToolSpec(name, described)


def _parameters(path: str, schema: dict[str, Any]) -> dict[str, Any]:
    kind = schema.get("type")
    if not schema or kind == "object":
        return schema
    # Arguments are an object whether or not the schema says so.
    if kind is None or (isinstance(kind, list) and "object" in kind):
        return schema | {"type": "object"}
    raise bad(path, 'the root must have "type": "object"')


def decode_tool_choice(
    value: object, tools: tuple[ToolSpec, ...]
) -> tuple[ToolChoice, tuple[ToolSpec, ...]]:
    """Return the choice, and the tools that are left to choose from.

    Raises:
        ApiError: A choice that is none, or that `tools` cannot satisfy.
    """
    if value is None or value == "auto":
        return "auto", tools
    if value == "none":
        return "none", tools
    if value == "required":
        return _required("tool_choice", tools), tools
    kind = value.get("type") if is_object(value) else None
    if kind == "function":
        path, name = _function_name("tool_choice", value)
        return NamedTool(_known(path, name, tools).name), tools
    if kind == "allowed_tools":
        return _allowed(cast("dict[str, Any]", value), tools)
    raise bad("tool_choice", f"must be {_CHOICES}")


def _required(path: str, tools: Sequence[ToolSpec]) -> ToolChoice:
    if not tools:
        raise bad(path, "a call is required, but there are no tools to call")
    return "required"


def _allowed(
    value: dict[str, Any], tools: tuple[ToolSpec, ...]
) -> tuple[ToolChoice, tuple[ToolSpec, ...]]:
    inner = value.get("allowed_tools")
    path = "tool_choice" if inner is None else "tool_choice.allowed_tools"
    fields = value if inner is None else inner
    entries = fields.get("tools") if is_object(fields) else None
    if not is_object(fields) or not isinstance(entries, list):
        raise bad(f"{path}.tools", "must be a list of the tools that may be called")
    names: set[str] = set()
    for index, entry in enumerate(cast("list[object]", entries)):
        field, name = _function_name(f"{path}.tools[{index}]", entry)
        names.add(_known(field, name, tools).name)
    left = tuple(tool for tool in tools if tool.name in names)
    match fields.get("mode"):
        case None | "auto":
            return "auto", left
        case "required":
            return _required(f"{path}.tools", left), left
        case _:
            raise bad(f"{path}.mode", 'must be "auto" or "required"')


def _function_name(path: str, value: object) -> tuple[str, object]:
    if not is_object(value):
        raise bad(path, "must be an object")
    function = value.get("function")
    if is_object(function):
        return f"{path}.function.name", function.get("name")
    return f"{path}.{'name' if 'name' in value else 'function'}", value.get("name")


def _known(path: str, name: object, tools: Sequence[ToolSpec]) -> ToolSpec:
    for tool in tools:
        if tool.name == name:
            return tool
    if not isinstance(name, str):
        raise bad(path, "must name a tool")
    raise bad(path, f"{shown(name)} is none of the tools")
