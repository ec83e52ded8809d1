"""Families that are not mathematics: gold is paid, nothing and exploits are not, splits hold."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest

from openk2.gym.faithful import Faithful
from openk2.gym.instructions import Instructions
from openk2.gym.problem import Family, Problem
from openk2.gym.registry import FAMILIES
from openk2.gym.safety import Safety
from openk2.gym.style import Style
from openk2.gym.tool_calls import ToolCalls
from openk2.gym.worlds import Worlds
from openk2.types import Message

DATA = Path(__file__).resolve().parents[2] / "data"
MADE: dict[str, Family] = {
    "instructions": Instructions(),
    "faithful": Faithful(DATA),
    "safety": Safety(),
    "style": Style(DATA),
    "tool_calls": ToolCalls(DATA, copied=0.0),  # the words of copied ones take seconds to read
    "worlds": Worlds(),
}
COUNT = {"worlds": 16, "tool_calls": 12}


def drawn(name: str, seed: int, *, held_out: bool = False) -> list[Problem]:
    problems = MADE[name].problems(seed, held_out=held_out)
    return list(islice(problems, COUNT.get(name, 80) // (4 if held_out else 1)))


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("held_out", [False, True])
def test_gold_is_paid_and_nothing_and_exploits_are_not(name: str, held_out: bool):
    family = MADE[name]
    for problem in drawn(name, 3, held_out=held_out):
        again = Problem(
            problem.id, name, problem.key, problem.messages, problem.tools, problem.max_tokens,
            json.loads(json.dumps(problem.meta)),
        )  # fmt: skip
        assert family.score(again, family.gold(again))["reward"] == 1, problem
        for nothing in ((), (Message("assistant", ""),), (Message("assistant", " \n"),)):
            assert family.score(again, nothing)["reward"] == 0, problem
        for hack in family.hacks(problem):
            scores = family.score(again, (Message("assistant", hack),))
            assert scores["reward"] == 0, (problem.messages[-1].content, hack, scores)
        assert problem.family == name == family.name == FAMILIES[name]().name
        assert problem.meta["level"] >= 1 and problem.max_tokens > 0


@pytest.mark.parametrize("name", MADE)
def test_the_same_seed_gives_the_same_problems_and_held_out_keys_are_never_practised(name: str):
    practice = drawn(name, 1)
    assert practice == drawn(name, 1)
    assert [p.messages for p in practice[:5]] != [p.messages for p in drawn(name, 2)[:5]]
    held_out = drawn(name, 1, held_out=True)
    assert held_out and not {p.key for p in held_out} & {p.key for p in practice}
    ids = [problem.id for problem in (*practice, *held_out, *drawn(name, 2))]
    assert len(set(ids)) == len(ids)
