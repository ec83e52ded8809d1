"""Judges of known bias: they read what stands in the fences and nothing else."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Sequence

from openk2.gym.problem import Problem
from openk2.rl.verdict import Verdict
from openk2.types import Message

English = Problem("p1", "chat", "p1", (Message("user", "Please tell me how tea is made."),))
Chinese = Problem("p2", "chat", "p2", (Message("user", "请告诉我茶是怎么做的，谢谢。"),))


def fenced(question: Sequence[Message]) -> list[str]:
    """Return the material: the request, and the answers in the order in which they are shown."""
    mark = re.search(r"(?:mark|标记) ([0-9a-f]{8})", question[0].content)
    assert mark is not None
    begin, end = rf"^--- [^\n]+ {mark[1]} ---\n", rf"\n--- end {mark[1]} ---$"
    return re.findall(rf"{begin}(.*?){end}", question[1].content, re.DOTALL | re.MULTILINE)


def by(better: Callable[[str, str], float | None]) -> Verdict:
    """Judge by a rule over the first and the second answer."""

    async def verdict(question: Sequence[Message]) -> float | None:
        _, first, second = fenced(question)
        return better(first, second)

    return verdict


def number(text: str) -> int:
    """Return the quality that a test's answer says it has."""
    found = re.search(r"quality (\d+)", text)
    return int(found[1]) if found else 0


def noisy(accuracy: float, place: float = 0.0) -> Verdict:
    """Judge by quality, wrong so often, and for the first place so much surer."""

    def better(first: str, second: str) -> float:
        drawn = random.Random(hashlib.sha256(f"{first}|{second}".encode()).digest())
        right = drawn.random() < accuracy
        said = 0.7 if (number(first) > number(second)) == right else 0.3
        return min(1.0, said + place)

    return by(better)


always_first = by(lambda first, second: 0.9)

longer = by(lambda a, b: 0.5 if len(a) == len(b) else float(len(a) > len(b)))
silent = by(lambda first, second: None)
