"""Requests to events, by a scripted model and by an engine with random weights."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.engine.request import QueueFullError
from openk2.engine.thread import EngineThread
from openk2.server.errors import ApiError
from openk2.server.local.backend import LocalBackend
from openk2.server.local.prompt import ContextOverflowError, Prompt, check_fits
from openk2.server.request import ChatRequest, Thinking
from openk2.types import (
    Finish,
    Logprobs,
    Message,
    PromptRead,
    ReasoningDelta,
    Sampling,
    TextDelta,
    ToolCall,
    ToolCallArguments,
    ToolCallStart,
    ToolSpec,
    Usage,
)

HI = ChatRequest((Message("user", "hi"),), Sampling())
SEARCH = ToolSpec("search")
CALL = (
    '<|tool_call_begin|>functions.search:0<|tool_call_argument_begin|>{"q": "END"}<|tool_call_end|>'
)
CALLS = f"<|tool_calls_section_begin|>{CALL}<|tool_calls_section_end|>"


async def collect(backend, request):
    generation = await backend.prepare(request)
    return [item async for item in generation.events()]


def run(source, tokenizer, request=HI, **settings):
    """Return the events of all choices, each choice's by itself."""
    backend = LocalBackend(source, tokenizer, "nano", **settings)
    choices = [[] for _ in range(request.n)]
    for choice, event in asyncio.run(collect(backend, request)):
        choices[choice].append(event)
    return choices


def answer(source, tokenizer, request=HI, **settings):
    (events,) = run(source, tokenizer, request, **settings)
    return events


def sampled(**sampling):
    return replace(HI, sampling=Sampling(**sampling))


def text_of(events) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def test_an_answer_begins_with_the_prompt_and_ends_in_finish_and_usage(tokenizer, script):
    model = script("Hello, 世界 🙂!")
    events = answer(model, tokenizer)
    prompt = len(model.prompts[0])
    assert events[0] == PromptRead(prompt)
    assert text_of(events) == "Hello, 世界 🙂!"
    assert events[-2:] == [Finish("stop"), Usage(prompt, len(model.ids))]
    assert model.closed == 1


def test_a_limit_ends_as_length(tokenizer, script):
    model = script("one two three four")
    events = answer(model, tokenizer, sampled(max_tokens=2))
    assert events[-2:] == [Finish("length"), Usage(len(model.prompts[0]), 2)]


def test_an_answer_of_no_tokens_only_reads_the_prompt(tokenizer, script):
    model = script("one two")
    prompt = answer(model, tokenizer, sampled(max_tokens=0))
    read = len(model.prompts[0])
    assert prompt == [PromptRead(read), Finish("length"), Usage(read, 0)]
    assert model.closed == 1


# Stop strings -----------------------------------------------------------------------------------


@given(
    text=st.text(alphabet="abE世 ", max_size=20),
    stops=st.lists(st.text(alphabet="abE世 ", min_size=1, max_size=4), max_size=3),
)
def test_a_stop_string_is_found_across_token_borders(text, stops, tokenizer, script):
    model = script(text)
    events = answer(model, tokenizer, sampled(stop=tuple(stops)))
    ends = [text.find(stop) + len(stop) for stop in stops if stop in text]
    cut = min(ends, default=len(text))
    longest = max((len(s) for s in stops if text[:cut].endswith(s)), default=0) if ends else 0
    assert text_of(events) == text[: cut - longest]
    assert events[-2] == Finish("stop", text[cut - longest : cut] if ends else None)
    assert model.closed == 1


def test_a_stop_string_ends_the_request_before_its_tokens_do(tokenizer, script):
    model = script("a b c END d e f g h")
    events = answer(model, tokenizer, sampled(stop=("END",)))
    assert text_of(events) == "a b c "
    assert events[-2] == Finish("stop", "END")
    usage = events[-1]
    assert isinstance(usage, Usage) and usage.completion_tokens < len(model.ids) - 4


def test_stop_strings_do_not_look_into_tool_calls(tokenizer, script):
    request = replace(sampled(stop=("END",)), tools=(SEARCH,))
    events = answer(script(f"look E{CALLS}"), tokenizer, request)
    assert text_of(events) == "look E"
    arguments = "".join(event.text for event in events if isinstance(event, ToolCallArguments))
    assert arguments == '{"q": "END"}'
    assert events[-2] == Finish("tool_calls")
    # What was held back as a possible match comes out before the call, not after it.
    assert isinstance(events[events.index(TextDelta("E")) + 1], ToolCallStart)


# Tool calls -------------------------------------------------------------------------------------


def test_tool_calls_are_numbered_over_the_conversation(tokenizer, script):
    history = (
        Message("user", "find it"),
        Message("assistant", tool_calls=(ToolCall("x", "search", "{}"),)),
        Message("tool", "nothing", tool_call_id="x"),
    )
    events = answer(script(CALLS), tokenizer, replace(HI, messages=history, tools=(SEARCH,)))
    assert ToolCallStart(0, "functions.search:1", "search") in events


