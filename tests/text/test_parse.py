from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import openk2
from openk2.text.parse import StreamParser, assemble
from openk2.text.template import call_id, next_call_index, render, render_training
from openk2.text.tokenizer import Tokenizer
from openk2.types import (
    Finish,
    FinishReason,
    Message,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolCallArguments,
    ToolCallStart,
)

TOKENIZER = Tokenizer.load(Path(openk2.__file__).parent / "assets" / "nano")
SECTION, SECTION_END = "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"
CALL, ARGUMENTS, CALL_END = (
    "<|tool_call_begin|>",
    "<|tool_call_argument_begin|>",
    "<|tool_call_end|>",
)


def ids_of(*parts):
    """Encode parts; a part that is the name of a special token becomes that token."""
    ids = []
    for part in parts:
        special = TOKENIZER.specials.get(part) if isinstance(part, str) else None
        if special is not None:
            ids.append(special)
        else:
            raw = part if isinstance(part, bytes) else part.encode()
            ids += TOKENIZER.encode_bytes(raw)
    return ids


def parse(*parts, reason: FinishReason = "stop", **options):
    parser = StreamParser(TOKENIZER, **options)
    return parser.feed(ids_of(*parts)) + parser.finish(reason)


def merged(events):
    """Join adjacent deltas of one kind."""
    out = []
    for event in events:
        if out and isinstance(event, TextDelta | ReasoningDelta) and type(out[-1]) is type(event):
            out[-1] = type(event)(out[-1].text + event.text)
        elif (
            out
            and isinstance(event, ToolCallArguments)
            and isinstance(out[-1], ToolCallArguments)
            and out[-1].index == event.index
        ):
            out[-1] = ToolCallArguments(event.index, out[-1].text + event.text)
        else:
            out.append(event)
    return out


def test_text():
    assert parse("Hello") == [TextDelta("Hello"), Finish("stop")]


def test_reasoning_then_text():
    assert parse("<think>", "hm", "</think>", "Yes", "<|im_end|>") == [
        ReasoningDelta("hm"),
        TextDelta("Yes"),
        Finish("stop"),
    ]


def test_a_missing_think_token_is_tolerated_when_thinking():
    events = [ReasoningDelta("hm"), TextDelta("Yes"), Finish("stop")]
    assert parse("hm", "</think>", "Yes", thinking=True) == events
    assert parse("<think>", "hm", "</think>", "Yes", thinking=True) == events


def test_a_tool_section_ends_reasoning():
    assert parse("<think>", "hm", SECTION, CALL, "functions.f:0", ARGUMENTS, "{}", CALL_END) == [
        ReasoningDelta("hm"),
        ToolCallStart(0, "functions.f:0", "f"),
        ToolCallArguments(0, "{}"),
        Finish("tool_calls"),
    ]


def test_parallel_calls_and_text_around_them():
    first = (CALL, "functions.get_weather:3", ARGUMENTS, '{"city":"罗马"}', CALL_END)
    second = (CALL, "functions.clock:4", ARGUMENTS, "{}", CALL_END)
    events = parse("Look: ", SECTION, *first, *second, SECTION_END, "done", first_call_index=3)
    assert events == [
        TextDelta("Look: "),
        ToolCallStart(0, "functions.get_weather:3", "get_weather"),
        ToolCallArguments(0, '{"city":"罗马"}'),
        ToolCallStart(1, "functions.clock:4", "clock"),
        ToolCallArguments(1, "{}"),
        TextDelta("done"),
        Finish("tool_calls"),
    ]


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("functions.get-weather:0", "get-weather"),
        ("functions.a.b:0", "a.b"),
        ("functions.ns:tool:12", "ns:tool"),
        ("functions.get_weather", "get_weather"),
        ("functions.get_weather:", "get_weather"),
        ("get_weather:0", "get_weather"),
        (" get_weather\n", "get_weather"),
        ("ns:tool", "ns:tool"),
        ("functions.天气:7", "天气"),
    ],
)
def test_odd_headers_still_name_a_call(header, name):
    start, *_ = parse(SECTION, CALL, header, ARGUMENTS, "{}", CALL_END, first_call_index=5)
    assert start == ToolCallStart(0, call_id(name, 5), name)


