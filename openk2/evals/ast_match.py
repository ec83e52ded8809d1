"""Whether calls are those that BFCL wants: its match of names, parameters, types and values.

In: function descriptions, a model's calls, the calls that are right. Out: why they do not match.
Must not know: models, tools' results.

The rules are those of the public scorer (`bfcl-eval` 2026.3.23), and a test holds both to the same
verdicts. A right value is one of a list; "" in it lets the parameter be left out. Strings are
compared without case, spaces and ``,./-_*^``. A right value of another type than the declared one
is the name of a variable: then the value must equal it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from openk2.evals.source_values import java_value, javascript_value

Language = Literal["python", "java", "javascript"]
Call = tuple[str, Mapping[str, Any]]
"""Name and arguments."""

_PYTHON: Mapping[str, type] = {
    "string": str, "integer": int, "float": float, "boolean": bool, "array": list, "tuple": list,
    "dict": dict, "any": str,
}  # fmt: skip
_JAVA: Mapping[str, type] = {
    "byte": int, "short": int, "integer": int, "float": float, "double": float, "long": int,
    "boolean": bool, "char": str, "Array": list, "ArrayList": list, "HashMap": dict, "String": str,
    "any": str,
}  # fmt: skip
_JAVASCRIPT: Mapping[str, type] = {
    "String": str, "integer": int, "float": float, "Bigint": int, "Boolean": bool, "dict": dict,
    "array": list, "any": str,
}  # fmt: skip
_TYPES: Mapping[Language, Mapping[str, type]] = {
    "python": _PYTHON, "java": _JAVA, "javascript": _JAVASCRIPT,
}  # fmt: skip
_LISTS: Mapping[Language, frozenset[str]] = {
    "python": frozenset(("array", "tuple")),
    "java": frozenset(("Array", "ArrayList")),
    "javascript": frozenset(("array",)),
}


def tool_name(name: str) -> str:
    """Return a function's name as tools may be called: without dots."""
    return name.replace(".", "_")


def calls_match(
    functions: Sequence[Mapping[str, Any]],
    calls: Sequence[Call],
    gold: Sequence[Mapping[str, Mapping[str, Any]]],
    language: Language = "python",
) -> str:
    """Say why calls are not the right ones, in any order; "" if they are.

    Args:
        functions: Descriptions as the pack has them.
        calls: The model's, by the tools' names.
        gold: For each right call, its function's name → parameter → the values that are right.
        language: Of the functions.
    """
    if len(calls) != len(gold):
        return f"{len(calls)} calls, not {len(gold)}"
    left = list(calls)
    for right in gold:
        (name, values), *_ = right.items()
        function = next(one for one in functions if one["name"] == name)
        reasons = [call_matches(function, call, values, language) for call in left]
        if "" not in reasons:
            return reasons[0] if len(reasons) == 1 else f"no call of {name}: {'; '.join(reasons)}"
        del left[reasons.index("")]  # the first that matches, as the public scorer does
    return ""


def call_matches(
    function: Mapping[str, Any], call: Call, values: Mapping[str, Any], language: Language
) -> str:
    """Say why a call is not the right one; "" if it is.

    Args:
        function: Its description.
        call: The model's.
        values: Parameter → the values that are right.
        language: Of the function.
    """
    name, arguments = call
    if name != tool_name(function["name"]):
        return f"{name} is not {tool_name(function['name'])}"
    declared = function["parameters"]["properties"]
    for parameter in function["parameters"]["required"]:
        if parameter not in arguments:
            return f"{parameter} is missing"
    for parameter, value in arguments.items():
        if parameter not in declared or parameter not in values:
            return f"{parameter} is not wanted"
        if reason := _value_matches(value, values[parameter], declared[parameter], language):
            return f"{parameter}: {reason}"
    for parameter, allowed in values.items():
        if parameter not in arguments and "" not in allowed:
            return f"{parameter} is missing"
    return ""


def _value_matches(
    value: Any, allowed: Sequence[Any], declared: Mapping[str, Any], language: Language
) -> str:
    kind: str = declared["type"]
    wanted, items = _TYPES[language][kind], None
    if kind in _LISTS[language]:
        items = cast(str, declared["items"]["type"])
    if language != "python":
        if not isinstance(value, str):
            return f"{value!r} is not source in a string"
        read = java_value if language == "java" else javascript_value
        value = read(value, kind, items)
    elif kind == "float" and type(value) is int:
        value = float(value)
    item_type = None if items is None else _TYPES[language][items]
    typed = _typed(value, allowed, wanted, item_type)
    if typed is None:
        return f"{value!r} is not of type {kind}"
    if not typed:  # a variable's name
        right = value in allowed
    elif wanted is dict:
        right = _object_right(value, allowed)
    elif wanted is list and item_type is dict:
        right = _objects_right(value, allowed)
    elif wanted is str:
        right = plain(value) in [plain(one) for one in allowed if isinstance(one, str)]
    elif wanted is list:
        right = _plain_items(value) in [_plain_items(one) for one in allowed]
    else:
        right = value in allowed
    return "" if right else f"{value!r} is none of {allowed!r}"


def _typed(value: Any, allowed: Sequence[Any], wanted: type, items: type | None) -> bool | None:
    """Tell whether a value is of its declared type: None if not, False if it is a variable's."""
    kinds: list[type[Any]] = [type(one) for one in allowed if one != ""]
    first = kinds[0] if kinds else None
    if type(value) is not wanted:
        return False if type(value) is first else None
    plain_type = first is None or first is wanted
    if items is None or any(_items_typed(value, one, items) for one in allowed):
        return plain_type
    return None


def _items_typed(value: Sequence[Any], allowed: Any, items: type) -> bool:
    # A right value that is no list, such as "", says nothing about items.
    if not isinstance(allowed, list):
        return True
    options = cast(list[Any], allowed)
    return all(_typed(item, options, items, None) is not None for item in value)


def plain(text: str) -> str:
    """Return a string as it is compared."""
    return re.sub(r"[ \,\.\/\-\_\*\^]", "", text).lower().replace("'", '"')


def _plain(value: Any) -> Any:
    return plain(value) if isinstance(value, str) else value


def _plain_items(value: Sequence[Any]) -> list[Any]:
    return [_plain(item) for item in value]


def _object_right(value: Any, allowed: Sequence[Any]) -> bool:
    return any(one != "" and _entries_right(value, one) for one in allowed)


def _entries_right(value: Any, right: Mapping[str, Sequence[Any]]) -> bool:
    if not isinstance(value, dict):
        return False
    entries = cast(dict[str, Any], value)
    return all(
        key in right and _plain(item) in _plain_items(right[key]) for key, item in entries.items()
    ) and all(key in entries or "" in options for key, options in right.items())


def _objects_right(value: Sequence[Any], allowed: Sequence[Any]) -> bool:
    return any(
        len(value) == len(one)
        and all(_object_right(item, [right]) for item, right in zip(value, one, strict=True))
        for one in allowed
    )
