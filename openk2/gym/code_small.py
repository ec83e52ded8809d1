"""Small Python functions that a small model can get right, each with inputs to test it on.

In: a source of chance. Out: a sentence, a reference solution, inputs. Must not know: sandboxes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

Inputs = Callable[[Random], tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Small:
    """A function to write."""

    name: str
    """Its kind and its numbers: what a split keeps together."""
    sentence: str
    head: str
    """The parameters."""
    body: str
    """What it returns, as an expression."""
    inputs: tuple[tuple[Any, ...], ...]


def _one_number(rng: Random) -> tuple[Any, ...]:
    return (rng.randint(-20, 60),)


def _two_numbers(rng: Random) -> tuple[Any, ...]:
    return rng.randint(-20, 60), rng.randint(-20, 60)


def _numbers(rng: Random) -> tuple[Any, ...]:
    return ([rng.randint(-9, 30) for _ in range(rng.randint(3, 7))],)


def _word(rng: Random) -> tuple[Any, ...]:
    return ("".join(rng.choices("abcdefgAEIou ", k=rng.randint(4, 9))).strip() or "ab",)


_KINDS: Mapping[str, tuple[str, str, str, Inputs]] = {
    "add": ("the sum of x and {n}", "x", "x + {n}", _one_number),
    "subtract": ("x minus {n}", "x", "x - {n}", _one_number),
    "times": ("{n} times x", "x", "{n} * x", _one_number),
    "rest": ("the remainder of x divided by {n}", "x", "x % {n}", _one_number),
    "line": ("{n} times x plus {m}", "x", "{n} * x + {m}", _one_number),
    "greater": ("whether x is greater than {n}", "x", "x > {n}", _one_number),
    "product": ("the product of a and b plus {n}", "a, b", "a * b + {n}", _two_numbers),
    "larger": ("the larger of a and b plus {n}", "a, b", "max(a, b) + {n}", _two_numbers),
    "total": ("the sum of the list plus {n}", "items", "sum(items) + {n}", _numbers),
    "above": ("how many items of the list are greater than {n}", "items",
              "sum(x > {n} for x in items)", _numbers),
    "scaled": ("the list with every item multiplied by {n}", "items",
               "[{n} * x for x in items]", _numbers),
    "kept": ("the list of the items that are less than {n}", "items",
             "[x for x in items if x < {n}]", _numbers),
    "repeat": ("the text {k} times in a row", "text", "text * {k}", _word),
    "start": ("the first {k} characters of the text", "text", "text[:{k}]", _word),
    "end": ("the text without its first {k} characters", "text", "text[{k}:]", _word),
    "count": ("how often the letter '{c}' is in the text", "text", "text.count('{c}')", _word),
    "ending": ("the text followed by '{c}'", "text", "text + '{c}'", _word),
    "backwards": ("the text backwards, followed by '{c}'", "text", "text[::-1] + '{c}'", _word),
}  # fmt: skip


def draw_small(rng: Random, inputs: int = 8) -> Small:
    """Draw a function with inputs of which no two are the same."""
    kind = rng.choice(list(_KINDS))
    sentence, head, body, draw = _KINDS[kind]
    numbers = {"n": rng.randint(2, 25), "m": rng.randint(1, 25), "k": rng.randint(1, 3)}
    values = {**numbers, "c": rng.choice("abcdefgou")}
    found: dict[str, tuple[Any, ...]] = {}
    while len(found) < inputs:
        one = draw(rng)
        found.setdefault(repr(one), one)
    expression = body.format(**values)
    return Small(
        f"{kind}/{expression}", f"Return {sentence.format(**values)}.", head, expression,
        tuple(found.values()),
    )  # fmt: skip
