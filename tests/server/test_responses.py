from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.server.errors import ApiError
from openk2.server.openai import ChatOptions
from openk2.server.openai_events import ChunkEncoder, Head, encode_error
from openk2.server.openai_events import encode_response as encode_chat_response
from openk2.server.request import JsonAnswer, NamedTool, Thinking
from openk2.server.responses import ResponsesOptions, decode_request, is_responses_body
from openk2.server.responses_events import ResponseEncoder, encode_response
from openk2.server.sealed import seal, unseal
from openk2.server.sse import data_frame
from openk2.text.parse import StreamParser, assemble
from openk2.text.tokenizer import Tokenizer
from openk2.types import (
    Event,
    Finish,
    Logprobs,
    Message,
    PromptRead,
    ReasoningDelta,
    Sampling,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallArguments,
    ToolCallStart,
    ToolSpec,
    Usage,
    validate_history,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "responses.sse"
HEAD = Head(id="resp_1", created=7, model="nano")
HI = {"input": "hi"}


def sign(data: bytes) -> bytes:
    return hmac.digest(b"key", data, hashlib.sha256)


def user(content: object = "hi") -> dict[str, Any]:
    return {"role": "user", "content": content}


def call(call_id: str = "call_1", **fields: object) -> dict[str, Any]:
    item = {"type": "function_call", "call_id": call_id, "name": "search", "arguments": "{}"}
    return item | fields


def output(call_id: str = "call_1", value: object = "found") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": value}


def thought(**fields: object) -> dict[str, Any]:
    return {"type": "reasoning", "id": "rs_1", "summary": [], **fields}


def tool(name: str = "search", **fields: object) -> dict[str, Any]:
    return {"type": "function", "name": name, **fields}


def messages(*items: object) -> tuple[Message, ...]:
    return decode_request({"input": list(items)}, sign)[0].messages


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
    ({"input": [user(), call(), output(value=image())]}, "input[2].output[1]"),
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


# Clients ----------------------------------------------------------------------------------------


CODEX = {
    "model": "kimi-k2",
    "input": [
        {
            "type": "message",
            "id": "msg_a",
            "role": "developer",
            "content": [{"type": "input_text", "text": "You are a coding agent."}],
        },
        {
            "type": "message",
            "id": "msg_b",
            "role": "developer",
            "content": [{"type": "input_text", "text": "<skills_instructions/>"}],
        },
        {
            "type": "message",
            "id": "msg_c",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "<environment_context/>"},
                {"type": "input_text", "text": "List the files."},
            ],
        },
        {
            "type": "reasoning",
            "id": "rs_1_0",
            "summary": [{"type": "summary_text", "text": "**Listing**"}],
            "content": None,
            "encrypted_content": seal("I should list.", sign),
        },
        {
            "type": "function_call",
            "status": "completed",
            "id": "fc_1_1",
            "name": "exec_command",
            "arguments": '{"cmd": "ls"}',
            "call_id": "call_1_0",
        },
        {
            "type": "function_call_output",
            "id": "fco_1",
            "call_id": "call_1_0",
            "output": "README.md\n",
        },
    ],
    "tools": [
        {
            "type": "function",
            "name": "exec_command",
            "description": "Runs a command.",
            "strict": False,
            "parameters": {
                "type": "object",
                "properties": {"cmd": {"type": "string"}},
                "required": ["cmd"],
                "additionalProperties": False,
            },
        },
        {"type": "namespace", "name": "agents", "description": "", "tools": [tool("inner")]},
        {"type": "web_search", "external_web_access": False},
        {"type": "custom", "name": "apply_patch", "format": {"type": "grammar"}},
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "reasoning": {"summary": "auto"},
    "store": False,
    "stream": True,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "01a2-session",
    "client_metadata": {"session_id": "01a2-session", "turn_id": "01a2"},
}


def test_a_body_as_codex_sends_it():
    request, options = decode_request(CODEX, sign)
    assert [tool.name for tool in request.tools] == ["exec_command"]
    assert [message.role for message in request.messages] == [
        "system", "system", "user", "assistant", "tool",
    ]  # fmt: skip
    assert request.messages[3].reasoning == "I should list."
    assert request.messages[3].tool_calls[0].arguments == '{"cmd": "ls"}'
    assert request.sampling.cache_key == "01a2-session"
    assert options.stream and options.summarize and options.sign is sign


