"""`update_plan`: the model writes its plan, rewrites it for a reason, and ticks items off.

In: items, or marks with evidence. Out: the plan as it stands; a tick that its check does not bear
out is refused with what the check found.
Must not know: the loop. The plan comes back to it in the result's details (`Board.take`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from openk2.agent import plan as plans
from openk2.agent.digest import one_line
from openk2.agent.plan import Item, Plan, PlanError
from openk2.agent.tool import Access, Call, Tool, ToolError, ToolResult
from openk2.types import ToolSpec

RunCheck = Callable[[str, Call], Awaitable[tuple[int, str]]]
"""Runs a shell command in the sandbox: its exit status and its output."""

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "items": {
            "type": "array",
            "description": "The whole plan, in order; write it first, and again only to replan.",
            "items": {
                "type": "object",
                "properties": {
                    "id": {"type": "string", "description": "Short name; p1, p2, … if absent."},
                    "text": {"type": "string", "description": "What to achieve."},
                    "acceptance": {"type": "string", "description": "What holds once it is done."},
                    "file": {
                        "type": "string",
                        "description": "Path or pattern that must then match a non-empty file.",
                    },
                    "command": {
                        "type": "string",
                        "description": "Shell command that must then end with status 0.",
                    },
                },
                "required": ["text", "acceptance"],
                "additionalProperties": False,
            },
        },
        "why": {"type": "string", "description": "What you learned; needed to replan."},
        "marks": {
            "type": "array",
            "description": "Items whose status changes.",
            "items": {
                "type": "object",
                "properties": {
                    "id": {"type": "string", "description": "The item's id."},
                    "status": {
                        "enum": list(plans.STATUSES),
                        "description": "What it is from now on.",
                    },
                    "evidence": {
                        "type": "string",
                        "description": "What shows it; needed for done, failed and dropped.",
                    },
                },
                "required": ["id", "status"],
                "additionalProperties": False,
            },
        },
    },
    "required": [],
    "additionalProperties": False,
}

DESCRIPTION = (
    "Keep your plan. First give `items`: a few results to achieve, each with an acceptance check. "
    "Then `marks`: set an item to doing when you begin it, done with evidence, failed or dropped "
    "with the reason. If something fails for good, give new `items` and say `why`. "
    "You get the plan as it stands."
)


@dataclass(slots=True)
class Board:
    """The plan and what was said about it at the end, as the recorded results tell."""

    goal: str
    plan: Plan | None = None
    asked_about: int | None = None
    """The plan's version and state that a first `finish` was refused for, as a hash."""
    moved_at: int = 0
    """The step in which an item's status changed last."""

    def take(self, details: Mapping[str, Any], step: int = 0) -> bool:
        """Take over what a result holds, recorded or live; return whether the plan changed.

        Args:
            details: The result's.
            step: The step it belongs to.
        """
        if isinstance(value := details.get("plan"), Mapping):
            self.plan = plans.from_json(cast(Mapping[str, Any], value))
            self.moved_at = step
            return True
        if details.get("finish_refused"):
            self.asked_about = state_of(self.plan)
        return False


def state_of(plan: Plan | None) -> int | None:
    """Return what changes whenever an item or its status does."""
    if plan is None:
        return None
    settled = sum(item.settled for item in plan.items)
    return plan.version * 1_000 + settled


def update_plan(board: Board, run_check: RunCheck | None = None) -> Tool:
    """Return the tool.

    Args:
        board: Holds the plan.
        run_check: Runs a command check; None: such checks cannot be used.
    """

    async def run(arguments: Mapping[str, Any], call: Call) -> ToolResult:
        try:
            plan = _written(board, arguments, run_check is not None)
        except PlanError as error:
            raise ToolError(f"The plan stays as it is: {error}.", "bad_arguments") from error
        problems: list[str] = []
        for entry in arguments.get("marks", ()):
            try:
                plan = await _marked(plan, entry, call, run_check)
            except PlanError as error:
                problems.append(f"Refused: {error}.")
        text = "\n".join([*problems, plans.render(plan)])
        details = {"plan": plans.to_json(plan)}
        if plan == board.plan:
            return ToolResult(text, failed=bool(problems))
        # The loop takes it over, too, where a result is recorded; a second call of the same answer
        # must see it at once.
        board.take(details, board.moved_at)
        return ToolResult(text, failed=bool(problems), details=details)

    def access(arguments: Mapping[str, Any], workspace: Path) -> Access:
        commands = [item.command for item in _to_check(board, arguments) if item.command]
        return Access(command="\n".join(commands), executes=True) if commands else Access()

    return Tool(
        spec=ToolSpec("update_plan", DESCRIPTION, PARAMETERS),
        run=run,
        access=access,
        timeout=300.0,
    )


def _written(board: Board, arguments: Mapping[str, Any], commands: bool) -> Plan:
    items, why = arguments.get("items"), str(arguments.get("why", ""))
    if items:
        if not commands and any(item.get("command") for item in items):
            raise PlanError("command checks are off in this run: use `file` or words")
        if board.plan is None:
            return plans.write(board.goal, items)
        return plans.rewrite(board.plan, items, why)
    if board.plan is None:
        raise PlanError("there is no plan yet: give `items`")
    if not arguments.get("marks"):
        raise PlanError("give `items` to write it, or `marks` to tick items off")
    return board.plan


def _to_check(board: Board, arguments: Mapping[str, Any]) -> list[Item]:
    """List the items that would be ticked off, as they would be by then."""
    try:
        plan = _written(board, arguments, commands=True)
        marks = [entry for entry in arguments.get("marks", ()) if entry["status"] == "done"]
        return [plan.item(entry["id"]) for entry in marks]
    except PlanError:
        return []


async def _marked(
    plan: Plan, entry: Mapping[str, Any], call: Call, run_check: RunCheck | None
) -> Plan:
    status = entry["status"]
    marked = plans.mark(plan, entry["id"], status, str(entry.get("evidence", "")))
    if status == "done":
        await _verify(plan.item(entry["id"]), call, run_check)
    return marked


async def _verify(item: Item, call: Call, run_check: RunCheck | None) -> None:
    if item.file and not _matches(call.workspace, item.file):
        raise PlanError(
            f"{item.id} is not done: no file that is not empty matches {item.file!r} in the "
            "workspace; make it, or replan with another check"
        )
    if item.command:
        if run_check is None:
            raise PlanError(f"{item.id} has a command check, and those are off in this run: replan")
        status, output = await run_check(item.command, call)
        if status != 0:
            raise PlanError(
                f"{item.id} is not done: `{item.command}` ended with status {status}: "
                f"{one_line(output, 600) or '(no output)'}"
            )


def _matches(workspace: Path, pattern: str) -> bool:
    root = workspace.resolve()
    relative = Path(pattern)
    if relative.is_absolute():
        if not relative.is_relative_to(root):
            return False
        relative = relative.relative_to(root)
    if ".." in relative.parts or not relative.parts:
        return False
    try:
        found = sorted(root.glob(str(relative)))
    except ValueError:  # `a**` is no pattern
        return False
    return any(
        path.is_file() and path.stat().st_size > 0 and path.resolve().is_relative_to(root)
        for path in found
    )
