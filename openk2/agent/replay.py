"""A journal run again, with no model, no tool and no network.

In: a run's folder. Out: whether the same program over the same effects comes to the same records.
Must not know: how the run was made.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

from openk2.agent.approval import Policy
from openk2.agent.calls import Answer, Caller, Question, ResultStore
from openk2.agent.canonical import from_json
from openk2.agent.journal import NAME, EndOfJournal, Journal, JournalError, read
from openk2.agent.loop import Agent, Result, Settings
from openk2.agent.model import ModelRequest, Price
from openk2.agent.repeat import RepeatGuard
from openk2.agent.tools.plan import Board
from openk2.types import Event


@dataclass(frozen=True, slots=True)
class Replay:
    """What a replay found."""

    result: Result | None
    """None: the run was interrupted."""
    interrupted: str
    """Where, if it was."""
    records: int
    """Records that were come by, and found the same."""
    hash: str
    """Seal of the last record: two replays of one journal agree on it."""
    seconds: float


class _Nobody:
    """Stands where the model was: a replay that asks it has left the journal."""

    context_window = 1
    price = Price()

    def __init__(self, name: str) -> None:
        self.name = name

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Event]:
        raise EndOfJournal(f"the journal has no answer of {self.name} here")
        yield

    async def count_tokens(self, request: ModelRequest) -> int:
        raise EndOfJournal(f"the journal has no count of {self.name} here")

    async def close(self) -> None:
        pass


async def replay(folder: Path) -> Replay:
    """Run a journal again and compare every request, note and result with what was recorded.

    Raises:
        JournalError: The journal cannot be read, was changed, or holds records that the run does
            not come by.
        Diverged: The program goes another way; the message says where.
    """
    journal = Journal.replay(folder)
    began = time.monotonic()
    if not journal.records or journal.records[0].kind != "run":
        raise JournalError(f"{journal.path} does not begin with a run")
    opening = journal.records[0].data
    settings = from_json(Settings, opening["settings"])

    async def nobody(question: Question) -> Answer:
        raise EndOfJournal(f"the journal has no answer about {question.tool}")

    caller = Caller(
        journal,
        Path(opening["workspace"]),
        Policy(),
        nobody,
        ResultStore(folder / "results"),
        RepeatGuard(settings.repeats),
    )
    agent = Agent(
        settings, _Nobody(opening["model"]), lambda: [], caller, journal, Board(settings.goal)
    )
    result, interrupted = None, ""
    try:
        result = await agent.run()
    except EndOfJournal as end:
        interrupted = str(end)
    left = [] if result is None else list(journal.unvisited)
    if left:
        raise JournalError(
            f"{journal.path} holds {len(left)} records that the run does not come by, the first "
            f"is {left[0].kind} {left[0].key} (record {left[0].seq})"
        )
    last = journal.records[-1].hash
    return Replay(result, interrupted, journal.visited, last, time.monotonic() - began)


async def replay_all(folder: Path) -> dict[str, Replay]:
    """Replay a run and every sub-agent's below it, by their places in the folder.

    Raises:
        JournalError, Diverged: As `replay` says.
    """
    journals = sorted(folder.rglob(NAME), key=lambda path: (len(path.parts), path))
    if not journals:
        raise JournalError(f"there is no journal in {folder}")
    found: dict[str, Replay] = {}
    for path in journals:
        records, _ = read(path)
        # A swarm has a journal of its errands; each errand is a run and has its own.
        if records and records[0].kind == "run":
            found[str(path.parent.relative_to(folder.parent))] = await replay(path.parent)
    return found
