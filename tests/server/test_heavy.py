from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.engine.thread import EngineThread
from openk2.server.errors import ApiError
from openk2.server.heavy import HeavyBackend, majority
from openk2.server.local.backend import LocalBackend
from openk2.server.request import ChatRequest, Model
from openk2.text.parse import assemble
from openk2.types import (
    Event,
    Finish,
    Message,
    PromptRead,
    ReasoningDelta,
    Sampling,
    TextDelta,
    ToolCallArguments,
    ToolCallStart,
    ToolSpec,
    Usage,
)

ASK = ChatRequest((Message("user", "6 * 7?"),), Sampling(temperature=0), trajectories=3)
SEARCH = ToolSpec("search")


def words(text: str) -> list[Event]:
    return [PromptRead(10), TextDelta(text), Finish("stop"), Usage(10, 5, 2, 1)]


def call(arguments: str) -> list[Event]:
    start = ToolCallStart(0, "functions.search:0", "search")
    said = [PromptRead(10), start, ToolCallArguments(0, arguments), Finish("tool_calls")]
    return [*said, Usage(10, 5, 2, 0)]


@dataclass
class Attempts:
    """Answers with the given attempts first, and with "final" whatever is asked then."""

    attempts: list[list[Event]]
    window: int = 10_000
    alive: bool = True
    seen: list[ChatRequest] = field(default_factory=list)
    model: str = "nano"
    warnings: tuple[str, ...] = ("simplified",)
    closed: int = 0

    @property
    def models(self):
        return (Model("nano", self.window, 0),)

    async def prepare(self, request):
        self.seen.append(request)
        return self

    async def count_tokens(self, request):
        return len(request.messages[-1].content)

    async def events(self):
        try:
            if self.seen[-1].n == 1:
                for event in words("final"):
                    yield 0, event
                return
            for step in range(max(map(len, self.attempts))):
                for choice, attempt in enumerate(self.attempts):
                    if step < len(attempt):
                        yield choice, attempt[step]
        finally:
            self.closed += 1


def run(backend, request=ASK) -> list[Event]:
    async def collect():
        generation = await HeavyBackend(backend).prepare(request)
        return [event async for _, event in generation.events()]

    return asyncio.run(collect())


def test_the_attempts_are_read_side_by_side():
    backend = Attempts([words("42"), words("41"), words("42.")])
    events = run(backend)
    first, final = backend.seen
    assert (first.n, first.trajectories, first.messages) == (3, 1, ASK.messages)
    assert first.sampling.temperature > 0 and final.sampling.temperature == 0
    shown = final.messages[-1].content
    assert all(text in shown for text in ("## Attempt 1\n\n42\n", "## Attempt 2\n\n41\n", "42."))
    assert final.messages[:-1] == ASK.messages
    assert assemble(events).content == "final"
    assert events[0] == PromptRead(10)
    assert [type(event) for event in events[-2:]] == [Finish, Usage]
    assert backend.closed == 2


def test_progress_is_thinking_and_comes_first():
    events = run(Attempts([words("a"), words("b"), words("c")]))
    kinds = [type(event) for event in events if isinstance(event, ReasoningDelta | TextDelta)]
    assert kinds == [ReasoningDelta] * 4 + [TextDelta]
    assert "Attempt 3 of 3 is done." in assemble(events).reasoning


def test_the_usage_is_the_sum_with_each_prompt_once():
    usage = run(Attempts([words("a"), words("b"), words("c")]))[-1]
    assert usage == Usage(10 + 10, 15 + 5, 2 + 2, 15 + 1)


def test_an_ordinary_request_passes_by():
    backend = Attempts([words("a")])
    request = replace(ASK, trajectories=1)
    assert assemble(run(backend, request)).content == "final"
    assert backend.seen == [request]


def test_most_attempts_decide_on_a_call():
    same = '{"q": 1, "n": 2}'
    backend = Attempts([call('{"q": 7}'), call(same), call('{"n":2,"q":1}')])
    events = run(backend, replace(ASK, tools=(SEARCH,)))
    message = assemble(events)
    assert [call.arguments for call in message.tool_calls] == [same]
    assert events[-2] == Finish("tool_calls")
    assert events[-1] == Usage(10, 15, 2, 10)
    assert len(backend.seen) == 1


def test_most_attempts_decide_for_words():
    backend = Attempts([call("{}"), words("no need"), words("not needed")])
    events = run(backend, replace(ASK, tools=(SEARCH,)))
    assert assemble(events).content == "final" and not assemble(events).tool_calls
    final = backend.seen[-1]
    assert final.tool_choice == "none"
    assert "no need" in final.messages[-1].content
    assert "## Attempt 3" not in final.messages[-1].content


@given(st.lists(st.sampled_from(["", "a", "b", "c"]), min_size=1))
def test_the_majority_is_the_earliest_of_the_most_frequent(outcomes):
    assert majority(outcomes) == Counter(outcomes).most_common(1)[0][0]


@pytest.mark.parametrize("window", [900, 1500, 3000])
def test_attempts_are_cut_until_they_fit(window):
    backend = Attempts([words("x" * 4000), words("y" * 500), words("")], window=window)
    assert assemble(run(backend)).content == "final"
    assert len(backend.seen[-1].messages[-1].content) + 5 <= window


def test_where_no_attempt_fits_the_first_one_is_the_answer():
    for text in ("x" * 400, ""):
        backend = Attempts([words(text), words("y"), words("")], window=100)
        assert assemble(run(backend)).content == text
        assert len(backend.seen) == 1


def test_a_message_is_not_continued_by_several():
    messages = (*ASK.messages, Message("assistant", "It is"))
    with pytest.raises(ApiError) as caught:
        run(Attempts([]), replace(ASK, messages=messages, partial=True))
    assert caught.value.param == "messages[1].partial"


def test_leaving_closes_the_attempts():
    backend = Attempts([words("a"), words("b"), words("c")])

    async def leave():
        events = (await HeavyBackend(backend).prepare(ASK)).events()
        await anext(events)
        await events.aclose()

    asyncio.run(leave())
    assert backend.closed == 1


def test_an_engine_with_random_weights_goes_all_the_way(engine, tokenizer):
    with EngineThread(engine) as source:
        backend = LocalBackend(source, tokenizer, "nano")
        events = run(backend, replace(ASK, sampling=Sampling(temperature=1, max_tokens=20)))
    assert assemble(events).content
    assert events[-1].completion_tokens == 80
