from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.server.dialects.effort import thinking_of_effort
from openk2.server.dialects.openai import ChatOptions, decode_request
from openk2.server.dialects.openai_body import REFUSED, Body, Turn
from openk2.server.dialects.openai_events import Head, encode_response
from openk2.server.errors import ApiError
from openk2.server.request import ChatRequest, JsonAnswer, Thinking
from openk2.text.parse import StreamParser, assemble
from openk2.text.tokenizer import Tokenizer
from openk2.types import (
    Event,
    Message,
    Sampling,
    TextDelta,
    ToolCall,
    ToolCallStart,
    ToolSpec,
    Usage,
)
from tests.server.dialects.chat_bodies import (
    CALL,
    HI,
    PARTIAL,
    RESULT,
    SCHEMA,
    USER,
    after_hi,
    decoded,
    text_part,
    tool,
)

# Defaults ---------------------------------------------------------------------------------------


def test_the_least_body_gets_the_defaults():
    request, options = decode_request(HI)
    assert request == ChatRequest(
        (Message("user", "hi"),), Sampling(), default_temperature=True, whole=True
    )
    assert options == ChatOptions(stream=False, include_usage=False, n=1)


def test_a_null_is_a_field_that_was_left_out():
    nulls = dict.fromkeys(Body.model_fields.keys() - {"messages"}) | dict.fromkeys(REFUSED)
    turn = dict.fromkeys(Turn.model_fields.keys()) | HI["messages"][0]
    assert decode_request(nulls | {"messages": [turn]}) == decode_request(HI)
    nothing = dict.fromkeys(["description", "parameters", "strict"])
    tools = {"tools": [{"function": {"name": "f"} | nothing, "type": None}]}
    assert decoded(HI | tools).tools == (ToolSpec("f"),)


def test_values_that_mean_off_are_accepted():
    off = {
        "n": 1,
        "tool_choice": "auto",
        "response_format": {"type": "text"},
        "logprobs": False,
        "top_logprobs": 0,
        "logit_bias": {},
        "presence_penalty": 0,
        "frequency_penalty": 0.0,
        "top_k": -1,
        "min_p": 0,
        "repetition_penalty": 1,
        "stop": [],
        "tools": [],
        "stream_options": {},
        "modalities": ["text"],
        "functions": [],
        "function_call": "auto",
        "thinking": {},
        "prompt_cache_key": "",
    }
    assert decode_request(HI | off) == decode_request(HI)


def test_unknown_fields_are_ignored_at_every_depth():
    strange = {"enable_test_time_scaling": True, "user": "u", "": 1}
    body = HI | strange | {"messages": [HI["messages"][0] | strange]}
    assert decode_request(body) == decode_request(HI)


# Settings ---------------------------------------------------------------------------------------


def test_every_setting_arrives():
    settings = {
        "model": "nano",
        "temperature": 0,
        "top_p": 0.5,
        "seed": -3,
        "max_tokens": 9,
        "stop": "END",
        "top_k": 20,
        "min_p": 0.05,
        "presence_penalty": -1,
        "frequency_penalty": 0.5,
        "repetition_penalty": 1.1,
        "logit_bias": {"5": -100, 7: 0.5},
        "logprobs": True,
        "top_logprobs": 20,
        "prompt_cache_key": "session",
        "parallel_tool_calls": False,
        "heavy": {"trajectories": 16},
    }
    request = decoded(HI | settings)
    assert request.sampling == Sampling(
        temperature=0.0,
        top_p=0.5,
        seed=-3,
        max_tokens=9,
        stop=("END",),
        top_k=20,
        min_p=0.05,
        presence_penalty=-1.0,
        frequency_penalty=0.5,
        repetition_penalty=1.1,
        logit_bias=((5, -100.0), (7, 0.5)),
        logprobs=True,
        top_logprobs=20,
        cache_key="session",
    )
    assert (request.model, request.limit_field) == ("nano", "max_tokens")
    assert (request.parallel_tool_calls, request.trajectories) == (False, 16)


def test_the_form_of_the_answer_arrives():
    request, options = decode_request(
        HI | {"n": 3, "stream": True, "stream_options": {"include_usage": True}}
    )
    assert request.n == 3
    assert options == ChatOptions(stream=True, include_usage=True, n=3)


