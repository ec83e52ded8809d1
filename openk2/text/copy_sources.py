"""Which earlier tokens each token to learn could have been copied from.

A token is copied from where the longest stretch around it stands once more, and `" Paris"` in a
request is the source of `"Paris"` in a call.

In: rows of tokens with their documents, targets and loss weights, and a tokenizer. Out: for every
position the positions of the same document that hold what comes next. Must not know: models.

Legend: B rows, T tokens per row (j: a position, s: a source), V vocabulary.
"""

from __future__ import annotations

import numpy as np

from openk2.text.packing import IntArray
from openk2.text.template import SECTION_BEGIN, SECTION_END
from openk2.text.tokenizer import Tokenizer

SHORTEST = 2
"""Fewest tokens in a row that are taken for a copy; inside a tool call one is enough."""


class CopySources:
    """Finds sources in the tokens of one vocabulary."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Sort the vocabulary into tokens that differ by a space before them only."""
        special = set(tokenizer.specials.values())
        text = ["" if i in special else tokenizer.decode([i]) for i in range(tokenizer.vocab_size)]
        place = {t: i for i, t in reversed(list(enumerate(text))) if t}
        self.alike_V = np.array(
            [place.get(t[1:], i) if t[:1] == " " else i for i, t in enumerate(text)], np.int32
        )
        """For each token the one it is taken for: itself, or the same without a space before."""
        self._says_V = np.array([any(c.isalnum() or c == "\ufffd" for c in t) for t in text])
        self._section = (tokenizer.specials[SECTION_BEGIN], tokenizer.specials[SECTION_END])

    def find(
        self, ids_BT: IntArray, doc_BT: IntArray, target_BT: IntArray, weight_BT: IntArray
    ) -> IntArray:
        """Return a mask [B, T, T]: at (j, s), the target of j can be copied from s.

        Only targets of full weight that say something (letters, digits) have sources.
        """
        n_rows, seq_len = ids_BT.shape
        found_BTT = np.zeros((n_rows, seq_len, seq_len), bool)
        for row in range(n_rows):
            borders = np.flatnonzero(np.diff(doc_BT[row])) + 1
            for first, last in zip([0, *borders], [*borders, seq_len], strict=True):
                if doc_BT[row, first] >= 0:
                    part = np.s_[row, first:last]
                    sources = self._of_document(ids_BT[part], target_BT[part], weight_BT[part])
                    found_BTT[row, first:last, first:last] = sources
        return found_BTT

    def _of_document(self, ids_T: IntArray, target_T: IntArray, weight_T: IntArray) -> IntArray:
        wanted_T = (weight_T >= 1) & self._says_V[target_T]
        same_TT = self.alike_V[target_T][:, None] == self.alike_V[ids_T][None, :]
        same_TT &= np.tri(len(ids_T), dtype=bool)
        run_TT = _run_lengths(same_TT)
        longest_T1 = run_TT.max(1, keepdims=True, initial=0)
        begin, end = self._section
        inside_T = np.cumsum(ids_T == begin) > np.cumsum(ids_T == end)
        shortest_T = np.where(inside_T, 1, SHORTEST)
        copied_T = wanted_T & (longest_T1[:, 0] >= shortest_T)
        return (run_TT == longest_T1) & copied_T[:, None]


def _run_lengths(same_TT: IntArray) -> IntArray:
    """Count, where `same` holds, how many entries of its diagonal hold around it without a gap."""
    n = len(same_TT)
    before = np.zeros((n + 1, n + 1), np.int16)
    after = np.zeros((n + 1, n + 1), np.int16)
    for j in range(n):
        before[j + 1, 1:] = (before[j, :-1] + 1) * same_TT[j]
    for j in range(n - 1, -1, -1):
        after[j, :-1] = (after[j + 1, 1:] + 1) * same_TT[j]
    return (before[1:, 1:] + after[:-1, :-1] - 1) * same_TT
