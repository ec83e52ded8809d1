"""Texts that match a simple regular expression.

Simple means: literals, classes, groups, alternatives and bounded repetition; that is what schemas
of tools have. What is beyond it is said so, and nobody guesses.

In: a pattern, a source of chance. Out: a text that it matches. Must not know: schemas.
"""

from __future__ import annotations

import string
from random import Random

_MOST = 8
"""How often something open-ended is repeated at most."""
_LONGEST = 20_000
"""Atoms that are written at most: repetitions multiply."""
_CLASSES = {
    "d": string.digits,
    "w": string.ascii_letters + string.digits + "_",
    "s": " ",
    "D": string.ascii_letters,
    "W": "-",
    "S": string.ascii_letters + string.digits,
}
_PRINTABLE = string.ascii_letters + string.digits + "_-. "


class TooHard(ValueError):
    """The pattern has something that is not simple."""


def matching(pattern: str, rng: Random) -> str:
    """Make a text that a pattern matches as a whole.

    Args:
        pattern: A regular expression.
        rng: Chooses.

    Raises:
        TooHard: It has look-around, back references, or another thing that is not simple.
    """
    reader = _Reader(pattern, rng)
    text = reader.alternatives()
    if reader.at < len(pattern):
        raise TooHard(f"unbalanced ) in {pattern[:60]!r}")
    return text


class _Reader:
    """Reads the pattern once and writes while reading."""

    def __init__(self, pattern: str, rng: Random) -> None:
        self.pattern = pattern
        self.rng = rng
        self.at = 0
        self.atoms = 0

    def _peek(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def _take(self) -> str:
        char = self._peek()
        if not char:
            raise TooHard(f"{self.pattern[:60]!r} ends too early")
        self.at += 1
        return char

    def alternatives(self) -> str:
        options = [self._sequence()]
        while self._peek() == "|":
            self.at += 1
            options.append(self._sequence())
        return self.rng.choice(options)

    def _sequence(self) -> str:
        parts: list[str] = []
        while self._peek() and self._peek() not in "|)":
            start = self.at
            text = self._atom()
            count = self._count()
            after = self.at
            if count:
                parts.append(text)
            for _ in range(count - 1):
                self.at = start
                parts.append(self._atom())
            self.at = after
        return "".join(parts)

    def _atom(self) -> str:
        self.atoms += 1
        if self.atoms > _LONGEST:
            raise TooHard(f"{self.pattern[:60]!r} asks for a very long text")
        char = self._take()
        match char:
            case "^" | "$":
                return ""
            case ".":
                return self.rng.choice(_PRINTABLE)
            case "[":
                return self.rng.choice(self._class())
            case "\\":
                return self._escape(self._take())
            case "(":
                return self._group()
            case "*" | "+" | "?" | "{":
                raise TooHard(f"{char} repeats nothing in {self.pattern[:60]!r}")
            case _:
                return char

    def _group(self) -> str:
        if self.pattern.startswith("?:", self.at):
            self.at += 2
        elif self._peek() == "?":
            raise TooHard(f"a group of {self.pattern[:60]!r} is more than a group")
        text = self.alternatives()
        if self._take() != ")":
            raise TooHard(f"a group of {self.pattern[:60]!r} does not end")
        return text

    def _escape(self, char: str) -> str:
        if char in _CLASSES:
            return self.rng.choice(_CLASSES[char])
        if char.isalnum():
            simple = {"n": "\n", "t": "\t", "r": "\r"}
            if char not in simple:
                raise TooHard(f"\\{char} in {self.pattern[:60]!r}")
            return simple[char]
        return char

    def _class(self) -> list[str]:
        negated = self._peek() == "^"
        if negated:
            self.at += 1
        members: list[str] = []
        first = True
        while self._peek() != "]" or first:
            first = False
            char = self._take()
            if char == "\\":
                char = self._take()
                if char in _CLASSES:
                    members += _CLASSES[char]
                    continue
            if self._peek() == "-" and self.pattern[self.at + 1 : self.at + 2] not in ("]", ""):
                self.at += 1
                last = self._take()
                if last == "\\":
                    last = self._take()
                members += [chr(code) for code in range(ord(char), min(ord(last), 0x2FFFF) + 1)]
            else:
                members.append(char)
        self.at += 1
        found = [char for char in _PRINTABLE if char not in members] if negated else members
        if not found:
            raise TooHard(f"an empty class in {self.pattern[:60]!r}")
        return found

    def _count(self) -> int:
        char = self._peek()
        if char not in ("*", "+", "?", "{") or not char:
            return 1
        self.at += 1
        if char == "{":
            body, brace, _ = self.pattern[self.at :].partition("}")
            low, comma, high = body.partition(",")
            if not brace or not low.isdigit() or not (high.isdigit() or not high):
                raise TooHard(f"{{{body[:20]}}} in {self.pattern[:60]!r}")
            self.at += len(body) + 1
            least = int(low)
            most = int(high) if high else (least + _MOST if comma else least)
        else:
            least, most = {"*": (0, _MOST), "+": (1, _MOST), "?": (0, 1)}[char]
        if self._peek() in ("?", "+"):
            self.at += 1
        if least > 4096:
            raise TooHard(f"{self.pattern[:60]!r} wants {least} repetitions")
        return self.rng.randint(least, min(most, least + _MOST))
