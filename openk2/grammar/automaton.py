"""A stack automaton over bytes and special tokens, expanded only where somebody goes.

In: nodes. Out: states, and what they become after more bytes.
Must not know: masks, budgets, JSON Schema.

A `Cell` is a node and the cell below it. A state is a tuple of cells, one for every way in which
what was written can be read; their nodes are `Words`, `Region` or `Special`, all others are
replaced by what they expand into. Equal nodes, and equal cells, are one object.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openk2.grammar.dfa import FAR, Dfa
from openk2.grammar.nodes import Node, Region, Special, Words
from openk2.grammar.walk import CLOSED

_KEPT_CELLS = 50_000


class Cell:
    """A node and what comes after it."""

    __slots__ = ("_bound", "cost", "node", "rest")

    def __init__(self, node: Node, rest: Cell | None) -> None:
        """Put a node on top of a cell."""
        self.node, self.rest = node, rest
        self._bound = -1
        self.cost: int | None = None
        """Tokens of the shortest end, once somebody has counted them."""

    @property
    def bound(self) -> int:
        """Most tokens of the shortest end."""
        if self._bound < 0:
            self._bound = self.node.bound + (self.rest.bound if self.rest else 0)
        return self._bound


State = tuple[Cell, ...]


class Arena:
    """Where nodes and cells are kept, so that equal ones are one object."""

    def __init__(self) -> None:
        """Start empty."""
        self._nodes: dict[Any, Any] = {}
        self._cells: dict[tuple[Node, Cell | None], Cell] = {}
        self._closed: dict[Cell, State] = {}

    def forget(self) -> bool:
        """Drop everything, if it is too much; who holds a state can still use it."""
        if len(self._cells) + len(self._nodes) < _KEPT_CELLS:
            return False
        self._nodes, self._cells, self._closed = {}, {}, {}
        return True

    def node(self, kind: type[Any], *key: Any) -> Any:
        """Return the node of this kind that is made of `key`."""
        found = self._nodes.get((kind, *key))
        if found is None:
            found = self._nodes.setdefault((kind, *key), kind(self, *key))
        return found

    def words(self, texts: tuple[bytes, ...]) -> Words:
        """Return the node of these words, after which nothing special follows."""
        found = self._nodes.get(texts)
        return found or self._nodes.setdefault(texts, Words(texts))

    def word(self, text: bytes) -> Words:
        """Return the node of one word."""
        return self.words((text,))

    def part(self, words: Words, low: int, high: int, place: int) -> Words:
        """Return what is left of a range of words."""
        key = (words.root, low, high, place)
        found = self._nodes.get(key)
        return found or self._nodes.setdefault(key, words.part(low, high, place))

    def region(self, dfa: Dfa, state: int, fewest: int, most: int) -> Region:
        """Return the node of an automaton's state."""
        key = (dfa, state, fewest, most)
        found = self._nodes.get(key)
        return found or self._nodes.setdefault(key, Region(*key))

    def cell(self, node: Node, rest: Cell | None) -> Cell:
        """Return the cell of a node on top of another cell."""
        found = self._cells.get((node, rest))
        return found or self._cells.setdefault((node, rest), Cell(node, rest))

    def push(self, nodes: Sequence[Node], rest: Cell | None) -> Cell | None:
        """Put nodes on top of a cell, the first one uppermost."""
        for node in reversed(nodes):
            rest = self.cell(node, rest)
        return rest

    def start(self, cell: Cell | None) -> State:
        """Replace a cell by those that can read or write at once."""
        if cell is None:
            return ()
        found = self._closed.get(cell)
        return found or self._closed.setdefault(cell, self._start(cell))

    def _start(self, first: Cell) -> State:
        found: dict[Cell, None] = {}
        seen = {first}
        wave = [first]
        while wave:
            cell = wave.pop()
            node = cell.node
            if isinstance(node, Words | Special):
                found[cell] = None
                continue
            if isinstance(node, Region):
                found[cell] = None
                below = [cell.rest] if node.may_end else []
            else:
                below = [self.push(nodes, cell.rest) for nodes in reversed(node.expand())]
            for after in below:
                if after is not None and after not in seen:
                    seen.add(after)
                    wave.append(after)
        return tuple(found)

    def advance(self, state: State, data: bytes) -> State:
        """Return the state after some bytes; empty if they are not allowed."""
        found: dict[Cell, None] = {}
        for cell in state:
            self._advance(cell, data, 0, found)
        return tuple(found)

    def advance_special(self, state: State, id: int) -> State:
        """Return the state after a special token; empty if it is not allowed, or the last."""
        rests = [c.rest for c in state if isinstance(c.node, Special) and c.node.id == id]
        return tuple(dict.fromkeys(cell for rest in rests for cell in self.start(rest)))

    def _advance(self, cell: Cell, data: bytes, at: int, found: dict[Cell, None]) -> None:
        node = cell.node
        if isinstance(node, Region):
            self._advance_region(cell, node, data, at, found)
        elif isinstance(node, Words):
            self._advance_words(cell, node, data, at, found)

    def _below(self, rest: Cell | None, data: bytes, at: int, found: dict[Cell, None]) -> None:
        """Go on with what comes after a node that has ended."""
        cells = self.start(rest)
        if at == len(data):
            found.update(dict.fromkeys(cells))
            return
        for cell in cells:
            self._advance(cell, data, at, found)

    def _advance_region(
        self, cell: Cell, node: Region, data: bytes, at: int, found: dict[Cell, None]
    ) -> None:
        dfa, state, read, entry = node.dfa, node.state, 0, at
        while at < len(data):
            to, after = node.step(data[at], state, read)
            if to < 0:
                if at > entry and state in dfa.finals and read >= node.fewest:
                    self._below(cell.rest, data, at, found)
                return
            state, read, at = to, after, at + 1
        most = node.most - read if node.most < FAR else FAR
        fewest = max(node.fewest - read, 0)
        if dfa.kinds[state] != CLOSED:
            found[self.cell(self.region(dfa, state, fewest, most), cell.rest)] = None
        if state in dfa.finals and fewest == 0:
            found.update(dict.fromkeys(self.start(cell.rest)))

    def _advance_words(
        self, cell: Cell, node: Words, data: bytes, at: int, found: dict[Cell, None]
    ) -> None:
        if node.high == node.low + 1:
            rest = node.texts[node.low][node.place :]
            n = min(len(rest), len(data) - at)
            if rest[:n] != data[at : at + n]:
                return
            if n == len(rest):
                self._below(self.push(node.after(node.low), cell.rest), data, at + n, found)
            else:
                part = self.part(node, node.low, node.high, node.place + n)
                found[self.cell(part, cell.rest)] = None
            return
        ended, low, high = node.step(data[at])
        if ended >= 0:
            self._below(self.push(node.after(ended), cell.rest), data, at + 1, found)
        if low < high:
            below = self.cell(self.part(node, low, high, node.place + 1), cell.rest)
            if at + 1 == len(data):
                found[below] = None
            else:
                self._advance(below, data, at + 1, found)
