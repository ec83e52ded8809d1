"""Many errands at once: each in a workspace of its own, none paid for twice.

A swarm keeps a journal of finished errands. Running the same swarm again runs only those that have
none; an errand that was interrupted goes on from its own journal.

In: errands, a budget, and who runs them. Out: reports, as they come and all together.
Must not know: what an agent is, or what the errands are about.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openk2.agent.budget import Limits, Spent, share
from openk2.agent.canonical import digest, from_json, to_json
from openk2.agent.errand import Errand, Report, RunErrand, file_name, prepare, total
from openk2.agent.journal import NAME, Diverged, Journal, read
from openk2.agent.model import ModelError

Sleep = Callable[[float], Awaitable[None]]


class SwarmError(ValueError):
    """A swarm cannot begin; the message says why."""


@dataclass(frozen=True, slots=True)
class SwarmSettings:
    """How errands are run side by side."""

    parallel: int = 4
    """Errands at the same time."""
    stagger: float = 0.5
    """Seconds between two starts: a shared prompt is in the server's prefix cache by the second."""
    attempts: int = 3
    """Times an errand is tried where the endpoint fails it."""
    pause: float = 15.0
    """Seconds without new starts after an endpoint said it is too busy and not for how long;
    doubled while it goes on saying so."""
    longest_pause: float = 300.0
    """Of such pauses."""


@dataclass(frozen=True, slots=True)
class Task:
    """One errand before it has a place and a budget."""

    key: str
    """Unique in the swarm, and the same whenever the swarm is run; fit for a file name."""
    goal: str


@dataclass(frozen=True, slots=True)
class Finished:
    """What a swarm has brought so far."""

    reports: Mapping[str, Report]
    """By key, in the order of the tasks."""
    problems: Mapping[str, str]
    """Why a task has no report."""
    spent: Spent
    """By this call alone: earlier ones have been accounted for."""


def fill(template: str, items: Sequence[str | Mapping[str, Any]]) -> tuple[Task, ...]:
    """Make a task of each item.

    Args:
        template: A goal with `{item}`, or with `{name}` for the values of an item.
        items: Texts, or names with values; an item that comes twice is one task.

    Raises:
        SwarmError: The template has no place for an item, or an item no value for a place.
    """
    places = _PLACE.findall(template)
    if not places:
        raise SwarmError("the template is the same for all items: put {item} where they differ")
    return tuple({task.key: task for task in (_task(template, item) for item in items)}.values())


def _task(template: str, item: str | Mapping[str, Any]) -> Task:
    values = {"item": item} if isinstance(item, str) else dict(item)

    def value(place: re.Match[str]) -> str:
        if place[1] not in values:
            raise SwarmError(f"the template asks for {place[0]}, and {item!r} does not have it")
        return str(values[place[1]])

    # By the item alone: with another template, the same item must not pass for a new one.
    name = file_name(" ".join(map(str, values.values())))
    return Task(f"{name}-{digest(values)[:8]}", _PLACE.sub(value, template))


_PLACE = re.compile(r"\{(\w+)\}")


async def run_swarm(
    tasks: Sequence[Task],
    run: RunErrand,
    folder: Path,
    *,
    limits: Limits,
    base: Path | None = None,
    only: Sequence[str] | None = None,
    seconds: float | None = None,
    settings: SwarmSettings = SwarmSettings(),
    sleep: Sleep = asyncio.sleep,
    on_report: Callable[[str, Report], None] = lambda key, report: None,
) -> Finished:
    """Run every task that has no report yet.

    Args:
        tasks: What is to be done.
        run: Runs one errand.
        folder: The swarm's own; what is in it is gone on with.
        limits: The budget of all tasks together.
        base: What each workspace is a copy of.
        only: The paths in it that are copied; None is all of it.
        seconds: After them the swarm ends with what it has; a later call goes on.
        settings: How they are run.
        sleep: Waits; tests need not.
        on_report: Sees each report as it comes, those of earlier calls first.

    Raises:
        SwarmError: The folder holds a swarm with other goals.
        JournalError: The folder is in use, or its journal was changed.
    """
    if len({task.key for task in tasks}) != len(tasks):
        raise SwarmError("two tasks have the same key")
    there = (folder / NAME).exists()
    journal = Journal.resume(folder) if there else Journal.create(folder)
    try:
        gate = _Gate(settings, sleep)
        swarm = _Swarm(tasks, run, folder, base, only, limits, settings, gate, on_report, journal)
        return await swarm.finish(seconds)
    except Diverged as error:
        raise SwarmError(
            f"{folder.name} was begun with other goals ({error}); take another id"
        ) from error
    finally:
        journal.close()


