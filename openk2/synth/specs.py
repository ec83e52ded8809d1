"""Anybody's tools in, whatever file they are in: checked specifications out, refusals beside them.

In: a file: a list of tools (MCP, OpenAI, Anthropic), a configuration of MCP servers, an OpenAPI
document, a Python module, JSON Lines of our catalogue. Out: tools, and a reason for each that is
left out. Must not know: what the tools will be used for.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

from openk2.synth.spec_check import Bad, Found, Inliner, SpecError, SpecLimits, checked, compiled
from openk2.synth.spec_openapi import is_openapi, openapi_tools
from openk2.synth.spec_python import python_tools
from openk2.synth.spec_servers import server_tools
from openk2.synth.yaml_json import YamlError, parse_yaml
from openk2.text.corpus import read_rows
from openk2.types import ToolSpec

_FILE_BYTES = 512 << 20


class Refusal(NamedTuple):
    """A tool that is left out, or a part of one."""

    where: str
    """The file's entry and the tool's name."""
    reason: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a file has."""

    tools: tuple[ToolSpec, ...]
    """With different names."""
    refused: tuple[Refusal, ...]
    """What is left out, and why."""
    outputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    """Schemas of what tools return, by the tool's name."""
    notes: tuple[Refusal, ...] = ()
    """What was left out of tools that are used."""


def load_specs(
    path: Path,
    *,
    environment: Mapping[str, str] | None = None,
    limits: SpecLimits | None = None,
) -> Loaded:
    """Read the tools of a file.

    Args:
        path: The file; its ending or its content says what it is.
        environment: What `${NAME}` in a configuration of servers stands for; ours by default.
        limits: How large one tool may be.

    Raises:
        SpecError: The file cannot be read, or is nothing that has tools.
    """
    limits = limits or SpecLimits()
    name = path.name.lower()
    if name.endswith(".py"):
        return collected(python_tools(_text(path), path.name), limits)
    if name.endswith((".jsonl", ".jsonl.zst", ".jsonl.gz")):
        return collected(tool_list(read_rows(path)), limits)
    document = _document(path)
    if isinstance(document, dict) and "mcpServers" in document:
        table = cast("dict[str, Any]", document)["mcpServers"]
        folder = path.resolve().parent
        found, problems = server_tools(table, folder, environment or os.environ)
        loaded = collected(found, limits)
        refused = (*(Refusal("mcpServers", text) for text in problems), *loaded.refused)
        return Loaded(loaded.tools, refused, loaded.outputs, loaded.notes)
    return specs_of(document, limits, path.name)


def specs_of(document: Any, limits: SpecLimits | None = None, name: str = "document") -> Loaded:
    """Read the tools of a JSON document: a list of tools, or OpenAPI.

    Args:
        document: JSON.
        limits: How large one tool may be.
        name: What it is called in messages.

    Raises:
        SpecError: It is nothing that has tools.
    """
    limits = limits or SpecLimits()
    if isinstance(document, dict):
        table = cast("dict[str, Any]", document)
        if is_openapi(table):
            return collected(openapi_tools(table, limits), limits)
        result = table.get("result")
        inner = cast("dict[str, Any]", result) if isinstance(result, dict) else table
        for key in ("tools", "functions"):
            if isinstance(inner.get(key), list):
                return collected(tool_list(inner[key]), limits)
        if "name" in table or table.get("type") == "function":
            return collected(tool_list([table]), limits)
    if isinstance(document, list):
        return collected(tool_list(cast("list[Any]", document)), limits)
    raise SpecError(
        f"{name} has no tools: it must be a list of tools, an object with `tools`, `mcpServers` "
        "or `openapi`, or a Python file"
    )


def tool_list(entries: Iterable[Any]) -> Iterator[Found]:
    """Yield the tools of a list, in any of the shapes that model APIs and MCP have for one.

    Args:
        entries: Whatever the list has.
    """
    for number, entry in enumerate(entries):
        where = f"tools[{number}]"
        if not isinstance(entry, dict):
            yield Found(where, None, None, None, problem="is not an object")
            continue
        table = cast("dict[str, Any]", entry)
        inner = table.get("function")
        if isinstance(inner, dict):
            table = cast("dict[str, Any]", inner)
        keys = ("inputSchema", "input_schema", "parameters")
        schema = next((table[key] for key in keys if table.get(key) is not None), None)
        yield Found(where, table.get("name"), table.get("description"), schema, output_of(table))


def output_of(table: Mapping[str, Any]) -> Any:
    """Return the schema of what a tool returns, None where its entry does not tell.

    Args:
        table: A list's entry for the tool.
    """
    schema = table.get("outputSchema")
    if schema is not None:
        return schema
    returns = table.get("returns")  # the catalogue has descriptions of fields
    if not isinstance(returns, dict) or not returns:
        return None
    fields = cast("dict[str, Any]", returns)
    return {
        "type": "object",
        "properties": {
            key: {"type": "string", "description": text}
            for key, text in fields.items()
            if isinstance(text, str)
        },
    }


def collected(found: Iterable[Found], limits: SpecLimits) -> Loaded:
    """Check tools one by one and keep those that can be used.

    Args:
        found: Tools as a file has them.
        limits: How large one may be.
    """
    tools: dict[str, ToolSpec] = {}
    refused: list[Refusal] = []
    notes: list[Refusal] = []
    outputs: dict[str, Mapping[str, Any]] = {}
    for one in found:
        where = _place(one)
        try:
            if one.problem:
                raise Bad(one.problem)
            spec = checked(one.name, one.description, one.parameters, limits, root=one.root)
            if spec.name in tools:
                raise Bad("has the name of an earlier tool; that one is kept")
        except Bad as problem:
            refused.append(Refusal(where, str(problem)))
            continue
        tools[spec.name] = spec
        notes += [Refusal(where, note) for note in one.notes]
        if one.output is None:
            continue
        try:
            outputs[spec.name] = _output_schema(one, limits)
        except Bad as problem:
            notes.append(Refusal(where, f"what it returns is ignored: {problem}"))
    return Loaded(tuple(tools.values()), tuple(refused), outputs, tuple(notes))


def _output_schema(one: Found, limits: SpecLimits) -> dict[str, Any]:
    output: Any = one.output
    if not isinstance(output, dict):
        raise Bad("outputSchema: is not an object")
    table = cast("dict[str, Any]", output)
    root = one.root if one.root is not None else table
    schema = Inliner(limits, root, cut=True).inlined(table, "outputSchema")
    compiled(schema, limits)
    return schema


def _place(one: Found) -> str:
    name = one.name if isinstance(one.name, str) else ""
    shown = json.dumps(name[:60])[1:-1]
    return f"{one.where} {shown}".strip()


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _FILE_BYTES:
            raise SpecError(f"{path} is larger than {_FILE_BYTES >> 20} MiB; split it")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{path} is not UTF-8 text: {error.reason} at {error.start}") from error


def _document(path: Path) -> Any:
    text = _text(path)
    if path.name.lower().endswith((".yaml", ".yml")):
        try:
            return parse_yaml(text)
        except YamlError as error:
            raise SpecError(f"{path}, {error}") from error
        except ModuleNotFoundError as error:
            raise SpecError(
                f"{path}: YAML needs PyYAML: pip install 'openk2[synth]', or turn it into JSON"
            ) from error
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{path} is not JSON: {str(error)[:200]}") from error
