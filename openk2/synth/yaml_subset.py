"""The part of YAML that API descriptions are written in.

Block and flow collections, plain, quoted, literal and folded scalars, comments. Anchors, tags,
merge keys, complex keys and several documents are refused with the line: an API description has no
need of them, and they are where YAML is dangerous. Values are typed as YAML 1.2 does it: `no` is a
text. Keys are texts.

In: text. Out: what JSON can hold. Must not know: what the document is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_DEEPEST = 60
_KEY = re.compile(
    r"""(?P<key>"(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s\-?:,\[\]{}#&*!|>'"%@`][^#]*?"""
    r"""|[\-?:](?=\S)[^#]*?|[^\s,\[\]{}#&*!|>'"%@`][^#]*?)\s*:(?=\s|$)(?P<rest>.*)$""",
    re.DOTALL,
)
_COMMENT = re.compile(r"(?:^|\s)#.*$")
_INT = re.compile(r"[-+]?\d+")
_FLOAT = re.compile(r"[-+]?(?:\.\d+|\d+(?:\.\d*)?)(?:[eE][-+]?\d+)?")
_BLOCK = re.compile(r"([|>])([+-]?)([1-9]?)([+-]?)\s*(?:#.*)?$")
_WORDS: dict[str, Any] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_ESCAPES = {
    "n": "\n", "t": "\t", "r": "\r", "0": "\0", "b": "\b", "f": "\f", "v": "\v", "a": "\a",
    "e": "\x1b", " ": " ", '"': '"', "/": "/", "\\": "\\", "N": "\x85", "_": "\xa0",
    "L": "\u2028", "P": "\u2029", "\n": "",
}  # fmt: skip
_MARKS = ("---", "...")
_HEX = {"x": 2, "u": 4, "U": 8}


class YamlError(ValueError):
    """The text is not YAML, or has something that is not read here; the message names the line."""


@dataclass(slots=True)
class _Line:
    number: int
    indent: int
    text: str


def parse_yaml(text: str) -> Any:
    """Read a document.

    Args:
        text: YAML.

    Raises:
        YamlError: It is no YAML, or more than this part of it.
    """
    return _Reader(text).document()