def test_the_newer_name_of_the_token_limit_wins():
    request = decoded(HI | {"max_tokens": 9, "max_completion_tokens": 5})
    assert (request.sampling.max_tokens, request.limit_field) == (5, "max_completion_tokens")


def test_up_to_five_stop_strings_longer_than_kimis_arrive():
    stops = [letter * 40 for letter in "abcde"]
    assert decoded(HI | {"stop": stops}).sampling.stop == tuple(stops)


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, JsonAnswer()),
        ({"type": "json_object", "schema": SCHEMA}, JsonAnswer(SCHEMA)),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}},
            JsonAnswer(SCHEMA),
        ),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": False}},
            JsonAnswer({}),
        ),
    ],
)
def test_the_answers_format_arrives(asked, answer):
    assert decoded(HI | {"response_format": asked}).answer_format == answer


@pytest.mark.parametrize(
    ("body", "thinking"),
    [
        ({}, Thinking()),
        ({"thinking": {"type": "enabled"}}, Thinking(enabled=True)),
        ({"thinking": {"type": "enabled", "keep": "all"}}, Thinking(enabled=True)),
        ({"thinking": {"type": "disabled"}, "reasoning_effort": "max"}, Thinking(enabled=False)),
        ({"thinking": {"type": "adaptive"}}, Thinking()),
        ({"thinking": {"type": "enabled", "budget_tokens": 70}}, Thinking(True, 70)),
        ({"chat_template_kwargs": {"thinking": True}}, Thinking(enabled=True)),
        ({"chat_template_kwargs": {"enable_thinking": False}}, Thinking(enabled=False)),
        (
            {"thinking": {"type": "enabled"}, "chat_template_kwargs": {"thinking": False}},
            Thinking(enabled=True),
        ),
        ({"reasoning_effort": "none"}, Thinking(enabled=False)),
        ({"reasoning_effort": "low"}, thinking_of_effort("low")),
        ({"reasoning_effort": "max"}, thinking_of_effort("max")),
        ({"thinking": {"effort": "low"}, "reasoning_effort": "max"}, thinking_of_effort("low")),
        (
            {"thinking": {"type": "enabled", "effort": "low"}},
            Thinking(True, thinking_of_effort("low").budget),
        ),
    ],
)
def test_all_ways_to_ask_for_thinking_are_one(body, thinking):
    assert decoded(HI | body).thinking == thinking


def test_a_forced_call_and_thinking_go_together():
    body = {"tools": [tool()], "tool_choice": "required", "thinking": {"type": "enabled"}}
    request = decoded(HI | body)
    assert (request.tool_choice, request.thinking) == ("required", Thinking(enabled=True))


# Messages ---------------------------------------------------------------------------------------


def test_a_tool_conversation_becomes_our_nouns():
    request = decoded(
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


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_comes_back_under_either_name(field):
    turn = {"role": "assistant", "content": "x", field: "hm"}
    assert decoded(after_hi(turn)).messages[1] == Message("assistant", "x", reasoning="hm")


def test_missing_reasoning_beside_tool_calls_is_no_error():
    turn = {"role": "assistant", "tool_calls": [CALL]}
    request = decoded(after_hi(turn, RESULT) | {"thinking": {"type": "enabled"}})
    assert request.messages[1].reasoning == ""


def test_a_wrong_tool_result_is_told_by_its_index():
    wrong = RESULT | {"tool_call_id": "call_9"}
    turn = {"role": "assistant", "tool_calls": [CALL]}
    with pytest.raises(ApiError, match=r"messages\[2\]\.tool_call_id: 'call_9' answers no open"):
        decode_request(after_hi(turn, wrong))


@pytest.mark.parametrize("kind", ["image_url", "video_url", "input_audio", "file"])
def test_what_is_not_text_is_refused_by_its_part(kind):
    parts = [text_part("Look:"), {"type": kind, kind: {"url": "https://example.org/x"}}]
    with pytest.raises(ApiError, match=rf"part 1 is not a text part but '{kind}'") as caught:
        decode_request(after_hi({"role": "user", "content": parts}))
    assert caught.value.param == "messages[1].content"


def test_the_parts_of_the_responses_dialect_are_text_too():
    parts = [{"type": "input_text", "text": "a"}, {"type": "output_text", "text": "b"}]
    assert decoded(after_hi({"role": "user", "content": parts})).messages[1].content == "ab"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [("not json", "not json"), ({"q": "模型"}, '{"q": "模型"}'), (None, "{}"), ("", "")],
)
def test_the_arguments_of_a_past_call_are_taken_as_they_are(arguments, text):
    call = {"id": "call_1", "function": {"name": "search", "arguments": arguments}}
    request = decoded(after_hi({"role": "assistant", "tool_calls": [call]}, RESULT))
    assert request.messages[1].tool_calls == (ToolCall("call_1", "search", text),)