CURSOR = {
    "model": "kimi-k2",
    "user": "google-oauth2|1",
    "input": [
        {"role": "system", "content": "You are an assistant in an editor."},
        {"role": "user", "content": [{"type": "input_text", "text": "Fix it."}]},
    ],
    "tools": [
        tool("read_file", parameters={"type": "object", "properties": {}}),
        {"type": "custom", "name": "ApplyPatch", "format": {"type": "grammar"}},
    ],
    "tool_choice": "auto",
    "reasoning": {"effort": "medium"},
    "stream": True,
    "stream_options": {"include_usage": True},
}


def test_a_body_that_cursor_sends_to_the_chat_endpoint():
    assert is_responses_body(CURSOR) and is_responses_body(CURSOR | {"messages": None})
    assert not any(map(is_responses_body, ([], {}, CURSOR | {"messages": []}, {"messages": []})))
    request, options = decode_request(CURSOR)
    assert [message.role for message in request.messages] == ["system", "user"]
    assert [tool.name for tool in request.tools] == ["read_file"]
    chunks = ChunkEncoder(
        Head("chatcmpl-1", 7, "nano"), ChatOptions(options.stream, options.include_usage, request.n)
    )
    told = [chunk for event in EVENTS for chunk in chunks.encode(0, event)]
    assert told[-1]["usage"]["total_tokens"] == 15
    calls = encode_chat_response(HEAD, [(0, event) for event in EVENTS])["choices"][0]["message"]
    again = CURSOR["input"] + [
        {"type": "function_call", "call_id": c["id"], **c["function"]} for c in calls["tool_calls"]
    ]
    again += [output(c["id"]) for c in calls["tool_calls"]]
    history = decode_request(CURSOR | {"input": again})[0].messages
    assert [call.id for call in history[2].tool_calls] == ["functions.search:0", "functions.now:1"]


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


# Answers ----------------------------------------------------------------------------------------

EVENTS: list[Event] = [
    PromptRead(10, 4),
    ReasoningDelta("h"),
    ReasoningDelta("m"),
    TextDelta("Let me "),
    TextDelta("look."),
    ToolCallStart(0, "functions.search:0", "search"),
    ToolCallArguments(0, '{"q":'),
    ToolCallArguments(0, '"k2"}'),
    ToolCallStart(1, "functions.now:1", "now"),
    Finish("tool_calls"),
    Usage(10, 5, cached_tokens=4, reasoning_tokens=2),
]
ASKED = {
    "input": "hi",
    "instructions": "Be brief.",
    "metadata": {"a": "b"},
    "tools": [tool(parameters={"type": "object", "properties": {"q": {"type": "string"}}})],
    "text": {"verbosity": "low"},
    "prompt_cache_key": "k",
}


def options(**fields: object) -> ResponsesOptions:
    return decode_request(ASKED | fields, sign)[1]


def frames(events: list[Event], asked: ResponsesOptions | None = None) -> list[dict[str, Any]]:
    encoder = ResponseEncoder(HEAD, asked or options())
    told = [frame for event in events for frame in encoder.encode(event)]
    assert all(name == body["type"] for name, body in told)
    return [body for _, body in told]


def transcript(bodies: list[dict[str, Any]]) -> bytes:
    return b"".join(f"event: {body['type']}\n".encode() + data_frame(body) for body in bodies)


