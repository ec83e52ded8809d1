"""Multiple choice: AQuA (English) and TAL-SCQ5K (English and Chinese).

In: a question with lettered options; the text of an answer. Out: whether its letter is right.
Must not know: what the questions are about.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path

from openk2.evals.benchmark import Answer, Benchmark, Case, Scores, ask_once
from openk2.text.corpus import read_rows
from openk2.types import Message

_INSTRUCTIONS = {
    "en": "Think step by step. Then end with a line `Answer: ` and the letter of the right option.",
    "zh": "请逐步思考，最后一行写“答案：”和正确选项的字母。",
}
_SAID = re.compile(
    r"(?i:answer|option|choice|choose|pick|答案|选项|选择|选)\**\s*"
    r"(?i:is|would be|are|应该是|应该|应|是|为|选)?\s*[:=]?[\s*(\[`\"“]*"
    r"(?:([A-Z])(?![A-Za-z'])|([a-z])(?=[).\]*]*\s*$|\)))",
    re.M,
)
_BOXED = re.compile(r"\\boxed\{\W*(?:\\text\{)?([A-Z])\b")
_ALONE = re.compile(r"^\W*([A-Z])(?:\W*$|\s*[.):、])", re.M)
_BRACKETED = re.compile(r"\(([A-Z])\)")


def letter_in(text: str, letters: str = "ABCDE") -> str | None:
    """Read which option an answer chooses; None where it names none.

    What follows the word "answer" counts first, then a letter alone on its line or before its
    option, then one in brackets; of several the last.
    """
    text = unicodedata.normalize("NFKC", text)
    for pattern in (_BOXED, _SAID, _ALONE, _BRACKETED):
        found = [
            (match[1] or match[match.lastindex or 1]).upper() for match in pattern.finditer(text)
        ]
        named = [letter for letter in found if letter in letters]
        if named:
            return named[-1]
    return None


def _score(case: Case, answer: Answer) -> Scores:
    said = letter_in(answer.text, case.meta["letters"])
    return {"exact": float(said == case.gold), "chose": float(said is not None)}


def _case(
    name: str, number: int, language: str, question: str, options: Mapping[str, str], gold: str
) -> Case:
    listed = "\n".join(f"({letter}) {text}" for letter, text in options.items())
    words = f"{question.strip()}\n{listed}\n\n{_INSTRUCTIONS[language]}"
    group = name if name == "aqua" else f"{name} {language}"
    letters = "".join(options)
    return Case(
        f"{name}/{number}", group, (Message("user", words),), gold=gold, meta={"letters": letters}
    )


def _aqua(data: Path) -> Iterator[Case]:
    for number, row in enumerate(read_rows(data / AQUA.packs[0])):
        options = {option[0]: option[2:].strip() for option in row["options"]}
        yield _case("aqua", number, "en", row["question"], options, row["correct"])


def _tal_scq(data: Path) -> Iterator[Case]:
    for number, row in enumerate(read_rows(data / TAL_SCQ.packs[0])):
        options = {letter: text.strip() for letter, text in row["options"].items()}
        answer = row["answer"].strip()
        yield _case("tal_scq", number, row["lang"], row["problem"], options, answer)


AQUA = Benchmark(
    name="aqua",
    about="Algebra word problems with five options.",
    about_zh="五选一的代数应用题。",
    licence="Apache-2.0",
    source="google-deepmind/AQuA@26b64ed1f222, development and test",
    packs=("eval/aqua_devtest.jsonl.zst",),
    headline="exact",
    cases=_aqua,
    score=_score,
    answer=ask_once(512),
    failed={"exact": 0.0, "chose": 0.0},
)
TAL_SCQ = Benchmark(
    name="tal_scq",
    about="Primary-school mathematics with four or five options, English and Chinese.",
    about_zh="小学数学单选题，中英文各半。",
    licence="MIT",
    source="math-eval/TAL-SCQ5K@8a66d6e14c65, 500 of each test set",
    packs=("eval/tal_scq_test.jsonl.zst",),
    headline="exact",
    cases=_tal_scq,
    score=_score,
    answer=ask_once(512),
    failed={"exact": 0.0, "chose": 0.0},
)
BENCHMARKS = (AQUA, TAL_SCQ)
