"""Schemas as tools have them; all that is written for them must satisfy them."""

from __future__ import annotations

from typing import Any

STRING, INTEGER, NUMBER, BOOLEAN = (
    {"type": kind} for kind in ("string", "integer", "number", "boolean")
)


def closed(required: list[str], **properties: Any) -> dict[str, Any]:
    """Make an object that has these properties only."""
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


NODE = closed(
    ["name"],
    name=STRING,
    children={"type": "array", "items": {"$ref": "#/$defs/node"}},
    next={"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
)
OPTION = closed(["label", "description"], label=STRING, description=STRING)
QUESTION = closed(
    ["question", "options", "multiSelect"],
    question={"type": "string", "description": "The complete question to ask"},
    header=STRING,
    options={"type": "array", "minItems": 2, "maxItems": 4, "items": OPTION},
    multiSelect={"default": False, "type": "boolean"},
)

SCHEMAS: dict[str, Any] = {
    "any": {},
    "true": True,
    "any object": {"type": "object"},
    "plain": closed(["b", "d"], a=STRING, b=INTEGER, c=NUMBER, d=BOOLEAN, e={"type": "null"}),
    "open": {"type": "object", "properties": {"a": STRING, "b": INTEGER}, "required": ["b"]},
    "unicode": closed(
        ["名前", "Größe"], 名前={"enum": ["東京", 'naïve "q"', "\n", "😀"]}, Größe=INTEGER
    ),
    "enum": {"enum": [1, 12, 123, "a", "ab", None, True, {"x": [1, 2]}, [], 1.5]},
    "const": {"const": {"a": [1, "x"], "ü": None}},
    "bounds": closed(
        ["i", "n", "x"],
        i={"type": "integer", "minimum": -3, "maximum": 120},
        n={"type": "number", "minimum": 0, "maximum": 1},
        x={"type": "number", "exclusiveMinimum": 0, "maximum": 600000},
        k={"type": "integer", "exclusiveMinimum": 0, "maximum": 9007199254740991},
        d={"type": "number", "exclusiveMinimum": -0.25, "exclusiveMaximum": 0.5},
    ),
    "multiples": closed(
        ["m", "k"],
        m={"type": "integer", "multipleOf": 5},
        k={"type": "integer", "multipleOf": 25, "minimum": 100, "maximum": 1000},
        w={"type": "number", "multipleOf": 1},
    ),
    "lengths": closed(
        ["s", "t", "z"],
        s={"type": "string", "minLength": 3, "maxLength": 8},
        t={"type": "string", "minLength": 2},
        u={"type": "string", "maxLength": 200},
        z={"type": "string", "maxLength": 0},
    ),
    "patterns": closed(
        ["p", "q", "r", "s", "v"],
        p={"type": "string", "pattern": "^[a-z][a-z0-9_]{0,62}$"},
        q={"type": "string", "pattern": "^[A-Z]{1,80}$", "maxLength": 9},
        r={"type": "string", "pattern": "foo"},
        s={"type": "string", "pattern": "^\\S+@\\S+$", "maxLength": 12},
        t={"type": "string", "pattern": "^(?:ab|cd)*$", "minLength": 3, "maxLength": 5},
        u={"type": "string", "pattern": '^[^"\\\\/]+$'},
        v={"type": "string", "pattern": "^v?\\d+(\\.\\d+){1,2}$|^latest$"},
    ),
    "formats": closed(
        ["date", "uuid"],
        **{
            name.replace("-", "_"): {"type": "string", "format": name}
            for name in ("date", "time", "date-time", "uuid", "email", "ipv4", "uri", "made-up")
        },
    ),
    "arrays": closed(
        ["a", "t", "o", "e"],
        a={"type": "array", "items": INTEGER, "minItems": 2, "maxItems": 4},
        t={"type": "array", "prefixItems": [STRING, BOOLEAN], "items": False, "minItems": 2},
        o={"type": "array", "items": closed(["k"], k=STRING, v=NUMBER), "minItems": 1},
        e={"type": "array", "items": {"enum": ["a", "b", "c"]}, "uniqueItems": True, "minItems": 1},
        p={"type": "array", "prefixItems": [INTEGER], "items": STRING, "maxItems": 3},
    ),
    "anyOf": closed(
        ["v"],
        v={
            "anyOf": [
                STRING,
                INTEGER,
                {"type": "array", "items": STRING},
                closed(["type", "x"], type={"const": "a"}, x=INTEGER),
                closed(["type", "y"], type={"const": "ab"}, y=STRING),
            ]
        },
    ),
    "anyOf beside": {
        "type": "object",
        "properties": {"a": INTEGER, "b": INTEGER},
        "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
        "additionalProperties": False,
    },
    "oneOf": closed(
        ["v", "w"],
        v={
            "oneOf": [
                closed(["kind", "r"], kind={"const": "circle"}, r=NUMBER),
                closed(["kind", "side"], kind={"const": "square"}, side=NUMBER),
            ]
        },
        w={"oneOf": [{"type": "string", "minLength": 3}, {"type": "null"}]},
    ),
    "allOf": {
        "allOf": [
            closed(["a"], a={"type": "integer", "minimum": 0}, b=STRING),
            {"properties": {"b": {"maxLength": 2}, "a": {"maximum": 10}}, "required": ["b"]},
        ]
    },
    "allOf of lists": {
        "allOf": [
            {"type": "array", "items": {"type": "integer"}, "minItems": 1},
            {"prefixItems": [{"minimum": 3}, {"maximum": 4}], "maxItems": 3},
        ]
    },
    "tree": {"$defs": {"node": NODE}, "$ref": "#/$defs/node"},
    "root in itself": closed(["v"], v=INTEGER, sub={"$ref": "#"}),
    "reference with more": {
        "definitions": {"p/q": STRING},
        **closed(["x"], x={"$ref": "#/definitions/p~1q", "minLength": 2, "description": "d"}),
    },
    "map": {"type": "object", "additionalProperties": INTEGER},
    "map with names": {
        "type": "object",
        "propertyNames": {"pattern": "^[a-z]+$", "maxLength": 3},
        "additionalProperties": STRING,
        "minProperties": 1,
    },
    "map beside": {
        "type": "object",
        "properties": {"a": INTEGER, "ab": BOOLEAN},
        "additionalProperties": STRING,
        "required": ["a"],
    },
    "patternProperties": {
        "type": "object",
        "patternProperties": {"^x-": INTEGER},
        "additionalProperties": False,
    },
    "listed names": {
        "type": "object",
        "propertyNames": {"enum": ["a", "b", "c"]},
        "additionalProperties": BOOLEAN,
    },
    "dropped name": {
        "type": "object",
        "properties": {"Good": INTEGER, "bad": INTEGER},
        "propertyNames": {"pattern": "^[A-Z]"},
    },
    "counted properties": {
        **closed([], a=INTEGER, b=INTEGER, c=INTEGER),
        "minProperties": 2,
        "maxProperties": 2,
    },
    "required only": {"type": "object", "required": ["q"]},
    "types": {"type": ["string", "null", "integer", "number"]},
    "questions": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **closed(
            ["questions"],
            questions={"type": "array", "minItems": 1, "maxItems": 4, "items": QUESTION},
            answers={
                "type": "object",
                "propertyNames": STRING,
                "additionalProperties": STRING,
            },
            url={"type": "string", "format": "uri"},
            id={"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,80}$"},
            timeout={"type": "number", "exclusiveMinimum": 0, "maximum": 600000},
            mode={"type": "string", "enum": ["content", "files_with_matches", "count"]},
            limit={"anyOf": [{"type": "number"}, {"type": "null"}]},
        ),
    },
}
