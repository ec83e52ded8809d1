"""`read_result`: the model reads a result again that was shortened or hidden.

In: its handle, and which part. Out: that part, with its place in the whole.
Must not know: where results are kept, or why this one is not in view.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from openk2.agent.tool import Call, Tool, ToolError, ToolResult
from openk2.types import ToolSpec

MOST_CHARACTERS = 16_000
"""In one answer: less than what is shortened again."""

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "handle": {"type": "string", "description": "The output's handle, such as r12."},
        "offset": {
            "type": "integer",
            "minimum": 0,
            "default": 0,
            "description": "Character to begin at.",
        },
        "characters": {
            "type": "integer",
            "minimum": 1,
            "maximum": MOST_CHARACTERS,
            "default": 8_000,
            "description": "How many characters to show.",
        },
        "find": {
            "type": "string",
            "description": "Begin shortly before the first place after offset that has this text.",
        },
    },
    "required": ["handle"],
    "additionalProperties": False,
}

DESCRIPTION = (
    "Read an output again that was hidden or shortened, by its handle. You get the part you ask "
    "for and how long the whole is."
)


def read_result(lookup: Callable[[str], str | None]) -> Tool:
    """Return the tool.

    Args:
        lookup: Returns the whole result of a handle; None if there is none.
    """

    async def run(arguments: Mapping[str, Any], call: Call) -> ToolResult:
        handle = arguments["handle"]
        whole = lookup(handle)
        if whole is None:
            raise ToolError(
                f"There is no output {handle!r}: use a handle from a line that says that an output "
                "is hidden or shortened.",
                "bad_arguments",
            )
        start = arguments.get("offset", 0)
        if text := arguments.get("find"):
            place = whole.find(text, start)
            if place < 0:
                raise ToolError(f"Output {handle} does not have {text!r} after {start}.")
            start = max(start, place - 200)
        if start and start >= len(whole):
            raise ToolError(
                f"Output {handle} has {len(whole):,} characters: take a smaller offset.",
                "bad_arguments",
            )
        end = min(len(whole), start + arguments.get("characters", 8_000))
        head = f"[{handle}: characters {start:,} to {end:,} of {len(whole):,}]"
        return ToolResult(f"{head}\n{whole[start:end]}")

    return Tool(spec=ToolSpec("read_result", DESCRIPTION, PARAMETERS), run=run, writes=False)
