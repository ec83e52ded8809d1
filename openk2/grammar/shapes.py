"""What a JSON value may look like: schemas after everything that cannot be enforced is gone.

In: nothing but other shapes. Out: for each shape the shortest text that has it.
Must not know: JSON Schema, tokens, tools.

A shape never asks for what it cannot give: whoever builds one calls `settle`, and a shape whose
`bound` is then `FAR` has no text at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from openk2.grammar.dfa import FAR, Dfa

MAX_SHORTEST = 4096
"""Bytes that a value may have to have: ending it in time takes steps of up to their square."""
MAX_DEPTH = 64
"""Values inside values; Python's own reader of JSON gives up at about 1000."""


@dataclass(eq=False)
class Shape:
    """A set of JSON texts."""

    bound: int = field(default=FAR, init=False)
    """Bytes of its shortest text."""
    height: int = field(default=FAR, init=False)
    """How deep values are nested in the text that is nested least."""

    def measure(self) -> tuple[int, int]:
        """Return bound and height as far as those of its parts are known."""
        raise NotImplementedError

    def shortest(self) -> bytes:
        """Return its shortest text."""
        raise NotImplementedError


@dataclass(eq=False)
class Literals(Shape):
    """One of some texts."""

    texts: tuple[bytes, ...]
    """In order, none twice."""

    def measure(self) -> tuple[int, int]:
        """Return bound and height."""
        return min(map(len, self.texts), default=FAR), 0

    def shortest(self) -> bytes:
        """Return its shortest text."""
        return min(self.texts, key=len)


@dataclass(eq=False)
class Text(Shape):
    """A string."""

    dfa: Dfa
    """Reads it after the opening quote, to the closing one included."""
    fewest: int = 0
    most: int = FAR
    """Characters; automata that do not count them take any number."""

    def measure(self) -> tuple[int, int]:
        """Return bound and height."""
        if self.dfa.empty:
            return FAR, 0
        return 1 + self.dfa.distance[0] + self.fewest * len(self.dfa.character), 0

    def shortest(self) -> bytes:
        """Return its shortest text."""
        return b'"' + self.dfa.character * self.fewest + self.dfa.shortest(0)


@dataclass(eq=False)
class Number(Shape):
    """A number."""

    dfa: Dfa

    def measure(self) -> tuple[int, int]:
        """Return bound and height."""
        return self.dfa.distance[0], 0

    def shortest(self) -> bytes:
        """Return its shortest text."""
        return self.dfa.shortest(0)


@dataclass(eq=False)
class Union(Shape):
    """One of several shapes."""

    branches: Sequence[Shape]

    def measure(self) -> tuple[int, int]:
        """Return bound and height."""
        bound = min((branch.bound for branch in self.branches), default=FAR)
        return bound, min((branch.height for branch in self.branches), default=FAR)

    def shortest(self) -> bytes:
        """Return its shortest text."""
        return min(self.branches, key=lambda branch: branch.bound).shortest()


@dataclass(eq=False)
class Array(Shape):
    """Values in brackets."""

    prefix: tuple[Shape, ...]
    """Shapes of the first items."""
    items: Shape | None
    """Of all others; None: there are no others."""
    fewest: int
    most: int

    def item(self, i: int) -> Shape | None:
        """Return the shape of item `i`, None if there cannot be one."""
        if i >= self.most:
            return None
        return self.prefix[i] if i < len(self.prefix) else self.items

    def measure(self) -> tuple[int, int]:
        """Return bound and height."""
        bound, height = self.rest_bound(0) + 1, 0
        for i in range(min(self.fewest, len(self.prefix) + 1)):
            item = self.item(i)
            height = max(height, FAR if item is None else item.height + 1)
        return min(bound, FAR), min(height, FAR)

    def rest_bound(self, i: int) -> int:
        """Count the bytes of the shortest end after `i` items."""
        bound = 1
        for k in range(i, min(self.fewest, len(self.prefix))):
            bound += self.prefix[k].bound + 2 * (k > 0)
        more = self.fewest - max(i, len(self.prefix))
        if more > 0:
            bound += FAR if self.items is None else more * (self.items.bound + 2)
        return min(bound, FAR)

    def rest(self, i: int) -> bytes:
        """Return the shortest end after `i` items."""
        items = [item.shortest() for k in range(i, self.fewest) if (item := self.item(k))]
        return (b", " if i and items else b"") + b", ".join(items) + b"]"

    def shortest(self) -> bytes:
        """Return its shortest text."""
        return b"[" + self.rest(0)


