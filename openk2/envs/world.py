"""A world's state: tables of frozen rows, with snapshots, a hash, and refusals.

Rows are frozen dataclasses that are replaced and never changed, so a snapshot is a copy of a few
dictionaries. Ids are made from what a row says, so the order of independent actions does not show
in the final state: a solution is judged by where it arrives and not by its path.

In: rows. Out: state, its hash, its snapshots. Must not know: tools, tasks, language.
"""

from __future__ import annotations

import copy
import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Self, TypeVar, cast

import orjson

Row = TypeVar("Row")
Snapshot = tuple[tuple[str, Any], ...]


class Refused(Exception):
    """A tool's precondition does not hold; nothing was changed."""

    def __init__(self, code: str, message: str) -> None:
        """Remember the code, which the tool documents, and a sentence for the model."""
        super().__init__(message)
        self.code = code


@dataclass(slots=True)
class World:
    """The state of one domain. A subclass adds tables: fields of type `dict[str, SomeRow]`."""

    now: str
    """The world's clock, YYYY-MM-DD HH:MM; it does not run by itself."""

    @property
    def today(self) -> str:
        """The world's date."""
        return self.now[:10]

    def tables(self) -> dict[str, dict[str, Any]]:
        """Return every table by its name."""
        return {name: getattr(self, name) for name in table_names(type(self))}

    def snapshot(self) -> Snapshot:
        """Copy the state; rows are frozen, so they are shared."""
        return tuple((name, _copied(getattr(self, name))) for name in _field_names(type(self)))

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot, which stays usable."""
        for name, value in snapshot:
            setattr(self, name, _copied(value))

    def copy(self) -> Self:
        """Return a world in the same state that goes its own way."""
        other = copy.copy(self)
        other.restore(self.snapshot())
        return other

    def state_hash(self) -> str:
        """Return 128 bits of a hash over everything, independent of the order of rows."""
        text = orjson.dumps(self, option=orjson.OPT_SORT_KEYS)
        return hashlib.blake2b(text, digest_size=16).hexdigest()


def find(table: Mapping[str, Row], key: str, what: str) -> Row:
    """Return a row of a table.

    Args:
        table: Where to look.
        key: The row's id.
        what: The row's noun, for the sentence that the model reads.

    Raises:
        Refused: `not_found`: there is no such row.
    """
    if key not in table:
        raise Refused("not_found", f"There is no {what} with id {key}.")
    return table[key]


def new_id(table: Mapping[str, Any], prefix: str, *content: object) -> str:
    """Make an id from what a row says: the same action gives the same id whenever it is done."""
    for attempt in range(len(table) + 1):
        key = f"{prefix}{zlib.crc32(repr((content, attempt)).encode()) % 100_000:05d}"
        if key not in table:
            return key
    raise AssertionError("a table of this size always has a free id")


def check(holds: bool, code: str, message: str) -> None:
    """Refuse unless a precondition holds.

    Raises:
        Refused: It does not.
    """
    if not holds:
        raise Refused(code, message)


def as_json(value: Any) -> Any:
    """Turn a tool's result, rows included, into what JSON can hold."""
    kind: type[object] = value.__class__
    if kind is str or kind is int or value is None:
        return value
    if kind is list or kind is tuple:
        return [as_json(item) for item in value]
    if kind is dict:
        return {key: as_json(item) for key, item in value.items()}
    if is_dataclass(kind):
        return {name: as_json(getattr(value, name)) for name in _field_names(kind)}
    return value


def _copied(value: Any) -> Any:
    """Copy a table; everything else in a world is replaced and never changed."""
    return cast(dict[str, Any], value).copy() if isinstance(value, dict) else value


@cache
def table_names(world: type[World]) -> tuple[str, ...]:
    """Name the tables of a kind of world."""
    return tuple(f.name for f in fields(world) if str(f.type).startswith("dict["))


@cache
def _field_names(kind: type) -> tuple[str, ...]:
    return tuple(f.name for f in fields(kind))
