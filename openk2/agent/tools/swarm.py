"""`swarm`: one goal with a gap, filled by many items; a sub-agent for each.

In: a template and items. Out: what each brought, a file with all of it, copies of their files.
Must not know: how a sub-agent is run (`RunErrand`).
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from openk2.agent.budget import Limits
from openk2.agent.canonical import digest, to_json
from openk2.agent.digest import one_line
from openk2.agent.errand import WORKSPACE, RunErrand, bring_back, size
from openk2.agent.swarm import Finished, SwarmError, SwarmSettings, fill, run_swarm
from openk2.agent.tool import Call, Tool, ToolError, ToolResult
from openk2.types import ToolSpec

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "template": {
            "type": "string",
            "minLength": 10,
            "description": "The goal of each sub-agent, with {item} (or {name} of an item's "
            "values) where they differ; all they need to know.",
        },
        "items": {
            "type": "array",
            "minItems": 1,
            "maxItems": 500,
            "items": {
                "anyOf": [
                    {"type": "string"},
                    {"type": "object", "additionalProperties": {"type": ["string", "number"]}},
                ]
            },
            "description": "What fills the gap: texts, or objects with named values.",
        },
        "files": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Workspace files and folders that each gets copies of; all if absent.",
        },
        "id": {
            "type": "string",
            "pattern": "^[A-Za-z0-9_-]{1,40}$",
            "description": "Name of an earlier swarm to go on with; made from the template if "
            "absent.",
        },
        "parallel": {
            "type": "integer",
            "minimum": 1,
            "maximum": 16,
            "description": "Sub-agents at the same time.",
        },
    },
    "required": ["template", "items"],
    "additionalProperties": False,
}

MOST_BYTES = 2 << 30
"""Of all copies of the workspace together: a project with its environment times fifty fills a disk
before anybody looks."""

DESCRIPTION = (
    "Do the same for many items, a sub-agent for each, side by side, each with a copy of the "
    "workspace. You get their answers; all of it is in a JSON file, and their files are copied "
    "into the workspace. The same call again runs only what is missing: what is done is not paid "
    "for twice."
)


def swarm(
    run: RunErrand,
    folder: Path,
    left: Callable[[], Limits],
    settings: SwarmSettings | None = None,
) -> Tool:
    """Return the tool.

    Args:
        run: Runs a sub-agent.
        folder: Where swarms are kept, outside the workspace.
        left: What is left of the run's budget; all sub-agents together get at most that.
        settings: How they are run.
    """
    how = settings or SwarmSettings()

    async def use(arguments: Mapping[str, Any], call: Call) -> ToolResult:
        template = arguments["template"]
        name = arguments.get("id") or f"swarm-{digest(template)[:8]}"
        parallel = min(how.parallel, arguments.get("parallel", how.parallel))
        files = arguments.get("files")
        try:
            tasks = fill(template, arguments["items"])
            await asyncio.to_thread(_refuse_too_much, call.workspace, files, len(tasks))
            done = await run_swarm(
                tasks,
                run,
                folder / name,
                limits=left(),
                base=call.workspace,
                only=files,
                # What is done by then is told; the rest can be gone on with.
                seconds=max(0.1, call.seconds * 0.95 - 1.0),
                settings=dataclasses.replace(how, parallel=parallel),
                on_report=lambda key, report: call.progress(f"{key}: {report.status}\n"),
            )
        except SwarmError as error:
            raise ToolError(f"No swarm was begun: {error}.", "bad_arguments") from error
        return await asyncio.to_thread(_told, name, done, folder / name, call.workspace)

    return Tool(spec=ToolSpec("swarm", DESCRIPTION, PARAMETERS), run=use, timeout=7200.0)


def _refuse_too_much(workspace: Path, files: list[str] | None, count: int) -> None:
    missing = [name for name in files or () if not (workspace / name).exists()]
    if missing:
        raise SwarmError(f"{missing[0]!r} is not in the workspace")
    total = size(workspace, files) * count
    if total > MOST_BYTES:
        raise SwarmError(
            f"{count} copies of the workspace have {total / 1e9:.1f} GB: name in `files` what they "
            "need ([] for nothing)"
        )


def _told(name: str, done: Finished, folder: Path, workspace: Path) -> ToolResult:
    target = workspace / "swarm" / name
    target.mkdir(parents=True, exist_ok=True)
    artifacts: list[Path] = []
    rows: list[dict[str, Any]] = []
    lines: list[str] = []
    room = max(160, 12_000 // max(1, len(done.reports)))
    for key, report in done.reports.items():
        copies, missing = bring_back(report, folder / key / WORKSPACE, target / key)
        artifacts += copies
        names = [str(path.relative_to(workspace)) for path in copies]
        rows.append({"item": key, "status": report.status, "summary": report.summary,
                     "files": names})  # fmt: skip
        files = f" [files: {', '.join(names)}]" if names else ""
        note = f" ({missing})" if missing else ""
        lines.append(f"{key}: {report.status}: {one_line(report.summary, room)}{files}{note}")
    lines += [f"{key}: no result: {why}" for key, why in done.problems.items()]
    results = target / "results.json"
    results.write_text(json.dumps(rows, indent=2, ensure_ascii=False), encoding="utf-8")
    good = sum(report.ok for report in done.reports.values())
    count = len(done.reports) + len(done.problems)
    head = f"Swarm {name}: {good} of {count} items have a result; all of it in " + str(
        results.relative_to(workspace)
    )
    if done.problems:
        head += f"; the same call again (or with id {name!r}) runs the {len(done.problems)} missing"
    return ToolResult(
        "\n".join([head, *lines]),
        (results, *artifacts),
        untrusted=any(report.untrusted for report in done.reports.values()),
        failed=good == 0,
        details={"spent": to_json(done.spent), "swarm": name, "missing": len(done.problems)},
    )
