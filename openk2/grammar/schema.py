"""JSON Schema to shapes (thin)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from openk2.grammar import numbers
from openk2.grammar.dfa import FAR
from openk2.grammar.shapes import (
    Array,
    Literals,
    Number,
    Object,
    Property,
    Reference,
    Shape,
    Text,
    Union,
    settle,
)
from openk2.grammar.vocabulary import Vocabulary


class SchemaError(ValueError):
    """A schema cannot be obeyed; the message says where and why."""

    def __init__(self, path: str, problem: str) -> None:
        """Remember where the problem is."""
        super().__init__(f"{path}: {problem}")
        self.path, self.problem = path, problem


def write(value: Any) -> bytes:
    """Write a JSON value as the model writes it."""
    return json.dumps(value, ensure_ascii=False).encode()


class Compiler:
    """Turns the schemas of one request into shapes."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Start with no warning."""
        self.vocabulary = vocabulary
        self.warnings: list[str] = []
        self._made: list[Shape] = []

    def compile(self, schema: Any, path: str) -> Shape:
        """Return the shape of a schema."""
        shape = self._value(schema, path)
        settle(self._made)
        return shape

    def _keep(self, shape: Shape) -> Any:
        self._made.append(shape)
        return shape

    def any(self) -> Shape:
        value = Reference()
        text = self._keep(Text(self.vocabulary.any_body))
        number = self._keep(Number(self.vocabulary.keep("number", numbers.number)))
        words = self._keep(Literals((b"false", b"null", b"true")))
        array = Array((), value, 0, FAR)
        obj = Object((), text, value, 0, FAR)
        value.target = self._keep(Union((text, number, words, self._keep(array), self._keep(obj))))
        return self._keep(value)

    def _value(self, schema: Any, path: str) -> Shape:
        if schema is True or schema == {}:
            return self.any()
        if "const" in schema:
            return self._keep(Literals((write(schema["const"]),)))
        if "enum" in schema:
            return self._keep(Literals(tuple(sorted(set(map(write, schema["enum"]))))))
        if "anyOf" in schema:
            found = [self._value(s, f"{path}.anyOf[{i}]") for i, s in enumerate(schema["anyOf"])]
            return self._keep(Union(found))
        kinds = schema.get("type", "object" if "properties" in schema else None)
        if kinds is None:
            return self.any()
        if isinstance(kinds, list):
            return self._keep(Union([self._typed(schema, kind, path) for kind in kinds]))
        return self._typed(schema, kinds, path)

    def _typed(self, schema: Mapping[str, Any], kind: str, path: str) -> Shape:
        match kind:
            case "object":
                return self._object(schema, path)
            case "array":
                items = schema.get("items", True)
                shape = self._value(items, f"{path}.items")
                low, high = schema.get("minItems", 0), schema.get("maxItems", FAR)
                return self._keep(Array((), shape, low, high))
            case "string":
                low, high = schema.get("minLength", 0), schema.get("maxLength", FAR)
                return self._keep(Text(self.vocabulary.any_body, low, high))
            case "integer":
                return self._keep(Number(self.vocabulary.keep("integer", numbers.integer)))
            case "number":
                return self._keep(Number(self.vocabulary.keep("number", numbers.number)))
            case "boolean":
                return self._keep(Literals((b"false", b"true")))
            case "null":
                return self._keep(Literals((b"null",)))
        raise SchemaError(path, f"{kind!r} is no type")

    def _object(self, schema: Mapping[str, Any], path: str) -> Shape:
        declared = schema.get("properties", {})
        required = schema.get("required", [])
        properties = tuple(
            Property(write(k) + b": ", self._value(v, f"{path}.properties.{k}"), k in required)
            for k, v in declared.items()
        )
        if declared:
            return self._keep(Object(properties, None, None, 0, FAR))
        text = self._keep(Text(self.vocabulary.any_body))
        return self._keep(Object((), text, self.any(), 0, FAR))
