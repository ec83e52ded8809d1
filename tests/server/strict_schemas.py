"""Tools of every kind of schema: Claude Code's shapes, corner cases, and what chance makes."""

from __future__ import annotations

from random import Random
from typing import Any

Json = dict[str, Any]


def obj(properties: Json, *required: str, **more: Any) -> Json:
    return {"type": "object", "properties": properties, "required": list(required)} | more


TEXT: Json = {"type": "string"}
FLAG: Json = {"type": "boolean"}
_DRAFT = {"$schema": "http://json-schema.org/draft-07/schema#", "additionalProperties": False}
_COUNT: Json = {"type": "integer", "minimum": -(2**53) + 1, "maximum": 2**53 - 1}

AGENT: dict[str, Json] = {
    "Task": obj(
        {
            "description": TEXT | {"description": "A short description"},
            "prompt": TEXT,
            "subagent_type": TEXT,
            "model": {"type": "string", "enum": ["sonnet", "opus", "haiku"]},
            "run_in_background": FLAG,
        },
        *("description", "prompt", "subagent_type"),
        **_DRAFT,
    ),
    "Bash": obj(
        {
            "command": TEXT,
            "timeout": {"type": "number", "description": "up to 600000"},
            "description": TEXT,
            "run_in_background": FLAG,
        },
        "command",
        **_DRAFT,
    ),
    "Glob": obj({"pattern": TEXT, "path": TEXT}, "pattern", **_DRAFT),
    "Grep": obj(
        {
            "pattern": TEXT,
            "output_mode": {"type": "string", "enum": ["content", "files_with_matches", "count"]},
            "-B": {"type": "number"},
            "-A": {"type": "number"},
            "-n": FLAG,
            "-i": FLAG,
            "head_limit": {"type": "number"},
            "multiline": FLAG,
        },
        "pattern",
        **_DRAFT,
    ),
    "Read": obj(
        {
            "file_path": TEXT,
            "offset": _COUNT | {"minimum": 0},
            "limit": {"exclusiveMinimum": 0, **_COUNT},
        },
        "file_path",
        **_DRAFT,
    ),
    "MultiEdit": obj(
        {
            "file_path": TEXT,
            "edits": {
                "type": "array",
                "items": obj(
                    {
                        "old_string": TEXT,
                        "new_string": TEXT,
                        "replace_all": FLAG | {"default": False},
                    },
                    *("old_string", "new_string"),
                    additionalProperties=False,
                ),
                "minItems": 1,
            },
        },
        *("file_path", "edits"),
        **_DRAFT,
    ),
    "NotebookEdit": obj(
        {
            "notebook_path": TEXT,
            "cell_id": TEXT,
            "cell_type": {"type": "string", "enum": ["code", "markdown"]},
            "new_source": TEXT,
        },
        *("notebook_path", "new_source"),
        **_DRAFT,
    ),
    "WebFetch": obj({"url": TEXT | {"format": "uri"}, "prompt": TEXT}, "url", "prompt", **_DRAFT),
    "TodoWrite": obj(
        {
            "todos": {
                "type": "array",
                "items": obj(
                    {
                        "content": TEXT | {"minLength": 1},
                        "status": {
                            "type": "string",
                            "enum": ["pending", "in_progress", "completed"],
                        },
                        "activeForm": TEXT | {"minLength": 1},
                    },
                    *("content", "status", "activeForm"),
                    additionalProperties=False,
                ),
            }
        },
        "todos",
        **_DRAFT,
    ),
    "WebSearch": obj(
        {
            "query": TEXT | {"minLength": 2},
            "allowed_domains": {"type": "array", "items": TEXT},
            "blocked_domains": {"type": "array", "items": TEXT},
        },
        "query",
        **_DRAFT,
    ),
    "AskUserQuestion": obj(
        {
            "questions": {
                "type": "array",
                "minItems": 1,
                "maxItems": 4,
                "items": obj(
                    {
                        "question": TEXT,
                        "header": TEXT | {"maxLength": 12},
                        "options": {
                            "type": "array",
                            "minItems": 2,
                            "maxItems": 4,
                            "items": obj({"label": TEXT, "description": TEXT}, "label"),
                        },
                        "multiSelect": FLAG,
                    },
                    *("question", "header", "options", "multiSelect"),
                    additionalProperties=False,
                ),
            },
            "answers": {
                "type": "object",
                "propertyNames": TEXT,
                "additionalProperties": TEXT,
            },
        },
        "questions",
        **_DRAFT,
    ),
    "ExitPlanMode": obj({}, additionalProperties={}),
    "ListMcpResources": {"type": "object", "properties": {}},
    "CronCreate": obj(
        {
            "cron": TEXT | {"pattern": r"^[0-9*/,-]+( [0-9*/,-]+){4}$"},
            "recurring": {"anyOf": [FLAG, {"const": "once"}, {"type": "null"}]},
            "until": TEXT | {"format": "date-time"},
        },
        "cron",
    ),
}

