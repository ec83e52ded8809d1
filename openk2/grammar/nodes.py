"""What an answer is made of: words, automata and special tokens, and what stands for sequences.

In: shapes. Out: nodes; `Words`, `Region` and `Special` read and write, all others expand into
sequences of nodes where an answer goes.
Must not know: states, masks, budgets, JSON Schema.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING

from openk2.grammar.dfa import FAR, Dfa
from openk2.grammar.shapes import (
    MAX_DEPTH,
    Array,
    Literals,
    Number,
    Object,
    Picks,
    Reference,
    Shape,
    Text,
    Union,
)
from openk2.grammar.walk import BOUNDARY, CLOSED

if TYPE_CHECKING:
    from openk2.grammar.automaton import Arena

Piece = bytes | int
"""Ordinary bytes, or the id of a special token."""


class Node:
    """Something that comes next."""

    __slots__ = ("pieces",)

    pieces: tuple[Piece, ...] | None
    """The shortest way through it, once it was asked for."""

    def __init__(self) -> None:
        """Start without knowing the shortest way."""
        self.pieces = None

    @property
    def bound(self) -> int:
        """Most tokens of the shortest way: its bytes and special tokens."""
        raise NotImplementedError

    def shortest(self) -> tuple[Piece, ...]:
        """Return the shortest way."""
        if self.pieces is None:
            self.pieces = self._shortest()
        return self.pieces

    def _shortest(self) -> tuple[Piece, ...]:
        raise NotImplementedError

    def expand(self) -> Sequence[tuple[Node, ...]]:
        """Return the sequences that it stands for."""
        raise NotImplementedError


class Special(Node):
    """A special token."""

    __slots__ = ("id",)

    def __init__(self, id: int) -> None:
        """Take the token's id."""
        super().__init__()
        self.id = id

    @property
    def bound(self) -> int:
        """One token."""
        return 1

    def _shortest(self) -> tuple[Piece, ...]:
        return (self.id,)


class Words(Node):
    """One of some words, each with what follows it."""

    __slots__ = ("high", "low", "nexts", "place", "root", "sizes", "texts")

    def __init__(
        self, texts: tuple[bytes, ...], nexts: tuple[tuple[Node, ...], ...] | None = None
    ) -> None:
        """Take words in order, none empty and none twice."""
        super().__init__()
        self.texts, self.nexts = texts, nexts
        self.low, self.high, self.place = 0, len(texts), 0
        self.root = self
        self.sizes: list[int] | None = None
        """Per word the bytes of it and of what follows it, once somebody has counted them."""

    def part(self, low: int, high: int, place: int) -> Words:
        """Return the words of a range after `place` bytes of them."""
        found = Words(self.texts, self.nexts)
        found.low, found.high, found.place, found.root = low, high, place, self.root
        return found

    def after(self, t: int) -> tuple[Node, ...]:
        """Return what follows word `t`."""
        return self.nexts[t] if self.nexts is not None else ()

    def counted(self) -> list[int]:
        """Return the bytes of every word and of what follows it."""
        root = self.root
        if root.sizes is None:
            ways = range(len(root.texts))
            root.sizes = [len(root.texts[t]) + sum(n.bound for n in root.after(t)) for t in ways]
        return root.sizes

    @property
    def bound(self) -> int:
        """Bytes of the shortest word's rest, and what follows it."""
        sizes = self.counted()
        if self.high == self.low + 1:
            return sizes[self.low] - self.place
        return min(sizes[self.low : self.high]) - self.place

    def _shortest(self) -> tuple[Piece, ...]:
        t = min(range(self.low, self.high), key=self.counted().__getitem__)
        rest = self.texts[t][self.place :]
        return (rest, *(piece for node in self.after(t) for piece in node.shortest()))

    def step(self, byte: int) -> tuple[int, int, int]:
        """Return the word that ends after one more byte, or -1, and the range of longer ones."""
        prefix = self.texts[self.low][: self.place] + bytes((byte,))
        low = bisect_left(self.texts, prefix, self.low, self.high)
        high = low
        if low < self.high and self.texts[low].startswith(prefix):
            end = prefix[:-1] + bytes((byte + 1,))
            high = bisect_left(self.texts, end, low, self.high) if byte < 255 else self.high
        if high > low and len(self.texts[low]) == self.place + 1:
            return low, low + 1, high
        return -1, low, high