@pytest.mark.parametrize("header", ["", " ", "functions.", "functions.:3", ":"])
def test_a_call_that_names_no_tool_is_dropped(header):
    nameless = (CALL, header, ARGUMENTS, '{"a": 1}', CALL_END)
    assert parse(SECTION, *nameless, SECTION_END) == [Finish("stop")]
    named = (CALL, "functions.f:0", ARGUMENTS, "{}", CALL_END)
    assert parse(SECTION, *nameless, *named) == [
        ToolCallStart(0, "functions.f:0", "f"),
        ToolCallArguments(0, "{}"),
        Finish("tool_calls"),
    ]


def test_white_space_after_calls_is_no_content():
    call = (SECTION, CALL, "functions.f:0", ARGUMENTS, "{}", CALL_END, SECTION_END)
    events = [ToolCallStart(0, "functions.f:0", "f"), ToolCallArguments(0, "{}")]
    assert parse(*call, "\n", " ") == [*events, Finish("tool_calls")]
    assert parse(*call, "\n ", "done \n") == [*events, TextDelta("done \n"), Finish("tool_calls")]


@pytest.mark.parametrize(("max_calls", "names"), [(0, []), (1, ["f"]), (2, ["f", "g"])])
def test_calls_beyond_the_limit_are_dropped(max_calls, names):
    calls = [(CALL, f"functions.{name}:0", ARGUMENTS, "{}", CALL_END) for name in "fgh"]
    parser = StreamParser(TOKENIZER, max_calls=max_calls)
    events = parser.feed(ids_of("a", SECTION, *calls[0], *calls[1], *calls[2], SECTION_END, "b"))
    told = assemble(events)
    assert [call.name for call in told.tool_calls] == names
    assert [call.arguments for call in told.tool_calls] == ["{}"] * max_calls
    assert told.content == "ab"
    assert parser.calls_complete == (max_calls > 0)


def test_calls_are_complete_when_the_last_one_is_written():
    parser = StreamParser(TOKENIZER, max_calls=1)
    complete = []
    for part in (SECTION, CALL, "functions.f:0", ARGUMENTS, "{}", CALL_END):
        parser.feed(ids_of(part))
        complete.append(parser.calls_complete)
    assert complete == [False] * 5 + [True]


def test_ids_are_unique_even_if_the_model_repeats_an_index():
    one = (CALL, "functions.f:0", ARGUMENTS, "{}", CALL_END)
    starts = [e for e in parse(SECTION, *one, *one) if isinstance(e, ToolCallStart)]
    assert [start.id for start in starts] == ["functions.f:0", "functions.f:1"]


def test_a_call_cut_off_by_length_gives_what_came():
    assert parse(SECTION, CALL, "functions.f:0", ARGUMENTS, '{"a', reason="length") == [
        ToolCallStart(0, "functions.f:0", "f"),
        ToolCallArguments(0, '{"a'),
        Finish("length"),
    ]
    # Half a header names no tool.
    assert parse(SECTION, CALL, "functions.f", reason="length") == [Finish("length")]
    assert parse(SECTION, CALL, "functions.f:0", reason="cancelled") == [Finish("cancelled")]


def test_a_call_without_arguments_is_a_call():
    start = ToolCallStart(0, "functions.f:0", "f")
    assert parse(SECTION, CALL, "functions.f:0", CALL_END) == [start, Finish("tool_calls")]
    assert parse(SECTION, CALL, "functions.f:0", SECTION_END) == [start, Finish("tool_calls")]
    assert parse(SECTION, CALL, "functions.f:0") == [start, Finish("tool_calls")]


def test_missing_end_and_section_tokens_are_tolerated():
    events = parse(CALL, "functions.f:0", ARGUMENTS, "1", CALL, "functions.g:1", ARGUMENTS, "2")
    assert events == [
        ToolCallStart(0, "functions.f:0", "f"),
        ToolCallArguments(0, "1"),
        ToolCallStart(1, "functions.g:1", "g"),
        ToolCallArguments(1, "2"),
        Finish("tool_calls"),
    ]


def test_an_empty_section_is_not_a_tool_call():
    assert parse("a", SECTION, " ", SECTION_END, "b") == [
        TextDelta("a"),
        TextDelta("b"),
        Finish("stop"),
    ]


