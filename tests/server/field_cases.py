"""For every dialect: bodies with each field that its decoder honours, refuses or ignores."""

from __future__ import annotations

from typing import Any

from tests.server import chat_fields, messages_fields, responses_fields

HONOURED = {
    "chat": chat_fields.CHAT,
    "responses": responses_fields.RESPONSES,
    "messages": messages_fields.MESSAGES,
    "completions": chat_fields.COMPLETIONS,
}
REFUSED = {
    "chat": chat_fields.CHAT_REFUSED,
    "responses": responses_fields.RESPONSES_REFUSED,
    "messages": messages_fields.MESSAGES_REFUSED,
    "completions": chat_fields.COMPLETIONS_REFUSED,
}
WHOLE = {
    "chat": chat_fields.CHAT_WHOLE,
    "responses": responses_fields.RESPONSES_WHOLE,
    "messages": messages_fields.MESSAGES_WHOLE,
    "completions": chat_fields.COMPLETIONS_WHOLE,
}
"""A body with every object in which an ignored field can stand."""

TYPED: dict[str, dict[str, list[Any]]] = {
    "chat": {
        "response_format.json_schema.name": ["a", "b"],
        "response_format.json_schema.strict": [True, False],
        "tools[].function.strict": [True, False],
        "thinking.keep": ["all", None],
    },
    "responses": {
        "store": [True, False],
        "truncation": ["auto", "disabled"],
        "tools[].strict": [True, False],
        "text.format.name": ["a", "b"],
        "text.format.strict": [True, False],
        "text.verbosity": ["low", "high"],
    },
    "messages": {},
    "completions": {},
}
"""Values of ignored fields that only take values of their type."""