_TREE: Json = {
    "type": "object",
    "properties": {"root": {"$ref": "#/$defs/node"}},
    "required": ["root"],
    "additionalProperties": False,
    "$defs": {
        "node": obj(
            {
                "value": {"type": "integer", "minimum": 0, "maximum": 9},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2},
                "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            },
            "value",
            additionalProperties=False,
        )
    },
}
_FILTER: Json = {
    "type": "object",
    "properties": {"where": {"$ref": "#/definitions/condition"}},
    "required": ["where"],
    "definitions": {
        "condition": {
            "oneOf": [
                obj(
                    {
                        "op": {"const": "and"},
                        "of": {
                            "type": "array",
                            "items": {"$ref": "#/definitions/condition"},
                            "maxItems": 2,
                        },
                    },
                    *("op", "of"),
                    additionalProperties=False,
                ),
                obj(
                    {
                        "op": {"const": "eq"},
                        "field": TEXT | {"maxLength": 5},
                        "value": {"type": ["string", "number", "null"]},
                    },
                    *("op", "field", "value"),
                    additionalProperties=False,
                ),
            ]
        }
    },
}

CORNERS: dict[str, Json] = {
    "tree": _TREE,
    "filter": _FILTER,
    "itself": obj({"inner": {"$ref": "#"}, "n": {"type": "null"}}, additionalProperties=False),
    "anything": {},
    "any_object": {"type": "object"},
    "any_value": obj({"value": {}, "list": {"type": "array"}}, "value"),
    "empty": {"type": "object", "properties": {}, "additionalProperties": False},
    "undeclared": {"type": "object", "required": ["x", "y z"], "additionalProperties": FLAG},
    "map": {
        "type": "object",
        "additionalProperties": {"type": "integer"},
        "minProperties": 2,
        "maxProperties": 3,
    },
    "by_pattern": {
        "type": "object",
        "patternProperties": {"^x_[a-c]{1,2}$": TEXT},
        "additionalProperties": False,
        "minProperties": 1,
    },
    "names": {
        "type": "object",
        "propertyNames": {"enum": ["a", "b", "ä"]},
        "additionalProperties": {"type": "number"},
    },
    "odd_names": obj(
        {
            'say "hi"': FLAG,
            "back\\slash": FLAG,
            "": FLAG,
            "城市": TEXT | {"maxLength": 4},
            "🙂": FLAG,
            "tab\t": FLAG,
            "a/b~c": FLAG,
            "$ref": FLAG,
            "é": FLAG,
            "e\u0301": FLAG,
        },
        *('say "hi"', "", "城市", "🙂", "$ref"),
        additionalProperties=False,
    ),
    "prefixes": obj(
        {"a": FLAG, "ab": FLAG, "abc": FLAG, "abcd": TEXT}, "ab", additionalProperties=False
    ),
    "literals": obj(
        {
            "x": {"enum": [1, 1.5, "1", None, True, [1, 2], {"a": [], "b": "\n"}, '全"角', "\\u"]},
            "y": {"const": {"k": [0]}},
        },
        "x",
        "y",
    ),
    "numbers": obj(
        {
            "byte": {"type": "integer", "minimum": 0, "maximum": 255},
            "odd": {"type": "integer", "minimum": -7, "exclusiveMaximum": 3, "multipleOf": 5},
            "share": {"type": "number", "minimum": 0, "maximum": 1},
            "tight": {"type": "number", "exclusiveMinimum": 0.125, "exclusiveMaximum": 0.25},
            "negative": {"type": "number", "maximum": -1.5e-3, "minimum": -1e10},
            "huge": {"type": "integer", "minimum": 10**20},
            "money": {"type": "number", "multipleOf": 0.01, "minimum": 0, "maximum": 100},
            "old": {"type": "number", "minimum": 3, "exclusiveMinimum": True},
        },
        *("byte", "odd", "share", "tight", "negative"),
    ),
    "texts": obj(
        {
            "day": TEXT | {"format": "date"},
            "at": TEXT | {"format": "date-time"},
            "clock": TEXT | {"format": "time"},
            "id": TEXT | {"format": "uuid"},
            "mail": TEXT | {"format": "email"},
            "ip": TEXT | {"format": "ipv4"},
            "ip6": TEXT | {"format": "ipv6"},
            "host": TEXT | {"format": "hostname"},
            "exact": TEXT | {"minLength": 3, "maxLength": 3},
            "plate": TEXT | {"pattern": "^[A-Z]{1,3}-[A-Z]{1,2} [1-9][0-9]{0,3}$"},
            "inside": TEXT | {"pattern": "[0-9]{2}"},
            "unicode": TEXT | {"pattern": "^[\u4e00-\u9fff]{1,4}$"},
            "either": TEXT | {"pattern": r"^(yes|no|[^a-z\s]+)$", "maxLength": 6},
            "both": TEXT | {"pattern": r"^\w+\.py$", "minLength": 4, "maxLength": 9},
        },
        *("day", "exact", "plate", "either", "mail"),
        additionalProperties=False,
    ),
    "lists": obj(
        {
            "pair": {
                "type": "array",
                "prefixItems": [TEXT, {"type": "integer"}],
                "items": False,
                "minItems": 2,
            },
            "set": {
                "type": "array",
                "items": {"enum": ["a", "b", "c"]},
                "uniqueItems": True,
                "minItems": 2,
            },
            "grid": {
                "type": "array",
                "minItems": 2,
                "maxItems": 2,
                "items": {
                    "type": "array",
                    "items": {"type": "integer", "minimum": 0, "maximum": 1},
                    "minItems": 2,
                    "maxItems": 2,
                },
            },
            "none": {"type": "array", "items": TEXT, "maxItems": 0},
        },
        *("pair", "set", "grid"),
    ),
    "mixed": obj(
        {
            "v": {
                "type": ["string", "integer", "null"],
                "maxLength": 3,
                "minimum": 5,
                "maximum": 6,
            },
            "both": {"allOf": [{"type": "integer", "minimum": 2}, {"maximum": 4}]},
            "shape": {
                "anyOf": [
                    obj({"kind": {"const": "circle"}, "r": {"type": "number"}}, "kind", "r"),
                    obj({"kind": {"const": "box"}, "w": {"type": "integer"}}, "kind", "w"),
                ]
            },
            "maybe": {"anyOf": [{"$ref": "#/$defs/color"}, {"type": "null"}], "default": None},
        },
        *("v", "both", "shape"),
        **{"$defs": {"color": {"enum": ["red", "绿"], "title": "Color"}}},
    ),
    "warned": obj(
        {
            "x": {"type": "integer", "not": {"const": 3}},
            "y": TEXT | {"pattern": r"^(?=a)\w+$"},
            "z": {"type": "array", "contains": {"const": 1}, "items": {"type": "integer"}},
        },
        "x",
    ),
}