class _Reader:
    def __init__(self, text: str) -> None:
        self.raw = text.removeprefix("\ufeff").splitlines()
        self.lines = [
            _Line(number, len(line) - len(line.lstrip(" ")), line.strip())
            for number, line in enumerate(self.raw, 1)
        ]
        self.at = 0

    def document(self) -> Any:
        line = self._next()
        if line is not None and line.text == "---":
            self.at += 1
        value = self._node(0, 0)
        line = self._next()
        if line is not None and line.text != "...":
            raise YamlError(f"line {line.number}: what stands here belongs to nothing above it")
        return value

    def _next(self) -> _Line | None:
        """Skip blank lines and comments."""
        while self.at < len(self.lines):
            line = self.lines[self.at]
            if line.text and not line.text.startswith("#"):
                if self.raw[line.number - 1][: line.indent + 1].endswith("\t"):
                    raise YamlError(f"line {line.number}: is indented by a tab")
                return line
            self.at += 1
        return None

    def _node(self, least: int, depth: int) -> Any:
        line = self._next()
        if depth > _DEEPEST:
            raise YamlError(f"line {line.number if line else 0}: is nested too deep")
        if line is None or line.indent < least or line.text in _MARKS:
            return None
        if line.text == "-" or line.text.startswith("- "):
            return self._sequence(line.indent, depth)
        if line.text[:1] not in "[{" and _KEY.match(line.text):
            return self._mapping(line.indent, depth)
        self.at += 1
        return self._scalar(line.text, line, line.indent - 1)

    def _sequence(self, indent: int, depth: int) -> list[Any]:
        items: list[Any] = []
        if depth > _DEEPEST:
            raise YamlError(f"line {self.lines[self.at].number}: is nested too deep")
        while (line := self._next()) and line.indent == indent:
            if line.text != "-" and not line.text.startswith("- "):
                break
            rest = line.text[1:].lstrip()
            if not _COMMENT.sub("", rest):
                self.at += 1
                items.append(self._node(indent + 1, depth + 1))
                continue
            # The item's own lines are indented to where its first word stands.
            line.indent += len(line.text) - len(rest)
            line.text = rest
            if rest.startswith(("- ", "-\n")) or rest == "-":
                items.append(self._sequence(line.indent, depth + 1))
            elif rest[:1] not in "[{" and _KEY.match(rest):
                items.append(self._mapping(line.indent, depth + 1))
            else:
                self.at += 1
                items.append(self._scalar(rest, line, indent))
        return items

    def _mapping(self, indent: int, depth: int) -> dict[str, Any]:
        table: dict[str, Any] = {}
        if depth > _DEEPEST:
            raise YamlError(f"line {self.lines[self.at].number}: is nested too deep")
        while (line := self._next()) and line.indent == indent:
            if line.text in _MARKS:
                break
            found = _KEY.match(line.text)
            if found is None or line.text.startswith("- "):
                raise YamlError(f"line {line.number}: `key: value` is expected")
            key = self._key(found["key"], line)
            if key in table:
                raise YamlError(f"line {line.number}: the key {key[:60]!r} is there twice")
            rest = found["rest"].strip()
            self.at += 1
            if _COMMENT.sub("", rest):
                table[key] = self._scalar(rest, line, indent)
                continue
            below = self._next()
            dashed = below is not None and (below.text == "-" or below.text.startswith("- "))
            table[key] = self._node(indent if dashed else indent + 1, depth + 1)
        if (line := self._next()) and line.indent > indent:
            raise YamlError(f"line {line.number}: is indented more than what it follows")
        return table

    def _key(self, written: str, line: _Line) -> str:
        if written == "<<":
            raise YamlError(f"line {line.number}: merge keys are not read; write the members out")
        if written[0] in "\"'":
            return _Flow(written, line.number).value(0)
        return written

    def _scalar(self, text: str, line: _Line, indent: int) -> Any:
        """Read a value that begins on a line; lines indented more than `indent` continue it."""
        if text[0] in "&*!%@`":
            raise YamlError(
                f"line {line.number}: {text[:20]!r}: anchors, aliases and tags are not read"
            )
        if block := _BLOCK.match(text):
            return self._block(block[1], block[2] or block[4], int(block[3] or 0), indent)
        if text[0] in "\"'[{":
            return self._quoted_or_flow(text, line, indent)
        parts = [_COMMENT.sub("", text).strip()]
        if text == parts[0]:
            parts += self._continued(indent)
        if len(parts) == 1:
            return _typed(parts[0])
        return _folded(parts)

    def _continued(self, indent: int) -> list[str]:
        """Take the lines that a plain text goes on in; an empty one stands for a line break."""
        parts: list[str] = []
        end = self.at
        while end < len(self.lines):
            line = self.lines[end]
            if line.text and (line.indent <= indent or line.text[0] == "#"):
                break
            if line.text in _MARKS and not line.indent:
                break
            if _KEY.match(line.text):
                raise YamlError(f"line {line.number}: a key stands where a text goes on")
            end += 1
            parts.append(_COMMENT.sub("", line.text).strip())
        while parts and not parts[-1]:
            parts.pop()
        self.at += len(parts)
        return parts

    def _quoted_or_flow(self, text: str, line: _Line, indent: int) -> Any:
        reader = _Flow(text, line.number)
        while not reader.complete():
            if self.at >= len(self.lines):
                raise YamlError(f"line {line.number}: {text[:20]!r} does not end")
            more = self.lines[self.at]
            if more.text and more.indent <= indent and more.text[0] not in "]}":
                raise YamlError(f"line {more.number}: is indented too little for what it continues")
            self.at += 1
            reader.add(more.text)
        return reader.whole()

    def _block(self, style: str, chomp: str, given: int, indent: int) -> str:
        rows: list[str] = []
        width = max(indent, 0) + given if given else 0
        while self.at < len(self.lines):
            line, raw = self.lines[self.at], self.raw[self.at]
            if line.text:
                width = width or line.indent
                if line.indent < width or line.indent <= indent:
                    break
            rows.append(raw[width:] if line.text else raw[width:] if width else "")
            self.at += 1
        body = list(rows)
        while body and not body[-1].strip():
            body.pop()
        text = "\n".join(body) if style == "|" else _fold_block(body)
        if chomp == "-" or not body:
            return text if body or chomp != "+" else "\n" * len(rows)
        return text + "\n" * (len(rows) - len(body) + 1 if chomp == "+" else 1)


def _typed(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text) and len(text) < 40:
        return int(text)
    if _FLOAT.fullmatch(text) and len(text) < 40:
        return float(text)
    return text


def _folded(parts: list[str]) -> str:
    """Join lines: one break is a space, more of them are one break fewer."""
    text, breaks = parts[0], 0
    for part in parts[1:]:
        if not part:
            breaks += 1
            continue
        text += ("\n" * breaks or " ") + part
        breaks = 0
    return text


def _fold_block(rows: list[str]) -> str:
    text, breaks = "", 0
    before_more = True
    for number, row in enumerate(rows):
        if not row.strip():
            breaks += 1
            continue
        more = row[0] in " \t"
        if number == breaks and not text:
            text = "\n" * breaks + row
        elif more or before_more:
            text += "\n" * (breaks + 1) + row
        else:
            text += ("\n" * breaks or " ") + row
        breaks, before_more = 0, more
    return text


