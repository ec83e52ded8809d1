"""Cryptarithms: a sum in letters that stands for one sum in digits.

In: a level. Out: a sum in letters with exactly one solution; whether a sum in digits is it.
Must not know: how a model solves it.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Sequence
from itertools import islice
from random import Random

from openk2.gym.exact import Drawn, Idea, Lang, Puzzle
from openk2.gym.problem import Problem

_ASKED = {
    "en": "In this sum each letter stands for one digit, different letters for different digits, "
    "and no number begins with 0:\n{sum}\nEnd with a line `Answer: ` and the sum in digits.",
    "zh": "下面的加法算式中，每个字母代表一个数字，不同字母代表不同数字，首位不为0：\n{sum}\n"
    "最后一行写“答案：”和用数字写出的算式。",
}


class Cryptarithm(Drawn):
    """Two addends; level by level longer."""

    name = "cryptarithm"
    about = "Find the digits behind the letters of a sum; there is one solution."
    about_zh = "字母算式谜：还原加法算式中的数字，解唯一。"
    levels = (1, 2, 3, 4)
    """Addends of up to 1, 2, 3 and 4 letters."""
    max_tokens = 256

    def draw(self, rng: Random, level: int) -> Idea:
        """Draw a true sum and call its digits A, B, C as they come: other letters are no news."""
        while True:
            # Few different digits, and a carry out of the first column: without them nearly every
            # sum has several solutions (2 % had one, of these 15 %).
            digits = rng.sample(string.digits, rng.randint(2, level + 2))
            one = int("".join(rng.choices(digits, k=level)))
            two = int("".join(rng.choices(digits, k=rng.randint(1, level))))
            if one and two and (level == 1 or one + two >= 10**level):
                break
        fact = renamed(f"{one} + {two} = {one + two}", string.ascii_uppercase)
        swapped = renamed(f"{two} + {one} = {one + two}", string.ascii_uppercase)
        return Idea(fact, min(fact, swapped))

    def pose(self, fact: str, rng: Random, level: int, lang: Lang) -> Puzzle | None:
        """Choose letters, where there is one solution."""
        found = list(islice(solutions(fact), 2))
        if len(found) != 1:
            return None
        letters = "".join(rng.sample(string.ascii_uppercase, 26))
        question = renamed(fact, letters)
        return Puzzle(_ASKED[lang].format(sum=question), found[0], {"sum": question})

    def accepts(self, problem: Problem, answer: str) -> bool:
        """Compare sums, whatever spaces are in them."""
        return re.sub(" ", "", answer) == re.sub(" ", "", problem.meta["answer"])

    def wrongs(self, problem: Problem) -> Sequence[str]:
        """Return true sums that are not behind the letters, false ones that are, and letters."""
        right: str = problem.meta["answer"]
        one, _, two, _, total = right.split()
        return (
            f"{one} + {two} = {int(total) + 1}",
            f"{int(one) + 10 ** len(one)} + {two} = {int(total) + 10 ** len(one)}",
            problem.meta["sum"],
            "0 + 0 = 0",
            f"0{one} + {two} = {total}",
            f"{one} + {two}",
            total,
            f"{right} = {total}",
            f"{right}; {one} + {two} = {int(total) + 1}",
            f"{one[0]}\n{right}",
        )


def renamed(text: str, names: str) -> str:
    """Give each letter or digit the next name, in the order in which they come."""
    order = dict.fromkeys(char for char in text if char.isalnum())
    return text.translate({ord(char): name for char, name in zip(order, names, strict=False)})


def solutions(letters: str) -> Iterator[str]:
    """Yield every sum in digits that a sum in letters can stand for."""
    words = letters.replace("+", " ").replace("=", " ").split()
    first = frozenset(word[0] for word in words if len(word) > 1)
    padded = [word.rjust(len(words[2])) for word in words]
    columns = list(zip(*padded, strict=True))[::-1]
    for digits in _columns(columns, 0, 0, {" ": 0}, first):
        yield letters.translate({ord(c): str(digit) for c, digit in digits.items() if c != " "})


def _columns(
    columns: Sequence[tuple[str, ...]],
    place: int,
    carry: int,
    digits: dict[str, int],
    first: frozenset[str],
) -> Iterator[dict[str, int]]:
    """Go from the right: choose the addends' digits of a column; they say what is below."""
    if place == len(columns):
        if carry == 0:
            yield digits
        return
    one, two, total = columns[place]
    for known in _choices(one, digits, first):
        for both in _choices(two, known, first):
            over, below = divmod(both[one] + both[two] + carry, 10)
            if total in both:
                fits = both[total] == below
            else:
                fits = below not in _used(both) and not (below == 0 and total in first)
            if fits:
                yield from _columns(columns, place + 1, over, {**both, total: below}, first)


def _choices(
    letter: str, digits: dict[str, int], first: frozenset[str]
) -> Iterator[dict[str, int]]:
    """Yield what is known with each digit that a letter can still be."""
    if letter in digits:
        yield digits
        return
    used = _used(digits)
    for digit in range(letter in first, 10):
        if digit not in used:
            yield {**digits, letter: digit}


def _used(digits: dict[str, int]) -> set[int]:
    return {digit for letter, digit in digits.items() if letter != " "}
