"""Whatever a server says of its tools, what comes out is legal, bounded and compiles."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.agent.mcp.config import McpSettings, slug
from openk2.agent.mcp.schema import Unusable, legal_name, plain, read_tool, safe_schema

SETTINGS = McpSettings(schema_bytes=2000, description_chars=80)
LIMIT = 2000

KEYS = st.sampled_from(
    [
        "type",
        "properties",
        "items",
        "$ref",
        "$defs",
        "$id",
        "$schema",
        "enum",
        "pattern",
        "anyOf",
        "required",
        "description",
        "additionalProperties",
        "a",
        "b",
    ]
) | st.text(max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(KEYS, JSON, max_size=5))
def test_any_schema_is_made_safe_or_refused(schema: dict[str, Any]):
    try:
        safe = safe_schema(schema, LIMIT)
    except Unusable:
        return
    assert safe["type"] == "object" and isinstance(safe["properties"], dict)
    assert len(json.dumps(safe)) <= LIMIT
    jsonschema_rs.validator_for(safe, offline=True)
    assert safe_schema(safe, LIMIT) == safe, "what is read back from disk is the same"


@given(JSON)
def test_any_tool_is_read_or_refused(raw: Any):
    try:
        tool = read_tool({"name": raw, "description": raw, "inputSchema": raw}, SETTINGS)
    except Unusable:
        return
    assert tool.name and len(tool.description) <= 80
    assert read_tool(tool.to_json(), SETTINGS) == tool


@given(st.text(min_size=1), st.text(min_size=1), st.text(min_size=1), st.text(min_size=1))
def test_names_are_legal_and_never_two_the_same(a: str, b: str, c: str, d: str):
    one, other = legal_name(slug(a), b), legal_name(slug(c), d)
    assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{2,63}", one)
    assert (one == other) == ((slug(a), b) == (slug(c), d))


def test_a_legal_name_stays_as_it_is():
    assert legal_name("github", "create_issue") == "github__create_issue"
    assert legal_name("github", "create.issue") == "github__create_issue_152d8b456f"


def test_keywords_are_told_from_names():
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": "https://evil.example/base",
        "type": ["object", "null"],
        "properties": {
            "id": {"type": "string", "examples": ["x"], "title": "T"},
            "pattern": {"type": "string", "pattern": "(?=a)b"},
            "default": {"default": {"$ref": "kept, because it is data"}},
            "tree": {"$ref": "#/definitions/tree"},
        },
        "definitions": {"tree": {"type": "array", "items": {"$ref": "#/definitions/tree"}}},
        "required": ["pattern"],
        "x-odd": {"anything": True},
    }
    assert safe_schema(schema, LIMIT) == {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "pattern": {"type": "string"},
            "default": {"default": {"$ref": "kept, because it is data"}},
            "tree": {"$ref": "#/definitions/tree"},
        },
        "definitions": {"tree": {"type": "array", "items": {"$ref": "#/definitions/tree"}}},
        "required": ["pattern"],
        "x-odd": {"anything": True},
    }


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ([], "not an object"),
        ({"type": "array"}, 'not an object but "array"'),
        ({"properties": {"a": {"$ref": "https://evil.example/x"}}}, "another document"),
        ({"properties": {"a": {"$ref": "#/nowhere"}}}, "not valid JSON Schema"),
        ({"properties": {"名": {}}}, "model APIs refuse"),
        ({"properties": {"a": {"type": "strnig"}}}, "not valid JSON Schema"),
        ({"enum": ["x" * 3000]}, "longer than 2,000 bytes"),
    ],
)
def test_what_is_refused(schema: Any, words: str):
    with pytest.raises(Unusable, match=re.escape(words)):
        safe_schema(schema, LIMIT)


def test_nesting_is_bounded_and_long_descriptions_go_before_the_tool():
    deep: Any = {}
    for _ in range(500):
        deep = {"items": [deep]}
    with pytest.raises(Unusable, match="nested"):
        safe_schema({"properties": {"a": deep}}, LIMIT)
    wordy = {f"p{index}": {"type": "string", "description": "word " * 30} for index in range(40)}
    safe = safe_schema({"properties": wordy}, LIMIT)
    assert safe["properties"]["p39"] == {"type": "string"}


@given(st.text(), st.integers(1, 50))
def test_plain_text_is_short_and_visible(text: str, limit: int):
    seen = plain(text, limit)
    assert len(seen) <= limit
    assert not re.search(
        r"[\x00-\x08\x0b-\x1f\x7f\u200b-\u200f\u202a-\u202e\U000e0000-\U000e007f]", seen
    )
