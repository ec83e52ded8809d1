"""Whether calls are those that ACEBench wants: its match, and a strict one beside it.

In: function descriptions, a model's calls, the calls that are right. Out: why they do not match.
Must not know: models, or what answers without calls are worth.

`calls_match` gives the verdicts of the public scorer (chenchen0103/ACEBench@56dd66c), which is
lenient: numbers and truth values are checked for their type only, a string is right if it contains
the right one, an optional parameter may be left out. `exactly` is what a user would want.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

from openk2.evals.ast_match import Call, plain, tool_name
from openk2.evals.exact_match import same_calls

_TYPES: Mapping[str, type] = {
    "string": str, "integer": int, "float": float, "boolean": bool, "array": list, "object": dict,
    "number": int,
}  # fmt: skip

Gold = Mapping[str, Mapping[str, Any]]
"""Function name → arguments; a name that is called several times ends in `_1`, `_2`, …"""


def parameters_of(function: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a function's parameters, under whichever key the pack keeps them."""
    for key in ("parameters", "arguments", "_arguments"):
        if key in function:
            return function[key]
    return {}


def calls_match(functions: Sequence[Mapping[str, Any]], calls: Sequence[Call], gold: Gold) -> str:
    """Say why calls are not the right ones; "" if they are.

    Args:
        functions: Descriptions as the pack has them.
        calls: The model's, by the tools' names.
        gold: The right ones.
    """
    if len(calls) != len(gold):
        return f"{len(calls)} calls, not {len(gold)}"
    right = [(name, _base(name), arguments) for name, arguments in gold.items()]
    if Counter(name for name, _ in calls) != Counter(tool_name(base) for _, base, _ in right):
        return "other functions than the right ones"
    for name, base, arguments in right:
        function = next((one for one in functions if one["name"] in name), None)
        if function is None:
            return f"there is no function {name}"
        reasons = [
            _call_matches(function, call, arguments) for call in calls if call[0] == tool_name(base)
        ]
        if "" not in reasons:
            return "; ".join(reasons)
    return ""


def _base(name: str) -> str:
    return re.sub(r"_\d+$", "", name)


def _call_matches(function: Mapping[str, Any], call: Call, right: Mapping[str, Any]) -> str:
    name, arguments = call
    declared = parameters_of(function)
    if not arguments and not declared:
        return ""
    if not arguments or not declared:
        return "arguments where there are none to give, or none where there are"
    if right == declared["properties"]:
        return ""
    if not right:
        return "no arguments are right"
    if name != tool_name(function["name"]):
        return f"{name} is not {function['name']}"
    for parameter in declared["required"]:
        if parameter not in arguments:
            return f"{parameter} is missing"
    for parameter, value in arguments.items():
        if parameter not in declared["properties"] or parameter not in right:
            return f"{parameter} is not wanted"
        kind: Mapping[str, Any] = declared["properties"][parameter]
        if not _value_matches(value, right[parameter], kind):
            return f"{parameter}: {value!r} is not {right[parameter]!r}"
    return ""


def _value_matches(value: Any, right: Any, declared: Mapping[str, Any]) -> bool:
    kind: str = declared["type"]
    wanted, items = _TYPES[kind], _item_type(declared) if kind in ("array", "object") else None
    if kind == "float" and type(value) is int:
        value = float(value)
    typed = _typed(value, right, wanted, items)
    if not typed:  # of no right type, or of the right value's own: then the type is all that counts
        return typed is False
    if wanted is dict:
        return _entries_right(value, right)
    if wanted is list and items is dict:
        return len(value) == len(right) and all(
            _entries_right(item, one) for item, one in zip(value, right, strict=True)
        )
    if wanted is str:
        return plain(right) in plain(value)
    if wanted is list:
        return _plain_items(value) == _plain_items(right)
    return True


def _item_type(declared: Mapping[str, Any]) -> type:
    items = declared.get("items")
    named = cast(Mapping[str, Any], items).get("type") if isinstance(items, Mapping) else None
    return _TYPES.get(named, dict) if isinstance(named, str) else dict


def _typed(value: Any, right: Any, wanted: type, items: type | None) -> bool | None:
    """Tell whether a value has its declared type: None if not, False if the right value's own."""
    own = None if right == "" else cast(type[Any], type(right))
    value = {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value
    if type(value) is wanted:
        as_declared = own is None or own is wanted
        if items is None or any(_items_typed(value, one, items) for one in right):
            return as_declared
        return None
    return False if own is not None and (type(value) is own or right == value) else None


def _items_typed(value: Any, right: Any, items: type) -> bool:
    if not isinstance(right, list):
        return True
    return all(_typed(item, cast(list[Any], right), items, None) is not None for item in value)


def _entries_right(value: Any, right: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(right, dict):
        return False
    entries, wanted = cast(dict[str, Any], value), cast(dict[str, Any], right)
    return entries.keys() == wanted.keys() and all(
        _entry_right(entries[key], one) for key, one in wanted.items()
    )


def _entry_right(value: Any, right: Any) -> bool:
    value = {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value
    if isinstance(right, dict):
        return _entries_right(value, right)
    return str(_plain(right)) in str(_plain(value))


def _plain(value: Any) -> Any:
    return plain(value) if isinstance(value, str) else value


def _plain_items(value: Sequence[Any]) -> list[Any]:
    return [_plain(item) for item in value]


def exactly(calls: Sequence[Call], gold: Gold) -> bool:
    """Tell whether calls are the right ones with all arguments and no other, in any order."""
    right = [(tool_name(_base(name)), arguments) for name, arguments in gold.items()]
    return same_calls(calls, right)
