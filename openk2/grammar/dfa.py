"""Byte automata: built of ranges of bytes, made deterministic, and described as tables.

In: edges between states, each for a range of bytes. Out: `Dfa`, whose every state can still reach
the end.
Must not know: JSON, characters, or schemas.

Shapes: S states, C classes of bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from openk2.grammar.walk import BOUNDARY, CLOSED, DEAD, INSIDE

FAR = 1 << 30
"""More characters, bytes or tokens than anything here counts."""


class TooManyStatesError(ValueError):
    """An automaton would grow beyond what a request may ask for."""


class Dfa:
    """A deterministic automaton over bytes; state 0 is where it starts."""

    def __init__(
        self, rows: Sequence[Sequence[int]], class_of: bytes, kinds: Sequence[int], finals: set[int]
    ) -> None:
        """Take the table and find out how far each state is from an end.

        Args:
            rows: Per state the next state by class, `DEAD` where there is none.
            class_of: Class of each of the 256 bytes.
            kinds: Per state `INSIDE`, `BOUNDARY` or `CLOSED` (`walk`).
            finals: States in which the text may end.
        """
        self.class_of = class_of
        self.finals = finals
        self.kinds = kinds
        self.members: list[int] = [0] * (max(class_of) + 1)
        """Per class one byte that belongs to it, the smallest printable one."""
        for byte in (*range(31, -1, -1), *range(255, 31, -1)):
            self.members[class_of[byte]] = byte
        self.distance, self.step = _distances(rows, finals)
        self.rows = [[to if to < 0 or self.distance[to] < FAR else DEAD for to in r] for r in rows]
        """The table without dead ends."""
        self.next_SC = np.array(self.rows, np.int32).reshape(len(rows), -1)
        self.class_256 = np.frombuffer(class_of, np.uint8)
        self.kind_S = np.array(kinds, np.int32)
        self.final_S = np.array([s in finals for s in range(len(rows))], np.bool_)
        self.character = _character(self.rows, kinds, self.members)
        """The shortest bytes of one character, if characters are counted; b"" otherwise."""
        self.farthest = max((d for d in self.distance if d < FAR), default=FAR)
        """Bytes to the end from the state that is farthest from it."""

    @property
    def empty(self) -> bool:
        """Whether it accepts nothing."""
        return self.distance[0] >= FAR

    def next(self, state: int, byte: int) -> int:
        """Return the state after one more byte, or `DEAD`."""
        return self.rows[state][self.class_of[byte]]

    def shortest(self, state: int) -> bytes:
        """Return the fewest bytes from a state to an end."""
        found = bytearray()
        while self.distance[state]:
            cls = self.step[state]
            found.append(self.members[cls])
            state = self.rows[state][cls]
        return bytes(found)

    def matches(self, data: bytes) -> bool:
        """Whether it reads `data` to the end."""
        state = 0
        for byte in data:
            state = self.next(state, byte)
            if state < 0:
                return False
        return state in self.finals

    def nexts(self, state: int) -> list[int]:
        """List the bytes that a state goes on with."""
        row = self.rows[state]
        return [byte for byte in range(256) if row[self.class_of[byte]] >= 0]


def _distances(rows: Sequence[Sequence[int]], finals: set[int]) -> tuple[list[int], list[int]]:
    """Find the fewest bytes from each state to an end, and the class to take first."""
    before: list[list[tuple[int, int]]] = [[] for _ in rows]
    for state, row in enumerate(rows):
        seen: set[int] = set()
        for cls, to in enumerate(row):
            if to >= 0 and to not in seen:
                seen.add(to)
                before[to].append((state, cls))
    distance = [FAR] * len(rows)
    step = [0] * len(rows)
    wave = sorted(finals)
    for state in wave:
        distance[state] = 0
    while wave:
        later: list[int] = []
        for to in wave:
            for state, cls in before[to]:
                if distance[state] >= FAR:
                    distance[state] = distance[to] + 1
                    step[state] = cls
                    later.append(state)
        wave = later
    return distance, step


def _character(
    rows: Sequence[Sequence[int]], kinds: Sequence[int], members: Sequence[int]
) -> bytes:
    """Find the shortest way from the start to the next boundary."""
    paths: dict[int, bytes] = {0: b""}
    wave = [0]
    while wave:
        later: list[int] = []
        for state in wave:
            for cls, to in enumerate(rows[state]):
                if to < 0:
                    continue
                path = paths[state] + bytes((members[cls],))
                if kinds[to] == BOUNDARY:
                    return path
                if to not in paths and kinds[to] == INSIDE:
                    paths[to] = path
                    later.append(to)
        wave = later
    return b""


class Nfa:
    """Edges for ranges of bytes, several of which may lead on from a state for one byte."""

    def __init__(self) -> None:
        """Start with no state."""
        self.edges: list[list[tuple[int, int, int]]] = []
        """Per state (first byte, last byte, next state)."""
        self.silent: list[list[int]] = []
        """Per state those it is also in, without reading anything."""
        self.boundaries: set[int] = set()

    def add(self, boundary: bool = False) -> int:
        """Make a state."""
        self.edges.append([])
        self.silent.append([])
        if boundary:
            self.boundaries.add(len(self.edges) - 1)
        return len(self.edges) - 1

    def link(self, state: int, low: int, high: int, to: int) -> None:
        """Lead from a state to another by any byte of a range."""
        self.edges[state].append((low, high, to))

    def spell(self, state: int, data: bytes, to: int) -> None:
        """Lead from a state to another by exactly these bytes."""
        for byte in data[:-1]:
            middle = self.add()
            self.link(state, byte, byte, middle)
            state = middle
        self.link(state, data[-1], data[-1], to)

    def close(self, states: set[int]) -> frozenset[int]:
        """Add the states that are reached without reading."""
        found = set(states)
        wave = list(states)
        while wave:
            for to in self.silent[wave.pop()]:
                if to not in found:
                    found.add(to)
                    wave.append(to)
        return frozenset(found)

    def determinize(self, start: int, end: int, limit: int) -> Dfa:
        """Build the automaton that reads from `start` to `end`.

        Raises:
            TooManyStatesError: It has more than `limit` states.
        """
        class_of, starts = self._classes()
        first = self.close({start})
        number = {first: 0}
        sets = [first]
        rows: list[list[int]] = []
        for states in sets:
            row = [DEAD] * len(starts)
            for targets, classes in self._targets(states, class_of).items():
                after = self.close(set(targets))
                if after not in number:
                    if len(sets) >= limit:
                        raise TooManyStatesError(f"more than {limit} states")
                    number[after] = len(sets)
                    sets.append(after)
                for cls in classes:
                    row[cls] = number[after]
            rows.append(row)
        finals = {i for i, states in enumerate(sets) if end in states}
        kinds = [self._kind(states, i in finals, rows[i]) for i, states in enumerate(sets)]
        return Dfa(rows, class_of, kinds, finals)

    def _targets(self, states: frozenset[int], class_of: bytes) -> dict[tuple[int, ...], list[int]]:
        """Group the classes of bytes by the states that they lead to."""
        reached: dict[int, list[int]] = {}
        for state in states:
            for low, high, target in self.edges[state]:
                for cls in range(class_of[low], class_of[high] + 1):
                    reached.setdefault(cls, []).append(target)
        grouped: dict[tuple[int, ...], list[int]] = {}
        for cls, targets in reached.items():
            grouped.setdefault(tuple(sorted(targets)), []).append(cls)
        return grouped

    def _kind(self, states: frozenset[int], final: bool, row: list[int]) -> int:
        if final and max(row, default=DEAD) < 0:
            return CLOSED
        return BOUNDARY if states & self.boundaries else INSIDE

    def _classes(self) -> tuple[bytes, list[int]]:
        """Group the bytes that no edge tells apart."""
        cuts = {0, 256}
        for edges in self.edges:
            for low, high, _ in edges:
                cuts |= {low, high + 1}
        starts = sorted(cuts)[:-1]
        class_of = bytearray(256)
        for number, (low, high) in enumerate(zip(starts, [*starts[1:], 256], strict=True)):
            class_of[low:high] = bytes((number,)) * (high - low)
        return bytes(class_of), starts
