"""What is sent and read has the shape that the vendors' own packages give it."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import anthropic.types as claude
import pytest
from anthropic.types.message_count_tokens_params import MessageCountTokensParams
from anthropic.types.message_create_params import MessageCreateParamsStreaming
from openai.types.chat import ChatCompletionChunk
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from pydantic import TypeAdapter

from openk2.agent.model import ModelRequest, Reply, ask
from openk2.agent.models.anthropic import AnthropicMessages
from openk2.agent.models.openai import OpenAIChat
from openk2.agent.models.wire.chat_request import ChatStyle, encode_chat
from openk2.agent.models.wire.messages_request import MessagesStyle, encode_prompt, encode_request
from openk2.types import Message, Sampling, ToolCall, ToolSpec, Usage
from tests.agent.models.fault_server import named_stream, serving, stream

HISTORY = (
    Message("system", "be brief"),
    Message("user", "go", name="ann"),
    Message("assistant", "I look", reasoning="hm", tool_calls=(
        ToolCall("functions.f:0", "f", '{"x": 1}'), ToolCall("b", "f", "oops"))),
    Message("tool", "r1", tool_call_id="functions.f:0"),
    Message("tool", "r2", tool_call_id="b"),
    Message("user", "and now?"),
)  # fmt: skip
TOOLS = (ToolSpec("f", "Does f.", {"type": "object", "properties": {"x": {"type": "integer"}}}),)
SAMPLING = Sampling(0.5, top_p=0.9, seed=3, max_tokens=9, stop=("x",), logit_bias=((5, -1.0),),
                    presence_penalty=0.1, cache_key="run")  # fmt: skip
REQUESTS = [
    ModelRequest(HISTORY, TOOLS, choice, sampling)  # type: ignore[arg-type]
    for choice in ("auto", "none", "required")
    for sampling in (None, SAMPLING)
]


adapter = functools.cache(TypeAdapter)


def _strict(shape: Any, body: Any) -> None:
    adapter(shape).validate_python(body, strict=True)


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("keep", ["all", "turn", "none"])
def test_a_chat_body_is_what_openais_package_would_send(request_: ModelRequest, keep: Any):
    style = ChatStyle(keep_reasoning=keep, limit_field="max_completion_tokens")
    _strict(CompletionCreateParamsStreaming, encode_chat(request_, "gpt", style))


@pytest.mark.parametrize("request_", REQUESTS)
def test_a_messages_body_is_what_anthropics_package_would_send(request_: ModelRequest):
    signed = ({"type": "thinking", "thinking": "hm", "signature": "s"},)
    style = MessagesStyle(extra={"thinking": {"type": "enabled", "budget_tokens": 1024}})
    body = encode_request(
        request_, "claude", style, lambda message: signed if message.reasoning else ()
    )
    _strict(MessageCreateParamsStreaming, body)
    counted = encode_prompt(request_, "claude", style, lambda message: ())
    _strict(MessageCountTokensParams, counted)


CALLED = Message("assistant", "I look", tool_calls=(ToolCall("call_1", "f", '{"x": 1}'),))


def folded(kind: Any, steps: Any) -> Reply:
    async def run() -> Reply:
        async with serving(steps) as (_, url):
            model = kind(url, "m")
            try:
                return await ask(model, ModelRequest(HISTORY[:2], TOOLS))
            finally:
                await model.close()

    return asyncio.run(run())


def test_chunks_as_openais_package_models_them_are_read():
    def chunk(delta: Any, finish: str | None = None, **more: Any) -> Any:
        made = ChatCompletionChunk.model_validate(
            {
                "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
                "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
                **more,
            }
        )  # fmt: skip
        return made.model_dump(mode="json")

    def call(**fields: Any) -> Any:
        return {"tool_calls": [{"index": 0, **fields}]}

    usage = {
        "prompt_tokens": 20, "completion_tokens": 8, "total_tokens": 28,
        "prompt_tokens_details": {"cached_tokens": 16},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }  # fmt: skip
    last = chunk({}, usage=usage) | {"choices": []}
    steps = stream(
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "I "}),
        chunk({"content": "look"}),
        chunk(call(id="call_1", type="function", function={"name": "f", "arguments": ""})),
        chunk(call(function={"arguments": '{"x": '})),
        chunk(call(function={"arguments": "1}"})),
        chunk({}, "tool_calls"),
        last,
    )
    assert folded(OpenAIChat, steps) == Reply(CALLED, "tool_calls", Usage(20, 8, 16, 2))


def test_events_as_anthropics_package_models_them_are_read():
    events: TypeAdapter[Any] = TypeAdapter(claude.RawMessageStreamEvent)
    usage = {"input_tokens": 4, "cache_read_input_tokens": 16, "output_tokens": 1}
    message = {
        "id": "m", "type": "message", "role": "assistant", "model": "m", "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": usage,
    }  # fmt: skip
    tool = {"type": "tool_use", "id": "call_1", "name": "f", "input": {}}
    text = {"type": "text_delta"}
    raw = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": text | {"text": "I "}},
        {"type": "content_block_delta", "index": 0, "delta": text | {"text": "look"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": tool},
        {"type": "content_block_delta", "index": 1,
         "delta": {"type": "input_json_delta", "partial_json": '{"x": 1}'}},
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": None},
         "usage": {"output_tokens": 8}},
        {"type": "message_stop"},
    ]  # fmt: skip
    made = [events.validate_python(event).model_dump(mode="json") for event in raw]
    assert folded(AnthropicMessages, named_stream(*made)) == Reply(
        CALLED, "tool_calls", Usage(20, 8, 16)
    )
