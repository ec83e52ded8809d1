"""Sums, from one digit up.

In: a level. Out: a sum in the words that the shipped model was taught to answer, and whether a
number is its result.
Must not know: how a model counts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from random import Random

from openk2.gym.answers import declared, number
from openk2.gym.exact import Drawn, Idea, Lang, Puzzle
from openk2.gym.problem import Problem
from openk2.text.arithmetic import ASKED, HELD_OUT_SHARE, sum_key
from openk2.text.corpus import held_out


class Arithmetic(Drawn):
    """Whole numbers and one or two signs; a result is never below 0."""

    name = "arithmetic"
    about = "Sums of whole numbers, from one digit up; the number must be exact."
    about_zh = "整数四则运算，从一位数起；得数须完全正确。"
    levels = (1, 2, 3, 4, 5, 6, 7, 8)
    """One digit; up to 20; up to 100; times up to 12; three terms; one digit times two; three
    digits; `a + b * c`."""
    max_tokens = 32

    def unseen(self, key: str) -> bool:
        """Split as the text room does: its training never sees these sums either."""
        return held_out(key, HELD_OUT_SHARE)

    def draw(self, rng: Random, level: int) -> Idea:
        """Draw a sum."""
        terms = _sum(rng, level)
        return Idea(terms, sum_key(terms))

    def pose(self, fact: str, rng: Random, level: int, lang: Lang) -> Puzzle:
        """Ask for it."""
        question = rng.choice(ASKED[lang]).format(sum=fact)
        return Puzzle(question, str(_result(fact)), {"sum": fact})

    def found(self, problem: Problem, text: str) -> str | None:
        """Take what follows the sum where it is repeated, as in `2 + 3 = 5` and `2 + 3等于5。`."""
        answer = declared(text)
        if answer is None:
            return None
        terms = problem.meta["sum"]
        for lead in (f"{terms} = ", f"{terms}等于"):
            if answer.startswith(lead):
                return answer.removeprefix(lead)
        return answer

    def accepts(self, problem: Problem, answer: str) -> bool:
        """Compare numbers."""
        return number(answer) == int(problem.meta["answer"])

    def wrongs(self, problem: Problem) -> Sequence[str]:
        """Return neighbours, the sum itself, and rows of numbers."""
        right, terms = int(problem.meta["answer"]), problem.meta["sum"]
        near = [str(number) for number in range(max(0, right - 9), right + 9)]
        return (
            str(right + 1),
            f"-{right + 1}",
            terms,
            f"{terms} = ",
            f"{terms} = {right + 1}",
            f"{terms} = {terms}",
            f"{terms} = {right} = {right + 1}",
            " ".join(near),
            "\n".join(near),
            f"{right + 1}{right}",
            f"{right}.5",
            f"{2 * right}/2",
            f"{right}²",
            f"{right + 1},{right}",
        )


def _sum(rng: Random, level: int) -> str:
    def upto(largest: int, least: int = 0) -> int:
        return rng.randint(least, largest)

    match level:
        case 1:
            return f"{upto(9)} + {upto(9)}"
        case 2 | 3 | 7:
            least, largest = {2: (0, 20), 3: (0, 100), 7: (100, 999)}[level]
            one, two = upto(largest, least), upto(largest, least)
            return f"{one} + {two}" if rng.random() < 0.5 else f"{max(one, two)} - {min(one, two)}"
        case 4:
            return f"{upto(12)} * {upto(12)}"
        case 5:
            one, two = upto(20), upto(20)
            return f"{one} + {two} {rng.choice('+-')} {upto(min(20, one + two))}"
        case 6:
            return f"{upto(9, 2)} * {upto(99, 11)}"
        case _:
            return f"{upto(99)} + {upto(12, 2)} * {upto(12, 2)}"


def _result(terms: str) -> int:
    """Work out sums, differences and products of whole numbers."""
    total = 0
    for sign, product in re.findall(r"([+-]?) ?(\d+(?: \* \d+)*)", terms):
        total += (-1 if sign == "-" else 1) * math.prod(map(int, product.split(" * ")))
    return total
