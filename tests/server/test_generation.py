from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.server.generation import (
    ContextOverflowError,
    Prompt,
    check_fits,
    generate,
    read_prompt,
)
from openk2.types import (
    Finish,
    Message,
    Sampling,
    TextDelta,
    ToolCall,
    ToolCallArguments,
    ToolCallStart,
    Usage,
)

DEFAULT = Sampling()
PROMPT = Prompt((1, 2, 3), first_call_index=0)
CALL = (
    '<|tool_call_begin|>functions.search:0<|tool_call_argument_begin|>{"q": "END"}<|tool_call_end|>'
)


def run(script, tokenizer, sampling=DEFAULT, prompt=PROMPT):
    async def collect():
        return [event async for event in generate(script, tokenizer, prompt, sampling)]

    return asyncio.run(collect())


def text_of(events) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def test_a_generation_ends_in_finish_and_usage(tokenizer, script):
    model = script("Hello, 世界 🙂!")
    events = run(model, tokenizer)
    assert text_of(events) == "Hello, 世界 🙂!"
    assert events[-2:] == [Finish("stop"), Usage(3, len(model.ids))]
    assert model.closed == 1


def test_a_limit_ends_as_length(tokenizer, script):
    events = run(script("one two three four"), tokenizer, Sampling(max_tokens=2))
    assert events[-2:] == [Finish("length"), Usage(3, 2)]


@given(
    text=st.text(alphabet="abE世 ", max_size=20),
    stops=st.lists(st.text(alphabet="abE世 ", min_size=1, max_size=4), max_size=3),
)
def test_a_stop_string_is_found_across_token_borders(text, stops, tokenizer, script):
    model = script(text)
    events = run(model, tokenizer, Sampling(stop=tuple(stops)))
    ends = [text.find(stop) + len(stop) for stop in stops if stop in text]
    cut = min(ends, default=len(text))
    longest = max((len(s) for s in stops if text[:cut].endswith(s)), default=0) if ends else 0
    assert text_of(events) == text[: cut - longest]
    assert [type(event) for event in events[-2:]] == [Finish, Usage]
    assert model.closed == 1


def test_a_stop_string_ends_the_request_before_its_tokens_do(tokenizer, script):
    model = script("a b c END d e f g h")
    events = run(model, tokenizer, Sampling(stop=("END",)))
    assert text_of(events) == "a b c "
    assert events[-2] == Finish("stop")
    usage = events[-1]
    assert isinstance(usage, Usage) and usage.completion_tokens < len(model.ids) - 4


def test_stop_strings_do_not_look_into_tool_calls(tokenizer, script):
    answer = f"look E<|tool_calls_section_begin|>{CALL}<|tool_calls_section_end|>"
    events = run(script(answer), tokenizer, Sampling(stop=("END",)))
    assert text_of(events) == "look E"
    arguments = "".join(event.text for event in events if isinstance(event, ToolCallArguments))
    assert arguments == '{"q": "END"}'
    assert events[-2] == Finish("tool_calls")
    # What was held back as a possible match comes out before the call, not after it.
    assert isinstance(events[events.index(TextDelta("E")) + 1], ToolCallStart)


def test_tool_calls_are_numbered_over_the_conversation(tokenizer, script):
    history = [
        Message("user", "find it"),
        Message("assistant", tool_calls=(ToolCall("x", "search", "{}"),)),
        Message("tool", "nothing", tool_call_id="x"),
    ]
    prompt = read_prompt(history, (), tokenizer)
    answer = f"<|tool_calls_section_begin|>{CALL}<|tool_calls_section_end|>"
    events = run(script(answer), tokenizer, prompt=prompt)
    assert ToolCallStart(0, "functions.search:1", "search") in events


def test_leaving_early_closes_the_engine_request(tokenizer, script):
    model = script("one two three")

    async def leave():
        events = generate(model, tokenizer, PROMPT, Sampling())
        await anext(events)
        assert model.closed == 0
        await events.aclose()

    asyncio.run(leave())
    assert model.closed == 1


@pytest.mark.parametrize(
    ("length", "max_tokens", "fits"),
    [(9, None, True), (10, None, False), (6, 4, True), (6, 5, False), (12, 1, False)],
)
def test_prompt_and_answer_must_fit_the_window(length, max_tokens, fits):
    prompt = Prompt((0,) * length, 0)
    if fits:
        check_fits(prompt, Sampling(max_tokens=max_tokens), 10)
        return
    with pytest.raises(ContextOverflowError) as caught:
        check_fits(prompt, Sampling(max_tokens=max_tokens), 10)
    assert caught.value.prompt_too_long == (length >= 10)
    assert f"{length} for the messages" in str(caught.value)
