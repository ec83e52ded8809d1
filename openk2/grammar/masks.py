"""Which tokens a state allows.

In: a state and a vocabulary. Out: a mask, and how long the answer can become by one token of it.
Must not know: tools, budgets but as a number, requests.

Where few bytes are allowed, the sorted vocabulary is searched for them; where an automaton reads
(strings, numbers), its mask is computed once for all grammars and only the tokens that it leaves
are searched again, by what they go on with.

Shapes: V vocabulary, W = ceil(V / 32) mask words, N found.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from openk2.grammar.automaton import Arena, Cell, State
from openk2.grammar.dfa import FAR
from openk2.grammar.nodes import Node, Region, Special, Words
from openk2.grammar.vocabulary import Lexicon, Vocabulary
from openk2.grammar.walk import set_bits

_KEPT_MASKS = 1 << 23
"""Bytes of masks that one set of tools keeps."""


class Mask(NamedTuple):
    """The tokens that a state allows."""

    bits_W: np.ndarray | None
    """Some of them; None: nothing."""
    id_N: np.ndarray
    """More of them."""
    worst: int
    """No more tokens than this end the answer after any of them."""

    def write(self, bits_W: np.ndarray) -> None:
        """Set the allowed bits and clear the others, also those beyond the vocabulary."""
        if self.bits_W is None:
            bits_W[:] = 0
        else:
            bits_W[: len(self.bits_W)] = self.bits_W
            bits_W[len(self.bits_W) :] = 0
        if len(self.id_N):
            set_bits(bits_W, self.id_N)


class Masks:
    """The masks of all states of one arena."""

    def __init__(self, arena: Arena, vocabulary: Vocabulary) -> None:
        """Start with none."""
        self.arena, self.vocabulary = arena, vocabulary
        self._found: dict[State, Mask] = {}
        self._exact: dict[State, int] = {}
        self._bytes = 0
        self._lengths: dict[bytes, int] = {}

    def get(self, state: State) -> Mask:
        """Return what a state allows."""
        found = self._found.get(state)
        if found is None:
            search = _Search(self, None)
            found = self._keep(state, search.run(state), search.made)
        return found

    def _keep(self, state: State, mask: Mask, made: int) -> Mask:
        self._bytes += 200 + mask.id_N.nbytes + made
        if self._bytes > _KEPT_MASKS or self.arena.forget():
            self._found, self._exact, self._bytes = {}, {}, 0
        return self._found.setdefault(state, mask)

    def worst(self, state: State) -> int:
        """Count exactly what `Mask.worst` bounds by bytes."""
        found = self._exact.get(state)
        if found is None:
            found = self._exact[state] = _Search(self, FAR).run(state).worst
        return found

    def within(self, state: State, most: int) -> Mask:
        """Return the tokens after which `most` more can end the answer; may be none."""
        return _Search(self, most).run(state)

    def cost(self, cell: Cell | None) -> int:
        """Count the tokens of the shortest end of a cell."""
        if cell is None:
            return 0
        if cell.cost is None:
            cell.cost = self._length(cell.node) + self.cost(cell.rest)
        return cell.cost

    def most(self, cell: Cell | None) -> int:
        """Count like `cost`, or as `least` does once the cell is the upper one.

        Words that are written in parts may be more tokens than as a whole.
        """
        return max(self.cost(cell), self.least(self.arena.start(cell)))

    def least(self, state: State) -> int:
        """Count the tokens of the shortest end of a state."""
        return min(map(self.cost, state), default=0)

    def plan(self, state: State) -> list[int]:
        """Return the tokens of the shortest end, as many as `least` counts."""
        cell: Cell | None = min(state, key=self.cost)
        tokens: list[int] = []
        while cell is not None:
            for piece in cell.node.shortest():
                tokens += [piece] if isinstance(piece, int) else self.vocabulary.encode(piece)
            cell = cell.rest
        return tokens

    def _length(self, node: Node) -> int:
        count = 0
        for piece in node.shortest():
            if isinstance(piece, int):
                count += 1
            elif len(piece) < 2:
                count += len(piece)
            else:
                if piece not in self._lengths:
                    if len(self._lengths) > 10_000:
                        self._lengths = {}
                    self._lengths[piece] = len(self.vocabulary.encode(piece))
                count += self._lengths[piece]
        return count


class _Search:
    """One search through the vocabulary."""

    def __init__(self, masks: Masks, most: int | None) -> None:
        """Start; with `most`, tokens are counted exactly and refused if more would be needed."""
        self._masks, self._arena, self._vocabulary = masks, masks.arena, masks.vocabulary
        self._most = most
        self._worst = 0
        self.made = 0
        """Bytes of masks that nobody shares."""
        self._bits: list[np.ndarray] = []
        self._ids: list[np.ndarray] = []

    def run(self, state: State) -> Mask:
        lexicon = self._vocabulary.lexicon
        for cell in state:
            if isinstance(cell.node, Special):
                ids_1 = np.array([cell.node.id], np.int32)
                if self._affords(cell.bound - 1, lambda cell=cell: self._masks.most(cell.rest)):
                    self._ids.append(ids_1)
            else:
                self._cell(cell, lexicon, 0, len(lexicon.texts), b"")
        id_N = np.concatenate(self._ids) if self._ids else np.zeros(0, np.int32)
        bits_W = self._bits[0] if self._bits else None
        if len(self._bits) > 1 or len(id_N) > 4 * self._vocabulary.words:
            bits_W = np.bitwise_or.reduce(self._bits) if self._bits else self._vocabulary.bits(id_N)
            if self._bits:
                set_bits(bits_W, id_N)
            self.made, id_N = bits_W.nbytes, id_N[:0].copy()
        return Mask(bits_W, id_N, self._worst)

    def _affords(self, bound: int, cost: Callable[[], int]) -> bool:
        """Whether the answer can still end after this, and remember how long it becomes."""
        if self._most is None:
            self._worst = max(self._worst, bound)
            return True
        if self._most < FAR and bound <= self._most:
            return True
        needed = cost()
        self._worst = max(self._worst, needed)
        return needed <= self._most

    def _cells(self, cells: State, lexicon: Lexicon, low: int, high: int, prefix: bytes) -> None:
        for cell in cells:
            self._cell(cell, lexicon, low, high, prefix)

    def _cell(self, cell: Cell, lexicon: Lexicon, low: int, high: int, prefix: bytes) -> None:
        """Find tokens of a range that go on as this cell does after `prefix`, which was read."""
        node = cell.node
        if isinstance(node, Region):
            self._region(cell, node, lexicon, low, high, prefix)
        elif isinstance(node, Words):
            if node.high == node.low + 1:
                self._word(cell, node, lexicon, low, high, prefix)
            else:
                self._words(cell, node, lexicon, low, high, prefix)

    def _region(
        self, cell: Cell, node: Region, lexicon: Lexicon, low: int, high: int, prefix: bytes
    ) -> None:
        if lexicon is self._vocabulary.lexicon and not prefix:
            mask = self._vocabulary.region(node.dfa, node.state, node.fewest, node.most)
            rest, bits_W, id_N = mask.rest, mask.bits_W, None
        elif lexicon is self._vocabulary.lexicon:
            start = (node.dfa, node.state, node.fewest, node.most)
            id_N, rest = self._vocabulary.part(start, prefix, low, high)
            bits_W = None
        else:
            start = (node.state, node.fewest, node.most)
            inside_N, _, left_N, place_N = lexicon.run(node.dfa, start, low, high, len(prefix))
            rest, bits_W, id_N = lexicon.rest(left_N, place_N), None, lexicon.id_T[inside_N]
        below = cell.rest.bound if cell.rest else 0
        if self._affords(node.worst + below, lambda: node.worst + self._masks.most(cell.rest)):
            if bits_W is not None:
                self._bits.append(bits_W)
            if id_N is not None and len(id_N):
                self._ids.append(id_N)
        if rest.texts:
            self._cells(self._arena.start(cell.rest), rest, 0, len(rest.texts), b"")

    def _word(
        self, cell: Cell, node: Words, lexicon: Lexicon, low: int, high: int, prefix: bytes
    ) -> None:
        word = node.texts[node.low]
        for place in range(node.place + 1, len(word) + 1):
            start = prefix + word[node.place : place]
            low, longer, high = lexicon.starting(start, low, high)
            if low == high:
                return
            if place == len(word):
                self._ended(cell, node, node.low, lexicon, (low, longer, high), start)
                return
            if longer > low:
                self._take(cell, node, (node.low, node.high, place), lexicon.id_T[low:longer])
            low = longer

    def _words(
        self, cell: Cell, node: Words, lexicon: Lexicon, low: int, high: int, prefix: bytes
    ) -> None:
        first = node.low
        while first < node.high:
            byte = node.texts[first][node.place]
            ended, start, end = node.step(byte)
            after = prefix + bytes((byte,))
            found = lexicon.starting(after, low, high)
            first = max(end, first + 1)
            if found[0] == found[2]:
                continue
            if ended >= 0:
                self._ended(cell, node, ended, lexicon, found, after)
            if start < end:
                place = node.place + 1
                if found[1] > found[0]:
                    self._take(cell, node, (start, end, place), lexicon.id_T[found[0] : found[1]])
                if found[1] < found[2]:
                    part = self._arena.part(node, start, end, place)
                    below = self._arena.cell(part, cell.rest)
                    self._cell(below, lexicon, found[1], found[2], after)

    def _take(self, cell: Cell, node: Words, part: tuple[int, int, int], id_N: np.ndarray) -> None:
        """Allow tokens that end within a word."""

        def cost() -> int:
            return self._masks.cost(self._arena.cell(self._arena.part(node, *part), cell.rest))

        low, high, place = part
        sizes = node.counted()
        least = sizes[low] if high == low + 1 else min(sizes[low:high])
        if self._affords(least - place + (cell.rest.bound if cell.rest else 0), cost):
            self._ids.append(id_N)

    def _ended(
        self,
        cell: Cell,
        node: Words,
        t: int,
        lexicon: Lexicon,
        found: tuple[int, int, int],
        prefix: bytes,
    ) -> None:
        """Allow tokens that end with a word, and go on with longer ones."""
        low, longer, high = found
        below = self._arena.push(node.after(t), cell.rest)
        if longer > low:
            bound = below.bound if below else 0
            if self._affords(bound, lambda: self._masks.most(below)):
                self._ids.append(lexicon.id_T[low:longer])
        if longer < high:
            self._cells(self._arena.start(below), lexicon, longer, high, prefix)
