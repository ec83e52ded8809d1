"""Overlap with evaluation packs: a conversation that shares eight words in a row is left out.

In: the texts of evaluation packs, conversations. Out: what they share. Must not know: what the
packs measure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

RUN = 8
"""Words in a row; of Chinese, characters, where twice as many are asked for."""
_WORD = re.compile(r"[A-Za-z0-9]+|[\u4e00-\u9fff]")


class Overlap:
    """What must not be repeated."""

    def __init__(self, texts: Iterable[str], questions: Iterable[str] = ()) -> None:
        """Collect the runs of words of every text, and short texts as a whole."""
        self._runs = {run for text in texts for run in _runs(text)}
        self._whole = {" ".join(_words(text)) for text in questions}

    def found(self, row: Mapping[str, Any]) -> str:
        """Return what a conversation shares with the packs, or nothing.

        Args:
            row: With `messages`; only what the user says is looked at, for results and answers
                follow from it.
        """
        for message in row["messages"]:
            if message["role"] != "user":
                continue
            for run in _runs(message["content"]):
                if run in self._runs:
                    return f"overlaps with an evaluation pack: {run}"
            if " ".join(_words(message["content"])) in self._whole:
                return f"repeats an evaluation question: {message['content']}"
        return ""


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _runs(text: str) -> Iterator[str]:
    words = _words(text)
    size = 2 * RUN if any("\u4e00" <= word <= "\u9fff" for word in words) else RUN
    for start in range(len(words) - size + 1):
        yield " ".join(words[start : start + size])
