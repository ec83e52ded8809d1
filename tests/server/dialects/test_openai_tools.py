from __future__ import annotations

import pytest

from openk2.server.dialects.openai import decode_request
from openk2.server.dialects.openai_body import MAX_TOOLS
from openk2.server.errors import ApiError
from openk2.server.request import NamedTool
from openk2.types import (
    ToolSpec,
)
from tests.server.dialects.chat_bodies import (
    HI,
    SCHEMA,
    USER,
    after_hi,
    allowed,
    decoded,
    dynamic,
    tool,
)

# Tools ------------------------------------------------------------------------------------------


def test_tools_of_system_messages_are_added():
    request = decoded(
        after_hi(dynamic(tool("b")), USER, dynamic(tool("c"), content=[])) | {"tools": [tool("a")]}
    )
    assert [spec.name for spec in request.tools] == ["a", "b", "c"]
    assert [message.content for message in request.messages] == ["hi", "go on"]


def test_more_tools_than_the_platforms_take_are_taken():
    tools = [tool(f"mcp__server-{index}.do") for index in range(MAX_TOOLS)]
    assert len(decoded(HI | {"tools": tools}).tools) == MAX_TOOLS
    too_many = after_hi(dynamic(tool("one_more"))) | {"tools": tools}
    with pytest.raises(ApiError, match=f"more than {MAX_TOOLS} tools"):
        decode_request(too_many)


def test_tools_of_other_kinds_are_ignored_and_flat_ones_understood():
    flat = {"type": "function", "name": "search", "parameters": SCHEMA}
    custom = {"type": "custom", "custom": {"name": "apply_patch"}}
    tools = [{"type": "web_search"}, flat, custom, {"type": "custom", "name": "apply_patch"}]
    assert decoded(HI | {"tools": tools}).tools == (ToolSpec("search", "", SCHEMA),)


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"q": {"type": "string"}}},
        {"additionalProperties": False},
        {"type": ["object", "null"], "properties": {}},
        {"$ref": "#/$defs/q", "$defs": {"q": {"type": "object"}}},
    ],
)
def test_arguments_are_an_object_though_the_schema_does_not_say_so(schema):
    (spec,) = decoded(HI | {"tools": [tool(parameters=schema)]}).tools
    assert spec.parameters == schema | {"type": "object"}


TOOLS = {"tools": [tool("a"), tool("b"), tool("c")]}


@pytest.mark.parametrize(
    ("choice", "meant", "names"),
    [
        ("auto", "auto", "abc"),
        (None, "auto", "abc"),
        ("none", "none", "abc"),
        ("required", "required", "abc"),
        (tool("b"), NamedTool("b"), "abc"),
        ({"type": "function", "name": "b"}, NamedTool("b"), "abc"),
        (allowed("c", "a"), "auto", "ac"),
        (allowed("b", mode="required"), "required", "b"),
        (allowed(), "auto", ""),
        ({"type": "allowed_tools", "tools": [{"type": "function", "name": "b"}]}, "auto", "b"),
    ],
)
def test_the_choice_among_tools_arrives(choice, meant, names):
    request = decoded(HI | TOOLS | {"tool_choice": choice})
    assert request.tool_choice == meant
    assert "".join(spec.name for spec in request.tools) == names


def test_tool_choice_none_still_checks_the_tools():
    with pytest.raises(ApiError):
        decode_request(HI | {"tools": ["x"], "tool_choice": "none"})