@dataclass(eq=False)
class Picks(Shape):
    """Some of some texts in brackets, none of them twice."""

    texts: tuple[bytes, ...]
    """In order, none twice."""
    fewest: int
    most: int

    def measure(self) -> tuple[int, int]:
        """Return bound and height."""
        return len(self.shortest()), 0

    def rest(self, taken: frozenset[bytes]) -> bytes:
        """Return the shortest end after some items."""
        left = sorted((text for text in self.texts if text not in taken), key=len)
        items = left[: max(self.fewest - len(taken), 0)]
        return (b", " if taken and items else b"") + b", ".join(items) + b"]"

    def shortest(self) -> bytes:
        """Return its shortest text."""
        return b"[" + self.rest(frozenset())


@dataclass(frozen=True, eq=False)
class Property:
    """A declared property."""

    key: bytes
    """As it is written, with quotes, colon and space."""
    shape: Shape
    required: bool


@dataclass(eq=False)
class Object(Shape):
    """Properties in the order of their declaration, then others."""

    properties: tuple[Property, ...]
    names: Shape | None
    """Keys of other properties, `Text` or `Literals`; None: there are no others."""
    others: Shape | None
    """Their values."""
    fewest: int
    most: int
    _bounds: dict[tuple[int, int], int] = field(default_factory=dict, init=False)

    def measure(self) -> tuple[int, int]:
        """Return bound and height."""
        self._bounds = {}
        used = self.needed(0, 0)
        if used is None:
            return FAR, FAR
        height = max((p.shape.height + 1 for p in used), default=0)
        return min(self.rest_bound(0, 0) + 1, FAR), min(height, FAR)

    def needed(self, i: int, n: int) -> list[Property] | None:
        """Choose what has to be written from property `i` on, `n` being written; None: impossible.

        Others, where even they are needed, are properties with `names`' shortest text.
        """
        left = self.properties[i:]
        required = len([p for p in left if p.required])
        lacking = self.fewest - n - required
        if n + required > self.most:
            return None
        if lacking <= 0:
            return [p for p in left if p.required]
        optional = set(sorted((p for p in left if not p.required), key=_size)[:lacking])
        lacking -= len(optional)
        used = [p for p in left if p.required or p in optional]
        if lacking > 0:
            if self.names is None or self.others is None or self.names.bound >= FAR:
                return None
            key = self.names.shortest() + b": "
            used += [Property(key, self.others, True)] * lacking
        return used

    def rest_bound(self, i: int, n: int) -> int:
        """Count the bytes of the shortest end."""
        found = self._bounds.get((i, n))
        if found is None:
            used = self.needed(i, n)
            found = FAR if used is None else 1 + 2 * bool(n) + sum(_size(p) + 2 for p in used)
            found = self._bounds[i, n] = min(found, FAR)
        return found

    def rest(self, i: int, n: int) -> bytes:
        """Return the shortest end."""
        parts = [p.key + p.shape.shortest() for p in self.needed(i, n) or ()]
        return (b", " if n and parts else b"") + b", ".join(parts) + b"}"

    def shortest(self) -> bytes:
        """Return its shortest text."""
        return b"{" + self.rest(0, 0)


def _size(p: Property) -> int:
    return len(p.key) + p.shape.bound


@dataclass(eq=False)
class Reference(Shape):
    """A shape by its name, which may contain itself."""

    target: Shape | None = None

    def measure(self) -> tuple[int, int]:
        """Return bound and height."""
        return (self.target.bound, self.target.height) if self.target else (FAR, FAR)

    def shortest(self) -> bytes:
        """Return its shortest text."""
        assert self.target is not None
        return self.target.shortest()


def settle(shapes: Sequence[Shape]) -> None:
    """Measure shapes that contain each other, parts before wholes, until nothing changes."""
    changed = True
    while changed:
        changed = False
        for shape in shapes:
            bound, height = shape.measure()
            bound = FAR if bound > MAX_SHORTEST else bound
            if bound < shape.bound or height < shape.height:
                shape.bound, shape.height = bound, height
                changed = isinstance(shape, Reference) or changed
