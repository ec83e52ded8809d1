"""The Messages API over real sockets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from openk2.agent.model import ModelError, ModelRequest, Reply, ask
from openk2.agent.models.anthropic import CONTEXT_WINDOW, AnthropicMessages
from openk2.agent.models.wire.messages_request import MessagesStyle, wire_id
from openk2.types import Finish, Message, Sampling, ToolCall, ToolSpec, Usage
from tests.agent.models.fault_server import (
    Asked,
    Step,
    chunked,
    dribbled,
    named_stream,
    response,
    serving,
    sse_head,
)

HI = ModelRequest((Message("user", "hi"),))
KEY = "sk-ant-secret"
START = {
    "type": "message_start",
    "message": {"usage": {"input_tokens": 10, "cache_read_input_tokens": 5,
                          "cache_creation_input_tokens": 2, "output_tokens": 1}},
}  # fmt: skip
STOP = {"type": "message_stop"}


def block(index: int, begin: Any, *deltas: Any) -> list[Any]:
    return [
        {"type": "content_block_start", "index": index, "content_block": begin},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def text(index: int, *pieces: str) -> list[Any]:
    deltas = ({"type": "text_delta", "text": piece} for piece in pieces)
    return block(index, {"type": "text", "text": ""}, *deltas)


def thinking(index: int, thought: str, signature: str | None = "sig") -> list[Any]:
    deltas = [{"type": "thinking_delta", "thinking": thought}]
    deltas += [{"type": "signature_delta", "signature": signature}] if signature else []
    return block(index, {"type": "thinking", "thinking": "", "signature": ""}, *deltas)


def tool(index: int, id: str, name: str, *pieces: str, whole: Any = None) -> list[Any]:
    begin = {"type": "tool_use", "id": id, "name": name, "input": whole or {}}
    return block(
        index, begin, *({"type": "input_json_delta", "partial_json": piece} for piece in pieces)
    )


def end(reason: str = "end_turn", **usage: int) -> list[Any]:
    delta = {"stop_reason": reason, "stop_sequence": "x" if reason == "stop_sequence" else None}
    return [{"type": "message_delta", "delta": delta, "usage": {"output_tokens": 7, **usage}}, STOP]


PING = {"type": "ping"}
CALLS = [
    START, PING, *thinking(0, "hm 想"), PING, *text(1, "I ", "look"),
    *tool(2, "toolu_1", "f", "", '{"a"', ": 1}"), *tool(3, "toolu_2", "g"), *end("tool_use"),
]  # fmt: skip


def answers(
    *steps: list[Step], requests: tuple[ModelRequest, ...] = (HI,), **settings: Any
) -> tuple[list[Reply], list[Asked]]:
    async def run() -> tuple[list[Reply], list[Asked]]:
        async with serving(*steps) as (server, url):
            model = AnthropicMessages(url, "claude", api_key=KEY, **settings)
            try:
                return [await ask(model, request) for request in requests], server.asked
            finally:
                await model.close()

    return asyncio.run(run())


def answer(steps: list[Step], request: ModelRequest = HI, **settings: Any) -> tuple[Reply, Any]:
    replies, asked = answers(steps, requests=(request,), **settings)
    return replies[0], asked[0].body


def failure(steps: list[Step]) -> ModelError:
    with pytest.raises(ModelError) as caught:
        answer(steps)
    assert KEY not in str(caught.value)
    return caught.value


# Answers ----------------------------------------------------------------------------------------


def test_an_answer_with_thinking_and_calls_is_folded():
    reply, _ = answer(named_stream(*CALLS))
    assert reply == Reply(
        Message(
            "assistant", "I look", reasoning="hm 想",
            tool_calls=(ToolCall("toolu_1", "f", '{"a": 1}'), ToolCall("toolu_2", "g", "{}")),
        ),
        "tool_calls",
        Usage(17, 7, 5),
    )  # fmt: skip
    assert answer(dribbled(named_stream(*CALLS)))[0] == reply


def test_arguments_may_come_whole_and_ids_twice():
    steps = named_stream(
        START, *tool(0, "t", "f", whole={"a": 1}), *tool(1, "t", "f", "{}"), *tool(2, "", "g"),
        *end("tool_use"),
    )  # fmt: skip
    assert answer(steps)[0].message.tool_calls == (
        ToolCall("t", "f", '{"a": 1}'),
        ToolCall("functions.f:0", "f", "{}"),
        ToolCall("functions.g:1", "g", "{}"),
    )


@pytest.mark.parametrize(
    ("reason", "finish"),
    [("end_turn", "stop"), ("stop_sequence", "stop"), ("max_tokens", "length"),
     ("model_context_window_exceeded", "length"), ("pause_turn", "stop")],
)  # fmt: skip
def test_reasons_are_ours(reason: str, finish: str):
    assert answer(named_stream(START, *text(0, "x"), *end(reason)))[0].finish == finish


def test_the_stop_string_is_told():
    async def run() -> list[Any]:
        async with serving(named_stream(START, *text(0, "x"), *end("stop_sequence"))) as (_, url):
            model = AnthropicMessages(url, "claude")
            events = [event async for event in model.stream(HI)]
            await model.close()
            return events

    assert asyncio.run(run())[-2:] == [Finish("stop", "x"), Usage(17, 7, 5)]


def test_a_connection_is_kept():
    async def run() -> int:
        async with serving(named_stream(START, *text(0, "x"), *end())) as (server, url):
            model = AnthropicMessages(url, "claude")
            for _ in range(3):
                await ask(model, HI)
            await model.close()
            return server.connections

    assert asyncio.run(run()) == 1


def test_usage_that_is_told_late_counts():
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 0}}}
    late = end(input_tokens=8, cache_read_input_tokens=3)
    assert answer(named_stream(start, *text(0, "x"), *late))[0].usage == Usage(11, 7, 3)


# Faults -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind", "message", "fault"),
    [
        (429, "rate_limit_error", "slow down", "busy"),
        (529, "overloaded_error", "Overloaded", "server"),
        (500, "api_error", "oops", "server"),
        (400, "invalid_request_error", "prompt is too long: 9 tokens > 8 maximum", "too_long"),
        (413, "request_too_large", "big", "too_long"),
        (400, "invalid_request_error", f"bad {KEY}", "refused"),
        (401, "authentication_error", "invalid x-api-key", "refused"),
    ],
)
def test_a_status_is_a_fault(status: int, kind: str, message: str, fault: str):
    body = {"type": "error", "error": {"type": kind, "message": message}}
    found = failure(response(status, body, {"Retry-After": "3"}))
    assert (found.fault, found.retry_after) == (fault, 3.0)
    assert message.replace(KEY, "***") in str(found)


@pytest.mark.parametrize(
    ("kind", "fault"),
    [("overloaded_error", "server"), ("rate_limit_error", "busy"), ("api_error", "server"),
     ("invalid_request_error", "refused")],
)  # fmt: skip
def test_an_error_event_is_a_fault(kind: str, fault: str):
    error = {"type": "error", "error": {"type": kind, "message": "it broke"}}
    found = failure(named_stream(START, *text(0, "half"), error))
    assert found.fault == fault and "it broke" in str(found)


@pytest.mark.parametrize(
    "steps",
    [
        named_stream(START, *text(0, "half")),
        named_stream(START, *text(0, "half"), end=False),
        named_stream(),
        [sse_head(), chunked(b"data: {oops\n\n"), b"0\r\n\r\n"],
        [sse_head(), chunked(b"data: []\n\n"), b"0\r\n\r\n"],
    ],
)
def test_half_an_answer_is_a_broken_stream(steps: list[Step]):
    assert failure(steps).fault == "broken_stream"


def test_a_refusal_is_refused():
    assert failure(named_stream(START, *text(0, "no"), *end("refusal"))).fault == "refused"


# Requests ---------------------------------------------------------------------------------------


def test_the_least_request():
    _, asked = answers(named_stream(START, *text(0, "x"), *end()))
    assert asked[0].path == "/v1/messages"
    assert asked[0].headers["x-api-key"] == KEY and "authorization" not in asked[0].headers
    assert asked[0].headers["anthropic-version"] == "2023-06-01"
    content = [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]
    assert asked[0].body == {
        "model": "claude",
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 16384,
        "stream": True,
    }


def test_a_bearer_key_is_no_api_key():
    _, asked = answers(named_stream(START, *text(0, "x"), *end()), key_header="bearer")
    assert asked[0].headers["authorization"] == f"Bearer {KEY}"
    assert "x-api-key" not in asked[0].headers


def test_system_is_hoisted_results_are_merged_and_notes_are_told():
    history = (
        Message("system", "be brief"),
        Message("system", "be kind"),
        Message("user", "go"),
        Message("assistant", " ", tool_calls=(
            ToolCall("a", "f", '{"x": 1}'), ToolCall("functions.g:1", "g", "{oops"))),
        Message("tool", "r1", tool_call_id="a"),
        Message("tool", "", tool_call_id="functions.g:1"),
        Message("system", "two steps left"),
        Message("assistant", reasoning="nothing but thought"),
        Message("user", "more"),
    )  # fmt: skip
    tools = (ToolSpec("f", "Does f.", {"type": "object", "properties": {}}),)
    request = ModelRequest(
        history, tools, "required", Sampling(0.3, top_p=0.9, top_k=4, max_tokens=9, stop=("x",))
    )
    style = MessagesStyle(cache=False, temperature_scale=0.6, extra={"metadata": {}})
    _, body = answer(named_stream(START, *text(0, "x"), *end()), request, style=style)
    other = wire_id("functions.g:1")
    assert body == {
        "model": "claude",
        "system": [{"type": "text", "text": "be brief"}, {"type": "text", "text": "be kind"}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "go"}]},
            {"role": "assistant", "content": [
                {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
                {"type": "tool_use", "id": other, "name": "g", "input": {"malformed": "{oops"}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "r1"},
                {"type": "tool_result", "tool_use_id": other},
                {"type": "text", "text": "<system>\ntwo steps left\n</system>"},
                {"type": "text", "text": "more"}]},
        ],
        "tools": [{"name": "f", "description": "Does f.",
                   "input_schema": {"type": "object", "properties": {}}}],
        "tool_choice": {"type": "any"},
        "temperature": 0.5, "top_p": 0.9, "top_k": 4, "max_tokens": 9, "stop_sequences": ["x"],
        "metadata": {},
        "stream": True,
    }  # fmt: skip


def test_ids_fit_the_alphabet_and_stay_different():
    ids = ["functions.f:0", "functions_f_0", "functions.f_0", "toolu_1", "", "é", "a b"]
    written = [wire_id(identity) for identity in ids]
    assert len(set(written)) == len(ids) and wire_id("toolu_1") == "toolu_1"
    assert all(
        set(identity) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-") for identity in written
    )


def test_the_answer_leaves_half_of_a_small_window_to_the_prompt():
    _, body = answer(named_stream(START, *text(0, "x"), *end()), context_window=1000)
    assert body["max_tokens"] == 500


def follow(reply: Reply) -> ModelRequest:
    results = (Message("tool", "r", tool_call_id=call.id) for call in reply.message.tool_calls)
    return ModelRequest((*HI.messages, reply.message, *results))


def test_thinking_goes_back_signed_or_not_at_all():
    signed = named_stream(
        START, *thinking(0, "one ", "s1"),
        *block(1, {"type": "redacted_thinking", "data": "xyz"}), *thinking(2, "two", "s2"),
        *tool(3, "t", "f"), *end("tool_use"),
    )  # fmt: skip
    unsigned = named_stream(
        START, *thinking(0, "one two", None), *tool(1, "t", "f"), *end("tool_use")
    )
    first, _ = answer(signed)
    assert first.message.reasoning == "one two"
    for steps, expected in (
        (signed, [{"type": "thinking", "thinking": "one ", "signature": "s1"},
                  {"type": "redacted_thinking", "data": "xyz"},
                  {"type": "thinking", "thinking": "two", "signature": "s2"}]),
        (unsigned, []),
    ):  # fmt: skip
        _, asked = answers(steps, requests=(HI, follow(first)))
        blocks = asked[1].body["messages"][1]["content"]
        assert blocks[:-1] == expected and blocks[-1]["type"] == "tool_use"


def test_a_turn_that_is_another_one_goes_without_signatures():
    steps = named_stream(START, *thinking(0, "a"), *tool(1, "t", "f"), *end("tool_use"))
    first, _ = answer(steps)
    request = follow(first)
    changed = Message("assistant", reasoning="b", tool_calls=first.message.tool_calls)
    other = ModelRequest((request.messages[0], changed, request.messages[2]))
    _, asked = answers(steps, requests=(HI, other))
    assert [b["type"] for b in asked[1].body["messages"][1]["content"]] == ["tool_use"]


def test_a_turn_that_lost_its_signatures_goes_on_without_thinking():
    style = MessagesStyle(extra={"thinking": {"type": "adaptive"}})
    steps = named_stream(START, *thinking(0, "a"), *tool(1, "t", "f"), *end("tool_use"))
    (first, _, _), asked = answers(steps, requests=(HI, HI, HI), style=style)
    assert asked[0].body["thinking"] == {"type": "adaptive"}
    again = follow(first)
    _, asked = answers(steps, requests=(HI, again), style=style)
    assert asked[1].body["thinking"] == {"type": "adaptive"}
    _, body = answer(steps, again, style=style)  # another client, which has seen nothing
    assert body["thinking"] == {"type": "disabled"}
    more = ModelRequest((*again.messages, Message("assistant", "x"), Message("user", "more")))
    _, body = answer(steps, more, style=style)
    assert body["thinking"] == {"type": "adaptive"}


# Counting ---------------------------------------------------------------------------------------


def test_tokens_are_counted_where_they_can_be():
    async def run(*steps: list[Step]) -> tuple[list[int], list[Asked]]:
        async with serving(*steps) as (server, url):
            model = AnthropicMessages(f"{url}/anthropic/v1", "claude")
            counts = [await model.count_tokens(HI) for _ in range(2)]
            await model.close()
            return counts, server.asked

    counts, asked = asyncio.run(run(response(200, {"input_tokens": 12})))
    assert counts == [12, 12] and asked[0].path == "/anthropic/v1/messages/count_tokens"
    assert asked[0].body.keys() == {"model", "messages"}
    counts, asked = asyncio.run(run(response(404, {})))
    assert counts[0] == counts[1] > 0 and len(asked) == 1


# Discovery --------------------------------------------------------------------------------------


def test_the_endpoint_tells_its_model_and_window():
    async def run(*steps: list[Step], **settings: Any) -> tuple[AnthropicMessages, list[Asked]]:
        async with serving(*steps) as (server, url):
            return await AnthropicMessages.discover(url, **settings), server.asked

    listed = response(200, {"data": [{"id": "opus", "max_input_tokens": 1000}, {"id": "x"}]})
    model, asked = asyncio.run(run(listed, api_key=KEY, key_header="bearer"))
    assert (model.name, model.context_window) == ("opus", 1000)
    assert asked[0].path == "/v1/models" and asked[0].headers["authorization"] == f"Bearer {KEY}"
    model, _ = asyncio.run(run(response(404, {}), model="y"))
    assert (model.name, model.context_window) == ("y", CONTEXT_WINDOW)
    with pytest.raises(ModelError, match="HTTP 401"):
        asyncio.run(run(response(401, {})))
