"""Near-duplicates by MinHash: conversations that share most of their word triples.

In: texts in order. Out: which ones an earlier one already says. Must not know: conversations.

Legend: P permutations, S shingles of one text.
"""

from __future__ import annotations

import re
import zlib

import numpy as np
from numpy.typing import NDArray

PERMUTATIONS = 64
BANDS = 8
_WORD = re.compile(r"[A-Za-z0-9_.@-]+|[\u4e00-\u9fff]")
_PRIME = (1 << 31) - 1
_rng = np.random.default_rng(7)
_A_P = _rng.integers(1, _PRIME, PERMUTATIONS, dtype=np.uint64)
_B_P = _rng.integers(0, _PRIME, PERMUTATIONS, dtype=np.uint64)

Signature = NDArray[np.uint32]


def signature(text: str) -> Signature:
    """Return the MinHash of a text's word triples, [P]."""
    words = _WORD.findall(text.lower())
    shingles = {" ".join(words[i : i + 3]) for i in range(max(1, len(words) - 2))}
    hashes_S = np.array([zlib.crc32(s.encode()) & _PRIME for s in shingles], dtype=np.uint64)
    # 31-bit values: a product fits 64 bits.
    mixed_PS = (_A_P[:, None] * hashes_S[None, :] + _B_P[:, None]) % np.uint64(_PRIME)
    return mixed_PS.min(axis=1).astype(np.uint32)


class Duplicates:
    """Remembers what it was shown."""

    def __init__(self, threshold: float) -> None:
        """Set from which estimated Jaccard similarity on two texts count as one."""
        self.threshold = threshold
        self._bands: list[dict[bytes, list[int]]] = [{} for _ in range(BANDS)]
        self._kept: list[Signature] = []

    def seen(self, one: Signature) -> bool:
        """Whether something kept is nearly the same; if not, keep this one."""
        rows = PERMUTATIONS // BANDS
        keys = [one[i * rows : (i + 1) * rows].tobytes() for i in range(BANDS)]
        near = {n for band, key in zip(self._bands, keys, strict=True) for n in band.get(key, ())}
        if any(float((self._kept[n] == one).mean()) >= self.threshold for n in near):
            return True
        for band, key in zip(self._bands, keys, strict=True):
            band.setdefault(key, []).append(len(self._kept))
        self._kept.append(one)
        return False
