"""Conversations from a file of one's own: JSON Lines, one conversation a line.

A line is `{"tools": [{"name", "description", "parameters"}], "messages": [{"role", "content",
"reasoning", "tool_calls": [{"id", "name", "arguments"}], "tool_call_id"}], "key"}`; `arguments` is
JSON text, everything but `messages` and their `role` may be missing, other keys are not read.

In: a `.jsonl` or `.jsonl.zst` file. Out: conversations to train on. Must not know: tokens, weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from openk2.text.conversations import Conversation, trimmed
from openk2.text.corpus import read_rows
from openk2.types import ROLES, HistoryError, Message, ToolCall, ToolSpec, validate_history


class BadRowError(ValueError):
    """A line does not hold a conversation; the message says which and why."""


def recorded_conversations(path: Path) -> Iterator[Conversation]:
    """Yield every line's conversation, up to its last assistant turn.

    Raises:
        BadRowError: A line is not a conversation, or nothing in it can be learned.
        DamagedPackError: A line is not a JSON object.
    """
    for number, row in enumerate(read_rows(path), 1):
        try:
            yield _conversation(row, path.name)
        except (ValueError, HistoryError) as error:
            raise BadRowError(f"{path}:{number}: {error}; mend or remove the line") from error


def _conversation(row: Mapping[str, Any], source: str) -> Conversation:
    given = _list(row, "messages", "the row")
    messages = tuple(_message(m, f"messages[{i}]") for i, m in enumerate(given))
    validate_history(messages)
    tools = tuple(
        _tool(_object(t, f"tools[{i}]"), f"tools[{i}]")
        for i, t in enumerate(_list(row, "tools", "the row"))
    )
    names = {tool.name for tool in tools}
    if len(names) != len(tools):
        raise ValueError("two tools have one name")
    for call in (call for message in messages for call in message.tool_calls):
        if call.name not in names:
            raise ValueError(f"{call.name!r} is called but not declared in `tools`")
    kept = trimmed(messages)
    if not any(message.role == "assistant" for message in kept):
        raise ValueError("no assistant turn answers a user")
    # Without a key, equal rows at least stay on one side of the hold-out split.
    text = json.dumps(row, sort_keys=True, ensure_ascii=False)
    key = _text(row, "key", "the row") or hashlib.sha256(text.encode()).hexdigest()
    return Conversation(kept, tools, source, key)


def _message(value: object, where: str) -> Message:
    row = _object(value, where)
    role = _text(row, "role", where)
    if role not in ROLES:
        raise ValueError(f"{where}.role is {role!r}, not one of {', '.join(ROLES)}")
    calls = tuple(
        _call(_object(c, f"{where}.tool_calls[{i}]"), f"{where}.tool_calls[{i}]")
        for i, c in enumerate(_list(row, "tool_calls", where))
    )
    return Message(
        role,
        _text(row, "content", where),
        reasoning=_text(row, "reasoning", where),
        tool_calls=calls,
        tool_call_id=_text(row, "tool_call_id", where) or None,
        name=_text(row, "name", where) or None,
    )


def _call(row: Mapping[str, Any], where: str) -> ToolCall:
    arguments = _text(row, "arguments", where) or "{}"
    try:
        sound = isinstance(json.loads(arguments), dict)
    except json.JSONDecodeError:
        sound = False
    if not sound:
        raise ValueError(f"{where}.arguments is not the text of a JSON object: {arguments[:60]!r}")
    return ToolCall(_required(row, "id", where), _required(row, "name", where), arguments)


def _tool(row: Mapping[str, Any], where: str) -> ToolSpec:
    name, description = _required(row, "name", where), _text(row, "description", where)
    if row.get("parameters") is None:
        return ToolSpec(name, description)
    return ToolSpec(name, description, _object(row["parameters"], f"{where}.parameters"))


def _object(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is not an object")
    return cast(Mapping[str, Any], value)


def _list(row: Mapping[str, Any], name: str, where: str) -> list[object]:
    value = row.get(name)
    if value is not None and not isinstance(value, list):
        raise ValueError(f"`{name}` of {where} is not a list")
    return cast("list[object]", value or [])


def _text(row: Mapping[str, Any], name: str, where: str) -> str:
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"`{name}` of {where} is not a text")
    return value or ""


def _required(row: Mapping[str, Any], name: str, where: str) -> str:
    if not (value := _text(row, name, where)):
        raise ValueError(f"`{name}` of {where} is missing")
    return value