@pytest.mark.parametrize(
    ("settings", "calls"),
    [
        ({}, 0),
        ({"tools": (SEARCH,)}, 2),
        ({"tools": (SEARCH,), "parallel_tool_calls": False}, 1),
        ({"tools": (SEARCH,), "tool_choice": "none"}, 0),
    ],
)
def test_an_answer_has_as_many_calls_as_it_may(tokenizer, script, settings, calls):
    section = CALLS.replace(CALL, CALL + CALL)
    events = answer(script(section), tokenizer, replace(HI, **settings))
    assert len([event for event in events if isinstance(event, ToolCallStart)]) == calls
    assert events[-2] == Finish("tool_calls" if calls else "stop")


def test_a_model_without_tools_is_kept_from_calling_any(tokenizer, script):
    model = script("ok")
    answer(model, tokenizer, sampled(logit_bias=((5, 1.0),)))
    answer(model, tokenizer, replace(sampled(logit_bias=((5, 1.0),)), tools=(SEARCH,)))
    names = ("<|tool_calls_section_begin|>", "<|tool_call_begin|>")
    never = {tokenizer.specials[name]: -100.0 for name in names}
    assert [dict(sampling.logit_bias) for sampling in model.samplings] == [
        {5: 1.0} | never,
        {5: 1.0},
    ]


@pytest.mark.parametrize(("thinking", "temperature"), [(False, 0.6), (True, 1.0)])
def test_a_temperature_that_is_left_to_the_model_is_the_one_kimi_recommends(
    tokenizer, script, thinking, temperature
):
    model = script("ok")
    for request in (HI, replace(HI, default_temperature=True)):
        answer(model, tokenizer, request, thinking=thinking)
    assert [sampling.temperature for sampling in model.samplings] == [
        HI.sampling.temperature,
        temperature,
    ]


# Several answers --------------------------------------------------------------------------------


def test_choices_come_together_each_with_its_own_seed(tokenizer, random_engine):
    with EngineThread(random_engine) as source:
        request = replace(sampled(temperature=1, max_tokens=12, seed=7), n=3)
        choices = run(source, tokenizer, request)
        again = run(source, tokenizer, request)
        (alone,) = run(source, tokenizer, replace(request, n=1))
    texts = [text_of(events) for events in choices]
    assert len(set(texts)) == 3
    assert texts == [text_of(events) for events in again]
    assert text_of(alone) == texts[0]
    for events in choices:
        assert isinstance(events[0], PromptRead)
        assert [type(event) for event in events[-2:]] == [Finish, Usage]
        assert events[-1].completion_tokens == 12


@pytest.fixture(scope="module")
def random_engine(engine):
    return engine


@pytest.mark.parametrize("n", [1, 3])
def test_leaving_early_closes_every_request(tokenizer, script, n):
    model = script("one two three")

    async def leave():
        generation = await LocalBackend(model, tokenizer, "nano").prepare(replace(HI, n=n))
        events = generation.events()
        await anext(events)
        assert model.closed == 0
        await events.aclose()

    asyncio.run(leave())
    assert model.closed == n


def test_a_choice_that_is_refused_ends_the_others(tokenizer, script):
    model = script("one two three")
    accept = model.generate

    def refuse_the_third(prompt_ids, sampling, mask=None):
        if len(model.prompts) == 2:
            raise QueueFullError(2)
        return accept(prompt_ids, sampling, mask)

    model.generate = refuse_the_third
    with pytest.raises(QueueFullError):
        run(model, tokenizer, replace(HI, n=3))
    assert model.closed == 2


# Log-probabilities ------------------------------------------------------------------------------


def with_logprobs(text, tokenizer, script, **settings):
    request = replace(HI, sampling=Sampling(logprobs=True, **settings), tools=(SEARCH,))
    return answer(script(text), tokenizer, request)


def logprob_bytes(events) -> bytes:
    return b"".join(
        t.token for event in events if isinstance(event, Logprobs) for t in event.tokens
    )


@given(
    text=st.text(alphabet="abE世🙂 é", max_size=20),
    stops=st.lists(st.text(alphabet="abE世🙂 ", min_size=1, max_size=4), max_size=2),
)
def test_log_probabilities_come_with_the_text_of_their_tokens(text, stops, tokenizer, script):
    events = with_logprobs(text, tokenizer, script, stop=tuple(stops))
    shown, reported = "", b""
    for event in events:
        if isinstance(event, Logprobs):
            assert event.tokens
            reported += b"".join(token.token for token in event.tokens)
        elif isinstance(event, TextDelta):
            shown += event.text
            assert reported.startswith(shown.encode())
    # A token that a stop string cuts in two is there as a whole.
    assert reported.startswith(shown.encode())
    assert stops or reported == shown.encode()


