"""The written form of what crosses the journal: it comes back, and its fingerprint holds still."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.agent.canonical import (
    MAX_DEPTH,
    CodecError,
    canonical_json,
    digest,
    from_json,
    parse_json,
    to_json,
)
from openk2.agent.model import ModelRequest, Price, Reply
from openk2.agent.tool import Access, ToolResult
from openk2.types import Message, Sampling, ToolCall, ToolSpec, Usage

TEXT = st.text(st.characters(codec=None), max_size=20) | st.just("\ud800 lone")
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
OBJECT = st.dictionaries(TEXT, JSON, max_size=3)
CALL = st.builds(ToolCall, TEXT, TEXT, TEXT)
MESSAGE = st.builds(
    Message,
    st.sampled_from(("system", "user", "assistant", "tool")),
    TEXT,
    reasoning=TEXT,
    tool_calls=st.lists(CALL, max_size=3).map(tuple),
    tool_call_id=st.none() | TEXT | st.just("none"),
    name=st.none() | TEXT,
)
SPEC = st.builds(ToolSpec, TEXT, TEXT, OBJECT)
USAGE = st.builds(Usage, *[st.integers(0, 10**9)] * 4)
SAMPLING = st.builds(
    Sampling,
    temperature=st.floats(0, 2),
    seed=st.none() | st.integers(),
    max_tokens=st.none() | st.integers(1, 10**6),
    stop=st.lists(TEXT, max_size=2).map(tuple),
    logit_bias=st.lists(st.tuples(st.integers(), st.floats(-100, 100)), max_size=2).map(tuple),
    forced=st.lists(st.integers(), max_size=2).map(tuple),
)
RESULT = st.builds(
    ToolResult,
    TEXT,
    st.lists(TEXT.map(lambda text: Path("/run") / text.replace("\0", "")), max_size=2).map(tuple),
    st.booleans(),
    st.booleans(),
    OBJECT,
)
REQUEST = st.builds(
    ModelRequest,
    st.lists(MESSAGE, max_size=3).map(tuple),
    st.lists(SPEC, max_size=2).map(tuple),
    st.sampled_from(("auto", "none", "required")),
    st.none() | SAMPLING,
)
REPLY = st.builds(Reply, MESSAGE, st.sampled_from(("stop", "length", "tool_calls")), USAGE)
ANY = MESSAGE | SPEC | USAGE | SAMPLING | RESULT | REQUEST | REPLY | CALL


@given(ANY)
def test_what_is_written_is_read_back(value: Any) -> None:
    line = json.dumps(to_json(value))
    assert from_json(type(value), json.loads(line)) == value


@given(ANY)
def test_the_fingerprint_survives_a_way_through_a_file(value: Any) -> None:
    again = from_json(type(value), json.loads(canonical_json(value)))
    assert digest(again) == digest(value)


@given(OBJECT)
def test_the_order_of_keys_is_no_part_of_the_fingerprint(table: dict[str, Any]) -> None:
    turned = dict(reversed(table.items()))
    assert digest(ToolSpec("t", "", table)) == digest(ToolSpec("t", "", turned))


@given(MESSAGE, MESSAGE)
def test_two_messages_share_a_fingerprint_only_when_equal(one: Message, two: Message) -> None:
    assert (digest(one) == digest(two)) == (one == two)


def test_the_fingerprint_is_the_same_on_every_machine() -> None:
    request = ModelRequest((Message("user", "héllo"),), sampling=Sampling(temperature=0.0))
    assert canonical_json(request) == (
        b'{"messages":[{"content":"h\\u00e9llo","role":"user"}],"sampling":{"temperature":0.0}}'
    )
    assert digest(request) == "71da5658be5496e9d59122deef24f4aa83298d3946f058ce3b11858c8b80a44e"


def test_a_field_added_later_leaves_old_fingerprints_as_they_are() -> None:
    old = dataclasses.make_dataclass("Old", [("a", int)], frozen=True)
    new = dataclasses.make_dataclass(
        "New", [("a", int), ("b", tuple, dataclasses.field(default=()))], frozen=True
    )
    assert digest(old(1)) == digest(new(1)) != digest(new(1, (2,)))


def test_schemas_keep_the_order_of_their_properties() -> None:
    spec = ToolSpec("t", "", {"type": "object", "properties": {"zeta": {}, "alpha": {}}})
    assert list(to_json(spec)["parameters"]["properties"]) == ["zeta", "alpha"]


def test_other_values_of_the_agent_have_a_form_too() -> None:
    access = Access(command="ls", reads=(Path("/a"),), hosts=("*",))
    assert from_json(Access, to_json(access)) == access
    assert from_json(Price, to_json(Price(1, 2, 3))) == Price(1, 2, 3)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (b"x", r"value\.details\.mean is a bytes"),
        ([1, {"a": {2}}], r"value\.details\.mean\[1\]\.a is a set"),
        ({1: 2}, r"value\.details\.mean\.1 is a key"),
    ],
)
def test_what_json_cannot_say_is_named(value: Any, sentence: str) -> None:
    with pytest.raises(CodecError, match=sentence):
        canonical_json(ToolResult("", details={"mean": value}))


@pytest.mark.parametrize(
    ("kind", "value", "sentence"),
    [
        (Message, {"role": "robot"}, "Message.role is 'robot'"),
        (Message, {"content": "x"}, "Message lacks role"),
        (Message, {"role": "user", "text": "x"}, "Message.text is unknown"),
        (Message, {"role": "user", "content": 1}, "Message.content is 1, not a str"),
        (Message, {"role": "tool", "tool_call_id": 5}, "tool_call_id is 5, not a str"),
        (Usage, {"prompt_tokens": True, "completion_tokens": 1}, "prompt_tokens is True"),
        (Reply, {"message": [], "finish": "stop", "usage": {}}, "Reply.message is"),
        (Message, {"role": "user", "tool_calls": {}}, "tool_calls is {}, not a list"),
        (Message, {"role": "assistant", "tool_calls": [{"id": "a"}]}, r"tool_calls\[0\] lacks"),
        (Sampling, {"logit_bias": [[1]]}, r"logit_bias\[0\] has 1 items, not 2"),
        (ToolSpec, {"name": "a", "parameters": []}, "parameters is"),
        (Usage, [], "Usage is \\[\\], not an object"),
    ],
)
def test_what_is_not_the_form_is_named(kind: type[Any], value: Any, sentence: str) -> None:
    with pytest.raises(CodecError, match=sentence):
        from_json(kind, value)


def test_numbers_that_json_does_not_have_are_words():
    result = ToolResult("", details={"mean": float("nan"), "most": [float("inf")]})
    assert json.loads(canonical_json(result))["details"] == {"mean": "nan", "most": ["inf"]}
    again = from_json(Sampling, json.loads(canonical_json(Sampling(temperature=float("-inf")))))
    assert again.temperature == float("-inf")


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize("text", ["NaN", '{"a": -Infinity}', "", "{", "1 2", nested(MAX_DEPTH + 1)])
def test_what_a_stranger_wrote_is_json_or_refused(text: str):
    with pytest.raises(CodecError):
        parse_json(text)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 500, 900, 100_000])
def test_no_depth_breaks_python(depth: int):
    with pytest.raises(CodecError, match=r"nested more than 128 levels deep"):
        parse_json(nested(depth))


@given(JSON)
def test_json_that_a_stranger_wrote_comes_back(value: Any) -> None:
    assert parse_json(json.dumps(value)) == value
    assert parse_json(nested(MAX_DEPTH)) is not None