def test_the_last_message_can_be_continued_under_a_name():
    request = decoded(after_hi(PARTIAL | {"name": "Dr. Kelsier"}))
    assert request.partial
    assert request.messages[-1] == Message("assistant", "One, ", name="Dr. Kelsier")
    nameless = decoded(after_hi(PARTIAL | {"content": "", "partial": False}, PARTIAL))
    assert nameless.partial


def test_a_system_message_without_words_is_left_out_but_still_counted():
    empty = {"role": "system", "content": ""}
    assert decoded({"messages": [empty, *HI["messages"]]}).messages == (Message("user", "hi"),)
    with pytest.raises(ApiError) as caught:
        decode_request({"messages": [empty, empty, {"role": "user", "content": ""}]})
    assert caught.value.param == "messages[2].content"


# What goes out comes back in ---------------------------------------------------------------------

SPELLING = Tokenizer.from_ranks({bytes((byte,)): byte for byte in range(256)}, 32)
HEAD = Head(id="chatcmpl-1", created=7, model="nano")


def told(events: list[Event]) -> dict[str, Any]:
    response = encode_response(HEAD, [(0, event) for event in events])
    return response["choices"][0]["message"]


@given(
    st.lists(st.integers(0, 255) | st.sampled_from(list(SPELLING.specials.values())), max_size=60),
    st.sampled_from(["stop", "length"]),
    st.sampled_from([None, 0, 1]),
)
def test_any_answer_is_accepted_as_history(ids, reason, max_calls):
    parser = StreamParser(SPELLING, max_calls=max_calls)
    events = [*parser.feed(ids), *parser.finish(reason), Usage(1, 1)]
    message = told(events)
    results = [RESULT | {"tool_call_id": call["id"]} for call in message.get("tool_calls", ())]
    request = decoded(after_hi(message, *results, USER))
    assert request.messages[1] == assemble(until_calls(events))


def until_calls(events: list[Event]) -> list[Event]:
    """Leave out what this dialect has no place for: text after tool calls."""
    kept: list[Event] = []
    called = False
    for event in events:
        called |= isinstance(event, ToolCallStart)
        if not (called and isinstance(event, TextDelta)):
            kept.append(event)
    return kept


def test_an_empty_answer_is_accepted_as_history():
    for empty in ({"content": ""}, {"content": None}, {}):
        request = decoded(after_hi({"role": "assistant", **empty}, USER))
        assert request.messages[1] == Message("assistant")


def test_a_refusal_is_what_the_assistant_said():
    by_field = {"role": "assistant", "content": None, "refusal": "I cannot."}
    by_part = {"role": "assistant", "content": [{"type": "refusal", "refusal": "I cannot."}]}
    for turn in (by_field, by_part):
        assert decoded(after_hi(turn, USER)).messages[1].content == "I cannot."


def test_an_image_that_a_tool_gave_becomes_words_and_a_warning():
    parts = [text_part("Shot: "), {"type": "image_url", "image_url": {"url": "data:,"}}]
    call = {"role": "assistant", "tool_calls": [CALL]}
    body = after_hi(call, RESULT | {"content": parts})
    request, options = decode_request(body)
    said = "Shot: [There was an image here. Only text can be read.]"
    assert request.messages[-1].content == said
    left = "messages[2].content[1]: the image was left out; only text can be read"
    assert options.warnings == (left,)
    assert body["messages"][2]["content"] == parts