class Region(Node):
    """What an automaton reads from one of its states on."""

    __slots__ = ("dfa", "fewest", "most", "state")

    def __init__(self, dfa: Dfa, state: int, fewest: int, most: int) -> None:
        """Take the automaton, its state, and how many characters may still come."""
        super().__init__()
        self.dfa, self.state, self.fewest, self.most = dfa, state, fewest, most

    @property
    def may_end(self) -> bool:
        """Whether it may be left here."""
        return self.fewest <= 0 and self.state in self.dfa.finals

    @property
    def bound(self) -> int:
        """Bytes to its end."""
        return self.dfa.distance[self.state] + self.fewest * len(self.dfa.character)

    @property
    def worst(self) -> int:
        """Most bytes to its end after any token that it reads to the token's end."""
        return self.dfa.farthest + self.fewest * len(self.dfa.character)

    def _shortest(self) -> tuple[Piece, ...]:
        dfa, state, head, fewest = self.dfa, self.state, bytearray(), self.fewest
        if fewest and dfa.kinds[state] != BOUNDARY:
            # In the middle of a character: it counts as one of those that must come.
            while dfa.kinds[state] != BOUNDARY:
                cls = dfa.step[state]
                head.append(dfa.members[cls])
                state = dfa.rows[state][cls]
            fewest -= 1
        return (bytes(head) + dfa.character * fewest + dfa.shortest(state),)

    def step(self, byte: int, state: int, read: int) -> tuple[int, int]:
        """Return state and characters read after one more byte; the state is -1 if refused."""
        to = self.dfa.rows[state][self.dfa.class_of[byte]]
        if to < 0:
            return -1, read
        kind = self.dfa.kinds[to]
        if kind == CLOSED:
            return (to, read) if read >= self.fewest else (-1, read)
        return (to, read + kind) if read < self.most else (-1, read)


class Value(Node):
    """A value of some shape."""

    __slots__ = ("arena", "depth", "shape")

    def __init__(self, arena: Arena, shape: Shape, depth: int) -> None:
        """Take a shape, and how many values it is in."""
        super().__init__()
        self.arena, self.shape, self.depth = arena, shape, depth

    @property
    def bound(self) -> int:
        """Bytes of the shortest value."""
        return self.shape.bound

    def _shortest(self) -> tuple[Piece, ...]:
        return (self.shape.shortest(),)

    def expand(self) -> Sequence[tuple[Node, ...]]:
        """Return the nodes that write it."""
        shape, arena = self.shape, self.arena
        if isinstance(shape, Literals):
            return ((arena.words(shape.texts),),)
        if isinstance(shape, Text):
            region = arena.region(shape.dfa, 0, shape.fewest, shape.most)
            return ((arena.word(b'"'), region),)
        if isinstance(shape, Number):
            return ((arena.region(shape.dfa, 0, 0, FAR),),)
        if isinstance(shape, Object):
            return ((arena.word(b"{"), arena.node(Members, shape, 0, 0, self.depth)),)
        if isinstance(shape, Array):
            return ((arena.word(b"["), arena.node(Items, shape, 0, self.depth)),)
        if isinstance(shape, Picks):
            return ((arena.word(b"["), arena.node(Choices, shape, frozenset[bytes]())),)
        if isinstance(shape, Union):
            branches = [b for b in shape.branches if fits(b, self.depth)]
            return [(arena.node(Value, branch, self.depth),) for branch in branches]
        assert isinstance(shape, Reference) and shape.target is not None
        return ((arena.node(Value, shape.target, self.depth),),)


def fits(shape: Shape, depth: int) -> bool:
    """Whether a value of this shape can be written inside so many others."""
    return shape.bound < FAR and depth + shape.height <= MAX_DEPTH


