"""Function descriptions of benchmarks as tools with JSON Schemas.

In: descriptions in the benchmarks' own dialects of JSON Schema. Out: tools that any endpoint takes.
Must not know: which benchmark a description is from, or what calls are right.

The types are named as BFCL, ACEBench and the others name them: Python's, Java's, JavaScript's.
What JSON Schema knows is kept, what only looks like it is dropped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from openk2.evals.ast_match import Language, tool_name
from openk2.types import ToolSpec

_TYPES: Mapping[str, str] = {
    **dict.fromkeys(("string", "String", "str", "any", "char", "enum"), "string"),
    **dict.fromkeys(("integer", "int", "long", "short", "byte", "Bigint"), "integer"),
    **dict.fromkeys(("number", "float", "double"), "number"),
    **dict.fromkeys(("boolean", "bool", "Boolean"), "boolean"),
    **dict.fromkeys(
        ("array", "list", "tuple", "Array", "ArrayList", "list(string)", "list(enum)",
         "objectArray"), "array",
    ),
    **dict.fromkeys(("object", "dict", "HashMap"), "object"),
}  # fmt: skip

_SPOKEN: Mapping[Language, str] = {"java": "Java", "javascript": "JavaScript"}


def tool_of(function: Mapping[str, Any], language: Language = "python") -> ToolSpec:
    """Make a tool of a function's description.

    Args:
        function: With `name`, `description` and `parameters`.
        language: Java's and JavaScript's values are asked for as source in strings, as BFCL does.
    """
    parameters: Mapping[str, Any] = function.get("parameters") or {}
    schema = _object(parameters)
    if language in _SPOKEN:
        schema["properties"] = {
            name: _as_source(part, _SPOKEN[language])
            for name, part in parameters.get("properties", {}).items()
        }
    return ToolSpec(tool_name(function["name"]), str(function.get("description", "")), schema)


def _as_source(part: Mapping[str, Any], language: str) -> dict[str, Any]:
    kind: str = part["type"]
    said = f"{part.get('description', '')} Written as {language} source in a string"
    said += f", of type {kind}" if kind != "any" else ", of any type"
    if items := part.get("items"):
        said += f" with items of type {items['type']}"
    if properties := part.get("properties"):
        said += f" with these entries: {json.dumps(properties)}"
    return {"type": "string", "description": f"{said}."}


def _object(schema: Mapping[str, Any]) -> dict[str, Any]:
    properties: Mapping[str, Any] = schema.get("properties") or {}
    required = [name for name in schema.get("required") or () if name in properties]
    found: dict[str, Any] = {
        "type": "object",
        "properties": {name: json_schema(part) for name, part in properties.items()},
    }
    return {**found, "required": required} if required else found


def json_schema(part: Any) -> dict[str, Any]:
    """Return the JSON Schema of a parameter, from any of the dialects."""
    if not isinstance(part, Mapping):
        return {}
    table = cast(Mapping[str, Any], part)
    named = table.get("type")
    kind = _TYPES.get(named) if isinstance(named, str) else None
    found: dict[str, Any] = {"type": kind} if kind else {}
    if kind == "object" and table.get("properties"):
        found = _object(table)
    elif kind == "array" and isinstance(table.get("items"), Mapping):
        found["items"] = json_schema(table["items"])
    if isinstance(table.get("description"), str):
        found["description"] = table["description"]
    if isinstance(options := table.get("enum"), list):
        known = [one for one in cast(list[Any], options) if kind is None or _is(one, kind)]
        found |= {"enum": known} if known and kind not in ("array", "object") else {}
    if table.get("default") is not None:
        found["default"] = table["default"]
    return found


def _is(value: Any, kind: str) -> bool:
    match kind:
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case _:
            return True
