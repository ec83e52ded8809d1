from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.server.dialects.openai_events import encode_error
from openk2.server.dialects.responses import decode_request
from openk2.server.dialects.sealed import seal, unseal
from openk2.server.errors import ApiError
from openk2.server.request import JsonAnswer, NamedTool, Thinking
from openk2.types import (
    Message,
    Sampling,
    ToolCall,
    ToolSpec,
    validate_history,
)
from tests.server.dialects.responses_items import (
    HI,
    call,
    messages,
    output,
    sign,
    thought,
    tool,
    user,
)

# Requests ---------------------------------------------------------------------------------------


def image(kind: str = "input_image") -> list[dict[str, str]]:
    return [{"type": "input_text", "text": "see"}, {"type": kind, "image_url": "data:,"}]


BAD = [
    ([], None),
    ("hi", None),
    ({}, "input"),
    ({"input": None}, "input"),
    ({"input": 5}, "input"),
    ({"input": ""}, "input"),
    ({"input": []}, "input"),
    ({"input": [thought()]}, "input"),
    ({"input": ["hi"]}, "input[0]"),
    ({"input": [{}]}, "input[0].type"),
    ({"input": [{"type": 5}]}, "input[0].type"),
    ({"input": [user(), {"role": "robot", "content": "x"}]}, "input[1].role"),
    ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
    ({"input": [{"role": "user"}]}, "input[0].content"),
    ({"input": [user("")]}, "input[0].content"),
    ({"input": [user([])]}, "input[0].content"),
    ({"input": [user(5)]}, "input[0].content"),
    ({"input": [user([5])]}, "input[0].content[0]"),
    ({"input": [user([{"type": "input_text"}])]}, "input[0].content[0].text"),
    ({"input": [user(image())]}, "input[0].content[1]"),
    ({"input": [user(image("input_file"))]}, "input[0].content[1]"),
    ({"input": [user(), call(call_id="")]}, "input[1].call_id"),
    ({"input": [user(), call(name="")]}, "input[1].name"),
    ({"input": [user(), call(arguments=5)]}, "input[1].arguments"),
    ({"input": [user(), call()]}, "input[1].call_id"),
    ({"input": [user(), call(), user()]}, "input[1].call_id"),
    ({"input": [user(), call(), call()]}, "input[2].call_id"),
    ({"input": [user(), call("a"), call("b"), output("b")]}, "input[1].call_id"),
    ({"input": [user(), call("a"), call("b"), output("a"), call("c")]}, "input[2].call_id"),
    ({"input": [user(), output()]}, "input[1].call_id"),
    ({"input": [user(), call(), output("call_2")]}, "input[2].call_id"),
    ({"input": [user(), call(), output(), output()]}, "input[3].call_id"),
    ({"input": [user(), call(), output(value=None)]}, "input[2].output"),
    ({"input": [user(), call(), output(value=image("input_file"))]}, "input[2].output[1]"),
    ({"input": [user(), call(namespace=5)]}, "input[1].namespace"),
    (HI | {"tools": [{"type": "custom"}]}, "tools[0].name"),
    (HI | {"tools": [{"type": "custom", "name": "a b"}]}, "tools[0].name"),
    (HI | {"tools": [{"type": "custom", "name": "a", "format": "x"}]}, "tools[0].format"),
    (HI | {"tools": [tool("a"), {"type": "custom", "name": "a"}]}, "tools[1].name"),
    (HI | {"tools": [{"type": "namespace", "tools": []}]}, "tools[0].name"),
    (HI | {"tools": [{"type": "namespace", "name": "n", "tools": [{}]}]}, "tools[0].tools[0].type"),
    (
        HI | {"tools": [{"type": "namespace", "name": "n", "tools": [tool("b"), tool("b")]}]},
        "tools[0].tools[1].name",
    ),
    (HI | {"tools": [tool()], "tool_choice": {"type": "custom", "name": "x"}}, "tool_choice.name"),
    ({"input": [user(), {"type": "item_reference", "id": "msg_1"}]}, "input[1]"),
    ({"input": [user(), thought(summary="x", encrypted_content=5)]}, "input[1].encrypted_content"),
    (
        {"input": [user(), thought(content=[{"type": "reasoning_text"}])]},
        "input[1].content[0].text",
    ),
    (HI | {"previous_response_id": "resp_0"}, "previous_response_id"),
    (HI | {"conversation": "conv_1"}, "conversation"),
    (HI | {"prompt": {"id": "pmpt_1"}}, "prompt"),
    (HI | {"background": True}, "background"),
    (HI | {"moderation": {"model": "omni-moderation-latest"}}, "moderation"),
    ({"input": [{"type": "compaction", "encrypted_content": "x"}, user()]}, "input[0]"),
    ({"input": [user(), {"type": "compaction_trigger"}]}, "input[1]"),
    (HI | {"store": "yes"}, "store"),
    (HI | {"stream": 1}, "stream"),
    (HI | {"instructions": ["x"]}, "instructions"),
    (HI | {"model": 5}, "model"),
    (HI | {"temperature": 2.5}, "temperature"),
    (HI | {"top_p": 0}, "top_p"),
    (HI | {"top_logprobs": 21}, "top_logprobs"),
    (HI | {"max_output_tokens": 0}, "max_output_tokens"),
    (HI | {"include": "x"}, "include"),
    (HI | {"metadata": {"a": 1}}, "metadata"),
    (HI | {"metadata": {str(i): "x" for i in range(17)}}, "metadata"),
    (HI | {"metadata": {"a": "x" * 513}}, "metadata"),
    (HI | {"truncation": "middle"}, "truncation"),
    (HI | {"reasoning": {"effort": "huge"}}, "reasoning.effort"),
    (HI | {"reasoning": {"summary": "long"}}, "reasoning.summary"),
    (HI | {"text": {"format": {"type": "grammar"}}}, "text.format.type"),
    (HI | {"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
    (HI | {"tools": ["search"]}, "tools[0]"),
    (HI | {"tools": [{"name": "search"}]}, "tools[0].type"),
    (HI | {"tools": [{"type": 5}]}, "tools[0].type"),
    (HI | {"tools": [tool("no spaces")]}, "tools[0].name"),
    (HI | {"tools": [{"type": "function"}]}, "tools[0].name"),
    (HI | {"tools": [tool("a"), {"type": "web_search"}, tool("a")]}, "tools[2].name"),
    (HI | {"tools": [tool(parameters={"type": "array"})]}, "tools[0].parameters"),
    (HI | {"tools": [{"type": "web_search"}], "tool_choice": "required"}, "tool_choice"),
    (HI | {"tools": [tool()], "tool_choice": "any"}, "tool_choice"),
    (HI | {"tools": [tool()], "tool_choice": {"type": "web_search"}}, "tool_choice"),
    (HI | {"tools": [tool()], "tool_choice": tool("other")}, "tool_choice.name"),
    (
        HI | {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [tool()]}},
        "tool_choice.tools[0].name",
    ),
]


@pytest.mark.parametrize(("body", "param"), BAD)
def test_a_bad_body_is_a_400_that_names_the_field(body, param):
    with pytest.raises(ApiError) as caught:
        decode_request(body)
    error = encode_error(caught.value)["error"]
    assert (caught.value.status, error["param"]) == (400, param)
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith(f"{param}: " if param else "The request body")


def test_a_part_that_is_no_text_is_refused_by_its_name():
    with pytest.raises(ApiError, match="'input_file'; the model can only read text"):
        messages(user(image("input_file")))


def test_the_least_body_gets_the_defaults():
    request, options = decode_request(HI)
    assert request.messages == (Message("user", "hi"),)
    assert request.sampling == Sampling()
    assert (request.model, request.tools, request.tool_choice) == (None, (), "auto")
    assert (request.answer_format, request.thinking) == (None, Thinking())
    assert not (options.stream or options.include_usage or options.summarize or options.sign)


def test_every_setting_arrives():
    schema = {"type": "object", "properties": {}}
    request, options = decode_request(
        HI
        | {
            "model": "nano",
            "instructions": "Be brief.",
            "temperature": 0,
            "top_p": 0.5,
            "top_logprobs": 3,
            "max_output_tokens": 9,
            "parallel_tool_calls": False,
            "prompt_cache_key": "session",
            "reasoning": {"effort": "low", "summary": "auto"},
            "text": {"format": {"type": "json_schema", "name": "a", "schema": schema}},
            "tools": [tool(description="d", parameters=schema, strict=False), tool("now")],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )
    assert request.messages == (Message("system", "Be brief."), Message("user", "hi"))
    assert request.sampling == Sampling(
        0.0, 0.5, max_tokens=9, logprobs=True, top_logprobs=3, cache_key="session"
    )
    assert (request.prompt_field, request.limit_field) == ("input", "max_output_tokens")
    assert request.schema_field == "text.format"
    assert request.tools == (ToolSpec("search", "d", schema), ToolSpec("now"))
    assert (request.model, request.parallel_tool_calls) == ("nano", False)
    assert request.answer_format == JsonAnswer(schema)
    assert request.thinking.budget and request.thinking.enabled is None
    assert options.stream and options.include_usage and options.summarize


def test_null_is_a_field_left_out():
    names = [
        "model", "instructions", "previous_response_id", "conversation", "prompt", "background",
        "store", "stream", "stream_options", "include", "metadata", "temperature", "top_p",
        "top_logprobs", "max_output_tokens", "parallel_tool_calls", "tools", "tool_choice",
        "text", "reasoning", "truncation", "prompt_cache_key", "user", "max_tool_calls",
    ]  # fmt: skip
    assert decode_request(HI | dict.fromkeys(names)) == decode_request(HI)


def test_what_is_about_accounts_is_ignored():
    strange = {"store": True, "service_tier": "flex", "safety_identifier": "x", "user": "u"}
    strange |= {"truncation": "auto", "enable_test_time_scaling": True, "": 1}
    assert decode_request(HI | strange)[0] == decode_request(HI)[0]


@pytest.mark.parametrize(
    ("effort", "enabled"), [("none", False), ("minimal", None), ("high", None), ("max", None)]
)
def test_an_effort_bounds_thinking(effort, enabled):
    thinking = decode_request(HI | {"reasoning": {"effort": effort}})[0].thinking
    assert thinking.enabled is enabled
    assert (thinking.budget is None) == (effort in ("none", "max"))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [({"type": "text"}, None), ({"type": "json_object"}, JsonAnswer())],
)
def test_text_formats(wanted, expected):
    assert decode_request(HI | {"text": {"format": wanted}})[0].answer_format == expected


@pytest.mark.parametrize(
    ("choice", "expected", "left"),
    [
        ("none", "none", 2),
        ("required", "required", 2),
        ({"type": "function", "name": "now"}, NamedTool("now"), 2),
        ({"type": "allowed_tools", "mode": "auto", "tools": [tool("now")]}, "auto", 1),
        ({"type": "allowed_tools", "mode": "required", "tools": [tool("now")]}, "required", 1),
    ],
)
def test_tool_choices(choice, expected, left):
    body = HI | {"tools": [tool(), tool("now")], "tool_choice": choice}
    request, options = decode_request(body)
    assert (request.tool_choice, len(request.tools)) == (expected, left)
    assert options.echo["tool_choice"] == choice


# Conversations ----------------------------------------------------------------------------------


def test_a_tool_loop_becomes_our_nouns():
    assert messages(
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "你好"}]},
        thought(encrypted_content=seal("hm", sign)),
        {
            "type": "message",
            "role": "assistant",
            "id": "msg_1",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Let me look.", "annotations": []}],
        },
        call("a"),
        call("b", name="now", arguments=""),
        output("b", [{"type": "input_text", "text": "12"}, {"type": "input_text", "text": ":00"}]),
        output("a", ""),
        {"role": "assistant", "content": "Found."},
        user("thanks"),
    ) == (
        Message("system", "Be brief."),
        Message("user", "你好"),
        Message(
            "assistant",
            "Let me look.",
            "hm",
            (ToolCall("a", "search", "{}"), ToolCall("b", "now", "")),
        ),
        Message("tool", "12:00", tool_call_id="b"),
        Message("tool", "", tool_call_id="a"),
        Message("assistant", "Found."),
        Message("user", "thanks"),
    )


