from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.server.errors import ApiError
from openk2.server.openai import (
    ChunkEncoder,
    Head,
    decode_request,
    encode_error,
    encode_response,
)
from openk2.text.parse import StreamParser, assemble
from openk2.text.tokenizer import Tokenizer
from openk2.types import (
    Finish,
    Message,
    ReasoningDelta,
    Sampling,
    TextDelta,
    ToolCall,
    ToolCallArguments,
    ToolCallStart,
    ToolSpec,
    Usage,
)

HI = {"messages": [{"role": "user", "content": "hi"}]}
HEAD = Head(id="chatcmpl-1", created=7, model="nano")


def tool(name: str = "search", **function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **function}}


def after_hi(*messages: object) -> dict[str, Any]:
    return {"messages": [*HI["messages"], *messages]}


CALL = {"id": "call_1", "type": "function", "function": {"name": "search", "arguments": "{}"}}

BAD = [
    ([], None),
    ("hi", None),
    ({}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": "hi"}, "messages"),
    ({"messages": ["hi"]}, "messages[0]"),
    ({"messages": [{"content": "hi"}]}, "messages[0].role"),
    (after_hi({"role": "robot", "content": "x"}), "messages[1].role"),
    (after_hi({"role": "function", "name": "f", "content": "x"}), "messages[1].role"),
    (after_hi({"role": "user", "content": ""}), "messages[1].content"),
    (after_hi({"role": "user"}), "messages[1].content"),
    (after_hi({"role": "user", "content": 5}), "messages[1].content"),
    (after_hi({"role": "user", "content": ["text"]}), "messages[1].content"),
    (
        after_hi({"role": "user", "content": [{"type": "image_url", "text": "x"}]}),
        "messages[1].content",
    ),
    (after_hi({"role": "tool", "content": "x"}), "messages[1].tool_call_id"),
    (after_hi({"role": "tool", "content": "x", "tool_call_id": "a"}), "messages[1].tool_call_id"),
    (after_hi({"role": "user", "content": "x", "tool_calls": [CALL]}), "messages[1].tool_calls"),
    (
        after_hi({"role": "user", "content": "x", "reasoning_content": "y"}),
        "messages[1].reasoning_content",
    ),
    (after_hi({"role": "assistant", "tool_calls": [CALL]}), "messages[1].tool_calls"),
    (
        after_hi({"role": "assistant", "tool_calls": [{"id": "a"}]}),
        "messages[1].tool_calls[0].function",
    ),
    (after_hi({"role": "assistant", "content": "x", "partial": True}), "messages[1].partial"),
    (HI | {"temperature": 2.1}, "temperature"),
    (HI | {"temperature": -0.1}, "temperature"),
    (HI | {"temperature": "hot"}, "temperature"),
    (HI | {"temperature": float("nan")}, "temperature"),
    (HI | {"top_p": 0}, "top_p"),
    (HI | {"top_p": 1.5}, "top_p"),
    (HI | {"seed": 2**63}, "seed"),
    (HI | {"seed": 1.5}, "seed"),
    (HI | {"max_tokens": 0}, "max_tokens"),
    (HI | {"max_completion_tokens": "9"}, "max_completion_tokens"),
    (HI | {"stop": ["x"] * 6}, "stop"),
    (HI | {"stop": ["x", ""]}, "stop[1]"),
    (HI | {"stop": 5}, "stop"),
    (HI | {"stream": "yes"}, "stream"),
    (HI | {"stream_options": {"include_usage": "yes"}}, "stream_options.include_usage"),
    (HI | {"model": 5}, "model"),
    (HI | {"n": 2}, "n"),
    (HI | {"n": "1"}, "n"),
    (HI | {"tools": ["search"]}, "tools[0]"),
    (HI | {"tools": [{"type": "builtin_function", "function": {"name": "f"}}]}, "tools[0].type"),
    (HI | {"tools": [tool("no spaces")]}, "tools[0].function.name"),
    (HI | {"tools": [tool("a"), tool("b"), tool("a")]}, "tools[2].function.name"),
    (HI | {"tools": [tool(parameters={"type": "array"})]}, "tools[0].function.parameters"),
    (HI | {"tools": [tool(f"t{i}") for i in range(129)]}, "tools"),
    (HI | {"tools": [tool()], "tool_choice": "required"}, "tool_choice"),
    (HI | {"tools": [tool()], "tool_choice": tool()}, "tool_choice"),
    (HI | {"response_format": {"type": "json_object"}}, "response_format"),
    (HI | {"logprobs": True}, "logprobs"),
    (HI | {"logit_bias": {"5": 100}}, "logit_bias"),
    (HI | {"presence_penalty": 1}, "presence_penalty"),
    (HI | {"frequency_penalty": 0.5}, "frequency_penalty"),
    (HI | {"functions": [{"name": "f"}]}, "functions"),
]


@pytest.mark.parametrize(("body", "param"), BAD)
def test_a_bad_body_is_a_400_that_names_the_field(body, param):
    with pytest.raises(ApiError) as caught:
        decode_request(body)
    error = encode_error(caught.value)["error"]
    assert (caught.value.status, error["param"]) == (400, param)
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith(param or "The request body")


def test_string_tools_are_told_what_a_tool_looks_like():
    with pytest.raises(ApiError, match=r'"function": \{"name": "search".*not "search"\.'):
        decode_request(HI | {"tools": ["search"]})


def test_the_least_body_gets_the_defaults():
    request = decode_request(HI)
    assert request.messages == (Message("user", "hi"),)
    assert request.sampling == Sampling()
    assert (request.model, request.tools) == (None, ())
    assert not request.stream and not request.include_usage


def test_values_that_mean_off_are_accepted():
    off = {
        "n": 1,
        "tool_choice": None,
        "response_format": {"type": "text"},
        "logprobs": False,
        "logit_bias": {},
        "presence_penalty": 0,
        "frequency_penalty": 0.0,
        "temperature": None,
        "stop": None,
        "tools": None,
        "stream_options": None,
    }
    assert decode_request(HI | off) == decode_request(HI)


def test_unknown_fields_are_ignored_at_every_depth():
    strange = {"enable_test_time_scaling": True, "user": "u", "": 1}
    body = HI | strange | {"messages": [HI["messages"][0] | strange]}
    assert decode_request(body) == decode_request(HI)


def test_every_setting_arrives():
    request = decode_request(
        HI
        | {
            "model": "nano",
            "temperature": 0,
            "top_p": 0.5,
            "seed": -3,
            "max_tokens": 9,
            "stop": "END",
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )
    assert request.sampling == Sampling(0.0, 0.5, -3, 9, ("END",))
    assert request.model == "nano"
    assert request.stream and request.include_usage
    assert request.limit_field == "max_tokens"


def test_the_newer_name_of_the_token_limit_wins():
    request = decode_request(HI | {"max_tokens": 9, "max_completion_tokens": 5})
    assert (request.sampling.max_tokens, request.limit_field) == (5, "max_completion_tokens")


def test_a_tool_conversation_becomes_our_nouns():
    request = decode_request(
        {
            "messages": [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [text_part("你"), text_part("好")]},
                {"role": "assistant", "content": None, "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "call_1", "content": ""},
            ],
            "tools": [
                tool(description="d", parameters={"type": "object", "title": "T"}, strict=True),
                tool("plain", parameters=None),
            ],
        }
    )
    assert request.messages == (
        Message("system", "Be brief."),
        Message("user", "你好"),
        Message("assistant", tool_calls=(ToolCall("call_1", "search", "{}"),)),
        Message("tool", tool_call_id="call_1"),
    )
    assert request.tools == (
        ToolSpec("search", "d", {"type": "object", "title": "T"}),
        ToolSpec("plain"),
    )


def text_part(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def test_tool_choice_none_hides_the_tools_but_still_checks_them():
    assert decode_request(HI | {"tools": [tool()], "tool_choice": "none"}).tools == ()
    with pytest.raises(ApiError):
        decode_request(HI | {"tools": ["x"], "tool_choice": "none"})


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
fields = st.sampled_from(["messages", "temperature", "stop", "tools", "tool_choice", "n", "stream"])


@given(st.dictionaries(fields, json) | json, st.booleans())
def test_no_json_raises_anything_but_an_api_error(body, with_messages):
    if with_messages and isinstance(body, dict):
        body = body | HI
    try:
        request = decode_request(body)
    except ApiError as error:
        assert error.status == 400
    else:
        assert request.messages


# Answers ----------------------------------------------------------------------------------------

EVENTS = [
    ReasoningDelta("hm"),
    TextDelta("Let me "),
    TextDelta("look."),
    ToolCallStart(0, "functions.search:0", "search"),
    ToolCallArguments(0, '{"q":'),
    ToolCallArguments(0, '"k2"}'),
    ToolCallStart(1, "functions.now:1", "now"),
    Finish("tool_calls"),
    Usage(10, 5, cached_tokens=4),
]


def test_a_response_folds_the_events():
    response = encode_response(HEAD, EVENTS)
    assert response["choices"] == [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "Let me look.",
                "reasoning_content": "hm",
                "tool_calls": [
                    {
                        "id": "functions.search:0",
                        "type": "function",
                        "function": {"name": "search", "arguments": '{"q":"k2"}'},
                    },
                    {
                        "id": "functions.now:1",
                        "type": "function",
                        "function": {"name": "now", "arguments": ""},
                    },
                ],
            },
            "logprobs": None,
            "finish_reason": "tool_calls",
        }
    ]
    assert response["usage"] == {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "cached_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    assert (response["id"], response["object"]) == ("chatcmpl-1", "chat.completion")


def test_content_is_null_only_beside_tool_calls():
    call_alone = [ToolCallStart(0, "i", "f"), Finish("tool_calls"), Usage(1, 1)]
    assert encode_response(HEAD, call_alone)["choices"][0]["message"]["content"] is None
    empty = [Finish("stop"), Usage(1, 1)]
    assert encode_response(HEAD, empty)["choices"][0]["message"]["content"] == ""


def chunks(*, include_usage: bool) -> list[dict[str, Any]]:
    encoder = ChunkEncoder(HEAD, include_usage=include_usage)
    return [chunk for event in EVENTS for chunk in encoder.encode(event)]


def test_every_tool_call_delta_has_its_index_and_only_the_first_its_name():
    deltas = [c["choices"][0]["delta"] for c in chunks(include_usage=False)]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert deltas[-1] == {}
    assert [delta["tool_calls"] for delta in deltas if "tool_calls" in delta] == [
        [
            {
                "index": 0,
                "id": "functions.search:0",
                "type": "function",
                "function": {"name": "search", "arguments": ""},
            }
        ],
        [{"index": 0, "function": {"arguments": '{"q":'}}],
        [{"index": 0, "function": {"arguments": '"k2"}'}}],
        [
            {
                "index": 1,
                "id": "functions.now:1",
                "type": "function",
                "function": {"name": "now", "arguments": ""},
            }
        ],
    ]


def test_only_the_last_choice_has_a_finish_reason():
    reasons = [c["choices"][0]["finish_reason"] for c in chunks(include_usage=False)]
    assert reasons == [None] * (len(reasons) - 1) + ["tool_calls"]


def test_usage_comes_alone_at_the_end_and_only_if_asked_for():
    *others, last = chunks(include_usage=True)
    assert last["choices"] == [] and last["usage"]["total_tokens"] == 15
    assert all(chunk["usage"] is None for chunk in others)
    assert others[-1]["choices"][0]["usage"] == last["usage"]
    assert all("usage" not in chunk for chunk in chunks(include_usage=False))


# What goes out comes back in ---------------------------------------------------------------------

SPELLING = Tokenizer.from_ranks({bytes((byte,)): byte for byte in range(256)}, 32)


@given(
    st.lists(st.integers(0, 255) | st.sampled_from(list(SPELLING.specials.values())), max_size=60),
    st.sampled_from(["stop", "length"]),
    st.sampled_from([None, 0, 1]),
)
def test_any_answer_is_accepted_as_history(ids, reason, max_calls):
    parser = StreamParser(SPELLING, max_calls=max_calls)
    events = [*parser.feed(ids), *parser.finish(reason), Usage(1, 1)]
    told = encode_response(HEAD, events)["choices"][0]["message"]
    results = [
        {"role": "tool", "tool_call_id": call["id"], "content": "done"}
        for call in told.get("tool_calls", ())
    ]
    again = {"role": "user", "content": "go on"}
    decoded = decode_request(after_hi(told, *results, again))
    assert decoded.messages[1] == assemble(events)


def test_an_empty_answer_is_accepted_as_history():
    for empty in ({"content": ""}, {"content": None}, {}):
        decoded = decode_request(after_hi({"role": "assistant", **empty}, HI["messages"][0]))
        assert decoded.messages[1] == Message("assistant")