def reports_in(folder: Path) -> dict[str, Report]:
    """Return the reports that a swarm has so far; none if there is no swarm.

    Raises:
        JournalError: Its journal cannot be read, or was changed.
    """
    if not (folder / NAME).exists():
        return {}
    records, _ = read(folder / NAME)
    return {
        record.key: from_json(Report, record.data) for record in records if record.phase == "end"
    }


@dataclass
class _Swarm:
    tasks: Sequence[Task]
    run: RunErrand
    folder: Path
    base: Path | None
    only: Sequence[str] | None
    limits: Limits
    settings: SwarmSettings
    gate: _Gate
    on_report: Callable[[str, Report], None]
    journal: Journal
    reports: dict[str, Report] = field(default_factory=dict[str, Report])
    problems: dict[str, str] = field(default_factory=dict[str, str])
    spent: Spent = Spent()
    promised: dict[str, Limits] = field(default_factory=dict[str, Limits])
    queue: list[Task] = field(init=False)
    missing: int = field(init=False)

    def __post_init__(self) -> None:
        known = {record.key for record in self.journal.records if record.phase == "end"}
        # Those with a report first: their turn comes at once, and costs nothing.
        self.queue = sorted(self.tasks, key=lambda task: task.key not in known)
        self.missing = sum(task.key not in known for task in self.tasks)

    async def finish(self, seconds: float | None) -> Finished:
        try:
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
                for _ in range(self.settings.parallel):
                    group.create_task(self._work())
        except TimeoutError:
            late = [t.key for t in self.tasks if t.key not in self.reports | self.problems]
            self.problems |= dict.fromkeys(late, "not finished in time; go on with it")
        except BaseExceptionGroup as problems:
            raise problems.exceptions[0] from problems
        reports = {t.key: self.reports[t.key] for t in self.tasks if t.key in self.reports}
        return Finished(reports, self.problems, self.spent)

    async def _work(self) -> None:
        while self.queue:
            task = self.queue.pop(0)

            async def perform(task: Task = task) -> Any:
                return to_json(await self._patiently(task))

            try:
                recorded = await self.journal.effect(
                    "errand", task.key, {"goal": task.goal}, perform
                )
            except _NoReport as problem:
                self.problems[task.key] = str(problem)
                continue
            report = self.reports[task.key] = from_json(Report, recorded)
            self.on_report(task.key, report)

    async def _patiently(self, task: Task) -> Report:
        """Run one errand, again where the endpoint fails it."""
        limits = self._promise(task)
        errand = Errand(task.key, task.goal, self.folder / task.key, limits)
        try:
            await asyncio.to_thread(prepare, errand, self.base, self.only)
            for attempt in range(1, self.settings.attempts + 1):
                await self.gate.enter()
                try:
                    report = await self.run(errand)
                except ModelError as error:
                    if not error.retryable or attempt == self.settings.attempts:
                        raise
                    self.gate.shut(error)
                else:
                    self.gate.open()
                    self.spent = self.spent.plus_child(report.spent)
                    return report
            raise AssertionError("the last attempt returns or raises")
        except Exception as error:
            # One errand must not end the others; `problems` tells of it.
            raise _NoReport(f"{type(error).__name__}: {error}") from error
        finally:
            del self.promised[task.key]

    def _promise(self, task: Task) -> Limits:
        """Divide what is neither used nor promised among the errands that have not begun."""
        taken = total(
            Spent(tokens=limits.tokens or 0, cost=limits.cost or 0)
            for limits in self.promised.values()
        )
        parts, self.missing = self.missing, self.missing - 1
        limits = share(self.limits, self.spent.plus_child(taken), max(1, parts))
        if limits.tokens == 0 or limits.cost == 0:
            raise _NoReport("not begun: the budget is used up; go on with a larger one")
        self.promised[task.key] = limits
        return limits


class _NoReport(Exception):
    """An errand ended without a report; it can be run again."""


class _Gate:
    """Lets errands start one after the other, and none while the endpoint is too busy."""

    def __init__(self, settings: SwarmSettings, sleep: Sleep) -> None:
        self._settings = settings
        self._sleep = sleep
        self._turn = asyncio.Lock()
        self._first = True
        self._pause = 0.0
        self._next = settings.pause

    async def enter(self) -> None:
        async with self._turn:
            if not self._first:
                await self._sleep(self._settings.stagger)
            self._first = False
            while self._pause:
                pause, self._pause = self._pause, 0.0
                await self._sleep(pause)

    def shut(self, error: ModelError) -> None:
        """Pause all starts after a failure of the endpoint."""
        pause = error.retry_after if error.retry_after is not None else self._next
        if error.retry_after is None:
            self._next = min(self._settings.longest_pause, 2 * self._next)
        self._pause = max(self._pause, pause)

    def open(self) -> None:
        """Forget earlier failures: the endpoint works."""
        self._next = self._settings.pause