def test_a_response_folds_the_events():
    response = encode_response(HEAD, options(), EVENTS)
    assert response["output"] == [
        {
            "id": "rs_1_0",
            "type": "reasoning",
            "status": "completed",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "hm"}],
        },
        {
            "id": "msg_1_1",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [
                {"type": "output_text", "text": "Let me look.", "annotations": [], "logprobs": []}
            ],
        },
        {
            "id": "fc_1_2",
            "type": "function_call",
            "status": "completed",
            "call_id": "call_1_0",
            "name": "search",
            "arguments": '{"q":"k2"}',
        },
        {
            "id": "fc_1_3",
            "type": "function_call",
            "status": "completed",
            "call_id": "call_1_1",
            "name": "now",
            "arguments": "{}",
        },
    ]
    assert response["usage"] == {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 15,
    }
    assert (response["id"], response["object"], response["status"]) == (
        "resp_1",
        "response",
        "completed",
    )
    assert (response["store"], response["metadata"]) == (False, {"a": "b"})
    assert response["instructions"] == "Be brief."
    assert response["tools"][0]["name"] == "search"
    assert response["text"] == {"format": {"type": "text"}, "verbosity": "low"}


def test_the_transcript_of_a_stream_is_golden():
    asked = options(include=["reasoning.encrypted_content"], reasoning={"summary": "auto"})
    logprob = Logprobs((TokenLogprob(b"Hi", -0.5, ((b"Hi", -0.5), (b"\xe5", -2.0))),))
    events = [*EVENTS[:3], logprob, TextDelta("Hi"), TextDelta(" 好"), *EVENTS[5:]]
    assert transcript(frames(events, asked)).decode() == GOLDEN.read_text(encoding="utf-8")


def test_without_a_summary_reasoning_is_told_as_it_is():
    names = [body["type"].removeprefix("response.") for body in frames(EVENTS)]
    assert names[:9] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
    ]


def test_an_answer_that_ran_out_of_tokens_is_incomplete():
    *_, item, last = frames([TextDelta("Let"), Finish("length"), Usage(1, 1)])
    assert item["item"]["status"] == "incomplete"
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


def test_a_call_that_is_cut_off_is_not_made_whole():
    response = encode_response(
        HEAD, options(), [ToolCallStart(0, "i", "f"), Finish("length"), Usage(1, 1)]
    )
    assert (response["output"][0]["arguments"], response["output"][0]["status"]) == (
        "",
        "incomplete",
    )


def test_an_answer_that_the_server_broke_off_failed():
    last = frames([TextDelta("Let"), Finish("cancelled"), Usage(1, 1)])[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["error"]["code"] == "server_error"


def test_a_failure_ends_a_stream_with_what_came_until_then():
    encoder = ResponseEncoder(HEAD, options())
    told = [body for event in EVENTS[:7] for _, body in encoder.encode(event)]
    name, last = encoder.encode_failure(ApiError(503, "Gone.", code=None))
    assert name == last["type"] == "response.failed"
    assert last["sequence_number"] == len(told)
    assert last["response"]["error"] == {"code": "server_error", "message": "Gone."}
    assert [item["status"] for item in last["response"]["output"]] == [
        "completed",
        "completed",
        "incomplete",
    ]


def test_a_failure_before_the_first_event_is_an_error_event():
    full = ApiError(429, "Full.", param="model")
    assert ResponseEncoder(HEAD, options()).encode_failure(full) == (
        "error",
        {
            "type": "error",
            "sequence_number": 0,
            "code": "rate_limit_exceeded",
            "message": "Full.",
            "param": "model",
        },
    )


def test_arguments_of_a_call_that_is_not_open_are_a_bug_and_not_an_answer():
    encoder = ResponseEncoder(HEAD, options())
    with pytest.raises(ValueError, match="call 0"):
        for event in [*EVENTS[:9], ToolCallArguments(0, "}")]:
            list(encoder.encode(event))


def test_logprobs_come_with_the_text_that_they_explain():
    half = Logprobs((TokenLogprob(b"\xe5\xa5", -1.0),))
    whole = Logprobs((TokenLogprob(b"\xbd", float("-inf"), ((b"x", -0.1),)),))
    unseen = Logprobs((TokenLogprob(b"unseen", -1.0),))
    events = [half, whole, TextDelta("好"), unseen, *EVENTS[5:9], TextDelta("!"), *EVENTS[9:]]
    response = encode_response(HEAD, options(), events)
    logprobs = response["output"][0]["content"][0]["logprobs"]
    assert [entry["bytes"] for entry in logprobs] == [[0xE5, 0xA5], [0xBD]]
    assert response["output"][-1]["content"][0]["logprobs"] == []
    assert logprobs[1]["logprob"] == -9999.0
    assert logprobs[1]["top_logprobs"] == [{"token": "x", "logprob": -0.1, "bytes": [120]}]


# Streams through the SDK ------------------------------------------------------------------------

texts = st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=3)
tokens = st.builds(
    TokenLogprob, st.binary(min_size=1, max_size=3), st.floats(-20, 0), st.just(((b"a", -1.0),))
)


