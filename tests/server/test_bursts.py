"""Tokens that are there at once are told at once, and say what they say one by one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.engine.request import Token
from openk2.server.dialects.openai_events import Head, encode_response
from openk2.server.local.backend import LocalBackend
from openk2.server.merge import merge_pieces
from openk2.server.request import ChatRequest
from openk2.types import Event, Message, Sampling, TextDelta, ToolSpec
from tests.server.conftest import encode

ANSWER = (
    "<think>Which 模型?</think>Let me look."
    "<|tool_calls_section_begin|>"
    '<|tool_call_begin|>functions.search:0<|tool_call_argument_begin|>{"q": "K2 模型"}'
    "<|tool_call_end|>"
    "<|tool_call_begin|>functions.now:1<|tool_call_argument_begin|>{}<|tool_call_end|>"
    "<|tool_calls_section_end|>"
)


@dataclass
class Bursts:
    """Writes the same tokens, so many at a time."""

    ids: Sequence[int]
    sizes: Sequence[int]
    max_len: int = 4096
    alive: bool = True

    def generate(self, prompt_ids, sampling, mask=None) -> BurstStream:
        last = len(self.ids) - 1
        tokens = [
            Token(0, token, -0.5, "stop" if index == last else None, top=((token, -0.5),))
            for index, token in enumerate(self.ids)
        ]
        return BurstStream(tokens, list(self.sizes))


@dataclass
class BurstStream:
    tokens: list[Token]
    sizes: list[int]
    left: int = 0

    def __aiter__(self) -> AsyncIterator[Token]:
        return self

    async def __anext__(self) -> Token:
        if not self.tokens:
            raise StopAsyncIteration
        self.left = self.sizes.pop(0) if self.sizes else 1
        return self.ready(1)[0]

    def ready(self, most: int | None = None) -> list[Token]:
        count = min(self.left, most or self.left)
        self.left -= count
        taken, self.tokens = self.tokens[:count], self.tokens[count:]
        return taken

    async def aclose(self) -> None:
        self.tokens = []


def told(ids, sizes, tokenizer, sampling: Sampling) -> list[tuple[int, Event]]:
    async def run() -> list[tuple[int, Event]]:
        backend = LocalBackend(Bursts(ids, sizes), tokenizer, "nano")
        tools = (ToolSpec("search"), ToolSpec("now"))
        request = ChatRequest((Message("user", "hi"),), sampling, tools=tools)
        generation = await backend.prepare(request)
        return [item async for item in generation.events()]

    return asyncio.run(run())


@given(st.data())
@settings(deadline=None, max_examples=25)
def test_bursts_say_what_single_tokens_say(tokenizer, data):
    ids = [*encode(ANSWER, tokenizer), tokenizer.im_end]
    sizes = data.draw(st.lists(st.integers(1, 16), max_size=len(ids)))
    stop = data.draw(st.sampled_from([(), ("look",), ("模",)]))
    logprobs = data.draw(st.booleans())
    sampling = Sampling(stop=stop, logprobs=logprobs, top_logprobs=int(logprobs))
    single = told(ids, (), tokenizer, sampling)
    burst = told(ids, sizes, tokenizer, sampling)
    assert merge_pieces(burst) == merge_pieces(single)
    head = Head("chatcmpl-1", 0, "nano")
    if not stop:
        assert encode_response(head, burst) == encode_response(head, single)


@pytest.mark.parametrize(("sizes", "pieces"), [((64,), 1), ((), 11)])
def test_what_is_there_at_once_is_one_piece_and_a_slow_token_does_not_wait(
    tokenizer, sizes, pieces
):
    ids = [*encode("one", tokenizer)[:1] * 11, tokenizer.im_end]
    events = [event for _, event in told(ids, sizes, tokenizer, Sampling())]
    assert sum(isinstance(event, TextDelta) for event in events) == pieces
