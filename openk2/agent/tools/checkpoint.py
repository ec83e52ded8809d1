"""`checkpoint`: the model marks a place in the conversation that it may come back to.

In: a name. Out: a request in the result's details that the conversation obeys.
Must not know: the conversation itself, or the loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openk2.agent.tool import Call, Tool, ToolResult
from openk2.types import ToolSpec

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {
            "type": "string",
            "pattern": "^[A-Za-z0-9_-]{1,40}$",
            "description": "Short name of the place; the same name again moves it.",
        }
    },
    "required": ["name"],
    "additionalProperties": False,
}

DESCRIPTION = (
    "Mark this place in the conversation before you explore something that may lead nowhere; "
    "go_back returns to it."
)


def checkpoint() -> Tool:
    """Return the tool."""

    async def run(arguments: Mapping[str, Any], call: Call) -> ToolResult:
        name = arguments["name"]
        text = f"Marked as {name!r}. go_back(name={name!r}, message=…) returns here."
        return ToolResult(text, details={"context": {"checkpoint": name}})

    return Tool(spec=ToolSpec("checkpoint", DESCRIPTION, PARAMETERS), run=run)
