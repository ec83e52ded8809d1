"""Tool calls: exactly the right one, or words that decline."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from openk2.gym.problem import Problem
from openk2.gym.tool_calls import ToolCalls
from openk2.types import Message, ToolCall

DATA = Path(__file__).resolve().parents[2] / "data"
FAMILY = ToolCalls(copied=0.0)


def one(*, calls: bool) -> Problem:
    return next(
        problem
        for problem in FAMILY.problems(1)
        if bool(problem.meta["calls"]) == calls
        and (not calls or len(json.loads(problem.meta["calls"][0][1])) > 1)
    )


def test_only_the_exact_call_is_paid_unless_the_name_has_credit():
    problem = one(calls=True)
    (gold,) = FAMILY.gold(problem)
    (call,) = gold.tool_calls
    arguments = json.loads(call.arguments)
    wrong = replace(call, arguments=json.dumps(arguments | {next(iter(arguments)): "else"}))
    reordered = replace(call, arguments=json.dumps(dict(reversed(arguments.items()))))
    every = tuple(ToolCall(tool.name, tool.name, call.arguments) for tool in problem.tools)

    def score(*calls: ToolCall, credit: float = 0.0):
        said = (Message("assistant", tool_calls=calls),)
        return ToolCalls(copied=0.0, name_credit=credit).score(problem, said)

    assert score(reordered)["reward"] == 1
    assert score(wrong)["reward"] == 0 < score(wrong)["arguments"] < 1
    assert 0 < score(wrong, credit=0.3)["reward"] < 0.3
    assert score(call, call)["reward"] == score(*every, credit=0.3)["reward"] == 0
    assert score(replace(call, arguments="{"), credit=0.3)["reward"] == 0
    assert FAMILY.score(problem, (gold, gold))["reward"] == 0


def test_where_no_tool_fits_an_honest_no_is_right_and_a_call_is_not():
    problem = one(calls=False)
    call = ToolCall("0", problem.tools[0].name, "{}")
    for said, reward in (
        (Message("assistant", "I'm sorry, none of my tools can do that."), 1),
        (Message("assistant", "抱歉，我没有可以做这件事的工具。"), 1),
        (Message("assistant", "Done! I have booked it, I can't wait."), 0),
        (Message("assistant", "I have no tool for that.", tool_calls=(call,)), 0),
        (Message("assistant", "Hello there, my friend."), 0),
    ):
        assert FAMILY.score(problem, (said,))["reward"] == reward


@pytest.mark.slow  # reads the word bank of both sides
def test_copied_requests_have_gold_exploits_and_words_of_their_own_side():
    family = ToolCalls(DATA, copied=1.0)
    for held_out in (False, True):
        for problem in islice(family.problems(1, held_out=held_out), 150):
            assert 2 <= len(problem.tools) <= 4
            assert family.score(problem, family.gold(problem))["reward"] == 1
            for hack in family.hacks(problem):
                assert family.score(problem, (Message("assistant", hack),))["reward"] == 0
