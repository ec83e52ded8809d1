"""Morse code, both ways.

In: a level. Out: letters to encode or code to decode, and whether it was done.
Must not know: how a model does it.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from random import Random

from openk2.gym.answers import sentence
from openk2.gym.exact import Drawn, Idea, Lang, Puzzle
from openk2.gym.problem import Problem

_SIGNS = (
    ".- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. -- -. --- .--. --.- .-. ... - ..- ...- .-- "
    "-..- -.-- --.. ----- .---- ..--- ...-- ....- ..... -.... --... ---.. ----."
)
CODE = dict(zip(string.ascii_uppercase + string.digits, _SIGNS.split(), strict=True))
"""ITU-R M.1677-1, section 1: letters and figures."""
_LEGEND = 2
"""The highest level at which the code of the letters is given, among others."""
_ASKED = {
    "encode": {
        "en": "Write {text} in Morse code: `.` and `-`, a space between letters, ` / ` between "
        "words.{legend}\nEnd with a line `Answer: ` and the code.",
        "zh": "把{text}写成摩尔斯电码：用“.”和“-”，字母之间用空格，单词之间用“ / ”。{legend}\n"
        "最后一行写“答案：”和电码。",
    },
    "decode": {
        "en": "What does this Morse code say? {text}{legend}\nEnd with a line `Answer: ` and the "
        "letters and digits.",
        "zh": "这段摩尔斯电码是什么意思？{text}{legend}\n最后一行写“答案：”和字母、数字。",
    },
}


class Morse(Drawn):
    """One letter, a few, words; the easiest levels show the code of some letters."""

    name = "morse"
    about = "Write letters in Morse code or read it; every sign must be right."
    about_zh = "摩尔斯电码的编码与解码；每个符号都须正确。"
    levels = (1, 2, 3, 4, 5)
    """One letter with its code at hand; three with theirs; one to three; four to six; two words."""
    max_tokens = 96

    def draw(self, rng: Random, level: int) -> Idea:
        """Draw letters; they are on the same side of the split whichever way they are asked."""
        lengths = {
            1: [1], 2: [3], 3: [rng.randint(1, 3)], 4: [rng.randint(4, 6)],
            5: [rng.randint(2, 5), rng.randint(2, 5)],
        }[level]  # fmt: skip
        text = " ".join("".join(rng.choices(list(CODE), k=length)) for length in lengths)
        way = rng.choice(sorted(_ASKED))
        # One letter alone is asked for with many legends, and cannot be new each time.
        legend = "".join(rng.sample(list(CODE), 5)) if level <= _LEGEND else ""
        return Idea(f"{way}/{text}/{legend}", text)

    def pose(self, fact: str, rng: Random, level: int, lang: Lang) -> Puzzle:
        """Ask for one way."""
        way, text, others = fact.split("/")
        asked, answer = (text, encode(text)) if way == "encode" else (encode(text), text)
        legend = ""
        if others:
            shown = sorted({*text, *others[: 6 - len(text)]})
            legend = " (" + ", ".join(f"{char} {CODE[char]}" for char in shown) + ")"
        question = _ASKED[way][lang].format(text=asked, legend=legend)
        return Puzzle(question, answer, {"way": way})

    def accepts(self, problem: Problem, answer: str) -> bool:
        """Compare signs; small letters are letters."""
        if problem.meta["way"] == "encode":
            return answer == problem.meta["answer"]
        return (sentence(answer) or "").upper() == problem.meta["answer"]

    def wrongs(self, problem: Problem) -> Sequence[str]:
        """Return neighbours, signs that look alike, and everything at once."""
        right: str = problem.meta["answer"]
        if problem.meta["way"] == "encode":
            respaced = {" ".join(right), right.replace(" ", ""), right.replace(" ", "\n")}
            return (
                right[:-1] + ("-" if right[-1] == "." else "."),
                f"{right} .",
                *sorted(respaced - {right}),
                right.replace("-", "−").replace(".", "·"),
                right.replace("-", "_").replace(".", "*"),
                " ".join(CODE.values()),
            )
        return (
            right[:-1] + ("E" if right[-1] == "T" else "T"),
            f"{right}E",
            "".join(CODE),
            " ".join(CODE),
            encode(right),
            f"{right}/{right}",
            "?" * len(right),
            "".join(chr(ord(char) + 0xFEE0) if char != " " else char for char in right),
        )


def encode(text: str) -> str:
    """Write letters, digits and spaces in Morse code."""
    return " / ".join(" ".join(CODE[char] for char in word) for word in text.split())
