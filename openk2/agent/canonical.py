"""One written form of every value that crosses the journal, and its fingerprint.

In: frozen dataclasses of the shared nouns, and whatever JSON they hold. Out: JSON and back, and a
SHA-256 that two equal values share on every machine.
Must not know: files, the loop, or what any of these values is for.

Python reads NaN and the infinities where JSON has none: they are written as words.

A field at its default is left out. So a field that is added later changes neither the form nor the
fingerprint of what was written before.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

T = TypeVar("T")


MAX_DEPTH = 128
"""Levels of nesting; beyond, Python itself gives up sooner or later, and where depends on who
called."""

_NOT_FINITE = ("nan", "inf", "-inf")


class CodecError(ValueError):
    """A value has no written form, or JSON is not the form of the type asked for."""


def canonical_json(value: Any) -> bytes:
    """Write a value in the one form that equal values share: keys sorted, ASCII, no spaces.

    Raises:
        CodecError: The value holds something that JSON cannot say.
    """
    return json.dumps(
        to_json(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode("ascii")


def digest(value: Any) -> str:
    """Return the SHA-256 of the canonical form, in hexadecimal."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def parse_json(text: str) -> Any:
    """Read JSON that a stranger wrote: as JSON is defined, and not deeper than `MAX_DEPTH`.

    Raises:
        CodecError: It is not JSON, says NaN or Infinity, or is nested too deep.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise CodecError(f"value is nested more than {MAX_DEPTH} levels deep") from None
    except ValueError as error:
        raise CodecError(str(error)) from error
    return to_json(value)


def to_json(value: Any) -> Any:
    """Return the JSON form of a value; keys keep their order, as schemas in a prompt must.

    Args:
        value: A dataclass, path, mapping, sequence or scalar, nested up to `MAX_DEPTH`.

    Raises:
        CodecError: The value holds something that JSON cannot say.
    """
    try:
        return _form(value, 0)
    except _Unsayable as error:
        raise CodecError(f"value{''.join(reversed(error.path))} {error.problem}") from None


def from_json(kind: type[T], value: Any, where: str = "") -> T:
    """Build an instance of a dataclass from its JSON form.

    Args:
        kind: The dataclass: `Message`, `Reply`, `ToolResult`, …
        value: What `to_json` returned, perhaps after a way through a file.
        where: What errors call it; empty is the dataclass's name.

    Raises:
        CodecError: A field is unknown, missing or of another type; the message names it.
    """
    where = where or kind.__name__
    if not isinstance(value, Mapping):
        raise CodecError(f"{where} is {_short(value)}, not an object")
    table = cast(Mapping[str, Any], value)
    hints = _hints(kind)
    unknown = [name for name in table if name not in hints]
    if unknown:
        raise CodecError(f"{where}.{unknown[0]} is unknown; known are {', '.join(hints)}")
    found = {name: _read(hints[name], item, f"{where}.{name}") for name, item in table.items()}
    try:
        return kind(**found)
    except TypeError as error:
        missing = [name for name in _required(kind) if name not in table]
        raise CodecError(f"{where} lacks {', '.join(missing)}") from error


class _Unsayable(Exception):
    """Something within a value has no form; `path` leads there, its last step first."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.path: list[str] = []


def _form(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Path):
        return str(value)
    if depth >= MAX_DEPTH:
        raise _Unsayable(f"is nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, list | tuple):
        return _list_form(cast(Sequence[Any], value), depth)
    if isinstance(value, Mapping):
        return _table_form(cast(Mapping[Any, Any], value).items(), depth)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _table_form(_set_fields(value), depth)
    raise _Unsayable(f"is a {type(value).__name__}, which JSON cannot say")


def _list_form(items: Sequence[Any], depth: int) -> list[Any]:
    form: list[Any] = []
    try:
        for item in items:
            form.append(_form(item, depth + 1))  # noqa: PERF401 - the error needs the index
    except _Unsayable as error:
        error.path.append(f"[{len(form)}]")
        raise
    return form


def _table_form(items: Iterable[tuple[Any, Any]], depth: int) -> dict[str, Any]:
    form: dict[str, Any] = {}
    key: Any = None
    try:
        for key, item in items:
            if not isinstance(key, str):
                raise _Unsayable("is a key; JSON's keys are text")
            form[key] = _form(item, depth + 1)
    except _Unsayable as error:
        error.path.append(f".{key}")
        raise
    return form


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _set_fields(value: Any) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        factory = field.default_factory
        default = field.default if factory is dataclasses.MISSING else factory()
        if default is dataclasses.MISSING or item != default:
            found.append((field.name, item))
    return found


@functools.cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _required(kind: type[Any]) -> list[str]:
    missing = dataclasses.MISSING
    return [
        field.name
        for field in dataclasses.fields(kind)
        if field.default is missing and field.default_factory is missing
    ]


def _read(hint: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return value
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _read_union(arguments, value, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise CodecError(f"{where} is {_short(value)}, not one of {list(arguments)}")
        return value
    if origin is tuple:
        return _read_tuple(arguments, value, where)
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise CodecError(f"{where} is {_short(value)}, not an object")
        table = cast(Mapping[str, Any], value)
        return {key: _read(arguments[1], item, f"{where}.{key}") for key, item in table.items()}
    if dataclasses.is_dataclass(hint):
        return from_json(cast(type[Any], hint), value, where)
    return _read_scalar(hint, value, where)


def _read_union(options: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in options:
        return None
    problem: CodecError | None = None
    for option in options:
        if option is type(None):
            continue
        try:
            return _read(option, value, where)
        except CodecError as error:
            problem = problem or error
    raise problem or CodecError(f"{where} is {_short(value)}")


def _read_tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise CodecError(f"{where} is {_short(value)}, not a list")
    items = cast(Sequence[Any], value)
    kinds = arguments[:1] * len(items) if arguments[-1] is Ellipsis else arguments
    if len(kinds) != len(items):
        raise CodecError(f"{where} has {len(items)} items, not {len(kinds)}")
    pairs = enumerate(zip(kinds, items, strict=True))
    return tuple(_read(kind, item, f"{where}[{index}]") for index, (kind, item) in pairs)


def _read_scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is Path and isinstance(value, str):
        return Path(value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if hint is float and (number or value in _NOT_FINITE):
        return float(value)
    if isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise CodecError(f"{where} is {_short(value)}, not a {hint.__name__}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"