def test_a_character_split_over_tokens_waits_until_it_is_whole():
    parser = StreamParser(TOKENIZER)
    tokens = [TOKENIZER.encode_bytes(bytes((byte,)))[0] for byte in "😀é".encode()]
    seen = [parser.feed([token]) for token in tokens]
    assert seen == [[], [], [], [TextDelta("😀")], [], [TextDelta("é")]]


def test_an_unfinished_character_is_replaced_only_at_the_end():
    parser = StreamParser(TOKENIZER)
    assert parser.feed(ids_of("a", "😀".encode()[:3])) == [TextDelta("a")]
    assert parser.finish("length") == [TextDelta("\ufffd"), Finish("length")]


TOKENS = st.lists(
    st.integers(0, TOKENIZER.vocab_size - 1)
    | st.sampled_from(
        ids_of(SECTION, SECTION_END, CALL, ARGUMENTS, CALL_END, "<think>", "</think>")
    )
    | st.sampled_from(ids_of("functions.f:0", "😀".encode()[:2], "中", b"\xff")),
    max_size=40,
)


@given(TOKENS, st.lists(st.integers(1, 5)), st.booleans(), st.sampled_from(["stop", "length"]))
@settings(deadline=None)
def test_any_chunking_gives_the_same_events(tokens, sizes, thinking, reason):
    whole = StreamParser(TOKENIZER, thinking=thinking)
    expected = merged(whole.feed(tokens) + whole.finish(reason))
    parser, events, start = StreamParser(TOKENIZER, thinking=thinking), [], 0
    for size in [*sizes, len(tokens)]:
        events += parser.feed(tokens[start : start + size])
        start += size
    assert merged(events + parser.finish(reason)) == expected


@given(TOKENS)
@settings(deadline=None)
def test_any_tokens_give_well_formed_events(tokens):
    parser = StreamParser(TOKENIZER)
    events = [event for token in tokens for event in parser.feed([token])] + parser.finish("stop")
    starts = [event for event in events if isinstance(event, ToolCallStart)]
    assert [start.index for start in starts] == list(range(len(starts)))
    assert len({start.id for start in starts}) == len(starts)
    started = -1
    for event in events[:-1]:
        started = event.index if isinstance(event, ToolCallStart) else started
        assert not isinstance(event, ToolCallArguments) or (event.index == started and event.text)
        assert not isinstance(event, Finish)
    assert events[-1] == Finish("tool_calls" if starts else "stop")


NAMES = st.from_regex(r"[A-Za-z_][\w.:-]{0,12}", fullmatch=True, alphabet=st.characters())
MESSAGES = st.builds(
    Message,
    st.just("assistant"),
    st.text(max_size=20),
    st.text(max_size=20),
    st.lists(st.builds(ToolCall, st.just(""), NAMES, st.text(max_size=20)), max_size=3).map(tuple),
)
PAST = Message("assistant", tool_calls=(ToolCall("x", "f", "{}"), ToolCall("y", "g", "{}")))


@given(MESSAGES, st.booleans(), st.booleans())
@settings(deadline=None)
def test_rendering_a_turn_and_parsing_it_gives_it_back(message, thinking, past):
    history = [Message("user", "hi"), *([PAST] if past else [])]
    first = next_call_index(history)
    ids, _ = render_training([*history, message], [], TOKENIZER, thinking=thinking)
    prompt = render(history, [], TOKENIZER, thinking=thinking)
    parser = StreamParser(TOKENIZER, first_call_index=first, thinking=thinking)
    events = parser.feed(ids[len(prompt) :]) + parser.finish("stop")
    calls = tuple(
        ToolCall(call_id(call.name, first + index), call.name, call.arguments)
        for index, call in enumerate(message.tool_calls)
    )
    reasoning = message.reasoning if thinking else ""
    assert assemble(events) == Message("assistant", message.content, reasoning, calls)
    assert events[-1] == Finish("tool_calls" if calls else "stop")


def test_a_parser_says_where_the_next_word_belongs():
    parser = StreamParser(TOKENIZER)
    seen = []
    for part in (
        "<think>",
        "hm",
        "</think>",
        "Hi",
        SECTION,
        CALL,
        "functions.f:0",
        ARGUMENTS,
        "{}",
    ):
        parser.feed(ids_of(part))
        seen.append("r" if parser.reasoning else "s" if parser.speaking else "-")
    assert "".join(seen) == "rrss-----"
