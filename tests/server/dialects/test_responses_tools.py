"""Tools of the Responses dialect that are no plain functions: texts as they are, and namespaces."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from openk2.server.dialects.responses import decode_request
from openk2.server.dialects.responses_events import ResponseEncoder, encode_response
from openk2.server.dialects.responses_tools import ArgumentText, flat_name
from openk2.server.request import NamedTool
from openk2.types import (
    Event,
    Finish,
    Message,
    PromptRead,
    ToolCall,
    ToolCallArguments,
    ToolCallStart,
    Usage,
)
from tests.server.dialects.responses_items import HEAD, HI, messages, output, tool, user

PATCH = '*** Begin Patch\n+"é" \\ 🌍\u2028\t\n*** End Patch'
TOOLS: list[Any] = [
    {"type": "custom", "name": "apply_patch", "description": "Edits files."},
    {"type": "namespace", "name": "mcp__git__", "description": "Git.", "tools": [tool("log")]},
    {"type": "namespace", "name": "agents", "tools": [tool("spawn"), {"type": "web_search"}]},
    tool("plain"),
]


def ask(**fields: Any) -> Any:
    return decode_request(HI | {"tools": TOOLS} | fields)


def answer(pieces: list[str], reason: Any = "tool_calls") -> list[Event]:
    return [
        PromptRead(1),
        ToolCallStart(0, "functions.apply_patch:0", "apply_patch"),
        *(ToolCallArguments(0, piece) for piece in pieces),
        ToolCallStart(1, "functions.mcp__git__log:1", "mcp__git__log"),
        ToolCallArguments(1, "{}"),
        ToolCallStart(2, "functions.plain:2", "plain"),
        Finish(reason),
        Usage(1, 2),
    ]


def test_all_tools_are_functions_to_the_model():
    request, options = ask()
    assert [one.name for one in request.tools] == [
        "apply_patch",
        "mcp__git__log",
        "agents__spawn",
        "plain",
    ]
    custom = request.tools[0]
    assert custom.description == "Edits files."
    assert custom.parameters["required"] == ["input"]
    assert custom.parameters["properties"]["input"]["type"] == "string"
    assert options.warnings == ("tools[2].tools[1]: left out; 'web_search' is not known here",)


def test_a_grammar_is_shown_and_said_not_to_be_enforced():
    form = {"type": "grammar", "syntax": "lark", "definition": "start: LINE"}
    request, options = ask(tools=[TOOLS[0] | {"format": form}])
    assert request.tools[0].description.endswith("The input has this grammar:\nstart: LINE")
    assert options.warnings == ("tools[0].format: the grammar is shown, not enforced",)
    assert options.echo["tools"][0]["format"] == form
    assert options.echo["tools"][0]["description"] == "Edits files."


@pytest.mark.parametrize("form", [None, {"type": "grammar"}, {"type": "text"}])
def test_answers_are_what_the_sdk_reads(form):
    tools = [TOOLS[0] | {"format": form}, *TOOLS[1:]]
    options = ask(tools=tools, tool_choice={"type": "custom", "name": "apply_patch"})[1]
    events = answer(['{"input": "x"}'])
    Response.model_validate(encode_response(HEAD, options, events), strict=False)
    encoder = ResponseEncoder(HEAD, options)
    for event in events:
        for _, body in encoder.encode(event):
            TypeAdapter(ResponseStreamEvent).validate_python(body)


def test_an_answer_repeats_the_tools_as_the_client_has_them():
    echo = ask()[1].echo["tools"]
    assert [(one["type"], one["name"]) for one in echo] == [
        ("custom", "apply_patch"),
        ("namespace", "mcp__git__"),
        ("namespace", "agents"),
        ("function", "plain"),
    ]
    assert echo[0]["format"] == {"type": "text"}
    assert [one["name"] for one in echo[1]["tools"]] == ["log"]


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        ({"type": "custom", "name": "apply_patch"}, "apply_patch"),
        ({"type": "function", "name": "log", "namespace": "mcp__git__"}, "mcp__git__log"),
        ({"type": "function", "name": "plain"}, "plain"),
    ],
)
def test_a_choice_names_a_tool_as_the_client_does(choice, name):
    request, options = ask(tool_choice=choice)
    assert request.tool_choice == NamedTool(name)
    assert options.echo["tool_choice"] == choice
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [choice]}
    request, options = ask(tool_choice=allowed)
    assert [one.name for one in request.tools] == [name]
    assert options.echo["tool_choice"] == allowed


@given(st.lists(st.integers(0, 200), max_size=20), st.booleans())
def test_calls_come_back_as_the_client_has_declared_the_tools(cuts, ascii_only):
    arguments = json.dumps({"input": PATCH}, ensure_ascii=ascii_only)
    places = sorted({0, len(arguments), *(cut for cut in cuts if cut < len(arguments))})
    pieces = [arguments[a:b] for a, b in itertools.pairwise(places)]
    options = ask()[1]
    encoder = ResponseEncoder(HEAD, options)
    frames = [frame for event in answer(pieces) for frame in encoder.encode(event)]
    told = [body["delta"] for name, body in frames if name.endswith("custom_tool_call_input.delta")]
    done = [body["input"] for name, body in frames if name.endswith("custom_tool_call_input.done")]
    assert "".join(told) == PATCH and done == [PATCH] and all(told)
    custom, spaced, plain = encoder.response["output"]
    assert (custom["type"], custom["name"], custom["input"]) == (
        "custom_tool_call",
        "apply_patch",
        PATCH,
    )
    assert (spaced["type"], spaced["name"]) == ("function_call", "log")
    assert spaced["namespace"] == "mcp__git__" and "namespace" not in plain
    assert [body["sequence_number"] for _, body in frames] == list(range(len(frames)))


def test_a_call_that_the_limit_cut_keeps_what_there_is():
    events = answer(['{"input": "half \\u00'], "length")
    custom = encode_response(HEAD, ask()[1], [*events[:3], *events[-2:]])["output"][0]
    assert (custom["input"], custom["status"]) == ("half ", "incomplete")


def test_calls_of_the_history_are_under_the_names_that_the_model_knows():
    history = messages(
        user(),
        {"type": "custom_tool_call", "call_id": "a", "name": "apply_patch", "input": PATCH},
        {
            "type": "function_call",
            "call_id": "b",
            "namespace": "mcp__git__",
            "name": "log",
            "arguments": "{}",
        },
        {"type": "custom_tool_call_output", "call_id": "a", "output": "ok"},
        output("b"),
    )
    given_ = json.dumps({"input": PATCH}, ensure_ascii=False)
    calls = (ToolCall("a", "apply_patch", given_), ToolCall("b", "mcp__git__log", "{}"))
    assert history[1] == Message("assistant", tool_calls=calls)


def test_an_image_that_a_tool_gave_becomes_words_and_a_warning():
    parts = [{"type": "input_text", "text": "Shot: "}, {"type": "input_image", "image_url": "x"}]
    call = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
    request, options = decode_request({"input": [user(), call, output(value=parts)]})
    said = "Shot: [There was an image here. Only text can be read.]"
    assert request.messages[-1].content == said
    left = "input[2].output[1]: the image was left out; only text can be read"
    assert options.warnings == (left,)


@given(st.text(max_size=30), st.lists(st.integers(0, 60), max_size=8), st.booleans())
def test_any_text_is_read_out_of_its_argument(text, cuts, ascii_only):
    text = text.encode("utf-8", "replace").decode()
    written = json.dumps({"input": text}, ensure_ascii=ascii_only)
    places = sorted({0, len(written), *(cut for cut in cuts if cut < len(written))})
    read = ArgumentText()
    pieces = [read.feed(written[a:b]) for a, b in itertools.pairwise(places)]
    assert "".join(pieces) == read.text == text


@given(st.text(st.sampled_from('{"input: \\ud83c4x}'), max_size=30))
def test_any_arguments_are_read_without_an_error(arguments):
    read = ArgumentText()
    for letter in arguments:
        read.feed(letter)


def test_names_of_namespaces():
    assert flat_name(None, "f") == flat_name("", "f") == "f"
    assert (flat_name("n", "f"), flat_name("mcp__n__", "f")) == ("n__f", "mcp__n__f")