class Members(Node):
    """The rest of an object."""

    __slots__ = ("arena", "depth", "i", "n", "shape")

    def __init__(self, arena: Arena, shape: Object, i: int, n: int, depth: int) -> None:
        """Take the object, the next property that may be written, and how many were."""
        super().__init__()
        self.arena, self.shape, self.i, self.n, self.depth = arena, shape, i, n, depth

    @property
    def bound(self) -> int:
        """Bytes of the shortest end."""
        return self.shape.rest_bound(self.i, self.n)

    def _shortest(self) -> tuple[Piece, ...]:
        return (self.shape.rest(self.i, self.n),)

    def _next(self, i: int) -> Members:
        cap = FAR if self.shape.most < FAR else max(self.shape.fewest, 1)
        return self.arena.node(Members, self.shape, i, min(self.n + 1, cap), self.depth)

    def expand(self) -> Sequence[tuple[Node, ...]]:
        """Offer the next properties, others, and the end."""
        shape, arena = self.shape, self.arena
        comma = b", " if self.n else b""
        options: dict[bytes, tuple[Node, ...]] = {}
        required = False
        for j in range(self.i, len(shape.properties)):
            p = shape.properties[j]
            enough = shape.rest_bound(j + 1, self.n + 1) < FAR
            if enough and self.n < shape.most and (p.required or fits(p.shape, self.depth + 1)):
                value = arena.node(Value, p.shape, self.depth + 1)
                options[comma + p.key] = (value, self._next(j + 1))
            required = p.required
            if required:
                break
        if not required and self.n >= shape.fewest:
            options[b"}"] = ()
        texts = sorted(options)
        found: list[tuple[Node, ...]] = []
        if texts:
            found.append((Words(tuple(texts), tuple(options[text] for text in texts)),))
        if not required and self.n < shape.most and shape.names and shape.others:
            if not fits(shape.others, self.depth + 1):
                return found
            name = arena.node(Value, shape.names, self.depth + 1)
            value = arena.node(Value, shape.others, self.depth + 1)
            rest = (name, arena.word(b": "), value, self._next(len(shape.properties)))
            found.append((arena.word(comma), *rest) if comma else rest)
        return found


class Items(Node):
    """The rest of an array."""

    __slots__ = ("arena", "depth", "i", "shape")

    def __init__(self, arena: Arena, shape: Array, i: int, depth: int) -> None:
        """Take the array, and how many items were written."""
        super().__init__()
        self.arena, self.shape, self.i, self.depth = arena, shape, i, depth

    @property
    def bound(self) -> int:
        """Bytes of the shortest end."""
        return self.shape.rest_bound(self.i)

    def _shortest(self) -> tuple[Piece, ...]:
        return (self.shape.rest(self.i),)

    def expand(self) -> Sequence[tuple[Node, ...]]:
        """Offer the next item and the end."""
        shape, arena, i = self.shape, self.arena, self.i
        found: list[tuple[Node, ...]] = []
        if i >= shape.fewest:
            found.append((arena.word(b"]"),))
        item = shape.item(i)
        if item is not None and (i < shape.fewest or fits(item, self.depth + 1)):
            cap = FAR if shape.most < FAR else max(shape.fewest, len(shape.prefix), 1)
            after = arena.node(Items, shape, min(i + 1, cap), self.depth)
            value = arena.node(Value, item, self.depth + 1)
            found.append((arena.word(b", "), value, after) if i else (value, after))
        return found


class Choices(Node):
    """The rest of an array of different texts."""

    __slots__ = ("arena", "shape", "taken")

    def __init__(self, arena: Arena, shape: Picks, taken: frozenset[bytes]) -> None:
        """Take the array, and the texts that it has."""
        super().__init__()
        self.arena, self.shape, self.taken = arena, shape, taken

    @property
    def bound(self) -> int:
        """Bytes of the shortest end."""
        return len(self.shape.rest(self.taken))

    def _shortest(self) -> tuple[Piece, ...]:
        return (self.shape.rest(self.taken),)

    def expand(self) -> Sequence[tuple[Node, ...]]:
        """Offer what is left, and the end."""
        shape, taken = self.shape, self.taken
        comma = b", " if taken else b""
        options: dict[bytes, tuple[Node, ...]] = {}
        if len(taken) < shape.most:
            for text in shape.texts:
                if text not in taken:
                    options[comma + text] = (self.arena.node(Choices, shape, taken | {text}),)
        if len(taken) >= shape.fewest:
            options[b"]"] = ()
        texts = sorted(options)
        return ((Words(tuple(texts), tuple(options[text] for text in texts)),),)
