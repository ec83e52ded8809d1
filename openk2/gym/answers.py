"""The one form in which an answer is declared, and how strictly it is read.

An answer is the last line, `Answer: X`, `答案：X` or `The answer is X.`, or it is all of the text.
Where two are declared, or something follows, there is none: a policy that could name several
answers would be paid for naming all.

In: the messages after a problem, or their text. Out: what was answered, or nothing.
Must not know: what is right.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from openk2.evals.gsm8k import number_in
from openk2.types import Message

_DECLARED = re.compile(r"Answer:|答案[：:]|The answer is\b")
_SPACES = str.maketrans("\n\t\N{IDEOGRAPHIC SPACE}", "   ")
_NUMBER = re.compile(r"-?\$?(?:\d{1,3}(?:,\d{3})+|\d{1,20})(?:\.\d{1,9}|/[1-9]\d{0,9})?", re.ASCII)


def final_text(messages: Sequence[Message]) -> str:
    """Return what the model's only turn says; nothing where it made calls or there are more."""
    if len(messages) != 1 or messages[0].role != "assistant" or messages[0].tool_calls:
        return ""
    return messages[0].content


def declared(text: str, lines: int = 1) -> str | None:
    """Find the answer that a text declares.

    Args:
        text: What the model wrote.
        lines: Most lines that an answer may have.

    Returns:
        The answer without spaces around it; None where none or more than one is declared, it is
        not the end of the text, or the text has characters that nobody sees.
    """
    # Not printable: what nobody sees, or what ends a line in some eyes and not in others.
    if not text.translate(_SPACES).isprintable():
        return None
    marks = list(_DECLARED.finditer(text))
    if len(marks) > 1:
        return None
    answer = text
    if marks:
        before, answer = text[: marks[0].start()], text[marks[0].end() :]
        if before.rpartition("\n")[2].strip():  # in the middle of a line it is only mentioned
            return None
    answer = answer.strip(" \t\n")
    return answer if answer and answer.count("\n") < lines else None


def number(answer: str | None) -> Fraction | None:
    """Read an answer that is one number in ASCII digits and nothing else, worked out to the end.

    `48/2` is not: whoever divides has to say 24.
    """
    text = sentence(answer) or ""
    if not _NUMBER.fullmatch(text):
        return None
    value = number_in(text)
    _, slash, below = text.partition("/")
    worked_out = value is not None and (not slash or str(value.denominator) == below != "1")
    return value if worked_out else None


def sentence(answer: str | None) -> str | None:
    """Take the full stop off an answer that may be the end of a sentence."""
    return None if answer is None else answer.removesuffix(".").removesuffix("。").rstrip()
