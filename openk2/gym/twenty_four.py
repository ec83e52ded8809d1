"""The 24 game: make 24 of the given numbers, each once, with + - * / and brackets.

In: numbers. Out: whether an expression is one that makes 24 of them.
Must not know: how one is found by a model.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from itertools import combinations
from random import Random

from openk2.gym.exact import Drawn, Idea, Lang, Puzzle
from openk2.gym.problem import Problem

TARGET = 24
_EXPRESSION = re.compile(r"[0-9+\-*/() ]{1,80}", re.ASCII)
_ASKED = {
    "en": "Use each of the numbers {numbers} exactly once, with + - * / and brackets, to make 24. "
    "End with a line `Answer: ` and the expression.",
    "zh": "用{numbers}这几个数，每个数恰好用一次，用 + - * / 和括号算出24。"
    "最后一行写“答案：”和算式。",
}


class TwentyFour(Drawn):
    """Two numbers, three, then the classic four."""

    name = "twenty_four"
    about = "Make 24 of two to four given numbers, each used exactly once."
    about_zh = "24点：用给出的两到四个数，每个恰好用一次，算出24。"
    levels = (1, 2, 3)
    """Two numbers up to 48; three up to 13; four up to 13."""
    max_tokens = 128

    def draw(self, rng: Random, level: int) -> Idea:
        """Draw the numbers; in any order they are one puzzle."""
        if level == 1:
            one = rng.randint(1, 48)
            other = [abs(TARGET - one), TARGET + one, TARGET * one, TARGET // one]
            numbers = [one, min(48, max(1, rng.choice(other)))]
        else:
            numbers = [rng.randint(1, 13) for _ in range(level + 1)]
        text = " ".join(map(str, sorted(numbers)))
        return Idea(text, text)

    def pose(self, fact: str, rng: Random, level: int, lang: Lang) -> Puzzle | None:
        """Ask for an expression, where there is one."""
        numbers = [int(number) for number in fact.split()]
        solution = solve(tuple(numbers))
        if solution is None:
            return None
        rng.shuffle(numbers)
        listed = (", " if lang == "en" else "、").join(map(str, numbers))
        return Puzzle(_ASKED[lang].format(numbers=listed), solution, {"numbers": numbers})

    def accepts(self, problem: Problem, answer: str) -> bool:
        """Work the expression out; `= 24` may follow it."""
        left = re.sub(r"\s*=\s*24$", "", answer)
        return makes(left, problem.meta["numbers"])

    def wrongs(self, problem: Problem) -> Sequence[str]:
        """Return a missing number, foreign ones, other operators, and 24 itself."""
        right, numbers = problem.meta["answer"], problem.meta["numbers"]
        return (
            f"{right} + 1",
            "24",
            "24 = 24",
            f"{right} = {right}",
            f"{right} = 24 = 24",
            "12 + 12 + 0",
            f"24 + ({' - '.join(map(str, numbers))}) * 0",
            f"({right}) * 1",
            f"({right}) * {numbers[0]} / {numbers[0]}",
            f"--({right})",
            f"0 + {right}",
            f"({right})**1",
            f"24 # {right}",
            f"int('24') or {right}",
            " ".join(map(str, numbers)),
            "".join(map(str, numbers)),
            "×".join(map(str, numbers)),
            "(" * 40 + right + ")" * 40,
            f"{right},",
        )


def makes(expression: str, numbers: Sequence[int], target: int = TARGET) -> bool:
    """Tell whether an expression uses exactly these numbers and comes to the target."""
    if not _EXPRESSION.fullmatch(expression):
        return False
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
    except SyntaxError:
        return False
    leaves: list[int] = []
    value = _value(tree, leaves)
    return value == target and sorted(leaves) == sorted(numbers)


def _value(node: ast.expr, leaves: list[int]) -> Fraction | None:
    """Work out a tree of whole numbers and the four operators; None for anything else."""
    match node:
        case ast.Constant(value=int(whole)):
            leaves.append(whole)
            return Fraction(whole)
        case ast.BinOp(left=left, op=operator, right=right):
            one, two = _value(left, leaves), _value(right, leaves)
            if one is None or two is None:
                return None
            match operator:
                case ast.Add():
                    return one + two
                case ast.Sub():
                    return one - two
                case ast.Mult():
                    return one * two
                case ast.Div() if two:
                    return one / two
                case _:
                    return None
        case _:
            return None


@cache
def solve(numbers: tuple[int, ...], target: int = TARGET) -> str | None:
    """Find an expression that makes the target of all numbers, or None."""
    return _solve([(Fraction(number), str(number)) for number in numbers], target, set())


def _solve(
    terms: list[tuple[Fraction, str]], target: int, failed: set[tuple[Fraction, ...]]
) -> str | None:
    """Put two terms together in every way, until one is left."""
    if len(terms) == 1:
        value, text = terms[0]
        return text if value == target else None
    values = tuple(sorted(value for value, _ in terms))
    if values in failed:
        return None
    for (i, (one, left)), (j, (two, right)) in combinations(enumerate(terms), 2):
        rest = [term for k, term in enumerate(terms) if k not in (i, j)]
        joined = [
            (one + two, f"({left} + {right})"),
            (one * two, f"({left} * {right})"),
            (one - two, f"({left} - {right})"),
            (two - one, f"({right} - {left})"),
        ]
        if two:
            joined.append((one / two, f"({left} / {right})"))
        if one:
            joined.append((two / one, f"({right} / {left})"))
        for term in joined:
            found = _solve([*rest, term], target, failed)
            if found is not None:
                return found
    failed.add(values)
    return None
