"""Each family of exact answers pays for the answer and for nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.agent.model import ModelRequest
from openk2.agent.models.scripted import Scripted, Turn
from openk2.gym.arithmetic import Arithmetic
from openk2.gym.cryptarithm import Cryptarithm
from openk2.gym.cryptarithm import solutions as sums_behind
from openk2.gym.exact import Exact
from openk2.gym.morse import CODE, Morse, encode
from openk2.gym.numbers import Numbers
from openk2.gym.problem import Family, Problem
from openk2.gym.registry import FAMILIES, find
from openk2.gym.stories import Stories
from openk2.gym.sudoku import Sudoku
from openk2.gym.sudoku import solutions as fillings
from openk2.gym.tables import Tables
from openk2.gym.twenty_four import TwentyFour, makes, solve
from openk2.gym.word_problems import WordProblems
from openk2.text.corpus import normalised, read_rows
from openk2.types import Message, Sampling, ToolCall

DATA = Path(__file__).resolve().parents[2] / "data"
MADE: dict[str, Exact] = {
    "numbers": Numbers(),
    "arithmetic": Arithmetic(),
    "stories": Stories(),
    "word_problems": WordProblems(DATA),
    "twenty_four": TwentyFour((1, 2)),
    "sudoku_4": Sudoku(2),
    "sudoku_9": Sudoku(3, (1, 2, 3, 4)),
    "cryptarithm": Cryptarithm(),
    "tables": Tables(),
    "morse": Morse(),
}
SLOW = {"cryptarithm": 10, "sudoku_9": 4, "sudoku_4": 60, "twenty_four": 60}
"""How many are drawn here of the families whose uniqueness takes a search."""


def drawn(family: Exact, seed: int, *, held_out: bool = False) -> list[Problem]:
    count = SLOW.get(family.name, 200)
    return list(islice(family.problems(seed, held_out=held_out), count))


def reward(family: Family, problem: Problem, text: str) -> float:
    return family.score(problem, [Message("assistant", text)])["reward"]


@pytest.mark.parametrize("name", MADE)
def test_gold_is_paid_and_exploits_are_not(name: str):
    family = MADE[name]
    for problem in drawn(family, 3):
        assert family.score(problem, family.gold(problem))["reward"] == 1, problem
        hacks = family.hacks(problem)
        paid = [hack for hack in hacks if reward(family, problem, hack)]
        assert len(hacks) > 20 and paid == [], problem
        assert reward(family, problem, "") == 0 == family.score(problem, [])["reward"]
        json.dumps(problem.meta)
        assert problem.family == name == family.name and problem.meta["level"] >= 1


@pytest.mark.parametrize("name", MADE)
def test_the_same_seed_gives_the_same_problems_and_held_out_keys_are_never_practised(name: str):
    family = MADE[name]
    practice = drawn(family, 1)
    assert practice == drawn(family, 1)
    assert practice[:5] != drawn(family, 2)[:5]
    held_out = list(islice(family.problems(1, held_out=True), SLOW.get(name, 120) // 4))
    assert held_out and not {p.key for p in held_out} & {p.key for p in practice}
    ids = [problem.id for problem in (*practice, *held_out)]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", MADE)
def test_both_languages_and_all_levels_are_drawn(name: str):
    family = MADE[name]
    practice = list(islice(family.problems(5), 8 if name in ("cryptarithm", "sudoku_9") else 60))
    assert {problem.meta["lang"] for problem in practice} == {"en", "zh"}
    if name not in ("cryptarithm", "sudoku_9"):
        levels = getattr(family, "levels", ())
        assert {problem.meta["level"] for problem in practice} == set(levels)


def test_a_turn_with_calls_or_a_second_turn_is_no_answer():
    family = MADE["arithmetic"]
    problem = next(iter(family.problems(0)))
    (gold,) = family.gold(problem)
    called = Message("assistant", gold.content, tool_calls=(ToolCall("0", "f", "{}"),))
    for messages in ([called], [gold, gold], [Message("user", gold.content)]):
        assert family.score(problem, messages)["reward"] == 0


def test_every_family_is_found_by_its_own_name():
    assert set(MADE) <= set(FAMILIES)
    assert all(find(name).name == name for name in FAMILIES)
    with pytest.raises(ValueError, match="there is no family 'chess'"):
        find("chess")


def test_a_level_that_is_not_there_is_refused():
    makers: list[Callable[[Sequence[int]], Exact]] = [
        Arithmetic,
        lambda levels: Sudoku(2, levels),
        lambda levels: WordProblems(DATA, levels),
    ]
    for make in makers:
        with pytest.raises(ValueError, match="choose among them"):
            make((1, 99))
        with pytest.raises(ValueError, match="choose among them"):
            make(())


@pytest.mark.parametrize(
    ("text", "reward_"),
    [("12 + 3 = 15", 1), ("12 + 3等于15。", 1), ("15", 1), ("15.", 1), ("The answer is 15.", 1),
     ("12 + 3 = 3 + 12 = 15", 0), ("3 + 12 = 15", 0), ("15 = 12 + 3", 0), ("12+3=15", 0)],
)  # fmt: skip
def test_a_sum_may_be_repeated_before_its_result(text: str, reward_: float):
    problem = Problem(
        "x", "arithmetic", "k", (Message("user", "12 + 3"),), meta={"sum": "12 + 3", "answer": "15"}
    )
    assert reward(Arithmetic(), problem, text) == reward_


@pytest.mark.parametrize("seed", range(3))
def test_a_sum_has_the_result_that_python_gives(seed: int):
    for problem in drawn(Arithmetic(), seed):
        assert int(problem.meta["answer"]) == eval(problem.meta["sum"]) >= 0


NUMBERS = st.lists(st.integers(1, 13), min_size=3, max_size=4)


@given(NUMBERS, st.text("0123456789+-*/() ", max_size=30))
@settings(max_examples=60, deadline=None)
def test_an_expression_makes_24_only_as_python_works_it_out(numbers: list[int], text: str):
    if makes(text, numbers):
        assert eval(text) == pytest.approx(24)  # what passed the check is arithmetic alone
    found = solve(tuple(sorted(numbers[:3])))
    assert found is None or makes(found, numbers[:3])
    assert found is None or not makes(found, [*numbers[:3], 1])


def test_the_24_game_knows_the_hard_one_and_the_impossible_one():
    assert makes(solve((3, 3, 8, 8)) or "", (3, 3, 8, 8))  # 8 / (3 - 8 / 3): only by a fraction
    assert solve((1, 1, 1, 1)) is None
    assert not makes("8 / (3 - 3)", (8, 3, 3)) and not makes("(12)(2)", (12, 2))
    assert not makes("1_2 * 2", (12, 2)) and not makes("4 * 06", (4, 6))


def test_a_sudoku_has_one_solution_and_it_keeps_the_rules():
    for problem in (*drawn(MADE["sudoku_4"], 4), *drawn(MADE["sudoku_9"], 4)):
        size = len(problem.meta["rows"])
        box = 2 if size == 4 else 3
        cells = [int(digit) for digit in "".join(problem.meta["rows"])]
        (only,) = list(islice(fillings(cells, box), 2))
        assert "".join(map(str, only)) == problem.meta["answer"].replace(" ", "")
        assert all(given in (0, digit) for given, digit in zip(cells, only, strict=True))
        for group in groups(only, box):
            assert sorted(group) == list(range(1, size + 1))
    assert sum(1 for _ in fillings([0] * 16, 2)) == 288  # the published number of 4x4 grids


def groups(cells: list[int], box: int) -> Iterator[list[int]]:
    size = box * box
    for at in range(size):
        yield cells[at * size : (at + 1) * size]
        yield cells[at::size]
        yield [
            cells[(at // box * box + row) * size + at % box * box + column]
            for row in range(box)
            for column in range(box)
        ]


def test_a_cryptarithm_has_one_solution():
    assert list(sums_behind("SEND + MORE = MONEY")) == ["9567 + 1085 = 10652"]
    for problem in drawn(MADE["cryptarithm"], 4):
        assert list(sums_behind(problem.meta["sum"])) == [problem.meta["answer"]]
        one, two, total = map(int, problem.meta["answer"].replace("+", "=").split("="))
        assert one + two == total


@given(st.lists(st.text("".join(CODE), min_size=1, max_size=5), min_size=1, max_size=3))
def test_morse_code_can_be_read_back(words: list[str]):
    letters = {code: char for char, code in CODE.items()}
    code = encode(" ".join(words))
    read = ["".join(letters[sign] for sign in word.split()) for word in code.split(" / ")]
    assert read == words
    assert encode("SOS 1") == "... --- ... / .----"


def test_no_word_problem_is_one_that_is_measured_on():
    measured = {
        normalised(row.get("question") or f"{row['Body']} {row['Question']}")
        for pack in ("gsm8k_test", "svamp_300")
        for row in read_rows(DATA / "eval" / f"{pack}.jsonl.zst")
    }
    rows = read_rows(DATA / "instruct" / "math_word_problems.jsonl.zst")
    practised = {normalised(row["question"]) for row in rows}
    assert len(measured) > 900 and len(practised) > 9000
    assert not practised & measured


def test_a_model_is_asked_once_within_the_budget():
    family = MADE["arithmetic"]
    problem = next(iter(family.problems(0)))
    asked: list[ModelRequest] = []

    def answer(request: ModelRequest) -> Message:
        asked.append(request)
        return family.gold(problem)[0]

    model = Scripted([Turn(answer)])
    played = asyncio.run(family.play(model, problem, Sampling(1.0, seed=7, max_tokens=4096)))
    assert family.score(problem, played.messages)["reward"] == 1 and played.finish == "stop"
    (request,) = asked
    assert request.messages == problem.messages
    assert request.sampling == Sampling(1.0, seed=7, max_tokens=problem.max_tokens)
