"""Bodies of the Messages dialect: what is read out of them, and what is refused."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.server.dialects import anthropic
from openk2.server.dialects.anthropic import MessagesOptions, decode_request
from openk2.server.dialects.anthropic_events import encode_error
from openk2.server.dialects.effort import BUDGETS
from openk2.server.errors import ApiError
from openk2.server.request import ChatRequest, JsonAnswer, NamedTool, Thinking
from openk2.types import Message, Sampling, ToolCall, ToolSpec, validate_history
from tests.server.dialects.messages_bodies import (
    BILLING,
    HI,
    OURS,
    assistant,
    decode,
    image,
    result,
    system,
    talk,
    text,
    thinking,
    tool,
    use,
    user,
)

SERVER_TOOL = {"type": "web_search_20260318", "name": "web_search", "max_uses": 5}

# Refusals ---------------------------------------------------------------------------------------

BAD = [
    ([], None),
    ("hi", None),
    ({}, "messages"),
    ({"messages": HI["messages"]}, "max_tokens"),
    (HI | {"max_tokens": None}, "max_tokens"),
    (HI | {"max_tokens": -1}, "max_tokens"),
    (HI | {"thread": {"type": "continue", "previous_message_id": "msg_1"}}, "thread"),
    (HI | {"compaction": {"type": "summarize"}}, "compaction"),
    (HI | {"max_tokens": "64"}, "max_tokens"),
    (HI | {"max_tokens": 6.5}, "max_tokens"),
    (HI | {"model": 5}, "model"),
    (HI | {"stream": "yes"}, "stream"),
    (HI | {"temperature": 1.5}, "temperature"),
    (HI | {"temperature": float("nan")}, "temperature"),
    (HI | {"top_p": 0}, "top_p"),
    (HI | {"top_k": -1}, "top_k"),
    (HI | {"top_k": 2**31}, "top_k"),
    (HI | {"stop_sequences": "END"}, "stop_sequences"),
    (HI | {"stop_sequences": ["x", ""]}, "stop_sequences[1]"),
    (HI | {"stop_sequences": ["x"] * 65}, "stop_sequences"),
    (HI | {"system": 5}, "system"),
    (HI | {"system": ["be brief"]}, "system[0]"),
    (HI | {"system": [image()]}, "system[0]"),
    (HI | {"system": [{"type": "text"}]}, "system[0].text"),
    (talk(), "messages"),
    (HI | {"messages": "hi"}, "messages"),
    (talk("hi"), "messages[0]"),
    (talk({"content": "hi"}), "messages[0].role"),
    (talk({"role": "tool", "content": "hi"}), "messages[0].role"),
    (talk({"role": "user"}), "messages[0].content"),
    (talk({"role": "user", "content": None}), "messages[0].content"),
    (talk(user("")), "messages[0].content"),
    (talk(user("hi"), user()), "messages[1].content"),
    (talk(user({"type": "container_upload", "file_id": "f"})), "messages[0].content"),
    (talk(user(5)), "messages[0].content[0]"),
    (talk(user({"text": "hi"})), "messages[0].content[0]"),
    (talk(user(text("hi"), {"type": "text", "text": 5})), "messages[0].content[1].text"),
    (talk(user(text("see"), image())), "messages[0].content[1]"),
    (talk(user(image("url"))), "messages[0].content[0]"),
    (talk(user({"type": "document", "source": {"type": "base64", "data": "JVBE"}})),
     "messages[0].content[0].source"),
    (talk(user({"type": "document", "source": {"type": "file", "file_id": "f"}})),
     "messages[0].content[0].source"),
    (talk(user({"type": "document"})), "messages[0].content[0].source"),
    (talk(user({"type": "document", "source": {"type": "text", "data": 5}})),
     "messages[0].content[0].source.data"),
    (talk(user({"type": "document", "source": {"type": "content", "content": [image()]}})),
     "messages[0].content[0].source.content[0]"),
    (talk(assistant("")), "messages"),
    # Tool calls and their results
    (talk(user(use())), "messages[0].content[0]"),
    (talk(user("hi"), assistant(result())), "messages[1].content[0]"),
    (talk(user("hi"), assistant({"type": "tool_use", "id": "a", "name": "f"})),
     "messages[1].content[0].input"),
    (talk(user("hi"), assistant(use("a"), use("a"))), "messages[1].content[1].id"),
    (talk(user(result())), "messages[0].content[0].tool_use_id"),
    (talk(user("hi"), assistant(use()), user(result("toolu_b"))),
     "messages[2].content[0].tool_use_id"),
    (talk(user("hi"), assistant(use()), user(result(), result())),
     "messages[2].content[1].tool_use_id"),
    (talk(user("hi"), assistant(use()), user(result()), assistant("so"), user(result())),
     "messages[4].content[0].tool_use_id"),
    (talk(user("hi"), assistant(text("look"), use())), "messages[1].content[1]"),
    (talk(user("hi"), assistant(use()), user("go on")), "messages[1].content[0]"),
    (talk(user("hi"), assistant(use()), user("go on"), assistant("so"), user(result())),
     "messages[1].content[0]"),
    (talk(user("hi"), assistant(use()), system("s"), assistant("so"), user(result())),
     "messages[1].content[0]"),
    (talk(user("hi"), assistant(use("a"), use("b")), user(result("a"))), "messages[1].content[1]"),
    (talk(user("hi"), assistant(use("a"), use("b")), user(result("a")), assistant("so")),
     "messages[1].content[1]"),
    (talk(user("hi"), assistant(use()), user(text("here:"), result())), "messages[2].content[1]"),
    (talk(user("hi"), assistant(use()), user("wait"), system("s"), user(result())),
     "messages[4].content[0]"),
    (talk(user("hi"), assistant(use()), user(result(content=5))), "messages[2].content[0].content"),
    (talk(user("hi"), assistant(use()), user(result(is_error="no"))),
     "messages[2].content[0].is_error"),
    # Tools
    (HI | {"tools": {}}, "tools"),
    (HI | {"tools": [tool(f"t{i}") for i in range(1025)]}, "tools"),
    (HI | {"tools": ["search"]}, "tools[0]"),
    (HI | {"tools": [tool(), {"type": "function", "function": {"name": "f"}}]}, "tools[1]"),
    (HI | {"tools": [{"name": "f"}]}, "tools[0].input_schema"),
    (HI | {"tools": [{"name": "f", "type": "custom"}]}, "tools[0].input_schema"),
    (HI | {"tools": [tool("no spaces")]}, "tools[0].name"),
    (HI | {"tools": [tool("f", type=5)]}, "tools[0].type"),
    (HI | {"tools": [tool(input_schema={"type": "array"})]}, "tools[0].input_schema"),
    (HI | {"tools": [tool("a"), SERVER_TOOL, tool("a")]}, "tools[2].name"),
    (HI | {"tool_choice": "auto"}, "tool_choice"),
    (HI | {"tool_choice": {}}, "tool_choice.type"),
    (HI | {"tool_choice": {"type": "required"}}, "tool_choice.type"),
    (HI | {"tool_choice": {"type": "any"}}, "tool_choice"),
    (HI | {"tool_choice": {"type": "any"}, "tools": [SERVER_TOOL]}, "tool_choice"),
    (HI | {"tool_choice": {"type": "tool"}, "tools": [tool()]}, "tool_choice.name"),
    (HI | {"tool_choice": {"type": "tool", "name": "x"}, "tools": [tool()]}, "tool_choice.name"),
    (HI | {"tool_choice": {"type": "tool", "name": "web_search"}, "tools": [tool(), SERVER_TOOL]},
     "tool_choice.name"),
    (HI | {"tool_choice": {"type": "auto", "disable_parallel_tool_use": 1}},
     "tool_choice.disable_parallel_tool_use"),
    # Thinking and the form of the answer
    (HI | {"thinking": "enabled"}, "thinking"),
    (HI | {"thinking": {}}, "thinking.type"),
    (HI | {"thinking": {"type": "enabled", "budget_tokens": 0}}, "thinking.budget_tokens"),
    (HI | {"thinking": {"type": "enabled", "budget_tokens": "1"}}, "thinking.budget_tokens"),
    (HI | {"output_config": []}, "output_config"),
    (HI | {"output_config": {"format": {"type": "json"}}}, "output_config.format.type"),
    (HI | {"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
    (talk(user("hi"), assistant("{")) | {"output_config": {"format": {
        "type": "json_schema", "schema": {}}}}, "output_config.format"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "param"), BAD)
def test_a_bad_body_is_a_400_that_names_the_field(body, param):
    with pytest.raises(ApiError) as caught:
        decode(body)
    error = encode_error(caught.value, "req_1")["error"]
    assert (caught.value.status, caught.value.param) == (400, param)
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith(param or "The request body")
    assert error["message"].endswith(".")


def refusal(body: object) -> str:
    with pytest.raises(ApiError) as caught:
        decode(body)
    return caught.value.message


def test_a_call_without_a_result_is_told_how_to_be_repaired():
    message = refusal(talk(user("hi"), assistant(use()), user("go on")))
    assert "'toolu_a' has no tool_result; begin the next user turn with one" in message


def test_a_result_without_a_call_is_told_how_to_be_repaired():
    message = refusal(talk(user(result())))
    assert "answers no tool_use" in message and "leave this block out" in message


def test_a_tool_of_another_dialect_is_told_what_a_tool_looks_like():
    for foreign in ("search", {"type": "function", "function": {"name": "search"}}):
        assert '"input_schema": {"type": "object"' in refusal(HI | {"tools": [foreign]})


def test_what_clients_send_is_quoted_but_not_in_full():
    assert len(refusal(talk(user(result("x" * 10_000))))) < 500


def test_an_image_that_a_tool_gave_becomes_words_and_a_warning():
    given = result(content=[text("Shot:"), image(), text("done")])
    request, options = decode_request(talk(user("hi"), assistant(use()), user(given)), signer=OURS)
    shown = "Shot:\n\n[There was an image here. Only text can be read.]\n\ndone"
    assert request.messages[-1].content == shown
    path = "messages[2].content[0].content[1]"
    assert options.warnings == (f"{path}: the image was left out; only text can be read",)


# The settings -----------------------------------------------------------------------------------


def test_the_least_body_gets_the_defaults():
    request, options = decode_request(HI, signer=OURS)
    assert request == ChatRequest(
        default_temperature=True,
        messages=(Message("user", "hi"),),
        sampling=Sampling(temperature=1.0, max_tokens=64),
        whole=True,
        schema_field="output_config.format",
    )
    assert options == MessagesOptions()


def test_values_that_mean_off_are_accepted():
    names = ("model system stop_sequences stream temperature top_p top_k tools tool_choice "
             "thinking output_config output_format")  # fmt: skip
    assert decode(HI | dict.fromkeys(names.split())) == decode(HI)


def test_what_is_not_about_the_answer_is_ignored():
    strange = {
        "metadata": {"user_id": '{"device_id": "d", "session_id": "s"}'},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "service_tier": "auto",
        "cache_control": {"type": "ephemeral"},
        "container": "c",
        "inference_geo": "eu",
        "speed": "fast",
        "diagnostics": {},
        "enable_test_time_scaling": True,
    }
    assert decode(HI | strange) == decode(HI)


def test_every_setting_arrives():
    body = HI | {
        "model": "kimi-k3[1m]",
        "stream": True,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "stop_sequences": ["END", "\n\n"],
    }
    request, options = decode_request(body, signer=OURS)
    assert request.sampling == Sampling(
        temperature=0.5, top_p=0.9, top_k=40, max_tokens=64, stop=("END", "\n\n")
    )
    assert (request.model, request.limit_field) == ("kimi-k3[1m]", "max_tokens")
    assert options.stream


@pytest.mark.parametrize(("asked", "real"), [(None, 0.6), (1.0, 0.6), (0.5, 0.3), (0, 0.0)])
def test_the_temperature_of_instruct_models_is_scaled(asked, real):
    request = decode(HI | {"temperature": asked}, temperature_scale=0.6)
    assert request.sampling.temperature == pytest.approx(real)


def test_no_tokens_at_all_may_be_asked_for_to_warm_the_cache():
    assert decode(HI | {"max_tokens": 0}).sampling.max_tokens == 0


def test_counting_needs_no_limit_of_the_answer():
    body = {"messages": HI["messages"], "system": "Be brief.", "tools": [tool()]}
    counted = decode(body, count_only=True)
    assert counted.sampling.max_tokens is None
    assert counted.messages == decode(body | {"max_tokens": 1}).messages


@pytest.mark.parametrize(
    ("body", "thinking"),
    [
        ({}, Thinking()),
        ({"thinking": {"type": "disabled"}}, Thinking(enabled=False)),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, Thinking(True, 2000)),
        # Interleaved thinking may have a budget beyond the answer's limit.
        ({"thinking": {"type": "enabled", "budget_tokens": 10**6}}, Thinking(True, 10**6)),
        ({"thinking": {"type": "enabled"}}, Thinking(True)),
        ({"thinking": {"type": "adaptive", "display": "omitted"}}, Thinking()),
        ({"thinking": {"type": "between_tools"}}, Thinking()),
        ({"thinking": {"type": "of_next_year"}}, Thinking()),
        ({"output_config": {"effort": "low"}}, Thinking(budget=BUDGETS["low"])),
        ({"output_config": {"effort": "max"}}, Thinking()),
        ({"output_config": {"effort": "of_next_year"}}, Thinking()),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}}, Thinking(False)),
        ({"thinking": {"type": "enabled"}, "output_config": {"effort": "low"}},
         Thinking(True, BUDGETS["low"])),
        ({"thinking": {"type": "enabled", "budget_tokens": 5}, "output_config": {"effort": "low"}},
         Thinking(True, 5)),
    ],
)  # fmt: skip
def test_thinking_and_effort_are_one_notion(body, thinking):
    assert decode(HI | body).thinking == thinking


@pytest.mark.parametrize("where", ["output_config", "output_format"])
def test_a_schema_of_the_answer_is_found_under_both_names(where):
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    form = {"type": "json_schema", "schema": schema}
    body = HI | {where: {"format": form} if where == "output_config" else form}
    request = decode(body)
    assert request.answer_format == JsonAnswer(schema)
    assert request.schema_field.startswith(where)


# Tools ------------------------------------------------------------------------------------------


def test_hints_about_tools_are_ignored():
    hints = {
        "type": "custom",
        "strict": True,
        "input_examples": [{}],
        "eager_input_streaming": True,
        "defer_loading": True,
        "cache_control": {"type": "ephemeral", "ttl": "1h"},
        "allowed_callers": ["direct"],
    }
    request = decode(HI | {"tools": [tool(description="Looks.", **hints)]})
    assert request.tools == (ToolSpec("search", "Looks.", {"type": "object"}),)


def test_a_schema_arrives_as_it_was_sent():
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "properties": {"b": {"const": 1}, "a": {"exclusiveMinimum": 0}},
        "type": "object",
        "propertyNames": {"pattern": "^[a-z]$"},
    }
    (spec,) = decode(HI | {"tools": [tool(input_schema=schema)]}).tools
    assert json.dumps(spec.parameters) == json.dumps(schema)


def test_a_schema_without_a_type_is_one_of_an_object():
    (spec,) = decode(HI | {"tools": [tool(input_schema={"required": []})]}).tools
    assert spec.parameters == {"type": "object", "required": []}


def test_more_tools_than_other_dialects_take_are_accepted():
    assert len(decode(HI | {"tools": [tool(f"t{i}") for i in range(200)]}).tools) == 200


def test_tools_that_only_anthropic_has_are_left_out_with_a_warning():
    body = HI | {"tools": [SERVER_TOOL, tool(), {"type": "mcp_toolset"}], "mcp_servers": [{}]}
    request, options = decode_request(body, signer=OURS)
    assert [spec.name for spec in request.tools] == ["search"]
    starts = [warning.partition(":")[0] for warning in options.warnings]
    assert starts == ["tools[0]", "tools[2]", "mcp_servers"]
    assert "web_search_20260318" in options.warnings[0]


def test_a_warning_can_stand_in_a_header():
    foreign = {"type": "网\r\nSet-Cookie: a" * 99}
    (warning,) = decode_request(HI | {"tools": [foreign]}, signer=OURS)[1].warnings
    assert warning.isascii() and warning.isprintable() and len(warning) < 200


def test_an_unknown_kind_of_tool_with_a_schema_is_a_tool():
    request = decode(HI | {"tools": [tool("bash", type="bash_20270101")]})
    assert [spec.name for spec in request.tools] == ["bash"]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, "auto"),
        ({"type": "auto"}, "auto"),
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "search"}, NamedTool("search")),
    ],
)
def test_every_tool_choice_has_its_meaning(choice, expected):
    request = decode(HI | {"tools": [tool()], "tool_choice": choice})
    assert (request.tool_choice, request.parallel_tool_calls) == (expected, True)


@pytest.mark.parametrize("kind", ["auto", "any"])
def test_parallel_calls_can_be_switched_off(kind):
    choice = {"type": kind, "disable_parallel_tool_use": True}
    assert not decode(HI | {"tools": [tool()], "tool_choice": choice}).parallel_tool_calls


# A real client ----------------------------------------------------------------------------------

CLAUDE_CODE = {
    "model": "claude-opus-4-9",
    "max_tokens": 32000,
    "stream": True,
    "thinking": {"type": "adaptive"},
    "output_config": {"effort": "high"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "metadata": {"user_id": json.dumps({"device_id": "0f", "session_id": "7a"})},
    "system": [
        text(f"{BILLING} cch=91c2;"),
        text("You are an agent in a terminal.", cache_control={"type": "ephemeral"}),
        text("\nWork in /tmp/project.", cache_control={"type": "ephemeral", "ttl": "1h"}),
    ],
    "tools": [
        {
            "name": "Bash",
            "description": "Runs a command.",
            "input_schema": {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "type": "object",
                "properties": {
                    "command": {"type": "string"},
                    "timeout": {"type": "number", "exclusiveMinimum": 0},
                },
                "required": ["command"],
                "additionalProperties": False,
            },
        },
        {"name": "mcp__github__search", "input_schema": {"type": "object"}, "defer_loading": True},
    ],
    "messages": [
        user(text("<system-reminder>Today is Sunday.</system-reminder>"), text("List the files.")),
        system("The user's shell is bash."),
        assistant(thinking("I should list.", OURS.sign("I should list.")),
                  use("toolu_0_ab", "Bash", command="ls")),
        user(result("toolu_0_ab", "ls: permission denied", is_error=True,
                    cache_control={"type": "ephemeral"})),
    ],
}  # fmt: skip


def test_a_body_in_the_shape_of_claude_code_is_understood():
    request, options = decode_request(CLAUDE_CODE, signer=OURS, temperature_scale=0.6)
    reminder = "<system-reminder>Today is Sunday.</system-reminder>"
    assert request.messages == (
        Message("system", "You are an agent in a terminal.\n\n\nWork in /tmp/project."),
        Message("user", f"{reminder}\n\nList the files."),
        Message("system", "The user's shell is bash."),
        Message(
            "assistant",
            reasoning="I should list.",
            tool_calls=(ToolCall("toolu_0_ab", "Bash", '{"command": "ls"}'),),
        ),
        Message("tool", "Error: ls: permission denied", tool_call_id="toolu_0_ab"),
    )
    assert [spec.name for spec in request.tools] == ["Bash", "mcp__github__search"]
    assert request.sampling == Sampling(temperature=0.6, max_tokens=32000)
    assert (request.thinking.enabled, request.partial) == (None, False)
    assert options == MessagesOptions(stream=True)


# Anything at all --------------------------------------------------------------------------------

junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
ids = st.sampled_from(["a", "b", ""])
blocks = st.one_of(
    junk,
    st.builds(text, st.text(max_size=3)),
    st.builds(use, ids, st.sampled_from(["f", ""])),
    st.builds(result, ids, st.text(max_size=3) | st.lists(junk, max_size=2)),
    st.builds(thinking, junk, junk),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["text", "tool_use", "document", "image", "search_result"])},
        optional={"text": junk, "source": junk, "content": junk, "title": junk, "id": junk},
    ),
)
contents = st.text(max_size=3) | st.lists(blocks, max_size=4)
turns = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system"]), "content": contents}
)
FIELDS = set(anthropic.Body.model_fields)
bodies = st.fixed_dictionaries(
    {"max_tokens": st.just(5), "messages": st.lists(turns, min_size=1, max_size=6)},
    optional=dict.fromkeys(sorted(FIELDS - {"messages", "max_tokens"}), junk),
)
conversations = st.builds(lambda *said: talk(*said), *[turns] * 4)


@given(bodies | conversations | junk | st.dictionaries(st.sampled_from(sorted(FIELDS)), junk))
def test_any_body_is_a_request_or_a_400_that_names_a_field(body):
    try:
        request = decode(body)
    except ApiError as error:
        assert error.status == 400
        named = re.split(r"[.\[]", error.param or "")[0]
        assert named in FIELDS or not isinstance(body, dict)
        assert error.message.startswith(error.param or "The request body")
    else:
        validate_history(request.messages)
        assert request.messages
        assert request.partial == (request.messages[-1].role == "assistant")
