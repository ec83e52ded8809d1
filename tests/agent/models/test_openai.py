"""Chat Completions over real sockets: answers and calls, however they are cut."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from openk2.agent.model import ModelRequest, Reply, ask
from openk2.agent.models.openai import OpenAIChat
from openk2.types import Message, ToolCall, Usage
from tests.agent.models.chat_server import HI, KEY, USAGE, answer, call, chunk, said
from tests.agent.models.fault_server import (
    HANG,
    Step,
    chunked,
    dribbled,
    response,
    serving,
    sse_head,
    stream,
)

# Answers ----------------------------------------------------------------------------------------


def test_an_answer_is_folded_with_its_usage():
    reply, asked = answer(said())
    assert reply == Reply(Message("assistant", "hello"), "stop", Usage(9, 4, 3))
    (request,) = asked
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.body == {
        "model": "kimi",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thinking_comes_under_either_name(field: str):
    reply, _ = answer(
        stream(chunk({field: "hm"}), chunk({field: "m"}), chunk({"content": "x"}, "stop"))
    )
    assert (reply.message.reasoning, reply.message.content) == ("hmm", "x")


def test_bytes_one_at_a_time_make_the_same_answer():
    steps = stream(
        chunk({"reasoning_content": "想一想 😀"}),
        chunk({"content": "你好"}),
        chunk({"tool_calls": [call(0, "c1", "look", '{"q": "é')]}),
        chunk({"tool_calls": [call(0, None, None, '"}')]}),
        chunk({}, "tool_calls", usage=USAGE),
    )
    assert answer(dribbled(steps))[0] == answer(steps)[0]


def test_characters_in_two_halves_are_put_together():
    pieces = ["a\ud83d", "\ude00b", "\udc00", "\ud83d"]
    deltas = [chunk({"content": piece}) for piece in pieces]
    thoughts = [chunk({"reasoning_content": piece}) for piece in pieces]
    message = answer(stream(*thoughts, *deltas, chunk({}, "stop")))[0].message
    assert message.content == message.reasoning == "a😀b\ufffd"


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_every_end_of_line_and_comments_are_understood(newline: str):
    body = newline.join(
        [
            ": keep-alive",
            "",
            "event: x",
            f"data: {json.dumps(chunk({'content': 'a'}))}",
            "",
            ":",
            "",
            "data: {",
            'data: "choices": [{"delta": {"content": "b"}, "finish_reason": "stop"}]}',
            "",
            "data: [DONE]",
            "",
            "",
        ]
    )
    reply, _ = answer([sse_head(), chunked(body.encode()), b"0\r\n\r\n"])
    assert reply.message.content == "ab"


def test_a_connection_is_kept_and_an_endless_end_not_waited_for():
    async def run(*steps: list[Step]) -> int:
        async with serving(*steps) as (server, url):
            model = OpenAIChat(url, "kimi")
            for _ in range(3):
                assert (await ask(model, HI)).message.content == "hello"
            await model.close()
            return server.connections

    assert asyncio.run(run(said())) == 1
    assert asyncio.run(run([*said()[:-1], HANG])) == 3


def test_an_endpoint_that_does_not_stream_is_understood():
    message = {"role": "assistant", "content": "whole", "tool_calls": [call(None, "a", "t", "{}")]}
    body = {"choices": [{"message": message, "finish_reason": "tool_calls"}], "usage": USAGE}
    reply, _ = answer(response(200, body))
    assert reply == Reply(
        Message("assistant", "whole", tool_calls=(ToolCall("a", "t", "{}"),)),
        "tool_calls",
        Usage(9, 4, 3),
    )


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (USAGE, Usage(9, 4, 3)),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 4,
                "prompt_tokens_details": {"cached_tokens": 5},
                "completion_tokens_details": {"reasoning_tokens": 2},
            },
            Usage(9, 4, 5, 2),
        ),
        ({"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": None}, Usage(9, 4)),
        (
            {"prompt_tokens": 9, "completion_tokens": 4, "prompt_cache_hit_tokens": 8},
            Usage(9, 4, 8),
        ),
        ({"prompt_tokens": 9, "completion_tokens": 4, "cached_tokens": 99}, Usage(9, 4, 9)),
    ],
)
def test_usage_is_found_wherever_it_stands(usage: Any, expected: Usage):
    assert answer(said(usage=usage))[0].usage == expected
    kimi = chunk({}, "stop")
    kimi["choices"][0]["usage"] = usage
    assert answer(stream(chunk({"content": "x"}), kimi))[0].usage == expected


def test_without_a_usage_it_is_estimated():
    usage = answer(stream(chunk({"content": "some words"}), chunk({}, "stop")))[0].usage
    assert usage.prompt_tokens > 0 and usage.completion_tokens > 0


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("eos", "stop"),
        ("max_tokens", "length"),
        ("tool_calls", "stop"),
    ],
)
def test_finish_reasons_are_ours(reason: str, finish: str):
    assert answer(said(finish=reason))[0].finish == finish


def test_the_last_line_or_the_reason_is_enough():
    assert answer(stream(chunk({"content": "x"})))[0].finish == "stop"
    assert answer(stream(chunk({"content": "x"}, "length"), done=False))[0].finish == "length"


# Calls ------------------------------------------------------------------------------------------


def calls(*deltas: Any, finish: str = "tool_calls", request: ModelRequest = HI) -> list[ToolCall]:
    chunks = [
        chunk({"tool_calls": delta if isinstance(delta, list) else [delta]}) for delta in deltas
    ]
    reply, _ = answer(stream(*chunks, chunk({}, finish)), request)
    assert reply.finish == ("tool_calls" if finish != "length" else "length")
    return list(reply.message.tool_calls)


TWO = [ToolCall("a", "f", '{"x":1}'), ToolCall("b", "g", '{"y":2}')]


@pytest.mark.parametrize(
    "deltas",
    [
        pytest.param(
            [
                call(0, "a", "f", ""),
                call(0, None, None, '{"x"'),
                call(0, None, None, ":1}"),
                call(1, "b", "g", ""),
                call(1, None, None, '{"y":2}'),
            ],
            id="as it should be",
        ),
        pytest.param(
            [call(None, "a", "f", '{"x":1}'), call(None, "b", "g", '{"y":2}')], id="whole, no index"
        ),
        pytest.param(
            [[call(0, "a", "f", '{"x":1}'), call(0, "b", "g", '{"y":2}')]], id="all index 0"
        ),
        pytest.param(
            [
                call(None, "a", "f", '{"x"'),
                call(None, None, None, ":1}"),
                call(None, "b", "g", '{"y":'),
                call(None, "b", None, "2}"),
            ],
            id="pieces, no index",
        ),
        pytest.param(
            [
                call(0, "a", "f", '{"x"'),
                call(0, "a", "f", ":1}"),
                call(0, "a", "f", ""),
                call(1, "b", "g", '{"y"'),
                call(1, "b", "g", ":2}"),
            ],
            id="repeats id and name",
        ),
        pytest.param([call(0, "a", "f", {"x": 1}), call(1, "b", "g", {"y": 2})], id="objects"),
        pytest.param(
            [
                call(0, "a", "f"),
                call(1, "b", "g"),
                call(0, None, None, '{"x":1}'),
                call(1, None, None, '{"y":2}'),
            ],
            id="interleaved",
        ),
    ],
)
def test_two_calls_are_two_however_they_are_cut(deltas: list[Any]):
    found = calls(*deltas)
    assert [(c.id, c.name, json.loads(c.arguments)) for c in found] == [
        (c.id, c.name, json.loads(c.arguments)) for c in TWO
    ]


def test_a_name_in_two_pieces_is_one_name():
    assert calls(call(0, "a", "get_"), call(0, None, "weather"), call(0, None, None, "{}")) == [
        ToolCall("a", "get_weather", "{}")
    ]


def test_calls_without_an_id_get_one_that_the_conversation_does_not_have():
    old = ToolCall("functions.f:2", "f", "{}")
    request = ModelRequest(
        (
            Message("user", "hi"),
            Message("assistant", tool_calls=(old, ToolCall("x", "g", "{}"))),
            Message("tool", "1", tool_call_id="functions.f:2"),
            Message("tool", "2", tool_call_id="x"),
        )
    )
    deltas = [call(0, None, "f", "{}"), call(1, None, "f", '{"n":1}'), call(2, "x", "g", "{}")]
    ids = [c.id for c in calls(*deltas, request=request)]
    assert ids == ["functions.f:3", "functions.f:4", "functions.g:5"]


def test_a_call_without_an_index_or_an_id_is_still_one_of_two():
    found = calls(call(None, None, "f", '{"x":1}'), call(None, None, "f", '{"x":2}'))
    assert [(c.id, c.arguments) for c in found] == [
        ("functions.f:0", '{"x":1}'),
        ("functions.f:1", '{"x":2}'),
    ]


def test_no_arguments_are_an_empty_object_unless_the_answer_was_cut():
    assert calls(call(0, "a", "f", "")) == [ToolCall("a", "f", "{}")]
    assert calls(call(0, "a", "f"), finish="stop") == [ToolCall("a", "f", "{}")]
    assert calls(call(0, "a", "f", '{"x'), finish="length") == [ToolCall("a", "f", '{"x')]
    assert calls(call(0, "a", "f"), finish="length") == [ToolCall("a", "f", "")]