def _calls(index: int, pieces: list[str]) -> list[Event]:
    start = ToolCallStart(index, f"functions.search:{index}", "search")
    return [start, *(ToolCallArguments(index, piece) for piece in pieces)]


@st.composite
def answers(draw: st.DrawFn) -> list[Event]:
    """Any legal order of events, whether or not a model would write it."""
    events: list[Event] = [PromptRead(3)]
    n_calls = 0
    for kind in draw(st.lists(st.sampled_from(["reasoning", "text", "call"]), max_size=5)):
        if kind == "call":
            events += _calls(n_calls, draw(st.just([]) | texts))
            n_calls += 1
            continue
        for piece in draw(texts):
            if kind == "text" and draw(st.booleans()):
                events.append(Logprobs((draw(tokens),)))
            events.append(TextDelta(piece) if kind == "text" else ReasoningDelta(piece))
    reason = draw(st.sampled_from(["stop", "length", "tool_calls"]))
    return [*events, Finish(reason), Usage(3, len(events), 1, 1)]


class Replay:
    """A server that always answers the same."""

    body = b""
    content_type = "text/event-stream"

    def __call__(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=self.body, headers={"content-type": self.content_type})


@pytest.fixture(scope="module")
def replay() -> Replay:
    return Replay()


@pytest.fixture(scope="module")
def client(replay: Replay) -> Iterator[openai.OpenAI]:
    transport = httpx.Client(transport=httpx.MockTransport(replay))
    with openai.OpenAI(base_url="http://k2/v1", api_key="k", http_client=transport) as client:
        yield client


