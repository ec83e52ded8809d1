"""Word problems whose answer is a number: training parts of GSM8K, SVAMP and MAWPS.

In: the instruction pack of word problems. Out: each problem once, and whether a number is right.
Must not know: packs that are measured on, how the number is found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from random import Random

from openk2.evals.gsm8k import marked_number
from openk2.gym.answers import number
from openk2.gym.exact import Exact, some_of, wrong_numbers
from openk2.gym.problem import Problem
from openk2.gym.split import on_side
from openk2.text.corpus import normalised, read_rows
from openk2.types import Message

_ASKED = {
    "en": "{question}\nEnd with a line `The answer is ` and the number alone.",
    "zh": "{question}\n请逐步计算，最后一行写“答案：”和得数，只写数字。",
}
_LEVELS = {"mawps": 1, "svamp": 2, "gsm8k-train": 3}
_DECIMALS = 4
"""Answers with more are thirds and sevenths written to 16 digits, 30 in all: left out, for they
ask for the last digit of a float."""


class WordProblems(Exact):
    """Every problem of the pack, shuffled; the texts are English, a third is asked in Chinese."""

    name = "word_problems"
    about = "Grade-school word problems with one number as answer (GSM8K, SVAMP, MAWPS, train)."
    about_zh = "小学应用题，答案为一个数（GSM8K、SVAMP、MAWPS 训练集）。"

    def __init__(self, data: Path = Path("data"), levels: Sequence[int] | None = None) -> None:
        """Choose where problems are read from.

        Args:
            data: The repository's `data/` folder.
            levels: 1 is MAWPS, one or two steps; 2 is SVAMP; 3 is GSM8K, up to eight steps.
                All by default.
        """
        self.data = data
        self.levels = some_of(self.name, (1, 2, 3), levels)

    def problems(self, seed: int, *, held_out: bool = False) -> Iterator[Problem]:
        """Yield every problem once, in the order of the seed."""
        rows = list(enumerate(read_rows(self.data / "instruct" / "math_word_problems.jsonl.zst")))
        Random(f"{self.name}/{seed}").shuffle(rows)
        for place, row in rows:
            level = _LEVELS[row["source"]]
            question = row["question"].strip()
            key = _key(question)
            right = marked_number(row["answer"])
            if level not in self.levels or not on_side(key, held_out):
                continue
            if right is None:
                raise ValueError(
                    f"row {place} of math_word_problems has no number after `####`; "
                    "fetch the pack again"
                )
            if (right * 10**_DECIMALS).denominator != 1:
                continue
            lang = "zh" if Random(f"{seed}/{place}").random() < 1 / 3 else "en"
            text = _ASKED[lang].format(question=question)
            meta = {
                "level": level,
                "lang": lang,
                "answer": str(right) if right.denominator == 1 else str(float(right)),
            }
            yield Problem(
                f"{self.name}/{seed}/{place}", self.name, key, (Message("user", text),), meta=meta
            )

    def accepts(self, problem: Problem, answer: str) -> bool:
        """Compare numbers."""
        return number(answer) == Fraction(problem.meta["answer"])

    def wrongs(self, problem: Problem) -> Sequence[str]:
        """Return neighbours, expressions that are not worked out, and every number there is."""
        return wrong_numbers(problem)


def _key(question: str) -> str:
    """Name a text without its numbers: SVAMP has many that differ in those alone."""
    return re.sub(r"\d+", "#", normalised(question))