def test_a_system_message_without_words_is_left_out():
    assert messages({"role": "developer", "content": []}, user()) == (Message("user", "hi"),)


def test_two_answers_in_a_row_are_two_turns():
    first, second = {"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}
    assert messages(user(), first, second)[1:] == (
        Message("assistant", "a"),
        Message("assistant", "b"),
    )


def test_what_is_said_while_a_call_is_open_belongs_to_its_turn():
    said = {"role": "assistant", "content": "wait"}
    first = {"role": "assistant", "content": "please "}
    assert messages(user(), first, call(), said, output())[1] == Message(
        "assistant", "please wait", tool_calls=(ToolCall("call_1", "search", "{}"),)
    )


def test_calls_of_custom_tools_stay_in_the_conversation():
    custom = {"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": "*** 好"}
    done = {"type": "custom_tool_call_output", "call_id": "c", "output": "ok"}
    assert messages(user(), custom, done)[1:] == (
        Message("assistant", tool_calls=(ToolCall("c", "patch", '{"input": "*** 好"}'),)),
        Message("tool", "ok", tool_call_id="c"),
    )


def test_items_of_tools_that_others_run_are_left_out():
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    assert messages(user(), search, {"type": "program"}) == (Message("user", "hi"),)


ANSWER = {"role": "assistant", "content": "yes"}


@pytest.mark.parametrize(
    ("fields", "reasoning"),
    [
        ({"encrypted_content": seal("ours", sign)}, "ours"),
        ({"encrypted_content": seal("ours", lambda data: b"other key")}, ""),
        ({"encrypted_content": "gAAAAABo", "summary": [{"type": "summary_text", "text": "s"}]}, ""),
        ({"encrypted_content": "!"}, ""),
        ({"encrypted_content": None, "content": None}, ""),
        ({"content": [{"type": "reasoning_text", "text": "open"}]}, "open"),
        ({"summary": [{"type": "summary_text", "text": "short"}]}, "short"),
    ],
)
def test_only_our_own_reasoning_comes_back(fields, reasoning):
    assert messages(user(), thought(**fields), ANSWER)[1] == Message("assistant", "yes", reasoning)


def test_a_thought_before_a_question_is_dropped():
    said = thought(content=[{"type": "reasoning_text", "text": "hm"}])
    assert messages(user(), said, user("again")) == (
        Message("user", "hi"),
        Message("user", "again"),
    )


@given(st.text())
def test_sealed_reasoning_opens_with_its_own_key_only(text):
    sealed = seal(text, sign)
    assert unseal(sealed, sign) == text
    assert unseal(sealed, lambda data: b"") is None
    assert unseal(sealed[:-4], sign) is None


def test_sealed_reasoning_cannot_be_changed():
    sealed = json.loads(base64.b64decode(seal("yes", sign)))
    forged = json.dumps(sealed | {"reasoning": "no"}).encode()
    assert unseal(base64.b64encode(forged).decode(), sign) is None


# Junk -------------------------------------------------------------------------------------------

junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
body_fields = st.sampled_from(
    [
        "input", "instructions", "include", "metadata", "text", "tools", "tool_choice", "stream",
        "reasoning", "previous_response_id", "background", "max_output_tokens", "truncation",
    ]
)  # fmt: skip
item_types = st.sampled_from(
    [
        "message", "function_call", "function_call_output", "custom_tool_call",
        "custom_tool_call_output", "reasoning", "item_reference", "web_search_call",
    ]
)  # fmt: skip
item_fields = st.sampled_from(
    ["role", "content", "call_id", "name", "arguments", "output", "input", "summary"]
)
ids = st.sampled_from(["a", "b"])
wild_items = st.builds(
    lambda kind, fields: {"type": kind, **fields}, item_types, st.dictionaries(item_fields, junk)
)
near_items = (
    st.builds(user, st.text(max_size=3))
    | st.builds(call, ids)
    | st.builds(output, ids)
    | st.just(ANSWER)
    | st.just(thought(summary=[{"type": "summary_text", "text": "s"}]))
)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(body_fields, junk)
    | junk
    | st.builds(lambda items: {"input": items}, st.lists(wild_items | near_items, max_size=6)),
    st.booleans(),
)
def test_no_json_raises_anything_but_an_api_error(body, with_input):
    if with_input and isinstance(body, dict):
        body = HI | body
    try:
        request, _ = decode_request(body, sign)
    except ApiError as error:
        assert error.status == 400
        assert error.param or not isinstance(body, dict)
    else:
        assert request.messages


@settings(deadline=None)
@given(st.lists(near_items, min_size=1, max_size=8))
def test_every_accepted_conversation_answers_its_calls(items):
    try:
        accepted = messages(*items)
    except ApiError as error:
        assert error.param is not None and error.param.startswith("input")
    else:
        validate_history(accepted)
        assert not accepted[-1].tool_calls


def test_a_long_conversation_is_read_in_time_linear_in_its_size():
    part = [{"type": "summary_text", "text": "x" * 1000}]
    items = [user(), *[thought(summary=part)] * 16000, ANSWER]
    assert len(messages(*items)[1].reasoning) == 16_000_000
