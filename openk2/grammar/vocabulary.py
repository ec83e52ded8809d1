"""A vocabulary as sorted texts, and what automata make of all of it, computed once.

In: the bytes of every token, the ids of special tokens, and how to tokenise. Out: ranges of tokens
that share a beginning, and masks of regions (`RegionMask`) that every grammar shares.
Must not know: schemas, tools, requests, or what a special token is for.

Shapes: V vocabulary, W = ceil(V / 32) mask words, T texts in order, B bytes of all texts, N found.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeVar

import numpy as np

from openk2.grammar.dfa import FAR, Dfa
from openk2.grammar.strings import any_body
from openk2.grammar.walk import run_over, set_bits, shared_prefixes

_KEPT_REGIONS = 2048
"""At 164K tokens a mask has 20 KB, so this is 40 MB at most."""
_MOST_LEAVING = 1024
"""So many ids can be watched for while others are written."""
_KEPT_AUTOMATA = 512
_KEPT_TOOLS = 16
"""Sets of tools, some megabytes each."""

T = TypeVar("T")


class Lexicon:
    """Byte texts in order, each with the id of the token that it is (the end of)."""

    def __init__(self, texts: list[bytes], id_T: np.ndarray) -> None:
        """Take sorted texts; equal ones may occur several times."""
        self.texts = texts
        self.id_T = id_T
        self._arrays: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The texts as `run_over` reads them."""
        if self._arrays is None:
            byte_B = np.frombuffer(b"".join(self.texts) or b"\0", np.uint8)
            offset_T = np.zeros(len(self.texts) + 1, np.int64)
            np.cumsum(np.fromiter(map(len, self.texts), np.int64), out=offset_T[1:])
            common_T = np.zeros(len(self.texts), np.int32)
            shared_prefixes(byte_B, offset_T, common_T)
            self._arrays = byte_B, offset_T, common_T
        return self._arrays

    def starting(self, prefix: bytes, low: int, high: int) -> tuple[int, int, int]:
        """Find the texts in a range that begin with `prefix`.

        Returns:
            The first of them, the first that is longer than the prefix, and one past the last.
        """
        low = bisect_left(self.texts, prefix, low, high)
        if low == high or not self.texts[low].startswith(prefix):
            return low, low, low
        high = bisect_left(self.texts, _after(prefix), low, high) if prefix[-1] < 255 else high
        longer = low
        while longer < high and len(self.texts[longer]) == len(prefix):
            longer += 1
        return low, longer, high

    def run(
        self, dfa: Dfa, start: tuple[int, int, int], low: int, high: int, depth: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Run an automaton over a range of texts, of which `depth` bytes were read before.

        Returns:
            Indices of texts that it reads to their end, and the states after them; indices of those
            that it leaves, and where.
        """
        inside_N = np.empty(high - low, np.int32)
        end_N = np.empty(high - low, np.int32)
        left_N = np.empty(high - low, np.int32)
        place_N = np.empty(high - low, np.int32)
        table = dfa.next_SC, dfa.class_256, dfa.kind_S, dfa.final_S
        n_inside, n_left = run_over(
            *self.arrays, (low, high, depth), *table, start, inside_N, end_N, left_N, place_N
        )
        return inside_N[:n_inside], end_N[:n_inside], left_N[:n_left], place_N[:n_left]

    def rest(self, index_N: np.ndarray, place_N: np.ndarray) -> Lexicon:
        """Return what is left of these texts after these places."""
        pairs = zip(index_N.tolist(), place_N.tolist(), strict=True)
        rests = [self.texts[t][place:] for t, place in pairs]
        order = sorted(range(len(rests)), key=rests.__getitem__)
        return Lexicon([rests[i] for i in order], self.id_T[index_N[order]])


def _after(prefix: bytes) -> bytes:
    return prefix[:-1] + bytes((prefix[-1] + 1,))


@dataclass(frozen=True, slots=True)
class RegionMask:
    """What all tokens are to an automaton in one state."""

    bits_W: np.ndarray
    """Tokens that it reads to their end."""
    rest: Lexicon
    """Those that it leaves, by what comes after it."""


class _Kept:
    """The most recently used results of functions; threads may compute one twice."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._found: OrderedDict[Any, Any] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Any, make: Callable[[], T]) -> T:
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
                return self._found[key]
        made = make()
        with self._lock:
            self._found[key] = made
            while len(self._found) > self._most:
                self._found.popitem(last=False)
        return made


class Vocabulary:
    """All tokens of one tokenizer; made once, shared by all grammars and threads."""

    def __init__(
        self,
        token_bytes: Sequence[bytes | None],
        specials: Mapping[str, int],
        encode: Callable[[bytes], list[int]],
    ) -> None:
        """Sort the tokens and compile what runs over them.

        Args:
            token_bytes: By id; None for special tokens.
            specials: Special tokens by name.
            encode: Tokenises ordinary bytes; never returns a special token.
        """
        self.size = len(token_bytes)
        self.words = -(-self.size // 32)
        self.specials = dict(specials)
        self.encode = encode
        self.token_bytes = tuple(token_bytes)
        ids = sorted((v for v, data in enumerate(token_bytes) if data), key=self._bytes)
        self.lexicon = Lexicon([self._bytes(v) for v in ids], np.array(ids, np.int32))
        self.longest = max(map(len, self.lexicon.texts), default=1)
        """Bytes of the longest token."""
        self.ordinary_W = self.bits(self.lexicon.id_T)
        self.any_body = any_body()
        self._regions = _Kept(_KEPT_REGIONS)
        self._automata = _Kept(_KEPT_AUTOMATA)
        self._tools = _Kept(_KEPT_TOOLS)
        self.region(self.any_body, 0, 0, FAR)
        self.stays, self.leaving = self._string()

    def _string(self) -> tuple[bytes, frozenset[int] | None]:
        """Find out which tokens leave a string in the state in which any string begins.

        Returns:
            By id 1 if it does; the others, if they are few.
        """
        lexicon = self.lexicon
        start = (0, 0, FAR)
        inside_N, end_N, _, _ = lexicon.run(self.any_body, start, 0, len(lexicon.texts), 0)
        stays_V = np.zeros(self.size, np.uint8)
        stays_V[lexicon.id_T[inside_N[end_N == 0]]] = 1
        leaving = np.flatnonzero(stays_V == 0)
        few = len(leaving) <= _MOST_LEAVING
        return stays_V.tobytes(), frozenset(leaving.tolist()) if few else None

    def _bytes(self, token: int) -> bytes:
        data = self.token_bytes[token]
        assert data is not None
        return data

    def bits(self, id_N: np.ndarray) -> np.ndarray:
        """Return a mask of these tokens."""
        bits_W = np.zeros(self.words, np.uint32)
        set_bits(bits_W, id_N)
        return bits_W

    def keep(self, key: Any, make: Callable[[], T]) -> T:
        """Return the automaton that was made for this key before, or make it."""
        return self._automata.get(key, make)

    def keep_tools(self, key: str, make: Callable[[], T]) -> T:
        """Return what was made of these tools before, or make it."""
        return self._tools.get(key, make)

    def cap(self, characters: int) -> int:
        """Return a count that is as good as a higher one: no token has so many characters."""
        return min(characters, self.longest + 1) if characters < FAR else FAR

    def region(self, dfa: Dfa, state: int, fewest: int, most: int) -> RegionMask:
        """Return what every token is to an automaton.

        Args:
            dfa: The automaton.
            state: Where it is.
            fewest: Characters that must still come.
            most: Characters that may still come.
        """
        fewest = self.cap(fewest)
        most = FAR if most > self.longest else most
        key = (dfa, state, fewest, most)
        return self._regions.get(key, lambda: self._region(*key))

    def part(
        self, start: tuple[Dfa, int, int, int], prefix: bytes, low: int, high: int
    ) -> tuple[np.ndarray, Lexicon]:
        """Return what the tokens that begin with `prefix` are to an automaton after it.

        Args:
            start: The automaton, where it is, and how many characters must and may come.
            prefix: What comes before.
            low: The first longer token of those.
            high: One past the last.

        Returns:
            Tokens that it reads to their end, and those that it leaves.
        """
        dfa, state, fewest, most = start
        fewest = self.cap(fewest)
        most = FAR if most > self.longest else most

        def make() -> tuple[np.ndarray, Lexicon]:
            limits = (state, fewest, most)
            inside_N, _, left_N, place_N = self.lexicon.run(dfa, limits, low, high, len(prefix))
            return self.lexicon.id_T[inside_N], self.lexicon.rest(left_N, place_N)

        return self._regions.get((dfa, state, fewest, most, prefix), make)

    def _region(self, dfa: Dfa, state: int, fewest: int, most: int) -> RegionMask:
        lexicon = self.lexicon
        start = (state, fewest, most)
        inside_N, _, left_N, place_N = lexicon.run(dfa, start, 0, len(lexicon.texts), 0)
        return RegionMask(self.bits(lexicon.id_T[inside_N]), lexicon.rest(left_N, place_N))
