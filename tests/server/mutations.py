"""Valid bodies with parts replaced, deleted, nested, doubled, exchanged or of another type."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from tests.server.fuzz_bodies import BODIES

Json = dict[str, Any]
Path = tuple[Any, ...]

_DEEP: Any = "leaf"
for _ in range(60):
    _DEEP = [_DEEP]

NUMBERS = {"@long": "9" * 4000, "@huge": "1e999", "@nan": "NaN", "@tiny": "1e-999"}
"""Numbers that Python does not write, and the texts that stand for them here."""

JUNK: list[Any] = [
    *NUMBERS,
    *(None, True, False, 0, 1, -1, 2, 0.5, -0.0, 1e308, 1e-320, 2**31, 2**63, 2**64, 10**40),
    *("", " ", "\x00", "a" * 3000, "nano", "auto", "none", "required", "assistant", "tool"),
    *(
        "你好 🙂",
        "<|im_end|>",
        "<|tool_call_begin|>",
        "<think>",
        "functions.read:0",
        "{}",
        "[]",
        "{",
    ),
    *("\u202e", "1", "true", "%s", "../..", "\ud7ff", "e\u0301", "$web_search", "text", "function"),
    *([], {}, [[]], [None], [0], [""], {"": ""}, {"type": "text"}, {"type": None}, {"$ref": "#"}),
    *({"type": "object"}, {"type": "text", "text": ""}, _DEEP, [1] * 300, {"a": {"b": {"c": 0}}}),
    *({str(i): i for i in range(40)}, {"role": "user", "content": "x"}, {"anyOf": []}),
    *(
        {"type": "json_object"},
        {"pattern": "("},
        {"enum": []},
        {"const": 1e400 * 0 + 5},
        {"not": {}},
    ),
    *({"minLength": 10**9, "type": "string"}, {"type": "array", "minItems": 10**9}, {"type": 5}),
]


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the path of everything in `value`, itself first."""
    yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(item, (*path, index))


def at(value: Any, path: Path) -> Any:
    for step in path:
        value = value[step]
    return value


_EVERYWHERE = [at(body, place) for _, body in BODIES for place in places(body)]
_OF_TYPE = {
    kind: [value for value in (*_EVERYWHERE, *JUNK) if type(value) is kind]
    for kind in (str, int, float, bool, list, dict, type(None))
}
_KINDS = ("junk", "theirs", "own", "delete", "double", "nest", "retype", "alike", "alike", "alike")


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, Json]:
    """Draw a route and a body for it, with one to four parts of it changed."""
    url, valid = draw(st.sampled_from(BODIES))
    body: Any = copy.deepcopy(valid)
    for _ in range(draw(st.sampled_from((1, 1, 1, 1, 2, 2, 3, 4)))):
        found = list(places(body))
        path = found[draw(st.integers(1, max(1, len(found) - 1)))] if len(found) > 1 else ()
        if not path:
            break
        _change(draw, body, path)
    return url, body


def _change(draw: st.DrawFn, body: Any, path: Path) -> None:
    holder, key = at(body, path[:-1]), path[-1]
    match draw(st.sampled_from(_KINDS)):
        case "junk":
            holder[key] = copy.deepcopy(draw(st.sampled_from(JUNK)))
        case "theirs":
            holder[key] = copy.deepcopy(draw(st.sampled_from(_EVERYWHERE)))
        case "alike":
            holder[key] = copy.deepcopy(draw(st.sampled_from(_OF_TYPE[type(holder[key])])))
        case "own":
            other = draw(st.sampled_from(list(places(body))))
            holder[key] = copy.deepcopy(at(body, other))
        case "delete":
            del holder[key]
        case "double" if isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        case "double":
            holder[draw(st.sampled_from([*holder, f"{key}2"]))] = copy.deepcopy(holder[key])
        case "nest":
            value = holder[key]
            holder[key] = draw(st.sampled_from(([value], {key: value}, {"text": value}, [[value]])))
        case _:
            holder[key] = _retyped(holder[key])


def _retyped(value: Any) -> Any:
    if isinstance(value, bool | None):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str):
        return [value] if not value.isdecimal() else int(value)
    if isinstance(value, list):
        return {str(i): item for i, item in enumerate(value)}
    return json.dumps(value) if len(value) != 1 else list(value.values())
