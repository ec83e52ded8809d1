"""The shipped model answers the same by every way to it: in this process, and by either dialect."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from openk2.agent.model import ChatModel, ModelError, ModelRequest, Price, Reply, ask
from openk2.agent.models.anthropic import AnthropicMessages
from openk2.agent.models.openai import OpenAIChat
from openk2.cli.local_chat import LocalChat
from openk2.server.local.backend import LocalBackend
from openk2.types import Message, Sampling, TextDelta, ToolSpec

WEATHER = ToolSpec(
    "get_weather",
    "Get the weather of a city on a day",
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "date": {"type": "string"}},
        "required": ["city"],
    },
)
GREEDY = Sampling(temperature=0.0, max_tokens=30)
WHO = ModelRequest((Message("user", "Who are you?"),), sampling=GREEDY)
CALL = ModelRequest(
    (Message("user", "What is the weather in Berlin on Friday?"),), (WEATHER,), "required", GREEDY
)
Way = Callable[[str, LocalBackend], ChatModel]
WAYS: dict[str, Way] = {
    "chat": lambda url, backend: OpenAIChat(f"{url}/v1", "nano", context_window=1024),
    "messages": lambda url, backend: AnthropicMessages(url, "nano", context_window=1024),
    "local": lambda url, backend: LocalChat(backend),
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, server: str, backend: LocalBackend) -> Any:
    return lambda: WAYS[request.param](server, backend)


def said(model: ChatModel, *requests: ModelRequest) -> list[Reply]:
    async def run() -> list[Reply]:
        try:
            return [await ask(model, request) for request in requests]
        finally:
            await model.close()

    return asyncio.run(run())


def after(reply: Reply, result: str) -> ModelRequest:
    (call,) = reply.message.tool_calls
    answered = Message("tool", result, tool_call_id=call.id)
    messages = (*CALL.messages, reply.message, answered)
    return dataclasses.replace(CALL, messages=messages, tool_choice="auto")


def test_every_way_brings_the_same_answers(server: str, backend: LocalBackend):
    replies = {name: said(way(server, backend), WHO, CALL) for name, way in WAYS.items()}
    who, call = replies["local"]
    assert who.message.content.strip() and who.finish in ("stop", "length")
    for name, (other_who, other_call) in replies.items():
        assert (other_who.message, other_who.finish) == (who.message, who.finish), name
        assert other_call.finish == call.finish == "tool_calls", name
        assert [c.name for c in other_call.message.tool_calls] == ["get_weather"]
        assert [json.loads(c.arguments) for c in other_call.message.tool_calls] == [
            json.loads(c.arguments) for c in call.message.tool_calls
        ]
        for mine, other in ((who, other_who), (call, other_call)):
            assert other.usage.prompt_tokens == mine.usage.prompt_tokens, name
            assert other.usage.completion_tokens == mine.usage.completion_tokens, name


def test_a_call_and_its_result_go_back(way: Callable[[], ChatModel]):
    (first,) = said(way(), CALL)
    assert isinstance(json.loads(first.message.tool_calls[0].arguments), dict)
    (second,) = said(way(), after(first, '{"weather": "sunny", "temperature": 21}'))
    assert second.finish in ("stop", "length", "tool_calls")
    assert second.usage.prompt_tokens > first.usage.prompt_tokens + first.usage.completion_tokens


def test_a_result_goes_back_the_same_by_every_way(server: str, backend: LocalBackend):
    (first,) = said(LocalChat(backend), CALL)
    request = after(first, "sunny, 21 degrees")
    seconds = [said(way(server, backend), request)[0] for way in WAYS.values()]
    assert len({reply.usage.prompt_tokens for reply in seconds}) == 1
    assert len({reply.message.content for reply in seconds}) == 1


def test_tokens_are_counted_exactly(way: Callable[[], ChatModel]):
    async def run() -> tuple[int, int]:
        model = way()
        try:
            counted = await model.count_tokens(CALL)
            return counted, (await ask(model, CALL)).usage.prompt_tokens
        finally:
            await model.close()

    counted, used = asyncio.run(run())
    assert counted == used


def test_a_conversation_that_is_too_long_is_told_apart(way: Callable[[], ChatModel]):
    long = ModelRequest((Message("user", "so many words " * 2000),))
    with pytest.raises(ModelError) as caught:
        said(way(), long)
    assert caught.value.fault == "too_long" and "nano" in str(caught.value)


def test_a_limit_is_kept(way: Callable[[], ChatModel]):
    answer = said(way(), ModelRequest(WHO.messages, sampling=Sampling(0.6, max_tokens=5)))[0]
    assert answer.finish == "length" and answer.usage.completion_tokens == 5


@pytest.mark.slow  # nothing limits the answer
def test_nothing_has_to_be_set(way: Callable[[], ChatModel]):
    assert said(way(), ModelRequest(WHO.messages))[0].usage.completion_tokens > 0


def test_who_leaves_frees_the_engine(way: Callable[[], ChatModel]):
    endless = dataclasses.replace(WHO, sampling=Sampling(0.0, max_tokens=900))
    story = dataclasses.replace(endless, messages=(Message("user", "Tell me a long story."),))

    async def run() -> Reply:
        model = way()

        def look(event: object) -> None:
            if isinstance(event, TextDelta):
                asking.cancel()

        asking = asyncio.create_task(ask(model, story, look))
        with pytest.raises(asyncio.CancelledError):
            await asking
        try:
            return await ask(model, WHO)
        finally:
            await model.close()

    assert asyncio.run(run()).message.content


@pytest.mark.parametrize("kind", [OpenAIChat, AnthropicMessages])
def test_our_server_tells_its_model_and_window(server: str, kind: Any):
    model = asyncio.run(kind.discover(f"{server}/v1"))
    assert (model.name, model.context_window, model.price) == ("nano", 1024, Price())


def test_an_unknown_model_is_refused_with_our_words(server: str):
    with pytest.raises(ModelError, match="check the model's name") as caught:
        said(OpenAIChat(f"{server}/v1", "gpt-9"), WHO)
    assert caught.value.fault == "refused" and "gpt-9" in str(caught.value)


def test_a_model_in_this_process_is_named_and_priced(backend: LocalBackend):
    model = LocalChat(backend, Price(1, 2, 3))
    assert (model.name, model.context_window, model.price) == ("nano", 1024, Price(1, 2, 3))
