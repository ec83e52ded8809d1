"""`go_back`: the model drops what followed a checkpoint and tells its earlier self what it learned.

In: a checkpoint and a message. Out: a request in the result's details that the conversation obeys.
Must not know: the conversation itself, or the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from openk2.agent.tool import Call, Tool, ToolError, ToolResult
from openk2.types import ToolSpec

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "description": "A checkpoint that you marked."},
        "message": {
            "type": "string",
            "minLength": 20,
            "description": "To your earlier self: what you learned, what not to try, what to do.",
        },
    },
    "required": ["name", "message"],
    "additionalProperties": False,
}

DESCRIPTION = (
    "Return to a checkpoint: everything said after it is dropped, and you go on from there with "
    "your message. Files stay as they are now. Use it when an exploration led nowhere or filled "
    "the window with what is not needed."
)


def go_back(checkpoints: Callable[[], Sequence[str]]) -> Tool:
    """Return the tool.

    Args:
        checkpoints: The names of places that were marked.
    """

    async def run(arguments: Mapping[str, Any], call: Call) -> ToolResult:
        name, known = arguments["name"], checkpoints()
        if name not in known:
            places = f"marked are {', '.join(known)}" if known else "none is marked yet"
            raise ToolError(f"There is no checkpoint {name!r}: {places}.", "bad_arguments")
        details = {"context": {"go_back": name, "message": arguments["message"]}}
        return ToolResult(f"Going back to {name!r}.", details=details)

    return Tool(spec=ToolSpec("go_back", DESCRIPTION, PARAMETERS), run=run)
