"""BIG-Bench Hard: 27 kinds of puzzles, each with a short exact answer.

In: a puzzle; the text of an answer. Out: whether it ends in the right words.
Must not know: how to solve any of them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from openk2.evals.benchmark import Answer, Benchmark, Case, Scores, ask_once
from openk2.text.corpus import read_rows
from openk2.types import Message

_INSTRUCTION = "Think step by step. Then end with a line `So the answer is ` and the answer alone."
_SAID = re.compile(r"answer(?:\s+is|:)[ \t]*:?[ \t]*(.+)", re.I)
_OPTION = re.compile(r"\(?([A-Z])\)?(?:[\s.:,)]|$)")


def final_answer(text: str) -> str:
    """Return what stands after the last `answer is`; else the last line that is not empty."""
    text = unicodedata.normalize("NFKC", text).replace("**", "")
    said = _SAID.findall(text)
    lines = [line for line in text.splitlines() if line.strip()]
    return (said[-1] if said else lines[-1] if lines else "").strip()


def matches(said: str, target: str) -> bool:
    """Compare an answer with the target as their kind asks.

    Args:
        said: What was answered, without the steps.
        target: An option `(B)`, a number, brackets, or words.
    """
    if re.fullmatch(r"\([A-Z]\)", target):
        option = _OPTION.match(said.strip(" `\"'"))
        return option is not None and f"({option.group(1)})" == target
    if re.fullmatch(r"[\[\](){}<>\s]+", target):
        return re.findall(r"[\[\](){}<>]", said) == target.split()
    return _words(said) == _words(target)


def _words(text: str) -> list[str]:
    return re.findall(r"-?\w+(?:['’-]\w+)*", text.casefold())


def _score(case: Case, answer: Answer) -> Scores:
    return {"exact": float(matches(final_answer(answer.text), case.gold))}


def _cases(data: Path) -> Iterator[Case]:
    for row in read_rows(data / BBH.packs[0]):
        words = Message("user", f"{row['input'].strip()}\n\n{_INSTRUCTION}")
        target = row["target"].strip()
        yield Case(f"bbh/{row['task']}/{row['n']}", row["task"], (words,), gold=target)


BBH = Benchmark(
    name="bbh",
    about="27 kinds of puzzles that language models found hard; exact match, no examples shown.",
    about_zh="27 类曾让语言模型为难的推理题；精确匹配，不给示例。",
    licence="MIT",
    source="suzgunmirac/BIG-Bench-Hard@9ee07bd481fe, half",
    packs=("eval/bbh.jsonl.zst",),
    headline="exact",
    cases=_cases,
    score=_score,
    answer=ask_once(512),
    failed={"exact": 0.0},
)
BENCHMARKS = (BBH,)
