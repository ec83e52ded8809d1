"""What runs in the sandbox of an answer: it defines the function and answers calls of it.

In: a program as one line of JSON on standard input, then calls, one a line. Out: values as plain
data, one a line.
Must not know: the tests. They are in another sandbox, and see only what is written here.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import sys
from typing import Any, cast

MISSING = "opaque"
"""Stands for a value that is not plain data; it equals nothing."""


def plain(value: object, depth: int = 0) -> list[Any]:
    """Write a value as its kind and its content; an object of a foreign kind says nothing."""
    if depth > 100:
        return [MISSING]
    if value is None or isinstance(value, bool):
        return ["is", value]
    if isinstance(value, str):
        return ["is", str.__str__(value)]
    if isinstance(value, int):
        return ["int", hex(value)]  # decimal digits are limited in number
    if isinstance(value, float):
        return ["float", value.hex()]
    if isinstance(value, complex):
        return ["complex", value.real.hex(), value.imag.hex()]
    if isinstance(value, bytes):
        return ["bytes", value.hex()]
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            items = cast("list[object]", value)
            return [kind.__name__, [plain(item, depth + 1) for item in items]]
    if isinstance(value, dict):
        pairs = cast("dict[object, object]", value).items()
        return ["dict", [[plain(key, depth + 1), plain(item, depth + 1)] for key, item in pairs]]
    return [MISSING]


def main() -> None:
    """Keep the two streams for the protocol, and give the program empty ones."""
    calls, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)

    def say(line: object) -> None:
        answers.write(json.dumps(line) + "\n")
        answers.flush()

    say("ready")
    program = json.loads(calls.readline())
    sys.setrecursionlimit(5000)
    names: dict[str, Any] = {"__name__": "solution"}
    try:
        exec(compile(program["code"], "<solution>", "exec"), names)
        function = names[program["entry_point"]]
    except BaseException as error:  # noqa: BLE001 - SystemExit, too, is an answer that failed
        say({"error": type(error).__name__, "text": str(error)[:500]})
        return
    say("defined")
    for line in calls:
        arguments, named = pickle.loads(base64.b64decode(line))  # from our side
        try:
            said: dict[str, Any] = {"value": plain(function(*arguments, **named))}
        except BaseException as error:  # noqa: BLE001 - SystemExit, too, is one
            said = {"error": type(error).__name__, "text": str(error)[:500]}
        say(said)


if __name__ == "__main__":
    main()
