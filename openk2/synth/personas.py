"""Personas: who the user of a task is, what it keeps back until asked, what it gets wrong first.

In: a task. Out: the same with its user, and with the faults that services will show.
Must not know: how the task is solved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from openk2.envs.domain import Domain, Fact, Goal
from openk2.envs.persona import PERSONAS
from openk2.envs.task import Fault, Task, Topic
from openk2.envs.wording import mentions, request
from openk2.synth.config import SynthConfig

_FAULTY_CALLS = 6
"""Of a conversation's first calls, how many may fail."""


def with_user(task: Task, domain: Domain, config: SynthConfig) -> Task:
    """Give a task its user.

    Args:
        task: As it was composed.
        domain: Its domain.
        config: How users are.
    """
    rng = Random(f"user/{task.id}")
    persona = rng.choice(sorted(PERSONAS))
    topics = tuple(_topic(topic, task, domain, config, rng) for topic in task.topics)
    faults: tuple[Fault, ...] = ()
    if rng.random() < config.faults:
        calls = sorted(rng.sample(range(_FAULTY_CALLS), rng.randint(1, 2)))
        codes: Sequence[str] = ("timeout", "unavailable", "rate_limited")
        faults = tuple(Fault(call, rng.choice(codes)) for call in calls)  # pyright: ignore[reportArgumentType]
    return replace(task, persona=persona, topics=topics, faults=faults)


def _topic(topic: Topic, task: Task, domain: Domain, config: SynthConfig, rng: Random) -> Topic:
    if topic.kind not in ("do", "fails") or len(topic.goals) != 1:
        return topic
    goal = topic.goals[0]
    withheld: tuple[str, ...] = ()
    if rng.random() < config.withheld:
        able = [n for n in _values(goal, domain) if _sayable(topic, goal, domain, task, {n})]
        withheld = tuple(rng.sample(able, min(1, len(able))))
    mistaken: dict[str, Fact] = {}
    changes = any(domain.by_name[call.tool].writes for call in goal.calls)
    asked = withheld or (task.confirm and changes)
    if asked and rng.random() < config.mistaken:
        mistaken = _mistake(topic, goal, domain, task, rng, but=withheld)
    return replace(topic, withheld=withheld, mistaken=mistaken)


def _values(goal: Goal, domain: Domain) -> list[str]:
    """Name the facts that a required argument of the last call holds as they are."""
    call = goal.calls[-1]
    params = {p.name: p for p in domain.by_name[call.tool].params}
    found: list[str] = []
    for name, fact in goal.facts.items():
        if any(
            params[argument].required and value == fact.value and not params[argument].slot.entity
            for argument, value in call.arguments.items()
        ):
            found.append(name)
    return found


def _sayable(topic: Topic, goal: Goal, domain: Domain, task: Task, kept: set[str]) -> bool:
    """Whether some request says everything else."""
    said = {name: "x" for name in goal.facts if name not in kept}
    templates = domain.intents_by_name[topic.intent].ask[task.lang]
    return any(
        request(template, said) is not None and mentions(template, said) == len(said)
        for template in templates
    )


def _mistake(
    topic: Topic, goal: Goal, domain: Domain, task: Task, rng: Random, *, but: Sequence[str]
) -> dict[str, Fact]:
    """Take another goal's value for one of the facts that the call will set."""
    world = domain.world(task.seed)
    other = domain.intents_by_name[topic.intent].draw(world, rng)
    names = [name for name in _values(goal, domain) if name not in but]
    if other is None or not names:
        return {}
    name = rng.choice(names)
    wrong = other.facts.get(name)
    if wrong is None or wrong.value == goal.facts[name].value or wrong.words is not None:
        return {}
    return {name: wrong}
