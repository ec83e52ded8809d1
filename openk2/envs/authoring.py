"""Short forms for authors of domains: facts named after their kinds, filters that may be left out.

In: values. Out: facts, truth. Must not know: any domain.
"""

from __future__ import annotations

from openk2.envs.domain import Fact
from openk2.envs.slots import Json


def told(**values: Json) -> dict[str, Fact]:
    """Return facts whose names are their kinds; a value may be a `Fact` of another kind."""
    return {
        kind: value if isinstance(value, Fact) else Fact(kind, value)
        for kind, value in values.items()
    }


def has(part: str | None, text: str) -> bool:
    """Tell whether a text contains words, whatever their case; None asks for nothing."""
    return part is None or part.lower() in text.lower()


def same(wanted: Json, value: Json) -> bool:
    """Tell whether a value is the one that is wanted; None asks for nothing."""
    return wanted is None or wanted == value
