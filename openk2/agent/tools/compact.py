"""`compact`: the model makes room in its window by a note to itself.

In: the note. Out: a request in the result's details, which the conversation obeys before the next
answer, when every call has its result (`Context.append`).
Must not know: the conversation itself, tokens, or the loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openk2.agent.tool import Call, Tool, ToolResult
from openk2.types import ToolSpec

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "note": {
            "type": "string",
            "minLength": 20,
            "description": "To yourself, in the first person: facts with sources, what is unknown, "
            "decisions with reasons, what failed, the next steps. What is not in it is gone.",
        }
    },
    "required": ["note"],
    "additionalProperties": False,
}

DESCRIPTION = (
    "Make room in your window: all steps so far give way to the note you write here. Use it when a "
    "part of the work is settled, alone in its answer. Goal, rules and plan stay, and long outputs "
    "can be read again by their handles."
)


def compact() -> Tool:
    """Return the tool."""

    async def run(arguments: Mapping[str, Any], call: Call) -> ToolResult:
        details = {"context": {"compact": arguments["note"]}}
        return ToolResult("Your note takes the place of the steps before it.", details=details)

    return Tool(spec=ToolSpec("compact", DESCRIPTION, PARAMETERS), run=run)
