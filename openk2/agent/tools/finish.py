"""`finish`: the only way a run ends by the model's will, with what it made.

In: a status, a summary, artifacts. Out: the end, in the result's details; or why not yet.
Must not know: the loop, budgets, or what a run is for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openk2.agent.tool import Call, Tool, ToolError, ToolResult
from openk2.agent.tools.plan import Board, state_of
from openk2.types import ToolSpec

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "status": {
            "enum": ["complete", "blocked"],
            "description": "complete: the goal is met. blocked: you cannot go on without help.",
        },
        "summary": {
            "type": "string",
            "minLength": 1,
            "description": "The answer, or what was made and how it was checked, or what blocks.",
        },
        "artifacts": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Workspace paths of the files that people should open.",
        },
    },
    "required": ["status", "summary"],
    "additionalProperties": False,
}

DESCRIPTION = (
    "End the run. Call it once, alone, when the goal is met and checked, or when nothing more can "
    "be done without help. Name every file that people should open."
)


def finish(board: Board) -> Tool:
    """Return the tool.

    Args:
        board: Holds the plan; open items are named once before the run may end as complete.
    """

    async def run(arguments: Mapping[str, Any], call: Call) -> ToolResult:
        artifacts = tuple(
            _artifact(name, call.workspace) for name in arguments.get("artifacts", ())
        )
        status = arguments["status"]
        plan = board.plan
        if status == "complete" and plan and plan.unsettled and board.asked_about != state_of(plan):
            names = "; ".join(f"{item.id} ({item.text})" for item in plan.unsettled)
            text = (
                f"Not yet: the plan has open items: {names}. Do them, or mark them done or dropped "
                "with evidence. If the goal is met without them, call finish again and say so in "
                "the summary."
            )
            return ToolResult(text, failed=True, details={"finish_refused": True})
        paths = [str(path.relative_to(call.workspace.resolve())) for path in artifacts]
        end = {"status": status, "summary": arguments["summary"], "artifacts": paths}
        return ToolResult("The run ends here.", artifacts, details={"finish": end})

    return Tool(spec=ToolSpec("finish", DESCRIPTION, PARAMETERS), run=run)


def _artifact(name: str, workspace: Path) -> Path:
    root = workspace.resolve()
    path = (root / name).resolve()
    if not path.is_relative_to(root):
        raise ToolError(
            f"The run goes on: artifact {name!r} is outside the workspace; copy it into the "
            "workspace and name it there.",
            "bad_arguments",
        )
    if not path.exists():
        raise ToolError(
            f"The run goes on: artifact {name!r} does not exist; make it, or leave it out and say "
            "why in the summary.",
            "bad_arguments",
        )
    return path
