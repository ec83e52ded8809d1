"""A stranger's tool made fit to be shown to a model.

In: one tool as a server describes it. Out: a legal name, a plain and bounded description, and a
JSON Schema that compiles, points nowhere outside itself, and is an object; or a refusal.
Must not know: how the tool was received or how it is called.

Descriptions are where servers inject prompts ("tool poisoning"): invisible characters go, and
nothing is longer than its limit.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import jsonschema_rs

from openk2.agent.mcp.config import McpSettings

NAME_CHARS = 64  # the OpenAI, Anthropic and Moonshot APIs all take ^[A-Za-z_][A-Za-z0-9_-]{2,63}$
_ARGUMENT = re.compile(r"[A-Za-z0-9_.-]{1,64}")  # else the Anthropic API refuses the request
_MARK_CHARS = 10
_MAPS_OF_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_DATA = ("enum", "const", "default", "required", "dependentRequired")
_DROPPED = ("$id", "id", "$anchor", "$dynamicAnchor", "$comment", "examples", "title")
_DRAFTS = re.compile(r"https?://json-schema\.org/(draft-0[467]|draft/20(19-09|20-12))/schema#?")
_DEEPEST = 32
_SCHEMA_TEXT = 400
_INVISIBLE = frozenset(("Cc", "Cf", "Co", "Cs", "Cn"))


class Unusable(ValueError):
    """A tool is left out; the message says why."""


@dataclass(frozen=True, slots=True)
class RemoteTool:
    """A tool of a server, as far as it can be trusted to be shown."""

    name: str
    """As the server calls it."""
    description: str
    schema: Mapping[str, Any]
    reads_only: bool = False
    """The server says that calling it changes nothing."""

    def to_json(self) -> dict[str, Any]:
        """Return what the protocol calls a tool, which `read_tool` takes back."""
        return {
            "name": self.name,
            "description": self.description,
            "inputSchema": dict(self.schema),
            "annotations": {"readOnlyHint": self.reads_only},
        }


def read_tool(raw: Any, settings: McpSettings) -> RemoteTool:
    """Read one entry of a server's list.

    Args:
        raw: Whatever the server sent.
        settings: Its limits.

    Raises:
        Unusable: It has no name, or no schema that arguments could be checked against.
    """
    if not isinstance(raw, dict):
        raise Unusable("an entry of its list is not an object")
    table = cast("dict[str, Any]", raw)
    name = table.get("name")
    if not isinstance(name, str) or not name:
        raise Unusable("a tool has no name")
    hints = table.get("annotations")
    reads_only = isinstance(hints, dict) and cast("Any", hints).get("readOnlyHint") is True
    description = table.get("description")
    return RemoteTool(
        name,
        plain(description if isinstance(description, str) else "", settings.description_chars),
        safe_schema(table.get("inputSchema"), settings.schema_bytes),
        reads_only,
    )


def legal_name(server: str, tool: str) -> str:
    """Return `server__tool` as every API takes it.

    A name that had to be changed carries a piece of its hash: it depends on nothing but itself, so
    it is the same in every run whatever other tools there are.

    Args:
        server: The server's slug.
        tool: The tool's own name.
    """
    room = NAME_CHARS - len(server) - 2
    if re.fullmatch(r"[A-Za-z0-9_-]+", tool) and len(tool) <= room:
        return f"{server}__{tool}"
    mark = hashlib.sha256(tool.encode("utf-8", "surrogatepass")).hexdigest()[:_MARK_CHARS]
    kept = re.sub(r"[^A-Za-z0-9_-]", "_", tool)[: room - _MARK_CHARS - 1]
    return f"{server}__{kept}_{mark}"


def plain(text: str, limit: int) -> str:
    """Return a text without invisible characters (escapes, zero width, direction, tags), cut."""
    # Cut first, with room for what is removed: a description may be megabytes long.
    seen = "".join(
        char
        for char in text[: 4 * limit]
        if char in "\n\t" or unicodedata.category(char) not in _INVISIBLE
    ).strip()
    if len(seen) <= limit and len(text) <= 4 * limit:
        return seen
    return seen[: max(limit - 1, 0)].rstrip() + "…"


def safe_schema(schema: Any, limit: int) -> dict[str, Any]:
    """Return a schema of the same arguments that is safe to compile, to send and to read.

    Args:
        schema: Whatever the server sent.
        limit: Most bytes of JSON.

    Raises:
        Unusable: It is not a schema of an object, is invalid, or refers to another document.
    """
    if schema is None or schema is True:
        schema = {}
    if not isinstance(schema, dict):
        raise Unusable("its argument schema is not an object")
    root = cast("dict[str, Any]", schema)
    kind = root.get("type", "object")
    if kind != "object" and not (isinstance(kind, list) and "object" in kind):
        raise Unusable(f"its arguments are not an object but {plain(json.dumps(kind), 60)}")
    names = root.get("properties")
    if isinstance(names, dict) and not all(map(_ARGUMENT.fullmatch, cast("dict[str, Any]", names))):
        raise Unusable("an argument has a name that model APIs refuse")
    for texts in (_SCHEMA_TEXT, 0):
        cleaned = {**_clean(root, texts, 0), "type": "object"}
        cleaned.setdefault("properties", {})
        if len(json.dumps(cleaned).encode()) <= limit:
            break
    else:
        raise Unusable(f"its argument schema is longer than {limit:,} bytes")
    if not compiles(cleaned):
        cleaned = cast("dict[str, Any]", _without(cleaned, ("pattern", "patternProperties")))
        if not compiles(cleaned):
            raise Unusable("its argument schema is not valid JSON Schema")
    return cleaned


def compiles(schema: Mapping[str, Any]) -> bool:
    """Tell whether arguments can be checked: nothing is fetched, patterns never backtrack."""
    try:
        jsonschema_rs.validator_for(
            dict(schema), pattern_options=jsonschema_rs.RegexOptions(), offline=True
        )
    except (ValueError, TypeError):
        return False
    return True


def _clean(schema: Any, texts: int, depth: int) -> Any:
    if depth > _DEEPEST:
        raise Unusable(f"its argument schema is nested more than {_DEEPEST} times")
    if isinstance(schema, list):
        return [_clean(item, texts, depth + 1) for item in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    cleaned: dict[str, Any] = {}
    for key, value in cast("dict[str, Any]", schema).items():
        if key in _DROPPED or (key == "$schema" and not _DRAFTS.fullmatch(str(value))):
            continue
        if key in ("$ref", "$dynamicRef", "$recursiveRef") and not str(value).startswith("#"):
            raise Unusable("its argument schema refers to another document")
        if key == "description":
            if texts and isinstance(value, str):
                cleaned[key] = plain(value, texts)
        elif key in _MAPS_OF_SCHEMAS and isinstance(value, dict):
            named = cast("dict[str, Any]", value)
            cleaned[key] = {name: _clean(item, texts, depth + 1) for name, item in named.items()}
        else:
            cleaned[key] = value if key in _DATA else _clean(value, texts, depth + 1)
    return cleaned


def _without(schema: Any, keys: tuple[str, ...]) -> Any:
    """Drop keywords; a pattern that needs backtracking is not worth a tool."""
    if isinstance(schema, list):
        return [_without(item, keys) for item in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    kept: dict[str, Any] = {}
    for key, value in cast("dict[str, Any]", schema).items():
        if key in keys:
            continue
        if key in _MAPS_OF_SCHEMAS and isinstance(value, dict):
            named = cast("dict[str, Any]", value)
            kept[key] = {name: _without(item, keys) for name, item in named.items()}
        else:
            kept[key] = value if key in _DATA else _without(value, keys)
    return kept
