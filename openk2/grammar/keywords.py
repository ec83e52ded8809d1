"""The keywords of JSON Schema by what they are about, and how large a schema may be.

In: nothing. Out: names, bounds, the error of a schema that cannot be obeyed.
Must not know: shapes, automata.

The bounds are those of Moonshot's MFJS (github.com/MoonshotAI/walle).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MAX_DEPTH = 30
MAX_PROPERTIES = 3000
MAX_LITERALS = 1000
MAX_BRANCHES = 500
MAX_CHARACTERS = 120_000
MAX_STEPS = 20_000
"""Schemas that one may become once its references are followed; MFJS has no such bound."""

TYPES = ("object", "array", "string", "integer", "number", "boolean", "null")
OF_TYPE: Mapping[str, frozenset[str]] = {
    "object": frozenset(
        (
            *("properties", "required", "additionalProperties", "propertyNames"),
            *("patternProperties", "minProperties", "maxProperties"),
        )
    ),
    "array": frozenset(("items", "prefixItems", "minItems", "maxItems", "uniqueItems")),
    "string": frozenset(("minLength", "maxLength", "pattern", "format")),
    "number": frozenset(
        ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
    ),
}
LIMITS = frozenset().union(*OF_TYPE.values())
UNENFORCED = frozenset(
    (
        *("not", "if", "then", "else", "contains", "minContains", "maxContains"),
        *("dependentRequired", "dependentSchemas", "dependencies", "unevaluatedProperties"),
        *("unevaluatedItems", "$dynamicRef", "$recursiveRef"),
    )
)


class SchemaError(ValueError):
    """A schema cannot be obeyed."""

    def __init__(self, path: str, problem: str) -> None:
        """Remember where the problem is, as a path of keys and indices, and what it is."""
        super().__init__(f"{path}: {problem}")
        self.path, self.problem = path, problem


def write(value: Any) -> bytes:
    """Write a JSON value as the model writes it."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode()
