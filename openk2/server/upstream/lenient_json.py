"""JSON as models miswrite it, read where only one reading is possible.

In: text. Out: the value it can only mean, or an error.
Must not know: schemas, tools.

What is forgiven beyond JSON:

- white space, or a Markdown code fence, around the value;
- a comma before a closing bracket;
- brackets that are missing at the end, after a complete value: never the end of a string, and
  never after a comma or a colon, where a value may be missing too;
- Python's `True`, `False` and `None`;
- strings and keys in single quotes;
- line breaks and other control characters inside strings.

Two values where one is expected, comments, bare words, unquoted keys, NaN and Infinity are not
forgiven: a reader would have to guess.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

MAX_DEPTH = 64

_SPACE = re.compile(r"\s*")
_WORD = re.compile(r"[A-Za-z]+")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_FENCE = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL)
_WORDS: dict[str, bool | None] = {
    "true": True,
    "false": False,
    "null": None,
    "True": True,
    "False": False,
    "None": None,
}
_PLAIN = {'"': re.compile(r'[^"\\]*'), "'": re.compile(r"[^'\\]*")}
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def read_json(text: str) -> Any:
    """Read JSON as the standard has it: no NaN, no infinity, no number too large for a float.

    Raises:
        ValueError: It is not JSON, or it is nested too deeply.
    """
    try:
        return _STRICT.decode(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_lenient(text: str) -> Any:
    """Read what can only mean one value.

    Raises:
        ValueError: It could mean several, or none.
    """
    fenced = _FENCE.fullmatch(text)
    reader = _Reader(fenced[1] if fenced else text)
    value = reader.value(0)
    reader.skip_space()
    if reader.at < len(reader.text):
        reader.fail("more text after the value")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:20]} is too large for a number")
    return number


_STRICT = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)


class _Reader:
    """A recursive descent over one text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def fail(self, problem: str) -> NoReturn:
        raise ValueError(f"{problem} at character {self.at}")

    def skip_space(self) -> str:
        """Return the next character that is no white space, "" at the end."""
        if found := _SPACE.match(self.text, self.at):
            self.at = found.end()
        return self.text[self.at : self.at + 1]

    def value(self, depth: int) -> Any:
        if depth > MAX_DEPTH:
            self.fail("nested too deeply")
        match self.skip_space():
            case "{":
                return self._object(depth)
            case "[":
                return self._array(depth)
            case '"' | "'" as quote:
                return self._string(quote)
            case _:
                return self._scalar()

    def _scalar(self) -> Any:
        if found := _WORD.match(self.text, self.at):
            if found[0] in _WORDS:
                self.at = found.end()
                return _WORDS[found[0]]
        elif found := _NUMBER.match(self.text, self.at):
            self.at = found.end()
            digits = found[0]
            return int(digits) if digits.lstrip("-").isdigit() else _finite(digits)
        self.fail("no value")

    def _object(self, depth: int) -> dict[str, Any]:
        members: dict[str, Any] = {}
        self.at += 1
        while not self._closed("}", first=not members):
            quote = self.skip_space()
            if quote not in ('"', "'") or not quote:
                self.fail("no name in quotes")
            name = self._string(quote)
            if self.skip_space() != ":":
                self.fail("no colon")
            if name in members:
                self.fail("a name for the second time")
            self.at += 1
            members[name] = self.value(depth + 1)
        return members

    def _array(self, depth: int) -> list[Any]:
        items: list[Any] = []
        self.at += 1
        while not self._closed("]", first=not items):
            items.append(self.value(depth + 1))
        return items

    def _closed(self, bracket: str, *, first: bool) -> bool:
        """Move past what stands between two members; true at the end."""
        found = self.skip_space()
        if not first and found == ",":
            self.at += 1
            found = self.skip_space()
            if not found:
                self.fail("the text ends after a comma")
        elif not first and found not in (bracket, ""):
            self.fail("no comma")
        if found == bracket:
            self.at += 1
        return found in (bracket, "")

    def _string(self, quote: str) -> str:
        pieces: list[str] = []
        self.at += 1
        while True:
            if plain := _PLAIN[quote].match(self.text, self.at):
                pieces.append(plain[0])
                self.at = plain.end()
            mark = self.text[self.at : self.at + 1]
            self.at += 1
            if mark == quote:
                return "".join(pieces)
            if not mark:
                self.fail("a string without an end")
            pieces.append(self._escape())

    def _escape(self) -> str:
        mark = self.text[self.at : self.at + 1]
        self.at += 1
        if mark == "u":
            digits = self.text[self.at : self.at + 4]
            if not re.fullmatch(r"[0-9a-fA-F]{4}", digits):
                self.fail("an escape without four digits")
            self.at += 4
            return chr(int(digits, 16))
        if mark in _ESCAPES:
            return _ESCAPES[mark]
        if mark in ('"', "'", "\\", "/") and mark:
            return mark
        self.fail("an unknown escape")
