"""Numbers, letters and words are read out of answers as people write them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.evals.bbh import BBH, final_answer, matches
from openk2.evals.benchmark import Answer, Benchmark, Case
from openk2.evals.choice import AQUA, TAL_SCQ, letter_in
from openk2.evals.gsm8k import GSM8K, SVAMP, marked_number, number_in
from openk2.evals.needle import NEEDLE
from openk2.types import Message, Usage

DATA = Path(__file__).resolve().parents[2] / "data"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5 + 5 = 10.\n#### 1,018", 1018),
        ("#### $18.00", 18),
        ("#### -3\nor rather 7", -3),
        ("So she pays $1,234.50.", Fraction("1234.5")),
        ("It takes 10-3=7 hours", 7),
        ("one half is 1/2", Fraction(1, 2)),
        ("共有１２个苹果。", 12),
        ("−4", -4),
        ("50%", 50),
        ("see section v1.2.3", None),
        ("no idea", None),
    ],
)
def test_the_number_of_an_answer_is_found(text: str, number: int | Fraction | None):
    assert number_in(text) == number


@given(st.integers(), st.text(max_size=40))
def test_what_is_after_the_last_mark_counts_whatever_came_before(number: int, noise: str):
    assert (
        marked_number(f"{noise}\n#### {number:,}") == number == number_in(f"{noise}\n#### {number}")
    )


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("Answer: B", "B"),
        ("The answer is (c).", "C"),
        ("**Answer:** D", "D"),
        ("答案：C", "C"),
        ("所以选D。", "D"),
        ("E", "E"),
        ("(A) 5", "A"),
        (r"so it is $\boxed{E}$", "E"),
        ("The answer is an apple. Answer: B", "B"),
        ("A nice question, but Answer: a bird", None),
        ("Answer: F", None),
        ("", None),
    ],
)
def test_the_letter_of_an_answer_is_found(text: str, letter: str | None):
    assert letter_in(text) == letter


@pytest.mark.parametrize(
    ("text", "target", "right"),
    [
        ("They swap.\nSo the answer is (B).", "(B)", True),
        ("So the answer is B", "(B)", True),
        ("So the answer is (C) blue", "(B)", False),
        ("So the answer is Yes.", "yes", True),
        ("So the answer is not valid", "valid", False),
        ("So the answer is -25.", "-25", True),
        ("So the answer is 25", "-25", False),
        ("So the answer is ] > }.", "] > }", True),
        ("So the answer is ]>", "] > }", False),
        ("it: him, correspond\nanswer: correspond, him", "correspond him", True),
        ("So the answer is him correspond", "correspond him", False),
        ("", "No", False),
    ],
)
def test_the_words_of_an_answer_are_compared_as_their_kind_asks(text, target, right):
    assert matches(final_answer(text), target) is right


def score(benchmark: Benchmark, case: Case, text: str):
    answer = Answer((Message("assistant", text),), "stop", Usage(1, 1), 0.1)
    return benchmark.score(case, answer)[benchmark.headline]


GOLD = [
    (GSM8K, 649, "So\n#### {}"),
    (SVAMP, 300, "#### {}"),
    (AQUA, 508, "Answer: {}"),
    (TAL_SCQ, 1000, "答案：{}"),
    (BBH, 3248, "So the answer is {}."),
]


@pytest.mark.parametrize(("benchmark", "count", "gold"), GOLD, ids=lambda value: str(value)[:0])
def test_every_gold_answer_scores_one_and_silence_nothing(benchmark, count, gold):
    cases = list(benchmark.cases(DATA))
    assert len({case.id for case in cases}) == count
    assert all(score(benchmark, case, gold.format(case.gold)) == 1 for case in cases)
    assert all(score(benchmark, case, "") == 0 for case in cases[::20])


def test_a_needle_is_where_it_should_be_and_only_its_number_counts():
    cases = [
        case
        for case in NEEDLE.cases(DATA)
        if case.id.startswith(("needle/en-4-1024", "needle/zh-0-512"))
    ]
    assert len(cases) == 10
    for case in cases:
        text, depth = case.messages[0].content, float(case.id.rsplit("-", 1)[1])
        assert text.index(case.gold) / len(text) == pytest.approx(depth, abs=0.07)
        assert text.count(case.gold) == 1
        assert score(NEEDLE, case, f"The code is {case.gold}.") == 1
        assert score(NEEDLE, case, f"10 or {case.gold}?") == score(NEEDLE, case, "") == 0
