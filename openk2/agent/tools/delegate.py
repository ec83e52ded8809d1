"""`task`: a sub-agent does a part of the work in a workspace of its own.

In: a goal that stands by itself, and the files it needs. Out: the sub-agent's answer, and its
artifacts as copies in the workspace.
Must not know: how a sub-agent is run (`RunErrand`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from openk2.agent.budget import Limits, Spent, share
from openk2.agent.canonical import digest, to_json
from openk2.agent.errand import Errand, RunErrand, bring_back, file_name, prepare
from openk2.agent.swarm import Task, run_swarm
from openk2.agent.tool import Call, Tool, ToolError, ToolResult
from openk2.types import ToolSpec

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "goal": {
            "type": "string",
            "minLength": 10,
            "description": "All the sub-agent needs to know: it does not see this conversation.",
        },
        "files": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Workspace files and folders that it gets copies of.",
        },
    },
    "required": ["goal"],
    "additionalProperties": False,
}

DESCRIPTION = (
    "Give a part of the work to a sub-agent with a window and a workspace of its own: something "
    "long whose details you do not need. Say in the goal what it should bring back and in which "
    "form. You get its answer; its files are copied into the workspace. The same goal with the "
    "same files again goes on where it stopped, or brings the same answer."
)


def delegate(run: RunErrand, folder: Path, left: Callable[[], Limits]) -> Tool:
    """Return the tool.

    Args:
        run: Runs a sub-agent.
        folder: Where errands are kept, outside the workspace.
        left: What is left of the run's budget; a sub-agent gets at most half of it.
    """

    async def use(arguments: Mapping[str, Any], call: Call) -> ToolResult:
        goal, files = arguments["goal"], arguments.get("files", ())
        key = _key(goal, files, call.workspace)
        place = folder / key
        errand = Errand("task", goal, place / "task", Limits())
        try:
            await asyncio.to_thread(prepare, errand, call.workspace, files)
        except OSError as error:
            raise ToolError(f"No task was begun: {error}.", "bad_arguments") from error
        limits = share(left(), Spent(), 2)
        done = await run_swarm([Task("task", goal)], run, place, limits=limits)
        report = done.reports.get("task")
        if report is None:
            raise ToolError(
                f"The sub-agent brought nothing ({done.problems['task']}). The same call again "
                "goes on where it stopped; or do the work yourself."
            )
        target = call.workspace / "tasks" / key
        copies, missing = await asyncio.to_thread(bring_back, report, errand.workspace, target)
        names = ", ".join(str(path.relative_to(call.workspace)) for path in copies) or "none"
        text = f"[{report.status}] {report.summary}\n\nFiles: {names}"
        return ToolResult(
            text + (f" ({missing})" if missing else ""),
            copies,
            untrusted=report.untrusted,
            failed=not report.ok,
            details={"spent": to_json(done.spent), "errand": str(place)},
        )

    return Tool(spec=ToolSpec("task", DESCRIPTION, PARAMETERS), run=use, timeout=3600.0)


def _key(goal: str, files: list[str], workspace: Path) -> str:
    """Name an errand by its goal and by its files as they are now."""
    states: list[tuple[str, int, int]] = []
    for name in files:
        path = workspace / name
        if path.exists():
            inside = sorted(path.rglob("*")) if path.is_dir() else [path]
            for one in inside:
                found = one.lstat()
                states.append((str(one), found.st_size, found.st_mtime_ns))
    return f"{file_name(goal)[:24].strip('-')}-{digest([goal, states])[:8]}"
