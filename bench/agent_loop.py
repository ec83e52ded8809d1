"""What the agent's loop costs by itself: steps per second, resuming and replaying 300 steps.

In: nothing; a scripted model and a tool that add numbers. Out: bench/records/agent-loop.json.
Must not know: a real model or tool, whose time would hide the loop's.

    python -m bench.agent_loop
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import record
from openk2.agent.approval import Policy
from openk2.agent.budget import Limits
from openk2.agent.calls import Answer, Caller, Question, ResultStore
from openk2.agent.drift import DriftSettings
from openk2.agent.journal import NAME, Journal
from openk2.agent.loop import Agent, Result, Settings
from openk2.agent.model import ModelRequest
from openk2.agent.models.scripted import Scripted
from openk2.agent.replay import replay
from openk2.agent.tool import Call, Tool, ToolResult
from openk2.agent.tools.plan import Board
from openk2.types import Message, ToolCall, ToolSpec

STEPS = 300
ROUNDS = 5
OUTPUT = "a line of output such as programs write\n" * 20
"""With each result: 800 characters, so that conversation and journal grow as real ones do."""

ADD = ToolSpec(
    "add",
    "Add a number to the total.",
    {
        "type": "object",
        "properties": {"n": {"type": "integer", "description": "What to add."}},
        "required": ["n"],
        "additionalProperties": False,
    },
)


def main() -> None:
    """Measure each way in turn, several times, and record the medians."""
    rows: dict[str, list[float]] = {"durable": [], "not_durable": [], "resume": [], "replay": []}
    size = 0
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            rows["not_durable"].append(timed(run(Path(folder) / "quick", durable=False)))
            rows["durable"].append(timed(run(Path(folder) / "safe", durable=True)))
            size = (Path(folder) / "safe" / NAME).stat().st_size
            rows["replay"].append(timed(replay(Path(folder) / "safe")))
            cut(Path(folder) / "safe" / NAME)
            rows["resume"].append(timed(resume(Path(folder) / "safe")))
    seconds = {name: statistics.median(times) for name, times in rows.items()}
    result = {
        "steps_per_second": round(STEPS / seconds["durable"], 1),
        "steps_per_second_without_waiting_for_the_disk": round(STEPS / seconds["not_durable"], 1),
        "resume_300_steps_s": round(seconds["resume"], 3),
        "replay_300_steps_s": round(seconds["replay"], 3),
        "journal_bytes_per_step": size // STEPS,
        "steps": STEPS,
        "rounds": ROUNDS,
    }
    print(json.dumps(result, indent=2))
    print(record.write("agent-loop", "python -m bench.agent_loop", result))


def timed(work: Any) -> float:
    """Run a coroutine and time it."""
    began = time.perf_counter()
    asyncio.run(work)
    return time.perf_counter() - began


async def run(folder: Path, *, durable: bool) -> Result:
    """Add 300 numbers in 300 steps."""
    journal = Journal.create(folder, durable=durable)
    try:
        return await agent(folder, journal).run()
    finally:
        journal.close()


async def resume(folder: Path) -> Result:
    """Go on with a run of which all but the last answer is recorded."""
    journal = Journal.resume(folder)
    try:
        return await agent(folder, journal).run()
    finally:
        journal.close()


def cut(path: Path) -> None:
    """Take the last answer and the result from a journal."""
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-3]))


def agent(folder: Path, journal: Journal) -> Agent:
    """Build an agent around a script and a ledger."""
    total = 0

    async def add(arguments: Mapping[str, Any], call: Call) -> ToolResult:
        nonlocal total
        total += arguments["n"]
        return ToolResult(f"{OUTPUT}total {total}")

    async def nobody(question: Question) -> Answer:
        raise AssertionError(f"asked about {question.tool}")

    def say(request: ModelRequest) -> Message:
        turn = sum(message.role == "assistant" for message in request.messages)
        if turn == STEPS:
            return Message("assistant", "Done.")
        call = ToolCall("", "add", json.dumps({"n": turn}))
        return Message("assistant", reasoning=f"Step {turn}.", tool_calls=(call,))

    settings = Settings(
        "Add the numbers.",
        limits=Limits(steps=STEPS + 1),
        drift=DriftSettings(every=0),
        window=1_000_000,
    )
    caller = Caller(journal, folder, Policy(), nobody, ResultStore(folder / "results"))
    tools = [Tool(spec=ADD, run=add)]
    model = Scripted([say] * (STEPS + 1), by_history=True)
    return Agent(settings, model, lambda: tools, caller, journal, Board(settings.goal))


if __name__ == "__main__":
    main()
