"""Items and events of the Responses dialect, short to write."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Any

from openk2.server.dialects.openai_events import Head
from openk2.server.dialects.responses import decode_request
from openk2.types import (
    Event,
    Finish,
    Message,
    PromptRead,
    ReasoningDelta,
    TextDelta,
    ToolCallArguments,
    ToolCallStart,
    Usage,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "responses.sse"
HEAD = Head(id="resp_1", created=7, model="nano")
HI = {"input": "hi"}


def sign(data: bytes) -> bytes:
    return hmac.digest(b"key", data, hashlib.sha256)


def user(content: object = "hi") -> dict[str, Any]:
    return {"role": "user", "content": content}


def call(call_id: str = "call_1", **fields: object) -> dict[str, Any]:
    item = {"type": "function_call", "call_id": call_id, "name": "search", "arguments": "{}"}
    return item | fields


def output(call_id: str = "call_1", value: object = "found") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": value}


def thought(**fields: object) -> dict[str, Any]:
    return {"type": "reasoning", "id": "rs_1", "summary": [], **fields}


def tool(name: str = "search", **fields: object) -> dict[str, Any]:
    return {"type": "function", "name": name, **fields}


def messages(*items: object) -> tuple[Message, ...]:
    return decode_request({"input": list(items)}, sign)[0].messages


EVENTS: list[Event] = [
    PromptRead(10, 4),
    ReasoningDelta("h"),
    ReasoningDelta("m"),
    TextDelta("Let me "),
    TextDelta("look."),
    ToolCallStart(0, "functions.search:0", "search"),
    ToolCallArguments(0, '{"q":'),
    ToolCallArguments(0, '"k2"}'),
    ToolCallStart(1, "functions.now:1", "now"),
    Finish("tool_calls"),
    Usage(10, 5, cached_tokens=4, reasoning_tokens=2),
]
