"""Two schemas as one that asks for both.

In: JSON Schemas without `$ref` and `allOf` at their top. Out: one schema; its parts may have
`allOf` again.
Must not know: shapes, automata.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import lcm
from typing import Any

Schema = Mapping[str, Any]

ANNOTATIONS = frozenset(
    (
        *("title", "description", "default", "examples", "example", "$comment", "$schema", "$id"),
        *("deprecated", "readOnly", "writeOnly", "contentEncoding", "contentMediaType", "strict"),
        *("$defs", "definitions", "$anchor", "id", "contentSchema", "discriminator", "xml"),
    )
)
"""Keywords that do not limit what a value may be."""
_GREATEST = frozenset(("minimum", "minLength", "minItems", "minProperties"))
_LEAST = frozenset(("maximum", "maxLength", "maxItems", "maxProperties"))
_MOST_BRANCHES = 64


def merge(a: Schema, b: Schema, warn: Callable[[str], None]) -> Schema:
    """Return a schema of the values that satisfy both.

    Args:
        a: A schema.
        b: Another one.
        warn: Is told the keywords of which only one is obeyed.
    """
    found = dict(a)
    if "properties" in a or "properties" in b:
        found["properties"] = _properties(a, b)
    if "prefixItems" in a or "prefixItems" in b:
        found["prefixItems"] = _prefix(a, b)
    for key, value in b.items():
        if key in ("properties", "prefixItems") or key in ANNOTATIONS:
            found.setdefault(key, value)
        elif key not in found:
            found[key] = value
        elif key == "const":
            if not same(found[key], value):
                found["enum"] = []
        elif not (type(found[key]) is type(value) and found[key] == value):
            found[key] = _both(key, found[key], value, warn)
    return found


def same(a: Any, b: Any) -> bool:
    """Whether two JSON values are equal; Python's 1 and True are."""
    return type_of(a) == type_of(b) and a == b


def _both(key: str, a: Any, b: Any, warn: Callable[[str], None]) -> Any:
    numbers = _is_number(a) and _is_number(b)
    if key in _GREATEST and numbers:
        return max(a, b)
    if key in _LEAST and numbers:
        return min(a, b)
    if key in ("exclusiveMinimum", "exclusiveMaximum") and numbers:
        return max(a, b) if key == "exclusiveMinimum" else min(a, b)
    if key == "type":
        return _types(a, b)
    if key in ("required", "enum") and isinstance(a, list) and isinstance(b, list):
        shared = [x for x in a if any(same(x, y) for y in b)]
        return shared if key == "enum" else [*a, *(x for x in b if x not in a)]
    if key in ("items", "additionalProperties", "propertyNames"):
        return {"allOf": [a, b]}
    if key == "anyOf" and len(a) * len(b) <= _MOST_BRANCHES:
        return [{"allOf": [x, y]} for x in a for y in b]
    if key == "multipleOf" and isinstance(a, int) and isinstance(b, int) and a > 0 and b > 0:
        return lcm(a, b)
    if key == "nullable":
        return a and b
    if key == "uniqueItems":
        return a or b
    warn(key)
    return a


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _types(a: Any, b: Any) -> Any:
    """Return the types that both allow; an integer is a number."""
    first, second = ([t] if isinstance(t, str) else list(t) for t in (a, b))
    return [kind for kind in dict.fromkeys((*first, *second)) if _in(kind, first, second)]


def _in(kind: str, *sets: Sequence[str]) -> bool:
    return all(kind in kinds or (kind == "integer" and "number" in kinds) for kinds in sets)


def _properties(a: Schema, b: Schema) -> dict[str, Any]:
    """Return all properties; one that the other schema does not declare is limited by it, too."""
    first, second = a.get("properties", {}), b.get("properties", {})
    found: dict[str, Any] = {}
    for name in dict.fromkeys((*first, *second)):
        limits = [
            declared[name] if name in declared else schema.get("additionalProperties", True)
            for schema, declared in ((a, first), (b, second))
        ]
        kept = [limit for limit in limits if limit is not True]
        found[name] = kept[0] if len(kept) == 1 else {"allOf": kept} if kept else True
    return found


def _prefix(a: Schema, b: Schema) -> list[Any]:
    """Return all first items; one that the other schema does not list is limited by it, too."""
    lists = [x.get("prefixItems", []) for x in (a, b)]
    found: list[Any] = []
    for i in range(max(map(len, lists))):
        limits = [
            listed[i] if i < len(listed) else x.get("items", True)
            for x, listed in zip((a, b), lists, strict=True)
        ]
        found.append({"allOf": limits})
    return found


def types_of(schema: Any) -> frozenset[str]:
    """Return the types that a schema's values may have, as far as one can see at once."""
    every = frozenset(("object", "array", "string", "number", "boolean", "null"))
    if not isinstance(schema, Mapping):
        return every
    if "const" in schema:
        return frozenset((type_of(schema["const"]),))
    if isinstance(schema.get("enum"), list):
        return frozenset(map(type_of, schema["enum"]))
    kinds = schema.get("type")
    if kinds is None:
        return every
    named = [kinds] if isinstance(kinds, str) else kinds
    found = frozenset("number" if kind == "integer" else kind for kind in named)
    return found | {"null"} if schema.get("nullable") is True else found


def type_of(value: Any) -> str:
    """Return the type of a JSON value; an integer is a number."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def excludes(a: Any, b: Any) -> bool:
    """Whether no value that is written for schema `a` satisfies `b`; False where that is unclear.

    Objects are written with declared properties only, unless others are asked for.
    """
    if b is False or a is False:
        return True
    if not isinstance(a, Mapping) or not isinstance(b, Mapping):
        return False
    if not types_of(a) & types_of(b):
        return True
    values = [x["enum"] if "enum" in x else [x["const"]] for x in (a, b) if _listed(x)]
    if len(values) == 2:
        return not any(same(x, y) for x in values[0] for y in values[1])
    if types_of(a) == {"object"} and isinstance(a.get("properties"), Mapping):
        return _objects_exclude(a, b)
    return False


def _listed(schema: Schema) -> bool:
    return "const" in schema or isinstance(schema.get("enum"), list)


def _objects_exclude(a: Schema, b: Schema) -> bool:
    first = a["properties"]
    second = b.get("properties", {})
    if not isinstance(second, Mapping):
        return False
    closed = a.get("additionalProperties", False) is False
    if closed and any(name not in first for name in _names(b.get("required"))):
        return True
    for name in _names(a.get("required")):
        if name not in first:
            continue
        other = second[name] if name in second else b.get("additionalProperties", True)
        if name not in second and "patternProperties" in b:
            continue
        if excludes(first[name], other):
            return True
    return False


def _names(required: Any) -> Sequence[Any]:
    return required if isinstance(required, list) else ()
