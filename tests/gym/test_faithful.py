"""Faithfulness: an answer is right, in the text, and no more than an answer."""

from __future__ import annotations

import pytest

from openk2.gym.faithful import Faithful
from openk2.gym.problem import Problem
from openk2.types import Message

TEXT = (
    "The owner of the boat is Ada Lorvel. The code of the boat is K417. The boat is 12 years old."
)


def scores(text: str, answer: str | None = "Ada Lorvel"):
    meta = {
        "text": TEXT, "question": "Who owns the boat?", "answer": answer, "others": ["K417"],
        "lang": "en",
    }  # fmt: skip
    problem = Problem("x", "faithful", "k", (Message("user", TEXT),), meta=meta)
    return Faithful().score(problem, (Message("assistant", text),))


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("Ada Lorvel", 1),
        ("The owner of the boat is Ada Lorvel.", 1),
        ("ada lorvel.", 1),
        ("Ada", 0),
        ("Ada Lorvel, since 1999.", 0),  # a number from elsewhere
        ("Ada Lorvel and her friend Bartholomew.", 0),  # a name from elsewhere
        ("Ada Lorvel or somebody else.", 0),
        ("Ada Lorvel, K417", 0),
        (TEXT, 0),
        ("The text does not say.", 0),
    ],
)
def test_only_the_answer_that_the_text_has_is_paid(text: str, reward: float):
    assert scores(text)["reward"] == reward


def test_where_the_text_is_silent_only_that_is_right():
    assert scores("The text does not mention it.", None)["reward"] == 1
    assert scores("文中没有提到。", None)["reward"] == 1
    assert scores("Ada Lorvel", None)["reward"] == 0
    assert (
        scores("The text does not say, but the owner is called Bartholomew.", None)["reward"] == 0
    )
