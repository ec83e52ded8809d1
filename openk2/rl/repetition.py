"""Loops: text that says the same few tokens over and over, found while it is written.

In: tokens, one at a time. Out: whether they go round in a loop.
Must not know: text, episodes, what is done about it.

Legend: P periods that are looked for, from 1 on.
"""

from __future__ import annotations

import numpy as np


class LoopDetector:
    """Counts, for every period at once, how long the tokens have been repeating themselves."""

    def __init__(self, periods: int, tokens: int, rounds: int = 3) -> None:
        """Look for loops.

        Args:
            periods: Longest n-gram whose repetition counts as a loop; 0 finds nothing.
            tokens: Tokens in a row that must repeat what stood one period before.
            rounds: Times that the n-gram must have been repeated at least.
        """
        self._recent_P = np.full(periods, -1, np.int64)
        """The last tokens, newest first: entry p stands p + 1 before the next one."""
        self._run_P = np.zeros(periods, np.int64)
        self._enough_P = np.maximum(tokens, rounds * np.arange(1, periods + 1))

    def looped(self, token_id: int) -> bool:
        """Take the next token and tell whether it closes a loop."""
        if not self._recent_P.size:
            return False
        self._run_P += 1
        self._run_P *= self._recent_P == token_id
        self._recent_P[1:] = self._recent_P[:-1]
        self._recent_P[0] = token_id
        return bool((self._run_P >= self._enough_P).any())
