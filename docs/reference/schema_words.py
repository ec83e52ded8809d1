"""JSON Schema in a few words, as a table says what a field may hold.

In: a schema, and those that it refers to. Out: words such as `list of objects, up to 4,096`.
Must not know: whose schema it is.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def variants(schema: Json, schemas: Json) -> list[Json]:
    """Return what `schema` may be, references followed and null left out."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return [schemas.get(name) or schemas["$defs"][name]]
    inner = [found for one in schema.get("anyOf", ()) for found in variants(one, schemas)]
    return [one for one in inner if one.get("type") != "null"] or [schema]


def type_of(schema: Json | None, schemas: Json) -> str:
    """Say in words what a field may hold."""
    if schema is None:
        return "any"
    words = " or ".join(dict.fromkeys(_words(one, schemas) for one in variants(schema, schemas)))
    needed = schema.get("required") is True
    return f"{words}, required" if needed and "required" not in words else words


def _words(schema: Json, schemas: Json) -> str:
    if "const" in schema or "enum" in schema:
        values = schema["enum"] if "enum" in schema else [schema["const"]]
        return ", ".join(f"`{value}`" for value in values)
    kind: str = schema.get("type", "any")
    if kind == "boolean":
        return "bool"
    if kind == "array":
        inner = (
            type_of(schema["items"], schemas).partition(",")[0] if schema.get("items") else "any"
        )
        most = f", up to {schema['maxItems']:,}" if "maxItems" in schema else ""
        plural = {"object": "objects", "string": "strings", "integer from 0": "integers"}
        return f"list of {plural.get(inner, inner)}{most}" if inner != "any" else f"list{most}"
    if kind in ("integer", "number"):
        return kind + _range(schema)
    if kind == "string" and "maxLength" in schema:
        return f"string, up to {schema['maxLength']:,} characters"
    return kind


def _range(schema: Json) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    above = schema.get("exclusiveMinimum")
    if above is not None:
        return f" above {above:g}" + (f", to {most:g}" if most is not None else "")
    if least is None or abs(least) >= 2**31:
        return ""  # bounds of the machine's integers interest nobody
    return f" from {least:g}" + (f" to {most:g}" if most is not None else "")
