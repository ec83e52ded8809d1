"""Worlds as problems: played by a model, judged by what the world has become."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import islice

import pytest

from openk2.agent.models.scripted import Scripted, Turn
from openk2.envs.catalogue import HELD_OUT
from openk2.gym.world_draw import WorldDraw
from openk2.gym.worlds import Worlds
from openk2.types import Message, Sampling


def test_an_episode_that_is_played_is_worth_what_its_turns_are():
    family = Worlds()
    problem = next(p for p in family.problems(1) if p.meta["level"] == 2)
    gold = family.gold(problem)
    turns = [Turn(message) for message in gold if message.role == "assistant"]
    played = asyncio.run(family.play(Scripted(turns), problem, Sampling()))
    assert [m.role for m in played.messages] == [m.role for m in gold]
    assert played.finish == "stop" and played.usage.completion_tokens > 0
    assert family.score(problem, played.messages)["reward"] == 1


def test_the_budget_is_that_of_all_turns():
    family = Worlds()
    problem = next(p for p in family.problems(1) if p.meta["level"] == 2)
    turns = [Turn(message) for message in family.gold(problem) if message.role == "assistant"]
    small = replace(problem, max_tokens=1)
    played = asyncio.run(family.play(Scripted(turns), small, Sampling()))
    assert sum(message.role == "assistant" for message in played.messages) == 1
    assert family.score(problem, played.messages)["reward"] == 0


def test_partial_pays_for_the_calls_that_were_needed_and_less_for_more():
    strict, lenient = Worlds(), Worlds(partial=0.4)
    problem = next(p for p in strict.problems(1) if p.meta["level"] == 2)
    first, result, *_ = strict.gold(problem)
    half = (first, result, Message("assistant", "?"))
    assert strict.score(problem, half)["reward"] == 0
    assert lenient.score(problem, half)["reward"] == pytest.approx(0.2)
    again = replace(first, tool_calls=(replace(first.tool_calls[0], id="again"),))
    more = (first, result, again, again, *half[2:])
    assert lenient.score(problem, more)["progress"] < 0.5
    assert lenient.score(problem, strict.gold(problem))["reward"] == 1


def test_simple_tasks_have_few_tools_and_few_calls_and_sides_have_domains_of_their_own():
    family = Worlds(WorldDraw(most_calls=1, most_tools=3))
    for held_out in (False, True):
        for problem in islice(family.problems(2, held_out=held_out), 15):
            assert 2 <= len(problem.tools) <= 3 and len(problem.meta["calls"]) == 1
            assert (problem.key in HELD_OUT) == held_out
    with pytest.raises(ValueError, match="none of clinic is among"):
        next(Worlds(WorldDraw(domains=("clinic",))).problems(0))
