"""However an endpoint cuts its calls and its bytes, they come out the same."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from openk2.agent.model import ModelError, ModelRequest
from openk2.agent.models.wire.chat_stream import ChatDecoder
from openk2.agent.models.wire.messages_stream import MessagesDecoder
from openk2.types import (
    Event,
    Finish,
    Message,
    TextDelta,
    ToolCallArguments,
    ToolCallStart,
    Usage,
)

HI = ModelRequest((Message("user", "hi"),))
WORD = st.text('abc_-é}{"', min_size=1, max_size=6)
ARGUMENTS = st.dictionaries(WORD, WORD | st.integers() | st.none(), max_size=3)
CALLS = st.lists(st.tuples(WORD, ARGUMENTS), min_size=1, max_size=4)
STYLES = st.fixed_dictionaries(
    {
        "index": st.sampled_from(("own", "none", "zero")),
        "id": st.sampled_from(("own", "none")),
        "repeat": st.sampled_from(("nothing", "name", "both")),
        "as": st.sampled_from(("pieces", "whole", "object")),
        "early": st.booleans(),
    }
)


def deltas(calls: list[tuple[str, dict[str, Any]]], style: dict[str, Any]) -> Iterator[Any]:
    """Write calls as an endpoint of this style does."""
    for number, (name, arguments) in enumerate(calls):
        text = json.dumps(arguments, ensure_ascii=False)
        pieces: list[Any] = [text[i : i + 3] for i in range(0, len(text), 3)]
        if style["as"] != "pieces":
            pieces = [arguments if style["as"] == "object" else text]
        if style["early"]:
            pieces.insert(0, "")
        for position, piece in enumerate(pieces):
            first = position == 0
            delta: dict[str, Any] = {"function": {"arguments": piece}}
            if style["index"] != "none":
                delta["index"] = number if style["index"] == "own" else 0
            if style["id"] == "own" and (first or style["repeat"] == "both"):
                delta["id"] = f"id{number}"
            if first or style["repeat"] != "nothing":
                delta["function"]["name"] = name
            yield delta


def fold(decoder: Any, pieces: list[bytes]) -> tuple[list[tuple[str, str, str]], list[Event]]:
    events = [event for piece in pieces for event in decoder.feed(piece)]
    events += decoder.close()
    calls: dict[int, list[str]] = {}
    for event in events:
        if isinstance(event, ToolCallStart):
            assert event.index == len(calls), "calls begin in order, once"
            calls[event.index] = [event.id, event.name, ""]
        if isinstance(event, ToolCallArguments):
            calls[event.index][2] += event.text
    assert isinstance(events[-2], Finish) and isinstance(events[-1], Usage)
    return [(call[0], call[1], call[2]) for call in calls.values()], events


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(CALLS, STYLES, st.lists(st.integers(0, 10**6), max_size=20))
def test_calls_are_found_in_every_style(
    calls: list[tuple[str, dict[str, Any]]], style: dict[str, Any], places: list[int]
):
    chunks = [{"choices": [{"delta": {"tool_calls": [d]}}]} for d in deltas(calls, style)]
    chunks.append({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]})
    data = b"".join(b"data: %s\n\n" % json.dumps(chunk).encode() for chunk in chunks)
    found, events = fold(ChatDecoder(HI, "it"), cut(data, places))
    assert [(name, json.loads(arguments)) for _, name, arguments in found] == calls
    ids = [identity for identity, _, _ in found]
    assert len(set(ids)) == len(ids)
    if style["id"] == "own":
        assert ids == [f"id{number}" for number in range(len(calls))]
    else:
        assert ids == [f"functions.{name}:{i}" for i, (name, _) in enumerate(calls)]
    assert events[-2] == Finish("tool_calls")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ("choices", "delta", "message", "content", "tool_calls", "function", "name", "index",
             "arguments", "id", "usage", "error", "finish_reason", "reasoning_content", "type",
             "content_block", "text", "thinking", "signature", "partial_json", "stop_reason",
             "prompt_tokens", "prompt_tokens_details", "code")
        ),
        inner, max_size=4,
    ),
    max_leaves=20,
)  # fmt: skip
KINDS = st.sampled_from(
    ("message_start", "content_block_start", "content_block_delta", "content_block_stop",
     "message_delta", "message_stop", "error", "ping")
)  # fmt: skip


@given(st.lists(JSON | st.dictionaries(st.just("choices"), st.lists(JSON, max_size=3)), max_size=4))
def test_any_json_is_an_answer_or_a_fault(values: list[Any]):
    data = b"".join(b"data: %s\n\n" % json.dumps(value).encode() for value in values)
    for end in (b"", b"data: [DONE]\n\n"):
        try:
            fold(ChatDecoder(HI, "it"), [data + end])
        except ModelError as error:
            assert str(error)


@given(st.lists(st.tuples(KINDS, JSON, JSON), max_size=5))
def test_any_events_are_an_answer_or_a_fault(events: list[tuple[str, Any, Any]]):
    bodies = [
        {"type": kind, "index": 0, "delta": one, "content_block": other, "message": other,
         "error": one, "usage": other}
        for kind, one, other in events
    ]  # fmt: skip
    data = b"".join(b"data: %s\n\n" % json.dumps(body).encode() for body in bodies)
    try:
        fold(MessagesDecoder(HI, "it"), [data])
    except ModelError as error:
        assert str(error)


@given(st.binary(max_size=60))
def test_any_bytes_are_an_answer_or_a_fault(data: bytes):
    for decoder in (ChatDecoder(HI, "it"), MessagesDecoder(HI, "it")):
        try:
            fold(decoder, [data, b"\n\ndata: ", data])
        except ModelError as error:
            assert str(error)


@given(st.text(max_size=40), st.integers(1, 9), st.lists(st.integers(0, 10**6), max_size=9))
def test_text_comes_out_as_it_went_in(text: str, size: int, places: list[int]):
    chunks = [
        {"choices": [{"delta": {"content": text[i : i + size]}}]} for i in range(0, len(text), size)
    ]
    data = b"".join(b"data: %s\n\n" % json.dumps(chunk).encode() for chunk in chunks)
    _, events = fold(ChatDecoder(HI, "it"), cut(data + b"data: [DONE]", places))
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == text
