"""Simple tasks of the worlds: one wish that few calls bring about, few tools to choose from.

In: settings, a name to draw by. Out: tasks, each of them solved once by the solver that knows.
Must not know: rewards, models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from random import Random

from openk2.envs.catalogue import HELD_OUT, domain, names
from openk2.envs.domain import Domain
from openk2.envs.env import Session
from openk2.envs.oracle import Oracle, Unsolvable
from openk2.envs.rubric import score
from openk2.envs.slots import Lang
from openk2.envs.solution import NoSolution, expected
from openk2.envs.task import Limits, Task, Topic, task_json
from openk2.gym.problem import Problem

_WORLDS = 64
"""Worlds of each domain that tasks are drawn from: making one takes longer than solving one."""
_TURN_TOKENS = 160
"""Tokens for each call of the solution and for the closing words."""
_PROMPTS: Mapping[Lang, str] = {
    "en": "You are the assistant of {place}. It is {now}.",
    "zh": "你是{place}的助手。现在是{now}。",
}


@dataclass(frozen=True, slots=True)
class Solved:
    """A task and how the solver did it."""

    task: Task
    calls: tuple[tuple[str, str], ...]
    """Names and JSON arguments of the calls that it made, in order."""


@dataclass(frozen=True, slots=True)
class WorldDraw:
    """Which tasks are drawn."""

    fewest_tools: int = 2
    """Tools on offer, at least; what the solution needs is always among them."""
    most_tools: int = 4
    """Tools on offer, at most."""
    most_calls: int = 2
    """Calls that the solution makes, at most. One: everything needed stands in the request."""
    chinese: float = 0.3
    """Share of users who speak Chinese."""
    domains: tuple[str, ...] = ()
    """Only these; empty: all of the side of the split."""
    calls: int = 8
    """Calls after which an episode is cut off."""
    turns: int = 8
    """Turns of the assistant after which an episode is cut off."""

    def tasks(self, name: str, *, held_out: bool) -> Iterator[Solved]:
        """Yield solved tasks without end; the same name gives the same ones.

        Raises:
            ValueError: No domain that was named is on this side of the split.
        """
        side = [one for one in names() if (one in HELD_OUT) == held_out]
        chosen = [one for one in side if not self.domains or one in self.domains]
        if not chosen:
            raise ValueError(f"none of {', '.join(self.domains)} is among {', '.join(side)}")
        number = 0
        while True:
            number += 1
            rng = Random(f"{name}/{number}")
            found = self._task(domain(rng.choice(chosen)), rng, f"{name}/{number}")
            if found is not None:
                yield found

    def _task(self, one: Domain, rng: Random, name: str) -> Solved | None:
        """Draw a wish, solve it with all tools, then with those few that are offered."""
        lang: Lang = "zh" if rng.random() < self.chinese else "en"
        seed = rng.randrange(_WORLDS)
        world = one.world(seed)
        intent = rng.choice([intent for intent in one.intents if intent.kind == "do"])
        goal = intent.draw(world, rng)
        if goal is None:
            return None
        topics = (Topic("do", intent.name, (goal,)),)
        place = one.en if lang == "en" else one.zh
        try:
            task = Task(
                name, one.name, one.name, seed, lang, "plain",
                _PROMPTS[lang].format(place=place, now=world.now),
                tuple(tool.name for tool in one.tools), topics,
                expected(one, seed, topics, lang),
                limits=Limits(self.calls, self.turns),
            )  # fmt: skip
            first = _solved(one, task)
            used = list(dict.fromkeys(call for call, _ in first.calls))
            others = [tool for tool in task.tools if tool not in used]
            wanted = max(rng.randint(self.fewest_tools, self.most_tools), len(used))
            offered = [*used, *rng.sample(others, min(wanted - len(used), len(others)))]
            rng.shuffle(offered)
            again = _solved(one, replace(task, tools=tuple(offered)))
        except (NoSolution, Unsolvable):
            return None
        simple = 1 <= len(again.calls) <= self.most_calls and len(offered) <= self.most_tools
        return again if simple else None


def _solved(one: Domain, task: Task) -> Solved:
    """Let the solver play a task without asking the user anything.

    Raises:
        Unsolvable: It cannot, or it has to ask.
    """
    session = Session(one, task)
    Oracle(session).play()
    if score(session).score < 1 or len(session.said) > 1:
        raise Unsolvable(f"{task.id} takes more than a request")
    return Solved(task, tuple((done.call.name, done.call.arguments) for done in session.calls))


def problem_of(solved: Solved, family: str) -> Problem:
    """Put a task as a problem: the operator's words, the user's request, the tools."""
    task = solved.task
    session = Session(domain(task.domain), task)
    return Problem(
        task.id,
        family,
        task.domain,
        tuple(session.messages),
        session.tools,
        _TURN_TOKENS * (len(solved.calls) + 1),
        {
            "task": task_json(task),
            "calls": [list(call) for call in solved.calls],
            "level": len(solved.calls),
            "lang": task.lang,
        },
    )
