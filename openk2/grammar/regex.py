r"""Regular expressions of JSON Schema as automata over JSON strings.

In: a pattern of ECMA 262's dialect, without what is not regular. Out: a `Dfa` that reads a string
after its opening quote, and how many characters it counts.
Must not know: schemas, tokens.

Where ECMA 262 and Python's `re` differ (what `\d`, `\w`, `\s` and `.` mean beyond ASCII), only
what both accept is written. Look-around, back-references, word boundaries, and anchors elsewhere
than at the ends are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

from openk2.grammar.dfa import FAR, Dfa, Nfa
from openk2.grammar.strings import ANY, QUOTE, Ranges, character, counted_body, intersect

MAX_STATES = 1000
_MAX_PARTS = 8000
_MAX_PATTERN = 2000
_SPACES = (
    *((9, 13), (28, 32), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A)),
    *((0x2028, 0x2029), (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF)),
)
_WORD = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
_CONTROLS = {"n": 10, "t": 9, "r": 13, "f": 12, "v": 11, "0": 0}


class UnsupportedPatternError(ValueError):
    """A pattern that cannot be enforced; the message says what is in it."""


def complement(ranges: Ranges) -> list[tuple[int, int]]:
    """Return all characters that are not in `ranges`."""
    found, start = list[tuple[int, int]](), 0
    for low, high in sorted(ranges):
        if low > start:
            found.append((start, low - 1))
        start = max(start, high + 1)
    return intersect([*found, (start, 0x10FFFF)] if start <= 0x10FFFF else found, ANY)


# What both dialects agree on; see the module's docstring.
_CLASSES: dict[str, Ranges] = {
    "d": ((0x30, 0x39),),
    "w": _WORD,
    "s": ((9, 13), (32, 32)),
    "D": intersect(complement(((0x30, 0x39),)), ((0, 0x2FF),)),
    "W": intersect(complement(_WORD), ((0, 0x7F),)),
    "S": complement(_SPACES),
}
_DOT = complement(((10, 10), (13, 13), (0x2028, 0x2029)))


@dataclass(frozen=True, slots=True)
class _Class:
    ranges: Ranges


@dataclass(frozen=True, slots=True)
class _Cat:
    parts: tuple[_Part, ...]


@dataclass(frozen=True, slots=True)
class _Alt:
    branches: tuple[_Part, ...]


@dataclass(frozen=True, slots=True)
class _Repeat:
    part: _Part
    fewest: int
    most: int


@dataclass(frozen=True, slots=True)
class _Anchor:
    end: bool


_Part = _Class | _Cat | _Alt | _Repeat | _Anchor


class _Parser:
    def __init__(self, pattern: str) -> None:
        if len(pattern) > _MAX_PATTERN:
            raise UnsupportedPatternError(f"more than {_MAX_PATTERN} characters")
        self.text, self.at, self.depth = pattern, 0, 0

    def parse(self) -> _Part:
        part = self._alternatives()
        if self.at < len(self.text):
            raise UnsupportedPatternError("an unbalanced )")
        return part

    def _peek(self) -> str:
        return self.text[self.at] if self.at < len(self.text) else ""

    def _take(self, expected: str = "") -> str:
        found = self._peek()
        if not found or (expected and found != expected):
            raise UnsupportedPatternError(f"no {expected or 'character'} at {self.at}")
        self.at += 1
        return found

    def _alternatives(self) -> _Part:
        branches = [self._sequence()]
        while self._peek() == "|":
            self._take()
            branches.append(self._sequence())
        return branches[0] if len(branches) == 1 else _Alt(tuple(branches))

    def _sequence(self) -> _Part:
        parts: list[_Part] = []
        while self._peek() not in ("", "|", ")"):
            parts.append(self._quantified(self._atom()))
        return parts[0] if len(parts) == 1 else _Cat(tuple(parts))

    def _atom(self) -> _Part:
        char = self._take()
        if char == "(":
            return self._group()
        if char == "[":
            return _Class(self._set())
        if char == ".":
            return _Class(_DOT)
        if char in "^$":
            return _Anchor(char == "$")
        if char == "\\":
            return _Class(self._escape())
        if char in "*+?":
            raise UnsupportedPatternError(f"nothing to repeat before {char}")
        return _Class(((ord(char), ord(char)),))

    def _group(self) -> _Part:
        if self.text.startswith("?:", self.at):
            self.at += 2
        elif self.text.startswith("?<", self.at) and self.text[self.at + 2 : self.at + 3].isalpha():
            self.at = self.text.find(">", self.at) + 1 or len(self.text)
        elif self._peek() == "?":
            raise UnsupportedPatternError("look-around")
        self.depth += 1
        if self.depth > 50:
            raise UnsupportedPatternError("groups in groups in groups")
        part = self._alternatives()
        self._take(")")
        self.depth -= 1
        return part

    def _quantified(self, part: _Part) -> _Part:
        char = self._peek()
        bounds = {"*": (0, FAR), "+": (1, FAR), "?": (0, 1)}.get(char) or self._braces()
        if bounds is None:
            return part
        if isinstance(part, _Anchor):
            raise UnsupportedPatternError("a repeated anchor")
        if char != "{":
            self._take()
        if self._peek() == "?":
            self._take()
        if self._peek() in ("*", "+", "{") and self._peek():
            raise UnsupportedPatternError("a repeated repetition")
        return _Repeat(part, *bounds)

    def _braces(self) -> tuple[int, int] | None:
        end = self.text.find("}", self.at)
        if self._peek() != "{" or end < 0:
            return None
        low, comma, high = self.text[self.at + 1 : end].partition(",")
        if comma and high.isdecimal() and not low:
            raise UnsupportedPatternError(f"{{,{high}}}, which dialects read differently")
        if not low.isdecimal() or not (high.isdecimal() or not high):
            return None
        self.at = end + 1
        fewest = int(low)
        most = int(high) if high else FAR if comma else fewest
        if most < fewest or max(fewest, most if most < FAR else 0) > MAX_STATES:
            raise UnsupportedPatternError(f"{{{low}{comma}{high}}}")
        return fewest, most

    def _escape(self) -> Ranges:
        char = self._take()
        if char in _CLASSES:
            return _CLASSES[char]
        if char in _CONTROLS:
            return _one(_CONTROLS[char])
        if char in "xu":
            return _one(self._hex(char))
        if char.isalnum():
            raise UnsupportedPatternError(f"\\{char}")
        return _one(ord(char))

    def _hex(self, kind: str) -> int:
        if kind == "u" and self._peek() == "{":
            end = self.text.find("}", self.at)
            digits, self.at = self.text[self.at + 1 : end], end + 1
        else:
            count = 2 if kind == "x" else 4
            digits = self.text[self.at : self.at + count]
            self.at += count
        try:
            point = int(digits, 16)
        except ValueError:
            point = -1
        if not 0 <= point <= 0x10FFFF or 0xD800 <= point < 0xE000:
            raise UnsupportedPatternError(f"\\{kind}{digits}")
        return point

    def _set(self) -> Ranges:
        negated = self._peek() == "^"
        self.at += negated
        ranges: list[tuple[int, int]] = []
        wide: list[tuple[int, int]] = []
        while self._peek() != "]":
            first, single = self._member()
            if single and self._peek() == "-" and self.text[self.at + 1 : self.at + 2] != "]":
                self._take()
                last, single = self._member()
                if not single or last[0][0] < first[0][0]:
                    raise UnsupportedPatternError("a range of classes")
                first = ((first[0][0], last[0][0]),)
            ranges += first
            # What a negation must leave out is what either dialect accepts, not only both.
            wide += _widest(first)
        self._take()
        return complement(wide) if negated else _merge(ranges)

    def _member(self) -> tuple[Ranges, bool]:
        char = self._take()
        if char != "\\":
            return ((ord(char), ord(char)),), True
        if self._peek() == "b":
            self._take()
            return ((8, 8),), True
        ranges = self._escape()
        return ranges, len(ranges) == 1 and ranges[0][0] == ranges[0][1]


def _one(point: int) -> Ranges:
    return ((point, point),)


def _widest(ranges: Ranges) -> Ranges:
    beyond = ((0x80, 0x10FFFF),)
    for name, wide in (
        ("s", _SPACES),
        ("d", ((0x30, 0x39), (0x300, 0x10FFFF))),
        ("w", (*_WORD, *beyond)),
        ("D", (*_CLASSES["D"], *beyond)),
        ("W", (*_CLASSES["W"], *beyond)),
        ("S", (*_CLASSES["S"], (28, 31), (0x85, 0x85), (0xFEFF, 0xFEFF))),
    ):
        if ranges is _CLASSES[name]:
            return wide
    return ranges


def _merge(ranges: Ranges) -> list[tuple[int, int]]:
    return complement(complement(ranges))


def compile_pattern(pattern: str) -> tuple[Dfa, int, int]:
    """Build the automaton of strings in which a pattern is found.

    Returns:
        The automaton, and the fewest and most characters that it has to count besides.

    Raises:
        UnsupportedPatternError: It cannot be enforced.
        TooManyStatesError: It is too big.
    """
    part = _Parser(pattern).parse()
    anchored = [_anchors(branch) for branch in _branches(part)]
    if len(anchored) == 1 and anchored[0][0] and anchored[0][2]:
        inner = anchored[0][1]
        if isinstance(inner, _Repeat) and isinstance(inner.part, _Class) and inner.part.ranges:
            return counted_body(inner.part.ranges), inner.fewest, inner.most
    nfa = Nfa()
    start, end, closed = nfa.add(boundary=True), nfa.add(boundary=True), nfa.add()
    nfa.link(end, QUOTE, QUOTE, closed)
    for at_start, inner, at_end in anchored:
        first, last = nfa.add(boundary=True), nfa.add(boundary=True)
        nfa.silent[start].append(first)
        nfa.silent[last].append(end)
        if not at_start:
            character(nfa, first, ANY, first)
        if not at_end:
            character(nfa, last, ANY, last)
        _build(nfa, first, inner, last)
    return nfa.determinize(start, closed, MAX_STATES), 0, FAR


def _branches(part: _Part) -> tuple[_Part, ...]:
    return part.branches if isinstance(part, _Alt) else (part,)


def _anchors(part: _Part) -> tuple[bool, _Part, bool]:
    """Take the anchors off the ends of a branch."""
    parts = list(part.parts) if isinstance(part, _Cat) else [part]
    at_start = bool(parts) and parts[0] == _Anchor(end=False)
    parts = parts[at_start:]
    at_end = bool(parts) and parts[-1] == _Anchor(end=True)
    parts = parts[: len(parts) - at_end]
    return at_start, parts[0] if len(parts) == 1 else _Cat(tuple(parts)), at_end


def _build(nfa: Nfa, state: int, part: _Part, to: int) -> None:
    """Lead from a state to another by what a part matches."""
    if len(nfa.edges) > _MAX_PARTS:
        raise UnsupportedPatternError("too many repetitions")
    match part:
        case _Class(ranges):
            character(nfa, state, ranges, to)
        case _Cat(parts):
            steps: list[Callable[[int, int], None]] = [_step(nfa, p) for p in parts]
            _chain(nfa, state, steps, to)
        case _Alt(branches):
            for branch in branches:
                _build(nfa, state, branch, to)
        case _Repeat(inner, fewest, most):
            _repeat(nfa, state, inner, (fewest, most), to)
        case _:
            raise UnsupportedPatternError("an anchor that is not at an end")


def _step(nfa: Nfa, part: _Part) -> Callable[[int, int], None]:
    return lambda state, to: _build(nfa, state, part, to)


def _chain(nfa: Nfa, state: int, steps: list[Callable[[int, int], None]], to: int) -> None:
    def link(state: int, step: Callable[[int, int], None]) -> int:
        after = nfa.add(boundary=True)
        step(state, after)
        return after

    nfa.silent[reduce(link, steps, state)].append(to)


def _repeat(nfa: Nfa, state: int, part: _Part, bounds: tuple[int, int], to: int) -> None:
    fewest, most = bounds
    here = nfa.add(boundary=True)
    nfa.silent[state].append(here)
    for _ in range(fewest):
        after = nfa.add(boundary=True)
        _build(nfa, here, part, after)
        here = after
    nfa.silent[here].append(to)
    if most >= FAR:
        loop = nfa.add(boundary=True)
        nfa.silent[here].append(loop)
        _build(nfa, loop, part, loop)
        nfa.silent[loop].append(to)
        return
    for _ in range(most - fewest):
        after = nfa.add(boundary=True)
        _build(nfa, here, part, after)
        nfa.silent[after].append(to)
        here = after
