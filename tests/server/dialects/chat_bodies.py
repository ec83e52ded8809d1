"""Chat Completions bodies and their parts, for the tests of that dialect."""

from __future__ import annotations

from typing import Any

from openk2.server.dialects.openai import decode_request
from openk2.server.request import ChatRequest

HI = {"messages": [{"role": "user", "content": "hi"}]}


def tool(name: str = "search", **function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **function}}


def after_hi(*messages: object) -> dict[str, Any]:
    return {"messages": [*HI["messages"], *messages]}


def text_part(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def decoded(body: object) -> ChatRequest:
    return decode_request(body)[0]


def with_format(**fields: Any) -> dict[str, Any]:
    return HI | {"response_format": fields}


def allowed(*names: str, mode: str = "auto") -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


def dynamic(*tools: object, role: str = "system", content: object = None) -> dict[str, Any]:
    return {"role": role, "content": content, "tools": list(tools)}


CALL = {"id": "call_1", "type": "function", "function": {"name": "search", "arguments": "{}"}}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "42"}
USER = {"role": "user", "content": "go on"}
PARTIAL = {"role": "assistant", "content": "One, ", "partial": True}

SCHEMA = {"type": "object", "properties": {"a": {"enum": [1, None]}}}
