"""The oracle solves what every domain asks for, the empty run nothing, and both are judged so."""

from __future__ import annotations

import json
from random import Random

import pytest

from openk2.envs.catalogue import domain, names
from openk2.envs.domain import Domain, Goal, Intent
from openk2.envs.env import Session
from openk2.envs.oracle import Manner, Oracle, Unsolvable
from openk2.envs.rubric import score
from openk2.envs.slots import Lang
from openk2.envs.solution import expected
from openk2.envs.task import Task, Topic
from openk2.types import Message, ToolCall, validate_history

SEEDS = 12
"""Worlds in which every intent is tried."""


def a_task(one: Domain, intent: Intent, goal: Goal, seed: int, lang: Lang) -> Task:
    topics = (Topic(intent.kind, intent.name, (goal,)),)
    tools = tuple(tool.name for tool in one.tools)
    return Task(
        f"{one.name}/{intent.name}/{seed}", one.name, one.name, seed, lang, "plain",
        "Help the user.", tools, topics, expected(one, seed, topics, lang),
    )  # fmt: skip


def tasks(one: Domain, intent: Intent) -> list[Task]:
    found: list[Task] = []
    for seed in range(SEEDS):
        goal = intent.draw(one.world(seed), Random(seed))
        if goal is not None:
            found.append(a_task(one, intent, goal, seed, "zh" if seed % 3 == 0 else "en"))
    return found


@pytest.mark.parametrize("name", names())
def test_every_intent_can_be_solved_by_what_can_be_known(name: str) -> None:
    one = domain(name)
    for intent in one.intents:
        problems: list[str] = []
        drawn = tasks(one, intent)
        for task in drawn:
            session = Session(one, task)
            try:
                Oracle(session, Manner(thinking=True)).play()
            except Unsolvable as reason:
                problems.append(str(reason))
                continue
            verdict = score(session)
            assert verdict.score == 1, (intent.name, verdict.values, session.messages)
            assert all(value == 1 for value, _ in verdict.values.values()), verdict.values
            validate_history(session.messages)
        # Some worlds hold two things that nothing tells apart; the pipeline leaves those out.
        assert len(problems) <= len(drawn) // 3, (intent.name, problems)


@pytest.mark.parametrize("name", names())
def test_doing_nothing_and_only_talking_earn_nothing(name: str) -> None:
    one = domain(name)
    for intent in one.intents:
        for task in tasks(one, intent)[:3]:
            assert score(Session(one, task)).score == 0
            talker = Session(one, task)
            while not talker.done:
                talker.move(Message("assistant", "It is done."))
            blind_no_is_right = intent.kind == "policy" and not task.topics[0].goals[0].calls
            assert (score(talker).score == 0) != blind_no_is_right, intent.name


@pytest.mark.parametrize("name", names())
def test_a_call_about_something_else_shows_no_refusal(name: str) -> None:
    one = domain(name)
    for intent in (intent for intent in one.intents if intent.kind == "fails"):
        for task in tasks(one, intent)[:3]:
            call = task.topics[0].goals[0].calls[-1]
            ids = {p.name for p in one.by_name[call.tool].params if p.slot.entity}
            if not ids:
                continue
            wrong = {k: "X1" if k in ids else v for k, v in call.arguments.items()}
            session = Session(one, task)
            made = ToolCall("a", call.tool, json.dumps(wrong))
            session.move(Message("assistant", tool_calls=(made,)))
            while not session.done:
                session.move(Message("assistant", "It was refused."))
            assert score(session).score == 0, intent.name
