"""The parity table: a row for each marked test, written when all of them have passed.

`make parity` runs the marked tests and writes docs/reference/parity.md from those that passed;
an ordinary run only checks that the page has the rows of the marks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "parity.md"
FORMATS = (
    "FP32",
    "BF16",
    "FP8",
    "INT4",
    "tokenizer",
    "chat template",
    "GGUF F32",
    "GGUF F16",
    "GGUF Q8_0",
    "GGUF Q4_0",
)
INTRODUCTION = """# What other tools agree with

Each row is a test that compares openk2 with another implementation and passed when this page was
written; `make parity` runs them all and writes it again. *In* is a file that the peer wrote and
openk2 reads, *out* the reverse.

| format | direction | peer | what agrees | proved by |
| --- | --- | --- | --- | --- |
"""


class Row(NamedTuple):
    """One line of the table."""

    format: str
    direction: str
    peer: str
    claim: str
    test: str

    @property
    def line(self) -> str:
        file, _, name = self.test.partition("::")
        return (
            f"| {self.format} | {self.direction} | {self.peer} | {self.claim} "
            f"| [{name}](../../{file}) |"
        )


def proved(item: pytest.Item) -> Iterator[Row]:
    """Yield the rows that a test proves, all of its parameters together."""
    test = item.nodeid.partition("[")[0]
    for mark in item.iter_markers("parity"):
        kind, direction = mark.kwargs["format"], mark.kwargs["direction"]
        assert kind in FORMATS, f"{item.nodeid}: format {kind!r} is none of {FORMATS}"
        assert direction in ("in", "out"), f"{item.nodeid}: direction is 'in' or 'out'"
        yield Row(kind, direction, mark.kwargs["peer"], mark.kwargs["claim"], test)


def rows(items: list[pytest.Item]) -> list[Row]:
    """Return the table's rows in its order."""
    found = {row for item in items for row in proved(item)}
    return sorted(found, key=lambda row: (FORMATS.index(row.format), *row[1:]))


def page(table: list[Row]) -> str:
    """Write the page."""
    return INTRODUCTION + "".join(f"{row.line}\n" for row in table)
