"""An answer is read in one form, and in no other."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.gym.answers import declared, number


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Answer: 42", "42"),
        ("答案：42", "42"),
        ("答案:42\n", "42"),
        ("42", "42"),
        ("  42 \n", "42"),
        ("3 * 4 = 12\n12 + 5 = 17\nThe answer is 17.", "17."),
        ("先算3，再算4。\u3000\n答案：7", "7"),
        ("Answer:\n42", "42"),
        ("", None),
        ("Answer:", None),
        ("3\n4", None),
        ("I think so: Answer: 42", None),
        ("Answer: 42\nAnswer: 42", None),
        ("Answer: 42\n答案：43", None),
        ("Answer: 42\nor 43", None),
        ("Answer: 42\u2029or 43", None),
        ("Answer: 4\u00ad2", None),
        ("Answer: 42\u202e", None),
        ("Answer:\u00a042", None),
        ("Answer: 42\x00", None),
    ],
)
def test_an_answer_is_declared_once_and_last(text: str, answer: str | None):
    assert declared(text) == answer


def test_an_answer_may_have_as_many_lines_as_are_asked_for():
    assert declared("Answer: 12\n34", 2) == "12\n34" == declared("12\n34", 2)
    assert declared("Answer: 12\n34\n56", 2) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7), ("-7", -7), ("7.", 7), ("7。", 7), ("1,234", 1234), ("$18.50", Fraction(37, 2)),
        ("1/2", Fraction(1, 2)), ("007", 7),
        ("48/2", None), ("2/4", None), ("7/1", None), ("1,23", None), ("7 8", None), ("7,8", None),
        ("７", None), ("7²", None), ("½", None), ("٧", None), ("7e1", None), ("0x7", None),
        ("7 apples", None), ("", None), (".", None), ("1" * 5000, None),
    ],
)  # fmt: skip
def test_a_number_stands_alone_and_is_worked_out(text: str, value: Fraction | int | None):
    assert number(text) == value


@given(st.text(max_size=40), st.integers(-(10**12), 10**12))
@settings(max_examples=100, deadline=None)
def test_whatever_follows_a_number_takes_it_back(tail: str, value: int):
    found = number(declared(f"Answer: {value}{tail}"))
    if found is not None:  # only what makes it another number, or ends the sentence
        assert not set(tail) - set("0123456789,./。 \t\n\u3000")
    assert number(declared(f"Answer: {value} {value + 1}{tail}")) is None