def folded(bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Fold the events of a stream into output items, by what the dialect says they mean."""
    items: list[dict[str, Any]] = []
    for body in bodies:
        kind = body["type"].removeprefix("response.")
        if kind == "output_item.added":
            assert body["output_index"] == len(items)
            items.append(json.loads(json.dumps(body["item"])))
            continue
        if "output_index" not in body:
            continue
        assert body["output_index"] == len(items) - 1
        item = items[-1]
        assert body.get("item_id", item["id"]) == item["id"]
        parts = item.get("summary" if "summary_index" in body else "content", [])
        match kind:
            case "content_part.added" | "reasoning_summary_part.added":
                parts.append(dict(body["part"]))
            case "output_text.delta":
                parts[-1]["text"] += body["delta"]
                parts[-1]["logprobs"] = parts[-1]["logprobs"] + body["logprobs"]
            case "reasoning_text.delta" | "reasoning_summary_text.delta":
                parts[-1]["text"] += body["delta"]
            case "output_text.done" | "reasoning_text.done" | "reasoning_summary_text.done":
                assert parts[-1]["text"] == body["text"]
            case "content_part.done" | "reasoning_summary_part.done":
                assert parts[-1] == body["part"]
            case "function_call_arguments.delta":
                item["arguments"] += body["delta"]
            case "function_call_arguments.done":
                assert item["arguments"] == body["arguments"]
            case "output_item.done":
                sealed = {"encrypted_content"} & body["item"].keys()
                item |= {key: body["item"][key] for key in ("status", *sealed)}
                assert item == body["item"]
            case _:
                raise AssertionError(f"an unknown event: {kind}")
    return items


@settings(max_examples=60, deadline=None)
@given(answers(), st.booleans(), st.booleans())
def test_any_stream_folds_to_the_same_response(client, replay, events, summarize, sealed):
    asked = options(
        reasoning={"summary": "auto" if summarize else None},
        include=["reasoning.encrypted_content"] if sealed else [],
    )
    bodies, expected = frames(events, asked), encode_response(HEAD, asked, events)
    assert [body["sequence_number"] for body in bodies] == list(range(len(bodies)))
    assert bodies[-1]["response"] == expected
    assert folded(bodies) == expected["output"]

    replay.body = transcript(bodies)
    with client.responses.create(model="nano", input="hi", stream=True) as raw:
        told = list(raw)
    assert [event.to_dict() for event in told] == bodies

    with client.responses.stream(model="nano", input="hi") as stream:
        seen = list(stream)
    assert [event.sequence_number for event in seen] == list(range(len(bodies)))
    final = seen[-1].response
    said = [e["content"][0]["text"] for e in expected["output"] if e["type"] == "message"]
    assert final.output_text == "".join(said)
    assert final.usage.total_tokens == expected["usage"]["total_tokens"]
    assert [item.type for item in final.output] == [item["type"] for item in expected["output"]]


def test_a_whole_response_is_what_the_sdk_expects(client, replay):
    response = encode_response(HEAD, options(reasoning={"effort": "low"}), EVENTS)
    replay.body, replay.content_type = json.dumps(response).encode(), "application/json"
    try:
        parsed = client.responses.create(model="nano", input="hi")
    finally:
        replay.content_type = "text/event-stream"
    # Constructing is lenient in the SDK; this is not.
    strict = type(parsed).model_validate(response)
    assert strict.output_text == parsed.output_text == "Let me look."
    assert parsed.to_dict() == response


@settings(max_examples=40, deadline=None)
@given(answers())
def test_every_event_is_what_the_sdk_expects(events):
    from openai.types.responses import ResponseStreamEvent
    from pydantic import TypeAdapter

    adapter: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    for body in frames(events):
        assert adapter.validate_python(body).type == body["type"]


def test_the_sdk_sees_a_failure(client, replay):
    encoder = ResponseEncoder(HEAD, options())
    bodies = [body for event in EVENTS[:5] for _, body in encoder.encode(event)]
    bodies.append(encoder.encode_failure(ApiError(500, "Broken."))[1])
    replay.body = transcript(bodies)
    with client.responses.stream(model="nano", input="hi") as stream:
        last = list(stream)[-1]
    assert (last.type, last.response.error.message) == ("response.failed", "Broken.")


# What goes out comes back in ---------------------------------------------------------------------

SPELLING = Tokenizer.from_ranks({bytes((byte,)): byte for byte in range(256)}, 32)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 255) | st.sampled_from(list(SPELLING.specials.values())), max_size=60),
    st.sampled_from(["stop", "length"]),
    st.booleans(),
)
def test_any_answer_is_accepted_as_history(ids, reason, sealed):
    parser = StreamParser(SPELLING)
    events = [*parser.feed(ids), *parser.finish(reason), Usage(1, 1)]
    asked = options(include=["reasoning.encrypted_content"] if sealed else [])
    told = encode_response(HEAD, asked, events)["output"]
    results = [output(item["call_id"]) for item in told if item["type"] == "function_call"]
    decoded = messages(user(), *told, *results, user("go on"))
    written = assemble(events)
    turns = [message for message in decoded if message.role == "assistant"]
    assert "".join(turn.content for turn in turns) == written.content
    calls = [call for turn in turns for call in turn.tool_calls]
    assert [call.name for call in calls] == [call.name for call in written.tool_calls]
    if reason == "stop":
        given = [call.arguments or "{}" for call in written.tool_calls]
        assert [call.arguments for call in calls] == given
    if len(turns) == 1 and told[-1]["type"] != "reasoning":
        assert turns[0].reasoning == written.reasoning


@pytest.mark.parametrize(
    ("said", "echoed"),
    [
        (None, "auto"),
        ("required", "required"),
        ({"type": "function", "function": {"name": "f"}}, {"type": "function", "name": "f"}),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [{"type": "function", "name": "f"}]},
            },
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "f"}],
            },
        ),
    ],
)
def test_a_choice_is_repeated_as_this_dialect_says_it(said, echoed):
    tools = [{"type": "function", "name": name} for name in ("f", "g")]
    _, options = decode_request({"input": "hi", "tools": tools, "tool_choice": said})
    assert options.echo["tool_choice"] == echoed
