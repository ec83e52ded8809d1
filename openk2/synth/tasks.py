"""Tasks: what users of an agent want, from one wish to many, with the state that proves it done.

In: an agent and its domain. Out: tasks whose goals were carried out on the world.
Must not know: who the user is, how a task is solved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from openk2.envs.domain import Domain, Goal, Intent
from openk2.envs.solution import NoSolution, carry_out, expected
from openk2.envs.task import Limits, Task, Topic, TopicKind
from openk2.envs.world import World
from openk2.synth.agents import Agent
from openk2.synth.config import SynthConfig
from openk2.synth.strangers import strange_request

_TRIES = 6
_LONG = Limits(calls=320, turns=1500)


@dataclass(slots=True)
class Composer:
    """Makes the tasks of one agent."""

    agent: Agent
    domain: Domain
    config: SynthConfig
    strangers: Sequence[Domain] = ()
    """Domains whose requests this agent cannot serve."""

    def task(self, number: int) -> Task | None:
        """Compose a task, or None where the world has no occasion for one."""
        key = f"{self.config.seed}/{self.agent.id}/{number}"
        rng = Random(f"task/{key}")
        seed = rng.randrange(1_000_000)
        world = self.domain.world(seed)
        now = world.now
        long = rng.random() < self.config.long
        topics: list[Topic] = []
        for _ in range(rng.randint(20, 250) if long else _draw(rng, self.config.topics, int)):
            topic = self._topic(rng, world)
            if topic is not None and not (topics and topic == topics[-1]):
                topics.append(topic)
        if not topics:
            return None
        try:
            told = expected(self.domain, seed, topics, self.agent.lang)
        except NoSolution:
            return None  # goals of several topics can stand in each other's way
        return Task(
            key,
            self.domain.name,
            self.domain.name,
            seed,
            self.agent.lang,
            "plain",
            self.agent.prompt.replace("{now}", now),
            self.agent.tools,
            tuple(topics),
            told,
            self.agent.confirm,
            limits=_LONG if long else Limits(),
            meta={
                "agent": self.agent.id,
                "domain_version": self.domain.version,
                "licence": self.domain.licence,
            },
        )

    def _topic(self, rng: Random, world: World) -> Topic | None:
        kind: TopicKind = _draw(rng, self.config.kinds, str)
        if kind == "irrelevant":
            request = strange_request(rng, self.strangers, self.agent.lang)
            return Topic("irrelevant", "", request=request)
        if kind == "missing_tool":
            return self._missing(rng, world)
        able = [self.domain.intents_by_name[name] for name in self.agent.intents]
        of_kind = [intent for intent in able if intent.kind == kind] or able
        intent = rng.choice(of_kind)
        goals = self._goals(rng, world, intent)
        return Topic(intent.kind, intent.name, tuple(goals)) if goals else None

    def _missing(self, rng: Random, world: World) -> Topic | None:
        lacking = [
            intent
            for intent in self.domain.intents
            if intent.kind == "do" and intent.name not in self.agent.intents
        ]
        for intent in rng.sample(lacking, len(lacking)):
            goal = intent.draw(world, rng)
            # Only what nothing at hand can do: a read may be done with another read.
            if goal is not None and goal.calls[-1].tool not in self.agent.tools:
                tool = self.domain.by_name[goal.calls[-1].tool]
                if tool.writes:
                    return Topic("missing_tool", intent.name, (goal,))
        return None

    def _goals(self, rng: Random, world: World, intent: Intent) -> list[Goal]:
        wanted = 1
        if intent.kind == "do" and rng.random() < self.config.parallel:
            wanted = rng.choice((2, 2, 3))
        goals: list[Goal] = []
        for _ in range(_TRIES):
            goal = intent.draw(world, rng)
            if goal is None or any(goal.facts == other.facts for other in goals):
                continue
            before = world.snapshot()
            try:
                carry_out(self.domain, world, goal, intent)
            except NoSolution:
                world.restore(before)
                continue
            goals.append(goal)
            if len(goals) == wanted:
                break
        return goals


def _draw(rng: Random, weights: Any, kind: Any) -> Any:
    return kind(rng.choices(list(weights), list(weights.values()))[0])