def test_only_the_visible_text_has_log_probabilities(tokenizer, script):
    events = with_logprobs(f"<think>hm</think>So: 好{CALLS}", tokenizer, script)
    assert logprob_bytes(events) == "So: 好".encode()
    assert not logprob_bytes(answer(script("yes"), tokenizer))


def test_the_most_likely_tokens_come_with_each(tokenizer, random_engine):
    with EngineThread(random_engine) as source:
        request = sampled(logprobs=True, top_logprobs=3, temperature=0, max_tokens=5)
        events = answer(source, tokenizer, request)
    tokens = [token for event in events if isinstance(event, Logprobs) for token in event.tokens]
    assert len(tokens) == 5
    for token in tokens:
        assert len(token.top) == 3
        assert token.top[0] == (token.token, pytest.approx(token.logprob))
        assert token.top[0][1] >= token.top[1][1] >= token.top[2][1]


# Partial answers and thinking -------------------------------------------------------------------


def shown_prompt(model, tokenizer) -> str:
    return tokenizer.decode(model.prompts[-1]).partition("<|im_assistant|>")[2]


@pytest.mark.parametrize("text", ["Once upon", "ends in space ", "tab\t\n ", ""])
def test_a_partial_message_is_left_open(tokenizer, script, text):
    model = script(" a time")
    messages = (*HI.messages, Message("assistant", text))
    events = answer(model, tokenizer, replace(HI, messages=messages, partial=True))
    assert text_of(events) == " a time"
    assert shown_prompt(model, tokenizer) == f"assistant<|im_middle|>{text}"


def test_the_name_of_a_partial_message_is_its_role(tokenizer, script):
    model = script(" a time")
    messages = (*HI.messages, Message("assistant", "Elementary,", name="Holmes"))
    answer(model, tokenizer, replace(HI, messages=messages, partial=True))
    assert shown_prompt(model, tokenizer) == "Holmes<|im_middle|>Elementary,"


@pytest.mark.parametrize(
    ("begun", "enabled", "prompt", "in_thought"),
    [
        (None, None, "", False),
        (None, True, "<think>", True),
        (None, False, "<think></think>", False),
        (Message("assistant", "So"), None, "<think></think>So", False),
        (Message("assistant", "So"), True, "<think></think>So", False),
        (Message("assistant", "So", reasoning="hm"), None, "<think>hm</think>So", False),
        (Message("assistant", reasoning="hm"), False, "<think>hm", True),
        (Message("assistant", ""), None, "", False),
        (Message("assistant", ""), False, "<think></think>", False),
    ],
)
def test_a_thinking_model_begins_as_asked(tokenizer, script, begun, enabled, prompt, in_thought):
    model = script("one")
    messages = HI.messages if begun is None else (*HI.messages, begun)
    request = replace(
        HI, messages=messages, partial=begun is not None, thinking=Thinking(enabled=enabled)
    )
    events = answer(model, tokenizer, request, thinking=True)
    assert shown_prompt(model, tokenizer) == f"assistant<|im_middle|>{prompt}"
    said = ReasoningDelta if in_thought else TextDelta
    assert any(isinstance(event, said) for event in events)
    assert not any(
        isinstance(event, TextDelta if in_thought else ReasoningDelta) for event in events
    )


@pytest.mark.parametrize("enabled", [None, True, False])
def test_a_model_without_thinking_is_never_asked_to(tokenizer, script, enabled):
    model = script("one")
    answer(model, tokenizer, replace(HI, thinking=Thinking(enabled=enabled, budget=3)))
    assert shown_prompt(model, tokenizer) == "assistant<|im_middle|>"


def test_thinking_is_counted_by_itself(tokenizer, script):
    thought = tokenizer.encode("let me see")
    events = answer(script("<think>let me see</think>Yes."), tokenizer)
    assert events[-1].reasoning_tokens == len(thought) + 2


# Refusals ---------------------------------------------------------------------------------------


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


def test_an_unknown_model_is_refused_before_anything_is_read(tokenizer, script):
    backend = LocalBackend(script("ok"), tokenizer, "nano")
    for ask in (backend.prepare, backend.count_tokens):
        with pytest.raises(ApiError, match="'nano'") as caught:
            asyncio.run(ask(replace(HI, model="k9")))
        assert (caught.value.status, caught.value.param) == (404, "model")


def test_tokens_are_counted_as_they_are_read(tokenizer, script):
    model = script("ok")
    backend = LocalBackend(model, tokenizer, "nano")
    request = replace(HI, tools=(SEARCH,))
    count = asyncio.run(backend.count_tokens(request))
    asyncio.run(collect(backend, request))
    assert count == len(model.prompts[0])


@pytest.mark.parametrize("isolate", [False, True])
def test_sessions_share_the_cache_unless_they_are_kept_apart(tokenizer, script, isolate):
    model = script("ok")
    answer(model, tokenizer, sampled(cache_key="session"), isolate=isolate)
    assert model.samplings[0].cache_key == ("session" if isolate else None)
