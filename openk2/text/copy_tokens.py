"""Rows of random tokens that come twice: nothing but looking back predicts the second time.

In: a vocabulary's size and a seed. Out: documents of tokens. Must not know: text.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from openk2.text.packing import Document

LENGTHS = (4, 40)
"""Fewest and most tokens that come twice."""
GAP = 12
"""Most tokens before and between them, so that no fixed distance is the answer."""


def repeated_tokens(n_ordinary: int, seed: int) -> Iterator[Document]:
    """Yield documents without end; the same seed gives the same ones.

    Args:
        n_ordinary: How many ids, from 0, are no special tokens.
        seed: Any number.
    """
    index = 0
    while True:
        rng = Random(f"repeats/{seed}/{index}")
        before, again, between = (
            rng.choices(range(n_ordinary), k=count)
            for count in (rng.randint(0, GAP), rng.randint(*LENGTHS), rng.randint(0, GAP))
        )
        ids = [*before, *again, *between, *again]
        # The first token of the second time cannot be known.
        known = len(again) - 1
        yield Document(ids, [False] * (len(ids) - known) + [True] * known)
        index += 1
