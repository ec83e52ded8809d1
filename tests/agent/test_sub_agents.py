"""Agents that send agents: whole runs, with journals, workspaces of their own and one bill."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from openk2.agent.budget import Limits
from openk2.agent.journal import Journal
from openk2.agent.loop import Live, Result, Settings
from openk2.agent.model import ModelError, ModelRequest, Price
from openk2.agent.models.scripted import Scripted
from openk2.agent.outfit import Options, Outfit
from openk2.agent.replay import replay
from openk2.types import Message, ToolCall

ITEMS = ["Bonn", "Rome", "Oslo"]


def calls(name: str, **arguments: Any) -> Message:
    return Message("assistant", tool_calls=(ToolCall("", name, json.dumps(arguments)),))


class Company:
    """Decides for the agent that has the goal, and for those that it sends."""

    def __init__(self, *turns: Message, broken: str = "") -> None:
        self.turns = turns
        self.broken = broken
        """The endpoint fails who has this in the goal, until its sender asks a second time."""
        self.asked: list[str] = []

    def __call__(self, request: ModelRequest) -> Message | ModelError:
        goal = next(message.content for message in request.messages if message.role == "user")
        self.asked.append(goal)
        steps = sum(message.role == "assistant" for message in request.messages)
        if not goal.startswith("Look up"):
            self.broken = "" if steps else self.broken
            last = calls("finish", status="complete", summary=request.messages[-1].content)
            return [*self.turns, last][min(steps, len(self.turns))]
        if self.broken and self.broken in goal and steps == 1:
            return ModelError("the endpoint is gone", "refused")
        city = goal.removeprefix("Look up ").rstrip(".")
        if steps == 0:
            return calls("write_file", path=f"{city}.txt", content=f"{city} is a city.")
        return calls("finish", status="complete", summary=f"{city}!", artifacts=[f"{city}.txt"])


def run(folder: Path, company: Company, *, resume: bool = False, **settings: Any) -> Result:
    async def nobody(question: Any) -> Any:
        raise AssertionError(f"nobody should be asked about {question}")

    async def work() -> Result:
        model = Scripted([company] * 100, price=Price(prompt=1_000_000, completion=1_000_000))
        journal = Journal.resume(folder) if resume else Journal.create(folder)
        wanted = Settings("Know three cities", window=50_000, **settings)
        options = Options(network=False)
        (folder / "workspace").mkdir(exist_ok=True)
        try:
            async with Outfit(folder, folder / "workspace", model, options) as outfit:
                return await outfit.agent(wanted, journal, Live(), nobody).run()
        finally:
            journal.close()

    return asyncio.run(work())


def test_a_swarm_of_agents_brings_its_files_and_its_bill(tmp_path: Path):
    company = Company(calls("swarm", template="Look up {item}.", items=ITEMS))
    result = run(tmp_path, company, limits=Limits(tokens=10_000_000))
    assert result.status == "complete" and "3 of 3 items have a result" in result.summary
    workspace = tmp_path / "workspace"
    for city in ITEMS:
        (found,) = workspace.glob(f"swarm/*/*/{city}.txt")
        assert found.read_text() == f"{city} is a city."
    assert not list(workspace.glob("*.txt"))
    # Two requests of its own, two of each sub-agent, all in one bill.
    assert len(company.asked) == 8
    assert result.spent.steps == 2 and result.spent.cost == result.spent.tokens > 1_000
    inner = sorted(tmp_path.glob("errands/*/*/journal.jsonl"))
    assert len(inner) == 3


def test_a_run_with_sub_agents_is_replayed_without_any_of_them(tmp_path: Path):
    company = Company(calls("swarm", template="Look up {item}.", items=ITEMS))
    run(tmp_path, company)
    asyncio.run(replay(tmp_path))
    assert len(company.asked) == 8


def test_only_the_item_that_failed_is_run_again_from_where_it_was(tmp_path: Path):
    again = calls("swarm", template="Look up {item}.", items=ITEMS)
    company = Company(again, again, broken="Rome")
    result = run(tmp_path, company)
    assert "3 of 3 items have a result" in result.summary
    (record,) = [
        json.loads(line)["data"]
        for line in (tmp_path / "journal.jsonl").read_text().splitlines()
        if '"kind":"tool"' in line and "2 of 3 items" in line and '"phase":"end"' in line
    ]
    assert "no result: ModelError: the endpoint is gone" in record["content"]
    # Rome: a file, then nothing; and later only the finish, for the file was there.
    assert company.asked.count("Look up Rome.") == 3
    assert company.asked.count("Look up Bonn.") == company.asked.count("Look up Oslo.") == 2


def test_a_task_gives_its_answer_and_files(tmp_path: Path):
    company = Company(calls("task", goal="Look up Bonn."))
    result = run(tmp_path, company)
    assert "[complete] Bonn!" in result.summary
    (found,) = (tmp_path / "workspace").glob("tasks/*/Bonn.txt")
    assert result.artifacts == (str(found),) and found.read_text() == "Bonn is a city."