class _Flow:
    """Reads quoted texts and flow collections, which may go over several lines."""

    def __init__(self, text: str, number: int) -> None:
        self.text = text
        self.number = number
        self.at = 0
        self._checked = 0
        self._quote = ""
        self._open = 0

    def add(self, line: str) -> None:
        """Go on with the next line."""
        self.text += "\n" + line

    def complete(self) -> bool:
        """Tell whether every quote and bracket is closed; each character is looked at once."""
        text, at = self.text, self._checked
        while at < len(text):
            char = text[at]
            if self._quote:
                if char == "\\" and self._quote == '"':
                    if at + 1 >= len(text):
                        break
                    at += 1
                elif char == self._quote:
                    self._quote = ""
            elif char in "\"'" and (at == 0 or text[at - 1] in " \t\n,:[{" or char == text[at - 1]):
                self._quote = char
            elif char in "[{":
                self._open += 1
            elif char in "]}":
                self._open -= 1
            elif char == "#" and at and text[at - 1] in " \t\n":
                while at < len(text) and text[at] != "\n":
                    at += 1
                continue
            at += 1
        self._checked = at
        return not self._quote and self._open <= 0

    def whole(self) -> Any:
        """Read one value that nothing but a comment follows."""
        value = self.value(0)
        self._skip()
        if self.at < len(self.text):
            raise self._error("something follows what is complete")
        return value

    def value(self, depth: int) -> Any:
        """Read one value."""
        self._skip()
        if depth > _DEEPEST:
            raise self._error("is nested too deep")
        match self.text[self.at : self.at + 1]:
            case "[":
                return self._list(depth)
            case "{":
                return self._table(depth)
            case '"' | "'":
                return self._quoted()
            case "&" | "*" | "!":
                raise self._error("anchors, aliases and tags are not read")
            case _:
                return _typed(self._plain())

    def _error(self, problem: str) -> YamlError:
        line = self.number + self.text.count("\n", 0, self.at)
        return YamlError(f"line {line}: {problem}")

    def _skip(self) -> None:
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == "#" and (self.at == 0 or self.text[self.at - 1] in " \t\n"):
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            elif char in " \t\n":
                self.at += 1
            else:
                return

    def _list(self, depth: int) -> list[Any]:
        self.at += 1
        items: list[Any] = []
        while True:
            self._skip()
            if self.text[self.at : self.at + 1] == "]":
                self.at += 1
                return items
            item = self.value(depth + 1)
            self._skip()
            if self.text[self.at : self.at + 1] == ":":
                raise self._error("a pair in a list is not read; write {key: value}")
            items.append(item)
            self._comma("]")

    def _table(self, depth: int) -> dict[str, Any]:
        self.at += 1
        table: dict[str, Any] = {}
        while True:
            self._skip()
            char = self.text[self.at : self.at + 1]
            if char == "}":
                self.at += 1
                return table
            key = self._quoted() if char and char in "\"'" else self._plain()
            self._skip()
            value: Any = None
            if self.text[self.at : self.at + 1] == ":":
                self.at += 1
                self._skip()
                if self.text[self.at : self.at + 1] not in (",", "}"):
                    value = self.value(depth + 1)
            table[key] = value
            self._comma("}")

    def _comma(self, close: str) -> None:
        self._skip()
        char = self.text[self.at : self.at + 1]
        if char == ",":
            self.at += 1
        elif char != close:
            raise self._error(f"a comma or {close} is expected")

    def _plain(self) -> str:
        start = self.at
        while self.at < len(self.text):
            char = self.text[self.at]
            after = self.text[self.at + 1 : self.at + 2]
            if char in ",[]{}" or (char == ":" and after in ("", " ", "\n", ",", "]", "}")):
                break
            if char == "#" and self.text[self.at - 1 : self.at] in (" ", "\n"):
                break
            self.at += 1
        if start == self.at:
            raise self._error("a value is expected")
        return " ".join(self.text[start : self.at].split())

    def _quoted(self) -> str:
        quote = self.text[self.at]
        start = self.at + 1
        parts: list[str] = []
        at = start
        while True:
            if at >= len(self.text):
                raise self._error("a quoted text does not end")
            char = self.text[at]
            if char == quote:
                if quote == "'" and self.text[at + 1 : at + 2] == "'":
                    parts.append("'")
                    at += 2
                    continue
                self.at = at + 1
                return "".join(parts)
            if char == "\\" and quote == '"':
                text, at = self._escaped(at + 1)
                parts.append(text)
                continue
            if char == "\n":
                text, at = self._broken(at, parts)
                parts.append(text)
                continue
            parts.append(char)
            at += 1

    def _broken(self, at: int, parts: list[str]) -> tuple[str, int]:
        """Fold a line break inside quotes."""
        while parts and parts[-1] in (" ", "\t"):
            parts.pop()
        breaks = 0
        while at < len(self.text) and self.text[at] in " \t\n":
            breaks += self.text[at] == "\n"
            at += 1
        return "\n" * (breaks - 1) or " ", at

    def _escaped(self, at: int) -> tuple[str, int]:
        char = self.text[at : at + 1]
        if char in _HEX:
            digits = self.text[at + 1 : at + 1 + _HEX[char]]
            try:
                return chr(int(digits, 16)), at + 1 + _HEX[char]
            except (ValueError, OverflowError) as error:
                raise self._error(f"\\{char}{digits} is no character") from error
        if not char or char not in _ESCAPES:
            raise self._error(f"\\{char} is no escape")
        if char == "\n":
            at += 1
            while self.text[at : at + 1] in (" ", "\t"):
                at += 1
            return "", at
        return _ESCAPES[char], at + 1
