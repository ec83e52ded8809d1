"""The tools that look after the window ask for what the conversation then does."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from openk2.agent.context import Context
from openk2.agent.tool import Call, Tool, ToolError, ToolResult
from openk2.agent.tools.checkpoint import checkpoint
from openk2.agent.tools.compact import compact
from openk2.agent.tools.go_back import go_back
from openk2.agent.tools.read_result import MOST_CHARACTERS, read_result
from openk2.types import Message, ToolCall

WHOLE = "".join(f"line {number}\n" for number in range(10_000))


def use(tool: Tool, **arguments: Any) -> ToolResult:
    jsonschema_rs.validate(dict(tool.spec.parameters), arguments)
    return asyncio.run(tool.run(arguments, Call("c", Path.cwd(), 10.0)))


async def count(messages: Any) -> int:
    return 1


def step(context: Context, tool: Tool, **arguments: Any) -> tuple[Message, ...]:
    call = ToolCall(f"c{len(asyncio.run(context.view(99_999, count)).messages)}", tool.name, "{}")
    context.append(Message("assistant", tool_calls=(call,)))
    result = use(tool, **arguments)
    details = json.loads(json.dumps(dict(result.details)))
    context.append(Message("tool", result.content, tool_call_id=call.id), details=details)
    return asyncio.run(context.view(99_999, count)).messages


def test_a_place_is_marked_left_and_found_again():
    context = Context([Message("system", "s")])
    context.begin_task("goal")
    back = go_back(lambda: context.checkpoints)
    with pytest.raises(ToolError, match="none is marked yet"):
        use(back, name="here", message="it does not work that way")
    marked = step(context, checkpoint(), name="here")
    step(context, read_result(lambda handle: WHOLE), handle="r1")
    returned = step(context, back, name="here", message="it does not work that way")
    assert returned[:-1] == marked
    assert returned[-1].content.endswith("it does not work that way")
    with pytest.raises(ToolError, match="marked are here"):
        use(back, name="there", message="it does not work that way")


def test_a_note_takes_the_place_of_the_steps():
    context = Context([Message("system", "s")])
    context.begin_task("goal")
    step(context, checkpoint(), name="here")
    messages = step(context, compact(), note="I marked a place, and nothing else happened.")
    assert [message.role for message in messages] == ["system", "user", "user"]
    assert "I marked a place" in messages[-1].content


def test_a_whole_result_can_be_read_in_parts():
    tool = read_result({"r1": WHOLE, "r2": ""}.get)
    read, start = "", 0
    while start < len(WHOLE):
        part = use(tool, handle="r1", offset=start, characters=MOST_CHARACTERS).content
        head, _, text = part.partition("\n")
        assert head.endswith(f"of {len(WHOLE):,}]")
        read, start = read + text, start + len(text)
    assert read == WHOLE
    assert use(tool, handle="r2").content == "[r2: characters 0 to 0 of 0]\n"


def test_a_place_in_a_result_is_found_by_its_text():
    tool = read_result({"r1": WHOLE}.get)
    text = use(tool, handle="r1", find="line 7777", characters=400).content
    assert "line 7776\nline 7777\n" in text and len(text) < 500


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"handle": "r9"}, "no output 'r9'"),
        ({"handle": "r1", "offset": 10**7}, "take a smaller offset"),
        ({"handle": "r1", "find": "line 7777", "offset": 90_000}, "does not have 'line 7777'"),
    ],
)
def test_what_cannot_be_read_is_said(arguments: Any, problem: str):
    with pytest.raises(ToolError, match=problem):
        use(read_result({"r1": WHOLE}.get), **arguments)


@pytest.mark.parametrize("tool", [compact(), checkpoint(), go_back(list), read_result({}.get)])
def test_every_property_of_a_schema_is_described(tool: Tool):
    parameters = dict(tool.spec.parameters)
    jsonschema_rs.meta.validate(parameters)
    assert parameters["additionalProperties"] is False
    assert all(value["description"] for value in parameters["properties"].values())
