"""What is no schema is refused with its path; what cannot be enforced is named in a warning."""

from __future__ import annotations

import random
from typing import Any

import pytest

from openk2.grammar.answer import AnswerRule, SchemaError, compile_answer
from openk2.grammar.vocabulary import Vocabulary
from openk2.types import ToolSpec
from tests.grammar.plain import answer, document

DEEP: Any = {}
for _ in range(40):
    DEEP = {"type": "array", "items": DEEP}
DEEPER: Any = []
for _ in range(100_000):
    DEEPER = [DEEPER]

REFERENCES = {f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(14)}
BOMB = {"$defs": {**REFERENCES, "a14": {}}, "$ref": "#/$defs/a0"}

REFUSED = {
    "schema": [
        3,
        "string",
        [],
        False,
        {"type": "string", "minLength": 3, "maxLength": 2},
        {"type": "integer", "minimum": 3, "maximum": 2},
        {"type": "integer", "exclusiveMinimum": 2, "exclusiveMaximum": 3},
        {"type": "array", "minItems": 2, "maxItems": 1},
        {"type": "array", "items": {"enum": [1, 2]}, "minItems": 3, "uniqueItems": True},
        {"enum": []},
        {"enum": ["a"], "type": "integer"},
        {"allOf": [{"const": 1}, {"const": True}]},
        {"$ref": "#"},
        {"type": "object", "properties": {"a": {}}, "minProperties": 2},
        {"const": float("nan")},
        {"type": "string", "minLength": 10**7},
        {"type": "string", "description": "x" * 200_000},
        {"type": "object", "properties": {f"p{i}": {} for i in range(3001)}},
        DEEPER,
        BOMB,
    ],
    "schema.type": [{"type": "text"}, {"type": 3}, {"type": ["string", None]}],
    "schema.enum": [{"enum": 3}, {"enum": list(range(1001))}],
    "schema.anyOf": [{"anyOf": {}}, {"anyOf": []}, {"anyOf": [True] * 501}],
    "schema.anyOf[1]": [{"anyOf": [{}, 3]}],
    "schema.properties": [{"type": "object", "properties": []}],
    "schema.properties.a": [{"properties": {"a": 1}}],
    "schema.properties.a.items": [{"properties": {"a": {"type": "array", "items": "x"}}}],
    "schema.required": [{"type": "object", "required": "a"}, {"type": "object", "required": [1]}],
    "schema.minLength": [{"type": "string", "minLength": -1}, {"type": "string", "minLength": "3"}],
    "schema.minItems": [{"type": "array", "minItems": 0.5}],
    "schema.minimum": [{"type": "number", "minimum": "0"}],
    "schema.pattern": [{"type": "string", "pattern": 3}],
    "schema.$ref": [
        {"$ref": "https://example.com/schema.json"},
        {"$ref": "#/$defs/missing"},
        {"$ref": "#name"},
        {"$ref": 3},
    ],
    "schema.items" + ".items" * 30: [DEEP],
}


@pytest.mark.parametrize("path", REFUSED)
def test_what_is_no_schema_is_refused_with_its_path(path: str, small: Vocabulary):
    for schema in REFUSED[path]:
        with pytest.raises(SchemaError) as caught:
            compile_answer(AnswerRule(answer_schema=schema), small)
        assert caught.value.path == path, caught.value


def test_the_path_begins_with_the_tool(small: Vocabulary):
    fine = ToolSpec("fine")
    broken = ToolSpec("broken", "", {"type": "object", "properties": {"a": {"type": "x"}}})
    with pytest.raises(SchemaError, match=r"^tools\[1\]\.parameters\.properties\.a\.type: 'x'"):
        compile_answer(AnswerRule((fine, broken)), small)
    impossible = {"type": "object", "properties": {"a": False}, "required": ["a"]}
    with pytest.raises(SchemaError) as caught:
        compile_answer(AnswerRule((ToolSpec("t", "", impossible),)), small)
    assert caught.value.path == "tools[0].parameters.properties.a"


WARNED = {
    "schema.not": {"not": {"type": "string"}},
    "schema.if": {"type": "object", "if": {}, "then": {}},
    "schema.contains": {"type": "array", "contains": {"const": 1}},
    "schema.uniqueItems": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
    "schema.pattern": {"type": "string", "pattern": "^(?!a).*$"},
    "schema.multipleOf": {"type": "number", "multipleOf": 0.01},
    "schema.oneOf": {"oneOf": [{"type": "integer"}, {"type": "number"}]},
    "schema.minimum": {"minimum": 3, "minLength": 2},
    "schema.properties.a.dependentRequired": {
        "properties": {"a": {"type": "object", "dependentRequired": {"x": ["y"]}}}
    },
    "schema.format": {"type": "string", "pattern": "^a+$", "format": "date"},
    "schema.nullable": {"type": "string", "nullable": True},
    "schema.minProperties": {"type": "object", "minProperties": 3},
    "schema.allOf.pattern": {
        "allOf": [{"type": "string", "pattern": "a"}, {"type": "string", "pattern": "b"}]
    },
}


@pytest.mark.parametrize("where", WARNED)
def test_what_is_not_enforced_is_named(where: str, small: Vocabulary):
    grammar = compile_answer(AnswerRule(answer_schema=WARNED[where]), small)
    assert any(warning.startswith(f"{where} is not enforced") for warning in grammar.warnings)
    document(answer(grammar, small, 60, random.Random(0)), small)


def test_what_a_request_can_cost_is_bounded(small: Vocabulary):
    costly = {f"p{i}": {"type": "string", "pattern": f"(a|b)*a(a|b){{12}}{i}$"} for i in range(300)}
    schema = {"type": "object", "properties": costly}
    grammar = compile_answer(AnswerRule(answer_schema=schema), small)
    assert sum("too many limits" in warning for warning in grammar.warnings) > 270
    later = {"type": "array", "minItems": 10**9, "items": {"type": "integer"}}
    schema = {"type": "object", "properties": {"a": later, "b": {"type": "string"}}}
    grammar = compile_answer(AnswerRule(answer_schema=schema), small)
    assert document(answer(grammar, small, 4, random.Random(0)), small) == {}


def test_annotations_and_unknown_keywords_are_ignored(small: Vocabulary):
    schema = {
        **{"type": "string", "title": "t", "default": 3, "examples": [1], "$comment": "c"},
        **{"format": "uri", "contentEncoding": "base64", "x-ui": {}, "deprecated": True},
    }
    assert compile_answer(AnswerRule(answer_schema=schema), small).warnings == ()


def test_values_are_nested_no_deeper_than_readers_can_follow(small: Vocabulary):
    schema = {
        "$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"}}},
        "$ref": "#/$defs/n",
    }
    grammar = compile_answer(AnswerRule(answer_schema=schema), small)

    def deepest(rng: Any, ids: list[int], vocabulary: Vocabulary) -> int:
        return max(ids, key=lambda v: (vocabulary.token_bytes[v] or b"").count(b"["))

    found = document(answer(grammar, small, 4000, random.Random(0), deepest), small)
    depth = 0
    while found:
        assert isinstance(found, list)
        found, depth = found[0], depth + 1
    assert 40 < depth <= 65