NAMES = (
    "get",
    "get_weather",
    "get-weather",
    "mcp__srv__do-it",
    "auto",
    "none",
    "required",
    "7",
    "a",
)


class Chance:
    """Makes schemas that some value satisfies."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.defs: Json = {}

    def tool(self) -> Json:
        schema = self.object(0)
        if self.defs:
            schema["$defs"] = self.defs
        return schema

    def value(self, depth: int) -> Json:
        pick = self.random.random()
        if depth < 3 and pick < 0.3:
            return self.random.choice((self.object, self.array))(depth + 1)
        if depth < 3 and pick < 0.42:
            return {self.random.choice(("anyOf", "anyOf", "oneOf")): self.branches(depth + 1)}
        if depth < 3 and pick < 0.5:
            name = f"d{len(self.defs)}"
            self.defs[name] = True  # holds the name while what it stands for is made
            self.defs[name] = self.value(depth + 1)
            return {"$ref": f"#/$defs/{name}"}
        return self.random.choice(
            (self.string, self.number, self.listed, self.integer, self.plain)
        )()

    def branches(self, depth: int) -> list[Json]:
        kinds = [self.string(), self.integer(), {"type": "null"}, {"type": "boolean"}]
        return [*self.random.sample(kinds, 2), self.array(depth)][: self.random.randint(1, 3)]

    def object(self, depth: int) -> Json:
        random = self.random
        pool = ["id", "query", "名前", "ключ", "is-ok", "a b", "nested", "x.y", "Größe", 'q"']
        names = random.sample(pool, random.randint(0 if depth else 1, 4))
        schema = obj({name: self.value(depth) for name in names})
        schema["required"] = random.sample(names, random.randint(0, len(names)))
        others = random.choice((None, False, True, {"type": "integer"}))
        if others is not None:
            schema["additionalProperties"] = others
        if random.random() < 0.1:
            schema["minProperties"] = random.randint(0, len(names))
        return schema

    def array(self, depth: int) -> Json:
        fewest, items = self.random.choice((0, 0, 1, 2)), self.value(depth)
        schema: Json = {"type": "array", "items": items, "minItems": fewest}
        if self.random.random() < 0.7:
            schema["maxItems"] = fewest + self.random.randint(0, 2)
        return schema

    def string(self) -> Json:
        random = self.random
        pattern = (
            "^[a-f0-9]{2,6}$",
            r"^\d{3}-\d{4}$",
            "^(add|rm) [a-z]+$",
            "x",
            r"^\S+@\S+$",
            "^.{2,5}$",
            "^$",
        )
        formats = ("date", "date-time", "time", "uuid", "email", "ipv4", "ipv6", "uri", "color")
        fewest = random.randint(0, 4)
        extra = random.choice(
            (
                {},
                {"minLength": fewest, "maxLength": fewest + random.randint(0, 20)},
                {"maxLength": random.randint(0, 9)},
                {"pattern": random.choice(pattern)},
                {"format": random.choice(formats)},
            )
        )
        return {"type": "string", "description": "文字"} | extra

    def integer(self) -> Json:
        low = self.random.choice((-1000, -12, 0, 1, 99, 10**9))
        high = low + self.random.choice((0, 1, 7, 10, 12345))
        extra = self.random.choice(
            (
                {},
                {"minimum": low},
                {"maximum": high},
                {"minimum": low, "maximum": high},
                {"exclusiveMinimum": low - 1, "exclusiveMaximum": high + 1},
                {"multipleOf": self.random.choice((2, 3, 10, 25))},
            )
        )
        return {"type": "integer"} | extra

    def number(self) -> Json:
        low, more = self.random.choice((-2.5, 0, 1e-3, 1e6)), self.random.choice((0.0, 0.5, 1e3))
        limits = {"minimum": low, "maximum": low + more}
        names = self.random.choice(((), ("minimum",), ("maximum",), tuple(limits)))
        return {"type": "number"} | {name: limits[name] for name in names}

    def listed(self) -> Json:
        pool = ["a", "ab", "b c", "中文", 'q"', "\n", "", 0, 1, -1.5, True, None, [], {"k": 1}]
        values = self.random.sample(pool, self.random.randint(1, 5))
        return {"const": values[0]} if self.random.random() < 0.2 else {"enum": values}

    def plain(self) -> Json:
        return self.random.choice(
            (
                {"type": "boolean"},
                {"type": "null"},
                {"type": ["string", "null"]},
                {},
                {"type": ["integer", "string"]},
            )
        )


def draw_tools(random: Random) -> dict[str, Json]:
    """Draw one to four tools, some of them a coding agent's."""
    count, kind = random.choice((1, 1, 2, 3, 4)), random.random()
    if kind < 0.3:
        return {name: AGENT[name] for name in random.sample(list(AGENT), count)}
    if kind < 0.6:
        return {name: CORNERS[name] for name in random.sample(list(CORNERS), count)}
    return {name: Chance(random).tool() for name in random.sample(NAMES, count)}
