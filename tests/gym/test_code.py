"""Code: hidden tests pay for the function and not for knowing the example."""

from __future__ import annotations

import ast
from itertools import islice
from pathlib import Path

import pytest

from openk2.agent.sandbox.isolation import SandboxMissing
from openk2.gym import code
from openk2.gym.code import BROKEN, Code
from openk2.gym.code_hidden import examples, recombined
from openk2.gym.problem import Problem
from openk2.types import Message

DATA = Path(__file__).resolve().parents[2] / "data"


def reward(problem: Problem, text: str) -> float:
    return Code(DATA).score(problem, (Message("assistant", text),))["reward"]


def drawn(small: float, count: int, *, held_out: bool = False) -> list[Problem]:
    return list(islice(Code(DATA, small=small).problems(1, held_out=held_out), count))


def test_examples_are_read_and_recombined_into_new_inputs():
    found = examples(
        "def check(candidate):\n"
        "    assert candidate([1, 2], 'a') == 3\n    assert candidate([5], 'b') == 6\n"
    )
    assert [one.values for one in found] == [([1, 2], "a"), ([5], "b")]
    assert found[0].shown == "[1, 2], 'a'" and found[0].answer == "3"
    new = [ast.literal_eval(text) for text in recombined(found)]
    assert ([1, 2], "b") in new and ([1, 2], "a") not in new
    assert examples("def check(candidate):\n    assert candidate(1) == f(1)\n") == []
    assert examples("def check(candidate):\n    assert candidate(1)\n") == []


def test_problems_show_one_example_are_split_by_task_and_are_the_same_for_a_seed():
    practice, unseen = drawn(0.5, 60), drawn(0.5, 15, held_out=True)
    assert practice == drawn(0.5, 60)
    assert not {p.key for p in practice} & {p.key for p in unseen}
    for problem in (*practice, *unseen):
        asked = problem.messages[0].content
        assert asked.count(">>>") == 1 and problem.key.partition("/")[2] not in BROKEN
        assert "_reference" not in asked and problem.meta["test"].count("assert") >= 1


def test_the_function_is_paid_and_the_example_by_heart_is_not():
    problem = drawn(1.0, 1)[0]
    assert reward(problem, "") == 0
    by_heart = Code().hacks(problem)[2]
    assert problem.meta["shown"][1] in by_heart and reward(problem, by_heart) == 0
    assert reward(problem, Code().gold(problem)[0].content) == 1


@pytest.mark.slow
@pytest.mark.parametrize("small", [0.0, 1.0])
def test_gold_passes_and_no_exploit_does(small: float):
    family = Code(DATA, small=small)
    for problem in drawn(small, 4):
        assert reward(problem, family.gold(problem)[0].content) == 1, problem.key
        for hack in family.hacks(problem):
            assert reward(problem, hack) == 0, hack


def test_without_a_sandbox_nothing_is_asked(monkeypatch: pytest.MonkeyPatch):
    def missing() -> None:
        raise SandboxMissing("there is no sandbox: apt install bubblewrap")

    monkeypatch.setattr(code, "code_sandbox", missing)
    with pytest.raises(SandboxMissing, match="bubblewrap"):
        next(Code(DATA).problems(0))
