"""What the scripts of scenarios are written with: turns, calls, and a look at the last results.

In: thoughts, tool calls, code from a scenario's folder. Out: turns of a scripted model.
Must not know: any one scenario, or how tools work.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from openk2.agent.model import ModelRequest
from openk2.agent.models.scripted import Expect, Turn
from openk2.types import Message, ToolCall

Calls = ToolCall | Sequence[ToolCall]


def call(tool: str, **arguments: Any) -> ToolCall:
    """Write a tool call."""
    return ToolCall("", tool, json.dumps(arguments, ensure_ascii=False))


def run(code: str) -> ToolCall:
    """Run Python in the kernel."""
    return call("code_interpreter", code=code)


def cell(script: str, name: str) -> str:
    """Read a cell that lies beside a scenario's script.

    Args:
        script: The script's `__file__`.
        name: The cell's file name.
    """
    return (Path(script).parent / "cells" / name).read_text(encoding="utf-8")


def turn(thought: str, *calls: ToolCall, after: str | None = None) -> Turn:
    """Think, then call tools.

    Args:
        thought: The thinking before the calls.
        calls: The calls.
        after: Regular expression that the last result must have: the turn makes no sense otherwise.
    """
    return Turn(Message("assistant", reasoning=thought, tool_calls=calls), Expect(matches=after))


def reacting(thought: str, write: Callable[[list[str]], Calls], after: str | None = None) -> Turn:
    """Think, then call tools whose arguments come from the results so far.

    Args:
        thought: The thinking before the calls.
        write: Gets the results, oldest first.
        after: As in `turn`.
    """

    def say(request: ModelRequest) -> Message:
        seen = [message.content for message in request.messages if message.role == "tool"]
        calls = write(seen)
        made = (calls,) if isinstance(calls, ToolCall) else tuple(calls)
        return Message("assistant", reasoning=thought, tool_calls=made)

    return Turn(say, Expect(matches=after))


def plan(*items: tuple[str, str, str]) -> ToolCall:
    """Write a plan.

    Args:
        items: Text, what holds once it is done, and the file that must then be there.
    """
    return call(
        "update_plan",
        items=[
            {"id": f"p{number}", "text": text, "acceptance": holds, "file": file}
            for number, (text, holds, file) in enumerate(items, 1)
        ],
    )


def done(**evidence: str) -> ToolCall:
    """Tick items of the plan off, each with what shows it."""
    return call(
        "update_plan",
        marks=[
            {"id": item, "status": "done", "evidence": shown} for item, shown in evidence.items()
        ],
    )


def finish(summary: str, *artifacts: str) -> ToolCall:
    """End the run."""
    return call("finish", status="complete", summary=summary, artifacts=list(artifacts))
