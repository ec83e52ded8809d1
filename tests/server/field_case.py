"""What a body with a field is compared with: the same body without it, or with another value."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """`where` in what is decoded is `expected` of `body`, and something else of `other`."""

    body: Json
    other: Json
    where: str
    """Attributes, keys and numbers from the request, or from its options; `refused` for a 400."""
    expected: object


def case(base: Json, way: str, value: object, where: str, expected: object) -> Case:
    """Compare `base` with itself after `value` was put where `way` leads."""
    changed = copy.deepcopy(base)
    *steps, last = [int(step) if step.isdigit() else step for step in way.split(".")]
    place: Any = changed
    for step in steps:
        place = place.setdefault(step, {}) if isinstance(step, str) else place[step]
    if isinstance(last, int) and last == len(place):
        place.append(value)
    else:
        place[last] = value
    return Case(changed, base, where, expected)


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
OTHER = {"type": "object", "properties": {"b": {"type": "string"}}}
