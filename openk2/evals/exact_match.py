"""Whether two rows of calls are the same, and how much of one is in the other.

In: calls as names and arguments. Out: yes or no; shares.
Must not know: benchmarks, models.

Strings are compared without case, spaces and ``,./-_*^``; truth values are no numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from openk2.evals.ast_match import Call, plain


def same_calls(calls: Sequence[Call], gold: Sequence[Call]) -> bool:
    """Tell whether calls are the right ones with all arguments and no other, in any order."""
    left = [_normal_call(call) for call in calls]
    for call in map(_normal_call, gold):
        if call not in left:
            return False
        left.remove(call)
    return not left


def overlap(found: Iterable[Any], gold: Iterable[Any]) -> tuple[int, int, int]:
    """Count what is in both, only found, and only right; each counts as often as it stands."""
    ours, right = Counter(found), Counter(gold)
    both = (ours & right).total()
    return both, ours.total() - both, right.total() - both


def entries(calls: Sequence[Call]) -> list[str]:
    """Return one string for each argument of each call, for `overlap`."""
    return [
        f"{name}.{parameter}={normal(value)!r}"
        for name, arguments in calls
        for parameter, value in arguments.items()
    ]


def _normal_call(call: Call) -> tuple[str, Any]:
    return call[0], normal(call[1])


def normal(value: Any) -> Any:
    """Return a value as it is compared."""
    match value:
        case str():
            return plain(value)
        case Mapping():
            table = cast(Mapping[str, Any], value)
            return {key: normal(table[key]) for key in sorted(table)}
        case list() | tuple():
            return [normal(item) for item in cast(Sequence[Any], value)]
        case bool():
            return ("truth", value)
        case _:
            return value
