"""Chat Completions answers for the fault server, and a client that asks for one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from openk2.agent.model import ModelError, ModelRequest, Reply, ask
from openk2.agent.models.openai import OpenAIChat
from openk2.types import Message
from tests.agent.models.fault_server import (
    Asked,
    Step,
    serving,
    stream,
)

HI = ModelRequest((Message("user", "hi"),))
KEY = "sk-very-secret"
USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "cached_tokens": 3}


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> Any:
    return {"choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish}], **more}


def said(text: str = "hello", finish: str = "stop", usage: Any = USAGE) -> list[Step]:
    return stream(
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": text}),
        chunk({}, finish),
        {"choices": [], "usage": usage},
    )


def answer(
    steps: list[Step], request: ModelRequest = HI, **settings: Any
) -> tuple[Reply, list[Asked]]:
    async def run() -> tuple[Reply, list[Asked]]:
        async with serving(steps) as (server, url):
            model = OpenAIChat(f"{url}/v1", "kimi", api_key=KEY, **settings)
            try:
                return await ask(model, request), server.asked
            finally:
                await model.close()

    return asyncio.run(run())


def failure(steps: list[Step], request: ModelRequest = HI, **settings: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        answer(steps, request, **settings)
    assert KEY not in str(caught.value)
    return caught.value


def call(index: int | None, id: str | None, name: str | None, arguments: Any = None) -> Any:
    function = {"name": name, "arguments": arguments}
    delta = {"index": index, "id": id, "type": "function"}
    return {key: value for key, value in delta.items() if value is not None} | {
        "function": {key: value for key, value in function.items() if value is not None}
    }
