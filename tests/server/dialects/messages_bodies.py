"""Bodies of the Messages dialect, block by block."""

from __future__ import annotations

import hmac
from typing import Any

from openk2.server.dialects.anthropic import decode_request
from openk2.server.dialects.signer import Signer
from openk2.server.request import ChatRequest


def signer(secret: bytes = b"secret") -> Signer:
    return Signer(lambda data: hmac.digest(secret, data, "sha256"))


OURS = signer()

HI = {"max_tokens": 64, "messages": [{"role": "user", "content": "hi"}]}


def decode(body: object, **options: Any) -> ChatRequest:
    return decode_request(body, signer=OURS, **options)[0]


def talk(*turns: object) -> dict[str, Any]:
    return HI | {"messages": list(turns)}


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": said(content)}


def assistant(*content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": said(content)}


def system(*content: Any) -> dict[str, Any]:
    return {"role": "system", "content": said(content)}


def said(content: tuple[Any, ...]) -> Any:
    return content[0] if len(content) == 1 and isinstance(content[0], str) else list(content)


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words} | more


def use(call_id: str = "toolu_a", name: str = "search", **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": name, "input": arguments}


def result(call_id: str = "toolu_a", content: Any = "done", **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call_id, "content": content} | more


def tool(name: str = "search", **more: Any) -> dict[str, Any]:
    return {"name": name, "input_schema": {"type": "object"}} | more


def image(kind: str = "base64") -> dict[str, Any]:
    return {"type": "image", "source": {"type": kind, "media_type": "image/png", "data": "iVBO"}}


def thinking(words: Any, signature: Any) -> dict[str, Any]:
    return {"type": "thinking", "thinking": words, "signature": signature}


BILLING = "x-anthropic-billing-header: cc_version=2.1.197.c40; cc_entrypoint=sdk-cli;"
