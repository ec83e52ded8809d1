"""The schemas and documents of `bench.grammar`: the shapes that agents' tools have.

In: nothing. Out: per tool a schema, and two documents that satisfy it.
Must not know: who reads them.
"""

from __future__ import annotations

from typing import Any


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


_TEXT = {"type": "string"}
_LONG = (
    'The quick brown fox jumps over the lazy dog, then "says" hello to C:\\temp; 今天天气很好。\n'
    "def main():\n    return {'a': [1, 2, 3]}\n"
)

TOOLS: dict[str, dict[str, Any]] = {
    "ticket": {
        "schema": _object(
            ["title", "id", "priority", "reporter"],
            title={"type": "string", "maxLength": 200},
            id={"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,80}$"},
            priority={"type": "string", "enum": ["low", "normal", "high", "urgent"]},
            reporter=_object(["name"], name=_TEXT, email={"type": "string", "format": "email"}),
            labels={"type": "array", "items": _TEXT, "maxItems": 10},
            estimate={"type": "number", "exclusiveMinimum": 0, "maximum": 1000},
        ),
        "documents": [
            {
                "title": "Printer on the second floor prints blank pages since Monday",
                "id": "PRN-2041_blank-pages",
                "priority": "high",
                "reporter": {"name": "Zoë Müller", "email": "zoe@example.com"},
                "labels": ["hardware", "office", "二楼"],
                "estimate": 2.5,
            },
            {
                "title": 'Login page answers 500 when the password has a "quote" in it',
                "id": "web_login_500",
                "priority": "urgent",
                "reporter": {"name": "Li Wei"},
                "estimate": 12,
            },
        ],
    },
    "write": {
        "schema": _object(["file_path", "content"], file_path=_TEXT, content=_TEXT),
        "documents": [
            {"file_path": "/srv/app/main.py", "content": _LONG},
            {"file_path": "/srv/app/other.md", "content": "# Title\n\n" + _LONG * 2},
        ],
    },
    "search": {
        "schema": _object(
            ["pattern"],
            pattern=_TEXT,
            path=_TEXT,
            glob=_TEXT,
            output={"type": "string", "enum": ["content", "files", "count"]},
            before={"type": "number"},
            after={"type": "number"},
            number={"type": "boolean"},
            ignore_case={"type": "boolean"},
            type=_TEXT,
            limit={"type": "integer", "minimum": 1, "maximum": 1000},
            multiline={"type": "boolean"},
        ),
        "documents": [
            {"pattern": "def \\w+", "glob": "**/*.py", "output": "files", "limit": 20},
            {"pattern": "TODO", "path": "src", "before": 2, "ignore_case": True},
        ],
    },
    "ask": {
        "schema": _object(
            ["questions"],
            questions={
                "type": "array",
                "minItems": 1,
                "maxItems": 4,
                "items": _object(
                    ["question", "header", "options", "multi"],
                    question=_TEXT,
                    header={"type": "string", "maxLength": 12},
                    options={
                        "type": "array",
                        "minItems": 2,
                        "maxItems": 4,
                        "items": _object(["label", "about"], label=_TEXT, about=_TEXT),
                    },
                    multi={"type": "boolean"},
                ),
            },
        ),
        "documents": [
            {
                "questions": [
                    {
                        "question": "Which database should it use?",
                        "header": "Database",
                        "options": [
                            {"label": "SQLite", "about": "one file, no server"},
                            {"label": "PostgreSQL", "about": "for several writers"},
                        ],
                        "multi": False,
                    }
                ]
            },
            {
                "questions": [
                    {
                        "question": "Where does it run?",
                        "header": "Target",
                        "options": [
                            {"label": "Linux", "about": "x86-64"},
                            {"label": "macOS", "about": "arm64"},
                            {"label": "Both", "about": "slower to test"},
                        ],
                        "multi": True,
                    }
                ]
            },
        ],
    },
    "plot": {
        "schema": {
            "type": "object",
            "properties": {
                "series": {
                    "type": "array",
                    "items": {"$ref": "#/$defs/series"},
                },
                "axis": {"anyOf": [{"enum": ["linear", "log"]}, {"type": "null"}]},
                "tree": {"$ref": "#/$defs/node"},
                "options": {"type": "object", "additionalProperties": {"type": "string"}},
            },
            "required": ["series", "axis"],
            "additionalProperties": False,
            "$defs": {
                "series": _object(
                    ["name", "values"],
                    name=_TEXT,
                    values={"type": "array", "items": {"type": "number"}, "minItems": 1},
                ),
                "node": _object(
                    ["name"],
                    name=_TEXT,
                    children={"type": "array", "items": {"$ref": "#/$defs/node"}},
                ),
            },
        },
        "documents": [
            {
                "series": [{"name": "loss", "values": [3.1, 2.25, 1.875, 1.5]}],
                "axis": "log",
                "tree": {"name": "root", "children": [{"name": "leaf"}]},
            },
            {
                "series": [{"name": "accuracy", "values": [0.5, 0.75]}],
                "axis": None,
                "options": {"color": "blue", "width": "2px"},
            },
        ],
    },
}
