"""What is sent to Chat Completions endpoints, and what they tell of themselves."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from openk2.agent.model import ModelError, ModelRequest, Price, ask
from openk2.agent.models.openai import CONTEXT_WINDOW, OpenAIChat
from openk2.agent.models.wire.chat_request import ChatStyle
from openk2.types import Message, Sampling, TextDelta, ToolCall, ToolSpec
from tests.agent.models.chat_server import HI, KEY, answer, chunk, said
from tests.agent.models.fault_server import (
    Asked,
    Step,
    response,
    serving,
    stream,
)

# Requests ---------------------------------------------------------------------------------------

HISTORY = (
    Message("system", "be brief"),
    Message("user", "one"),
    Message("assistant", "", reasoning="old", tool_calls=(ToolCall("c1", "f", '{"a": 1}'),)),
    Message("tool", "r1", tool_call_id="c1"),
    Message("assistant", "done", reasoning="old too"),
    Message("assistant"),
    Message("user", "two", name="ann"),
    Message("assistant", "", tool_calls=(ToolCall("c2", "f", "{}"),)),
    Message("tool", "r2", tool_call_id="c2"),
    Message("assistant", "hm", reasoning="new", tool_calls=(ToolCall("c3", "f", "{}"),)),
    Message("tool", "r3", tool_call_id="c3"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        ("all", ["old", "old too", "", "new"]),
        ("turn", ["", None, "", "new"]),
        ("none", [None, None, None, None]),
    ],
)
def test_thinking_is_sent_back_as_the_endpoint_wants_it(keep: Any, expected: list[str | None]):
    _, asked = answer(said(), ModelRequest(HISTORY), style=ChatStyle(keep_reasoning=keep))
    turns = [turn for turn in asked[0].body["messages"] if turn["role"] == "assistant"]
    assert [turn.get("reasoning_content") for turn in turns] == expected


def test_a_conversation_keeps_its_calls_results_and_names():
    _, asked = answer(said(), ModelRequest(HISTORY))
    turns = asked[0].body["messages"]
    assert len(turns) == len(HISTORY) - 1  # without the turn that says nothing
    assert turns[2]["tool_calls"] == [
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    ]
    assert turns[3] == {"role": "tool", "content": "r1", "tool_call_id": "c1"}
    assert turns[5] == {"role": "user", "content": "two", "name": "ann"}


def test_tools_and_what_is_set_are_sent_and_nothing_else():
    tool = ToolSpec("f", "Does f.", {"type": "object", "properties": {}})
    sampling = Sampling(
        temperature=0.0, max_tokens=5, stop=("x",), seed=1, top_k=3, cache_key="run"
    )
    request = ModelRequest(HI.messages, (tool,), "required", sampling)
    style = ChatStyle(limit_field="max_completion_tokens", extra={"thinking": {"type": "enabled"}},
                      usage_option=False)  # fmt: skip
    _, asked = answer(said(), request, style=style)
    assert asked[0].body == {
        "model": "kimi",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "tools": [{"type": "function", "function": {"name": "f", "description": "Does f.",
                   "parameters": {"type": "object", "properties": {}}}}],
        "tool_choice": "required",
        "temperature": 0.0, "max_completion_tokens": 5, "stop": ["x"], "seed": 1, "top_k": 3,
        "prompt_cache_key": "run",
        "thinking": {"type": "enabled"},
    }  # fmt: skip


def test_text_that_is_no_unicode_is_sent_without_an_accident():
    _, asked = answer(said(), ModelRequest((Message("user", "lone \ud800 half"),)))
    assert asked[0].body["messages"][0]["content"] == "lone ? half"


# Discovery and counting -------------------------------------------------------------------------


def discovered(*answers: list[Step], **settings: Any) -> tuple[OpenAIChat, list[Asked]]:
    async def run() -> tuple[OpenAIChat, list[Asked]]:
        async with serving(*answers) as (server, url):
            return await OpenAIChat.discover(f"{url}/v1", **settings), server.asked

    return asyncio.run(run())


@pytest.mark.parametrize("field", ["context_length", "max_model_len"])
def test_the_endpoint_tells_its_model_and_window(field: str):
    models = {"data": [{"id": "a", field: 1000}, {"id": "b", field: 2000}]}
    model, asked = discovered(response(200, models), api_key=KEY)
    assert (model.name, model.context_window) == ("a", 1000)
    assert asked[0].path == "/v1/models" and asked[0].headers["authorization"] == f"Bearer {KEY}"
    model, _ = discovered(response(200, models), model="b")
    assert (model.name, model.context_window) == ("b", 2000)
    model, _ = discovered(response(200, models), model="c", context_window=7)
    assert (model.name, model.context_window) == ("c", 7)


def test_a_host_alone_gets_the_usual_path():
    async def run(path: str) -> str:
        async with serving(response(200, {"data": [{"id": "a"}]})) as (server, url):
            await OpenAIChat.discover(url + path)
            return server.asked[0].path

    paths = ["", "/", "/v1", "/v1/chat/completions", "/openai/v2/"]
    asked = [asyncio.run(run(path)) for path in paths]
    assert asked == [*["/v1/models"] * 4, "/openai/v2/models"]


def test_a_named_model_needs_no_list():
    model, _ = discovered(response(404, {}), model="x")
    assert (model.name, model.context_window) == ("x", CONTEXT_WINDOW)
    for answer_ in (response(404, {}), response(200, {"data": []})):
        with pytest.raises(ModelError):
            discovered(answer_)


def test_prices_hold_at_kimi_and_nowhere_else():
    assert OpenAIChat("https://api.moonshot.ai/v1", "kimi-k2.5").price.completion == 3_000_000
    assert OpenAIChat("http://127.0.0.1:8000/v1", "kimi-k2.5").price == Price()
    assert OpenAIChat("http://x.y/v1", "m", price=Price(1, 1, 1)).price == Price(1, 1, 1)


def counted(*answers: list[Step], n: int = 1) -> tuple[list[int], list[Asked]]:
    async def run() -> tuple[list[int], list[Asked]]:
        async with serving(*answers) as (server, url):
            model = OpenAIChat(f"{url}/v1", "kimi")
            counts = [await model.count_tokens(ModelRequest(HISTORY)) for _ in range(n)]
            await model.close()
            return counts, server.asked

    return asyncio.run(run())


def test_tokens_are_counted_by_the_endpoint_with_what_the_model_reads():
    counts, asked = counted(response(200, {"data": {"total_tokens": 42}}))
    assert counts == [42]
    assert asked[0].path == "/v1/tokenizers/estimate-token-count"
    assert asked[0].body.keys() == {"model", "messages"}


def test_an_endpoint_that_cannot_count_is_asked_once():
    counts, asked = counted(response(404, {}), n=3)
    assert len(asked) == 1 and counts[0] == counts[2] > 0
    counts, asked = counted(response(200, b"<html>"), n=2)
    assert len(asked) == 1
    counts, asked = counted(response(503, {}), response(200, {"data": {"total_tokens": 9}}), n=2)
    assert len(asked) == 2 and counts[1] == 9


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "ftp://x", "http://u:p@x/v1", "http://x/v1?k=1"]
)
def test_what_is_no_address_is_refused(url: str):
    with pytest.raises(ValueError, match=r"URL|address"):
        OpenAIChat(url, "m")


# Adapting ---------------------------------------------------------------------------------------

UNKNOWN = "property 'reasoning_content' is unsupported"
MISSING = (
    "thinking is enabled but reasoning_content is missing in assistant tool call message at index 2"
)
NEWER = "Unsupported parameter: 'max_tokens' is not supported; use 'max_completion_tokens' instead."
NO_USAGE = "Unknown parameter: 'stream_options'"


def adapting(*refusals: str, style: ChatStyle | None = None) -> list[Any]:
    async def run() -> list[Any]:
        refused = [response(400, {"error": {"message": refusal}}) for refusal in refusals]
        async with serving(*refused, said()) as (server, url):
            model = OpenAIChat(url, "kimi", style=style)
            try:
                for _ in range(2):  # what was learnt holds for the next one
                    await ask(model, ModelRequest(HISTORY, sampling=Sampling(max_tokens=5)))
            finally:
                await model.close()
            return [asked.body for asked in server.asked]

    return asyncio.run(run())


def thinks(body: Any) -> int:
    return sum("reasoning_content" in turn for turn in body["messages"])


def test_an_endpoint_is_asked_in_its_own_way_once_it_has_refused_another():
    bodies = adapting(UNKNOWN, NEWER, NO_USAGE)
    assert [thinks(body) for body in bodies] == [4, 0, 0, 0, 0]
    assert ["max_tokens" in body for body in bodies] == [True, True, False, False, False]
    assert ["max_completion_tokens" in body for body in bodies] == [False, False, True, True, True]
    assert ["stream_options" in body for body in bodies] == [True, True, True, False, False]


def test_an_endpoint_that_wants_its_thinking_back_gets_it():
    bodies = adapting(MISSING, style=ChatStyle(keep_reasoning="none"))
    assert [thinks(body) for body in bodies] == [0, 4, 4]


def test_what_was_said_already_is_not_said_again():
    refused = {"message": UNKNOWN, "type": "invalid_request_error"}
    steps = stream(chunk({"content": "half"}), {"error": refused})

    async def run() -> tuple[int, list[Any]]:
        seen: list[Any] = []
        async with serving(steps) as (server, url):
            model = OpenAIChat(url, "kimi")
            with pytest.raises(ModelError, match="unsupported"):
                await ask(model, ModelRequest(HISTORY), seen.append)
            await model.close()
            return len(server.asked), seen

    assert asyncio.run(run()) == (1, [TextDelta("half")])


def test_an_endpoint_that_wants_both_is_not_asked_forever():
    with pytest.raises(ModelError, match="reasoning_content is missing"):
        adapting(UNKNOWN, MISSING, UNKNOWN, MISSING)
    with pytest.raises(ModelError, match="unsupported"):
        adapting(UNKNOWN, style=ChatStyle(keep_reasoning="none"))
