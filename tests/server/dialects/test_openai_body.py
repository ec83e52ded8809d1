from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.server.dialects.openai import decode_request
from openk2.server.dialects.openai_body import MAX_TOOLS, REFUSED, Body, ThinkingBody, Tool, Turn
from openk2.server.dialects.openai_events import encode_error
from openk2.server.errors import ApiError
from tests.server.dialects.chat_bodies import (
    CALL,
    HI,
    PARTIAL,
    RESULT,
    USER,
    after_hi,
    allowed,
    decoded,
    dynamic,
    text_part,
    tool,
    with_format,
)

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
    (HI | {"n": "1"}, "n"),
    (HI | {"tools": ["search"]}, "tools[0]"),
    (HI | {"tools": [tool("no spaces")]}, "tools[0].function.name"),
    (HI | {"tools": [tool("a"), tool("b"), tool("a")]}, "tools[2].function.name"),
    (HI | {"tools": [tool(parameters={"type": "array"})]}, "tools[0].function.parameters"),
    (HI | {"functions": [{"name": "f"}]}, "functions"),
    # Messages
    (after_hi({"role": "assistant", "function_call": {"name": "f"}}), "messages[1].function_call"),
    (after_hi({"role": "assistant", "audio": {"id": "audio_1"}}), "messages[1].audio"),
    (HI | {"moderation": {"model": "omni-moderation-latest"}}, "moderation"),
    (after_hi(PARTIAL | {"partial": "yes"}), "messages[1].partial"),
    (after_hi(PARTIAL | {"partial": 1}), "messages[1].partial"),
    (after_hi(PARTIAL, USER), "messages[1].partial"),
    (after_hi(USER | {"partial": True}), "messages[1].partial"),
    (after_hi(PARTIAL | {"tool_calls": [CALL]}), "messages[1].tool_calls"),
    (after_hi(PARTIAL) | {"response_format": {"type": "json_object"}}, "response_format"),
    (after_hi({"role": "assistant", "reasoning_content": 1}), "messages[1].reasoning_content"),
    (after_hi({"role": "assistant", "tool_calls": [CALL]}, USER), "messages[1].tool_calls"),
    (after_hi(RESULT | {"content": {"pages": 42}}), "messages[1].content"),
    (after_hi(dynamic(tool(), content="Be brief.")), "messages[1].tools"),
    (after_hi(dynamic(tool(), role="user", content="x")), "messages[1].tools"),
    (after_hi(dynamic(tool(), role="assistant")), "messages[1].tools"),
    (after_hi(dynamic("search")), "messages[1].tools[0]"),
    (after_hi(dynamic(tool("no spaces"))), "messages[1].tools[0].function.name"),
    (after_hi(dynamic(tool())) | {"tools": [tool()]}, "messages[1].tools[0].function.name"),
    ({"messages": [{"role": "system", "content": ""}]}, "messages"),
    # Sampling
    (HI | {"n": 0}, "n"),
    (HI | {"n": 9}, "n"),
    (HI | {"n": True}, "n"),
    (HI | {"n": 2, "temperature": 0}, "n"),
    (HI | {"n": 2, "heavy": {"trajectories": 4}}, "n"),
    (HI | {"logprobs": 3}, "logprobs"),
    (HI | {"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    (HI | {"top_logprobs": 1}, "top_logprobs"),
    (HI | {"logprobs": False, "top_logprobs": 1}, "top_logprobs"),
    (HI | {"logit_bias": {"5": 101}}, "logit_bias"),
    (HI | {"logit_bias": {"5": True}}, "logit_bias"),
    (HI | {"logit_bias": {"five": 1}}, "logit_bias"),
    (HI | {"logit_bias": {"-1": 1}}, "logit_bias"),
    (HI | {"logit_bias": {"05": 1}}, "logit_bias"),
    (HI | {"logit_bias": {"5": float("nan")}}, "logit_bias"),
    (HI | {"logit_bias": [5]}, "logit_bias"),
    (HI | {"logit_bias": {str(i): 1 for i in range(1025)}}, "logit_bias"),
    (HI | {"presence_penalty": 2.1}, "presence_penalty"),
    (HI | {"frequency_penalty": -2.1}, "frequency_penalty"),
    (HI | {"repetition_penalty": 0}, "repetition_penalty"),
    (HI | {"top_k": -2}, "top_k"),
    (HI | {"min_p": 1.1}, "min_p"),
    (HI | {"prompt_cache_key": 5}, "prompt_cache_key"),
    (HI | {"heavy": True}, "heavy"),
    (HI | {"heavy": {}}, "heavy.trajectories"),
    (HI | {"heavy": {"trajectories": 1}}, "heavy.trajectories"),
    (HI | {"heavy": {"trajectories": 17}}, "heavy.trajectories"),
    # Thinking
    (HI | {"reasoning_effort": "hard"}, "reasoning_effort"),
    (HI | {"reasoning_effort": 3}, "reasoning_effort"),
    (HI | {"thinking": True}, "thinking"),
    (HI | {"thinking": {"type": "on"}}, "thinking.type"),
    (HI | {"thinking": {"type": "enabled", "keep": "some"}}, "thinking.keep"),
    (HI | {"thinking": {"type": "enabled", "effort": "hard"}}, "thinking.effort"),
    (HI | {"thinking": {"type": "enabled", "budget_tokens": 0}}, "thinking.budget_tokens"),
    (HI | {"chat_template_kwargs": {"thinking": "no"}}, "chat_template_kwargs.thinking"),
    # The answer's format
    (HI | {"response_format": "json"}, "response_format"),
    (with_format(), "response_format.type"),
    (with_format(type="xml"), "response_format.type"),
    (with_format(type="json_schema"), "response_format.json_schema"),
    (with_format(type="json_schema", json_schema={}), "response_format.json_schema.name"),
    (
        with_format(type="json_schema", json_schema={"name": "n"}),
        "response_format.json_schema.schema",
    ),
    (
        with_format(type="json_schema", json_schema={"name": "n", "schema": "object"}),
        "response_format.json_schema.schema",
    ),
    (
        with_format(type="json_schema", json_schema={"name": "n", "schema": {}, "strict": "yes"}),
        "response_format.json_schema.strict",
    ),
    # Tools
    (HI | {"tools": {}}, "tools"),
    (HI | {"tools": [None]}, "tools[0]"),
    (HI | {"tools": [{"type": "function"}]}, "tools[0].function"),
    (HI | {"tools": [tool(strict="yes")]}, "tools[0].function.strict"),
    (HI | {"tools": [tool(parameters=[])]}, "tools[0].function.parameters"),
    (HI | {"tools": [tool("x" * 129)]}, "tools[0].function.name"),
    (HI | {"tools": [tool("$web_search")]}, "tools[0].function.name"),
    (HI | {"tools": [tool("f") | {"type": "builtin_function"}]}, "tools[0].function.name"),
    (HI | {"tools": [tool(f"t{i}") for i in range(MAX_TOOLS + 1)]}, "tools"),
    (HI | {"tool_choice": "required"}, "tool_choice"),
    (HI | {"tools": [], "tool_choice": "required"}, "tool_choice"),
    (HI | {"tools": [{"type": "web_search"}], "tool_choice": "required"}, "tool_choice"),
    (HI | {"tools": [tool()], "tool_choice": "any"}, "tool_choice"),
    (HI | {"tools": [tool()], "tool_choice": {"type": "custom"}}, "tool_choice"),
    (HI | {"tools": [tool()], "tool_choice": {"type": "function"}}, "tool_choice.function"),
    (HI | {"tools": [tool()], "tool_choice": tool("find")}, "tool_choice.function.name"),
    (HI | {"tool_choice": tool()}, "tool_choice.function.name"),
    (HI | {"tools": [tool()], "tool_choice": tool(5)}, "tool_choice.function.name"),
    (
        HI | {"tools": [tool()], "tool_choice": {"type": "allowed_tools"}},
        "tool_choice.tools",
    ),
    (
        HI | {"tools": [tool()], "tool_choice": allowed("search", "find")},
        "tool_choice.allowed_tools.tools[1].function.name",
    ),
    (
        HI | {"tools": [tool()], "tool_choice": allowed("search", mode="none")},
        "tool_choice.allowed_tools.mode",
    ),
    (
        HI | {"tools": [tool()], "tool_choice": allowed(mode="required")},
        "tool_choice.allowed_tools.tools",
    ),
    *((HI | {name: {"odd": 1}}, name) for name in REFUSED),
]


@pytest.mark.parametrize(("body", "param"), BAD)
def test_a_bad_body_is_a_400_that_names_the_field(body, param):
    with pytest.raises(ApiError) as caught:
        decode_request(body)
    error = encode_error(caught.value)["error"]
    assert (caught.value.status, error["param"]) == (400, param)
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith(f"{param}: " if param else "The request body")


def test_string_tools_are_told_what_a_tool_looks_like():
    with pytest.raises(ApiError, match=r'"function": \{"name": "search".*not "search"\.'):
        decode_request(HI | {"tools": ["search"]})


# Junk -------------------------------------------------------------------------------------------

json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


def junk(names: Any, **good: Any) -> st.SearchStrategy[Any]:
    """Objects with known names; some of their values are what the field may hold."""
    fixed = st.fixed_dictionaries({}, optional={k: st.sampled_from(v) for k, v in good.items()})
    return st.builds(lambda odd, even: odd | even, st.dictionaries(names, json, max_size=3), fixed)


ROLES = ["system", "developer", "user", "assistant", "tool", "function"]
turn = junk(
    st.sampled_from(sorted(Turn.model_fields)),
    role=ROLES,
    content=["x", "", [text_part("x")], ["x"]],
    tool_calls=[[CALL], [CALL, CALL], []],
    tool_call_id=["call_1", "call_2"],
    partial=[True],
    tools=[[tool("a")], ["a"]],
)
function = junk(st.sampled_from(["name", "parameters", "strict", "type"]), name=["a", "$b", "c d"])
tools = st.lists(
    junk(
        st.sampled_from(sorted(Tool.model_fields)), type=["function", "builtin_function", "custom"]
    )
    | st.builds(lambda inner: {"type": "function", "function": inner}, function)
    | json,
    max_size=3,
)
choice = junk(
    st.sampled_from(["type", "function", "allowed_tools", "mode", "tools", "name"]),
    type=["function", "allowed_tools"],
    function=[{"name": "a"}, {"name": 5}],
    allowed_tools=[allowed("a")["allowed_tools"], {}, {"mode": "auto"}],
)
body = st.fixed_dictionaries(
    {"messages": st.just(HI["messages"]) | st.lists(turn, max_size=4) | json},
    optional={
        "tools": tools,
        "tool_choice": choice | json,
        "thinking": junk(st.sampled_from(sorted(ThinkingBody.model_fields))),
        "heavy": junk(st.just("trajectories")),
        "logit_bias": st.dictionaries(st.text("0123x", max_size=3), json, max_size=3),
        "response_format": junk(
            st.sampled_from(["type", "json_schema", "schema"]),
            type=["text", "json_object", "json_schema"],
            json_schema=[{"name": "n"}, {"name": "n", "schema": {}}],
        ),
    },
)
odd_fields = st.dictionaries(
    st.sampled_from(sorted(Body.model_fields.keys() | REFUSED.keys())), json, max_size=3
)


@given(st.builds(lambda known, odd: odd | known, body, odd_fields) | odd_fields)
def test_junk_is_refused_by_the_field_that_is_wrong(body):
    try:
        request = decoded(body)
    except ApiError as error:
        assert error.status == 400 and error.param is not None
        field = re.split(r"[.\[]", error.param)[0]
        assert field in body or field == "messages"
        assert error.message.startswith(f"{error.param}: ")
    else:
        assert request.messages
        assert all(spec.parameters["type"] == "object" for spec in request.tools)


@given(json)
def test_any_json_is_refused_with_a_400(body):
    with pytest.raises(ApiError) as caught:
        decode_request(body)
    assert caught.value.status == 400
