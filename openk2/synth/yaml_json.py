"""YAML as JSON: what API descriptions need of it, with nothing that grows or runs.

PyYAML reads; what JSON cannot say is refused with its line: anchors and aliases (a page of them can
stand for a gigabyte), tags, merge keys, two keys of one name, more than one document. Words are
typed as YAML 1.2 has it: `yes` and `2026-01-05` are text.

In: text. Out: JSON values. Must not know: what they describe.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

DEPTH = 100
"""Deeper nesting is refused: no API description has it, and reading it would fill the stack."""
_WORDS = {
    **dict.fromkeys(("null", "Null", "NULL", "~", "")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_DIGITS = 4000


class YamlError(ValueError):
    """The text is no YAML, or says what JSON cannot; the message begins with the line."""


def parse_yaml(text: str) -> Any:
    """Read one document.

    Raises:
        YamlError: It cannot be read as JSON.
        ModuleNotFoundError: PyYAML is not installed.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    reader = _Reader()
    try:
        # Events and not nodes: those are made by recursion, which hostile nesting would break.
        events: Iterator[Any] = cast(Any, yaml).parse(text, Loader=loader)
        for event in events:
            reader.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise YamlError(f"line {line}: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise YamlError(f"line 1: {error}") from error
    return reader.value


class _Reader:
    """Builds values from events."""

    def __init__(self) -> None:
        self.value: Any = None
        self._documents = 0
        self._open: list[tuple[Any, list[str]]] = []
        """Containers that are not closed yet; of a mapping, its key while its value is awaited."""

    def take(self, event: Any) -> None:
        """Take the next event."""
        line = event.start_mark.line + 1
        kind = type(event).__name__
        self._refuse(event, kind, line)
        if kind == "ScalarEvent":
            plain = event.implicit[0]
            if self._awaits_key():
                self._key(event.value, line)
            else:
                self._put(_typed(event.value, line) if plain else event.value)
        elif kind in ("MappingStartEvent", "SequenceStartEvent"):
            if self._awaits_key():
                raise YamlError(f"line {line}: a key must be text")
            if len(self._open) >= DEPTH:
                raise YamlError(f"line {line}: nested deeper than {DEPTH} levels")
            self._open.append(({} if kind == "MappingStartEvent" else [], []))
        elif kind in ("MappingEndEvent", "SequenceEndEvent"):
            self._put(self._open.pop()[0])

    def _refuse(self, event: Any, kind: str, line: int) -> None:
        if kind == "DocumentStartEvent":
            self._documents += 1
            if self._documents > 1:
                raise YamlError(f"line {line}: there is a second document; split the file")
        if kind == "AliasEvent" or getattr(event, "anchor", None) is not None:
            raise YamlError(f"line {line}: anchors and aliases are not read; write it out")
        if getattr(event, "tag", None) is not None:
            raise YamlError(f"line {line}: the tag {event.tag} is not read")

    def _awaits_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1][0], dict) and not self._open[-1][1]

    def _key(self, name: str, line: int) -> None:
        table, waiting = self._open[-1]
        if name == "<<":
            raise YamlError(f"line {line}: merge keys are not read; write it out")
        if name in table:
            raise YamlError(f"line {line}: the key {name!r} stands there twice")
        waiting.append(name)

    def _put(self, value: Any) -> None:
        if not self._open:
            self.value = value
            return
        container, waiting = self._open[-1]
        if isinstance(container, dict):
            container[waiting.pop()] = value
        else:
            container.append(value)


def _typed(word: str, line: int) -> Any:
    """Type a plain word as the core schema of YAML 1.2 does (section 10.3.2)."""
    if word in _WORDS:
        return _WORDS[word]
    if _INT.fullmatch(word):
        if len(word) > _DIGITS:
            raise YamlError(f"line {line}: a number has more than {_DIGITS} digits")
        return int(word)
    return float(word) if _FLOAT.fullmatch(word) else word
