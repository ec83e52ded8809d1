"""A model that calls a tool and then reports what it returned, behind the Chat Completions API.

The gateway under test is a real process; this is what it has in the place of a model, so that a
client's loop can be followed to its end: the tool's output is something that only the client could
have computed.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

COMMAND = "echo openk2-$((40 + 2))"
PROOF = "openk2-42"
"""What the command prints, and nothing that was sent says."""
MODEL = "scripted"


class ScriptedModel:
    """Remembers what it was asked."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/models", self.models),
                Route("/v1/chat/completions", self.answer, methods=["POST"]),
            ]
        )

    async def models(self, request: Request) -> JSONResponse:
        return JSONResponse({"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    async def answer(self, request: Request) -> StreamingResponse:
        body = await request.json()
        self.bodies.append(body)
        return StreamingResponse(_chunks(_deltas(body)), media_type="text/event-stream")


def _deltas(body: dict[str, Any]) -> list[dict[str, Any]]:
    last = body["messages"][-1]
    if last["role"] == "tool":
        return [{"content": "The tool said: "}, {"content": str(last["content"])}]
    for tool in body.get("tools") or []:
        if arguments := _arguments(tool["function"]):
            name, text = tool["function"]["name"], json.dumps(arguments)
            half = len(text) // 2
            call = {"index": 0, "id": "call_x", "type": "function"}
            return [
                {"content": "I will look."},
                {"tool_calls": [call | {"function": {"name": name, "arguments": ""}}]},
                {"tool_calls": [{"index": 0, "function": {"arguments": text[:half]}}]},
                {"tool_calls": [{"index": 0, "function": {"arguments": text[half:]}}]},
            ]
    return [{"content": "Hello "}, {"content": "there."}]


def _arguments(function: dict[str, Any]) -> dict[str, Any] | None:
    """Fill in a tool that runs a command or tells the weather; None if it does neither."""
    schema = function.get("parameters") or {}
    properties = schema.get("properties", {})
    found: dict[str, Any] = {}
    for name in ("command", "cmd"):
        if name in properties:
            wants_list = properties[name].get("type") == "array"
            found[name] = ["bash", "-lc", COMMAND] if wants_list else COMMAND
            break
    else:
        if "city" not in properties:
            return None
        found["city"] = "Beijing"
    for name in schema.get("required", []):
        found.setdefault(name, "to show it")
    return found


async def _chunks(deltas: list[dict[str, Any]]) -> AsyncIterator[bytes]:
    called = any("tool_calls" in delta for delta in deltas)
    usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    for delta in [{"role": "assistant", "content": ""}, *deltas]:
        yield _frame([{"index": 0, "delta": delta, "finish_reason": None}])
        await asyncio.sleep(0)
    reason = "tool_calls" if called else "stop"
    yield _frame([{"index": 0, "delta": {}, "finish_reason": reason}])
    yield _frame([], usage)
    yield b"data: [DONE]\n\n"


def _frame(choices: list[dict[str, Any]], usage: dict[str, int] | None = None) -> bytes:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    return f"data: {json.dumps(head | {'choices': choices, 'usage': usage})}\n\n".encode()


@contextmanager
def listen(model: ScriptedModel) -> Iterator[str]:
    """Serve the model on a free port and give its base URL."""
    server = uvicorn.Server(uvicorn.Config(model.app(), log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            server.should_exit = True
            thread.join()
