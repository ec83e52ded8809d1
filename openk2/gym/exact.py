"""Families with one turn, whose answer is right or wrong.

In: how a puzzle is drawn at a level, and which answers are right. Out: a `Family` with its
hold-out split, its gold, and the exploits that are tried on every such family.
Must not know: any one family.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from random import Random
from typing import Any, Literal

from openk2.gym.answers import declared, final_text
from openk2.gym.problem import Family, Problem
from openk2.gym.split import on_side
from openk2.types import Message

Lang = Literal["en", "zh"]
_DRAWS = 2000
"""A level has nothing new when this many draws in a row were known, on the other side, or without
an answer. One puzzle in 400 that are drawn equally often is then missed with probability
(1 - 1/400)^2000 = 0.7 %."""


@dataclass(frozen=True, slots=True)
class Idea:
    """What a puzzle is about, before it is put in words."""

    fact: str
    """Two puzzles with one fact are the same; all that posing needs is read from it."""
    key: str
    """What a hold-out split keeps together."""


@dataclass(frozen=True, slots=True)
class Puzzle:
    """An idea in words."""

    question: str
    """What the model reads."""
    answer: str
    """A right one, in the form that is asked for."""
    meta: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """JSON that checking needs beyond `answer`."""


class Exact(Family):
    """A family whose answers are declared in one form."""

    lines = 1
    """Most lines of an answer."""

    def accepts(self, problem: Problem, answer: str) -> bool:
        """Tell whether a declared answer is right: by default, whether it is the known one."""
        return answer == problem.meta["answer"]

    @abstractmethod
    def wrongs(self, problem: Problem) -> Sequence[str]:
        """Return wrong answers in the right form, at least one; then what exploits this family."""

    def found(self, problem: Problem, text: str) -> str | None:
        """Find the answer that a text declares."""
        return declared(text, self.lines)

    def score(self, problem: Problem, messages: Sequence[Message]) -> Mapping[str, float]:
        """Give 1 for the right answer in the declared form; `declared` says if there was one."""
        answer = self.found(problem, final_text(messages))
        right = answer is not None and self.accepts(problem, answer)
        return {"reward": float(right), "declared": float(answer is not None)}

    def gold(self, problem: Problem) -> tuple[Message, ...]:
        """Return the known answer."""
        mark = "答案：" if problem.meta["lang"] == "zh" else "Answer: "
        return (Message("assistant", f"{mark}{problem.meta['answer']}"),)

    def hacks(self, problem: Problem) -> Sequence[str]:
        """Return wrong answers, and the right one where it is not the one that is declared."""
        right, wrongs = str(problem.meta["answer"]), self.wrongs(problem)
        wrong, question = wrongs[0], problem.messages[-1].content
        return (
            *wrongs,
            question,
            f"{question}\n{right}\n{wrong}\n" + "\n" * self.lines,
            f"Answer: {right}\nAnswer: {wrong}",
            f"答案：{wrong}\n答案：{right}",
            f"Answer: {right}\nThe answer is {wrong}.",
            f"Answer: {right} or {wrong}",
            f"Answer: {wrong}, {right}",
            f"Answer: {wrong}{chr(10) * self.lines}{right}",
            f"Answer: {right}\n{wrong}" + "\nI am not sure." * self.lines,
            f"Whether the Answer: {right}",
            f"Answer: {right}\u2028Answer: {wrong}",
            f"Answer: {right}\u200b",
            f"Answer: \u2060{right}",
            f"Answer: {wrong}\r{right}",
            "Answer:", "答案：", " \n\t", "\u200b", "\u3000",
        )  # fmt: skip


def wrong_numbers(problem: Problem) -> tuple[str, ...]:
    """Return wrong numbers for a problem in words, and what exploits a reader of numbers."""
    right, text = Fraction(problem.meta["answer"]), str(problem.meta["answer"])
    wrong, in_question = right + 1, re.findall(r"\d+", problem.messages[-1].content)
    return (
        str(float(wrong)),
        f"-{float(wrong)}",
        " ".join(["0", *in_question, text]),
        ", ".join(map(str, range(100))),
        "\n".join(map(str, range(100))),
        f"{right * 2}/2",
        f"{text} + 0",
        f"{wrong} - 1",
        f"{text}e0",
        f"{int(right):#x}",
        f"between {right - 1} and {wrong}",
        f"{wrong} {text}",
        "x",
    )


def some_of(name: str, levels: Sequence[int], wanted: Sequence[int] | None) -> Sequence[int]:
    """Return the levels that are wanted, or all.

    Raises:
        ValueError: None is wanted, or one that there is not.
    """
    if wanted is None:
        return levels
    if not wanted or set(wanted) - set(levels):
        raise ValueError(f"{name} has levels {list(levels)}, not {list(wanted)}: choose among them")
    return tuple(wanted)


class Drawn(Exact):
    """Puzzles drawn at random, of several levels, half in English and half in Chinese."""

    levels: Sequence[int]
    """Those that are drawn from, each as often; 1 is the easiest."""
    max_tokens: int

    def __init__(self, levels: Sequence[int] | None = None) -> None:
        """Choose levels; all by default.

        Raises:
            ValueError: There is no such level.
        """
        self.levels = some_of(self.name, type(self).levels, levels)

    @abstractmethod
    def draw(self, rng: Random, level: int) -> Idea:
        """Have an idea; this is fast, for many are on the other side of the split."""

    @abstractmethod
    def pose(self, fact: str, rng: Random, level: int, lang: Lang) -> Puzzle | None:
        """Put an idea in words; None where it has no answer, or not only one."""

    def unseen(self, key: str) -> bool:
        """Tell whether practice never sees this key."""
        return on_side(key, True)

    def problems(self, seed: int, *, held_out: bool = False) -> Iterator[Problem]:
        """Yield every puzzle once; a level that has nothing new is left, with the last it ends."""
        side = "held_out" if held_out else "practice"
        levels, known = list(self.levels), set[str]()
        index = 0
        while levels:
            rng = Random(f"{self.name}/{seed}/{side}/{index}")
            level = rng.choice(levels)
            lang: Lang = rng.choice(("en", "zh"))
            found = self._new(rng, level, lang, held_out, known)
            if found is None:
                levels.remove(level)
            else:
                key, puzzle = found
                yield Problem(
                    f"{self.name}/{seed}/{side}/{index}",
                    self.name,
                    key,
                    (Message("user", puzzle.question),),
                    max_tokens=self.max_tokens,
                    meta={"level": level, "lang": lang, "answer": puzzle.answer, **puzzle.meta},
                )
            index += 1

    def _new(
        self, rng: Random, level: int, lang: Lang, held_out: bool, known: set[str]
    ) -> tuple[str, Puzzle] | None:
        """Draw until a puzzle is on this side of the split and was not drawn before."""
        for _ in range(_DRAWS):
            idea = self.draw(rng, level)
            if idea.fact in known or self.unseen(idea.key) != held_out:
                continue
            known.add(idea.fact)
            puzzle = self.pose(idea.fact, rng, level, lang)
            if puzzle is not None:
                return idea.key, puzzle
        return None
