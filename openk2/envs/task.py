"""A task: what a user wants in one conversation, and where it must lead.

A task is plain data that can be written to a file; with the domain it was made for it says
everything: the world's seed, the words of the user, the faults that tools will show, and the state
in which a solved task ends.

In: goals drawn from a domain. Out: tasks, and their JSON. Must not know: how they are solved.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from openk2.envs.domain import Call, Fact, Goal
from openk2.envs.slots import Json, Lang

TopicKind = Literal["do", "fails", "policy", "missing_tool", "irrelevant"]
"""As an intent's kind; missing_tool: no tool offered can do it; irrelevant: nothing to do with
this operator at all."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One thing that the user brings up."""

    kind: TopicKind
    intent: str
    """The domain's intent; empty for an irrelevant one."""
    goals: tuple[Goal, ...] = ()
    """More than one: the same wish for several things, said in one breath."""
    request: str = ""
    """What the user says, if it is not made from an intent's templates."""
    withheld: tuple[str, ...] = ()
    """Facts of the first goal that the user says only when asked."""
    mistaken: Mapping[str, Fact] = field(default_factory=dict[str, Fact])
    """Facts of the first goal that are first said wrongly, with what is said."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A call that fails without being carried out, as services do."""

    call: int
    """Which of the conversation's calls, counted from 0."""
    code: Literal["timeout", "unavailable", "rate_limited"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Where an episode is cut off."""

    calls: int = 40
    """Calls of tools."""
    turns: int = 60
    """Turns of the assistant."""


@dataclass(frozen=True, slots=True)
class Expected:
    """Where a solved task ends; found by doing it."""

    state: str
    """The world's hash."""
    tells: tuple[tuple[tuple[str, ...], ...], ...] = ()
    """For each topic, what the user must get to know: ways to say each value, one is enough."""


@dataclass(frozen=True, slots=True)
class Task:
    """One conversation to be had."""

    id: str
    key: str
    """What a split must keep together: the domain before all variation."""
    domain: str
    seed: int
    """Of the world."""
    lang: Lang
    persona: str
    prompt: str
    """The system turn."""
    tools: tuple[str, ...]
    """Names of what is offered, in order."""
    topics: tuple[Topic, ...]
    expected: Expected
    confirm: bool = False
    """Whether the operator wants every change confirmed by the user first."""
    faults: tuple[Fault, ...] = ()
    limits: Limits = Limits()
    words: Mapping[str, str] = field(default_factory=dict[str, str])
    """Other words for what the user says, by what it would say."""
    answers: Mapping[str, Json] = field(default_factory=dict[str, Json])
    """More that a tool known by specification only returns, by `call_key`."""
    meta: Mapping[str, Json] = field(default_factory=dict[str, Json])
    """Domain version, licence, variant, difficulty."""

    @property
    def kind(self) -> str:
        """Name the task for reports: its hardest topic, and whether there are several."""
        special = [topic.kind for topic in self.topics if topic.kind != "do"]
        if special:
            return special[0]
        if len(self.topics) > 1:
            return "compositional"
        topic = next(iter(self.topics))
        if topic.withheld or topic.mistaken:
            return "under_specified"
        if self.meta.get("ambiguous"):
            return "ambiguous"
        return "parallel" if len(topic.goals) > 1 else "simple"


def call_key(tool: str, arguments: Json) -> str:
    """Name a call by what it does."""
    return f"{tool} {json.dumps(arguments, ensure_ascii=False, sort_keys=True)}"


def task_json(task: Task) -> dict[str, Any]:
    """Write a task as what JSON can hold."""
    return orjson.loads(orjson.dumps(task))


def read_task(row: Mapping[str, Any]) -> Task:
    """Read what `task_json` wrote.

    Raises:
        KeyError, TypeError: It is something else.
    """
    topics = tuple(_topic(topic) for topic in row["topics"])
    expected = Expected(
        row["expected"]["state"],
        tuple(tuple(tuple(ways) for ways in told) for told in row["expected"]["tells"]),
    )
    rest = {name: row[name] for name in ("id", "key", "domain", "seed", "lang", "persona")}
    return Task(
        **rest,
        prompt=row["prompt"],
        tools=tuple(row["tools"]),
        topics=topics,
        expected=expected,
        confirm=row["confirm"],
        faults=tuple(Fault(**fault) for fault in row["faults"]),
        limits=Limits(**row["limits"]),
        words=row["words"],
        answers=row["answers"],
        meta=row["meta"],
    )


def _topic(row: Mapping[str, Any]) -> Topic:
    return Topic(
        row["kind"],
        row["intent"],
        tuple(_goal(goal) for goal in row["goals"]),
        row["request"],
        tuple(row["withheld"]),
        _facts(row["mistaken"]),
    )


def _goal(row: Mapping[str, Any]) -> Goal:
    calls = tuple(Call(call["tool"], call["arguments"]) for call in row["calls"])
    return Goal(calls, _facts(row["facts"]), _facts(row["clues"]))


def _facts(row: Mapping[str, Any]) -> dict[str, Fact]:
    return {
        name: Fact(fact["kind"], fact["value"], tuple(fact["words"]) if fact["words"] else None)
        for name, fact in row.items()
    }
