"""The wording of the copy tasks: verbs, things, parameters and sentence frames in two languages.

In: `data/tools/copy_phrases.jsonl`. Out: the same as a typed table.
Must not know: how values are drawn, messages, tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from openk2.text.corpus import read_rows

Lang = Literal["en", "zh"]


@dataclass(frozen=True, slots=True)
class Wording:
    """One kind of parameter, as tools declare it and as users state it."""

    names: tuple[str, ...]
    description: str
    kind: str
    """A key of `copy_values.VALUES`, or `enum:a|b|c`, or `flag`."""
    zh_name: str
    says: tuple[str, ...]
    """Natural English clauses; a label and the value serve where there is none."""
    zh_says: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Phrases:
    """Everything that is said in a copy task except the values."""

    parameters: tuple[Wording, ...]
    texts: Mapping[tuple[str, Lang], tuple[str, ...]]
    """By part and language. No frame starts with a value: a capital letter would change it."""
    pairs: Mapping[tuple[str, Lang | None], tuple[tuple[str, str], ...]]
    """Verbs and nouns (English, Chinese); small talk (said, reply)."""


def load_phrases(path: Path) -> Phrases:
    """Read the table."""
    parameters: list[Wording] = []
    texts: dict[tuple[str, Lang], tuple[str, ...]] = {}
    pairs: dict[tuple[str, Lang | None], tuple[tuple[str, str], ...]] = {}
    for row in read_rows(path):
        if row["part"] == "parameter":
            parameters.append(_wording(row))
        elif "texts" in row:
            texts[row["part"], row["lang"]] = tuple(row["texts"])
        else:
            pairs[row["part"], row.get("lang")] = tuple((one, two) for one, two in row["pairs"])
    return Phrases(tuple(parameters), texts, pairs)


def _wording(row: Mapping[str, Any]) -> Wording:
    return Wording(
        names=tuple(row["names"]),
        description=row["description"],
        kind=row["kind"],
        zh_name=row["zh_name"],
        says=tuple(row["says"]),
        zh_says=tuple(row["zh_says"]),
    )
