"""Word problems whose answer is a number: GSM8K and SVAMP.

In: a question in words; the text of an answer. Out: whether its number is the right one.
Must not know: how the number was found; a right number after wrong steps counts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from openk2.evals.benchmark import Answer, Benchmark, Case, Scores, ask_once
from openk2.text.corpus import read_rows
from openk2.types import Message

_INSTRUCTION = "Work it out step by step. Then end with a line `#### ` and the number alone."
_NUMBER = r"[-+]?[$€£¥]?\s?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+|(?<=\d)\.?)(?:/[1-9]\d*)?"
_ANY = re.compile(rf"(?<![A-Za-z_\d.]){_NUMBER}")
_MARKED = re.compile(rf"####\s*({_NUMBER})")
_SEPARATORS = str.maketrans("", "", ",$€£¥ +")


def number_in(text: str) -> Fraction | None:
    """Read the number that an answer arrives at: after the last `####`, else the last of all."""
    text = _plain(text)
    marked = [found.group(1) for found in _MARKED.finditer(text)]
    numbers = marked or [found.group() for found in _ANY.finditer(text)]
    return _value(numbers[-1]) if numbers else None


def marked_number(text: str) -> Fraction | None:
    """Read the number after the last `####`; None where there is none."""
    marked = [found.group(1) for found in _MARKED.finditer(_plain(text))]
    return _value(marked[-1]) if marked else None


def _plain(text: str) -> str:
    """Write digits and signs of all scripts as ASCII."""
    return unicodedata.normalize("NFKC", text).replace("\N{MINUS SIGN}", "-")


def _value(number: str) -> Fraction:
    return Fraction(number.translate(_SEPARATORS).rstrip("."))


def _score(case: Case, answer: Answer) -> Scores:
    gold = Fraction(case.gold)
    return {
        "exact": float(number_in(answer.text) == gold),
        "exact_marked": float(marked_number(answer.text) == gold),
    }


def _case(name: str, number: object, question: str, gold: Fraction) -> Case:
    words = Message("user", f"{question.strip()}\n\n{_INSTRUCTION}")
    return Case(f"{name}/{number}", name, (words,), gold=str(gold))


def _gsm8k(data: Path) -> Iterator[Case]:
    for row in read_rows(data / GSM8K.packs[0]):
        gold = marked_number(row["answer"])
        assert gold is not None, f"row {row['n']} of GSM8K has no answer"
        yield _case("gsm8k", row["n"], row["question"], gold)


def _svamp(data: Path) -> Iterator[Case]:
    for row in read_rows(data / SVAMP.packs[0]):
        body = row["Body"].strip()
        body += "" if body.endswith((".", "?", "!", ",")) else "."
        question = f"{body} {row['Question'].strip()}"
        yield _case("svamp", row["ID"], question, Fraction(str(row["Answer"])))


GSM8K = Benchmark(
    name="gsm8k",
    about="Grade-school word problems; the answer's number is exact (no examples are shown).",
    about_zh="小学应用题；答案中的数字须完全一致（不给示例）。",
    licence="MIT",
    source="openai/grade-school-math@3101c7d50724, half of the test set",
    packs=("eval/gsm8k_test.jsonl.zst",),
    headline="exact",
    cases=_gsm8k,
    score=_score,
    answer=ask_once(512),
    failed={"exact": 0.0, "exact_marked": 0.0},
)
SVAMP = Benchmark(
    name="svamp",
    about="Short word problems with one or two steps; the answer's number is exact.",
    about_zh="一两步的简短应用题；答案中的数字须完全一致。",
    licence="MIT",
    source="arkilpatel/SVAMP@689d7ccac74b, 300 held out",
    packs=("eval/svamp_300.jsonl.zst",),
    headline="exact",
    cases=_svamp,
    score=_score,
    answer=ask_once(256),
    failed={"exact": 0.0, "exact_marked": 0.0},
)
BENCHMARKS = (GSM8K, SVAMP)
