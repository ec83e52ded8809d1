"""What runs in the sandbox of the tests: it calls an answer that lives in another sandbox.

In: the task's prompt and tests as one line of JSON on standard input, then the values of calls.
Out: calls, one a line, and last the verdict.
Must not know: the answer's text. Its values come as plain data, so none can claim to equal another.
"""

from __future__ import annotations

import base64
import builtins
import json
import os
import pickle
import sys
from typing import Any


class Opaque:
    """A value that is not plain data."""


def rebuilt(value: list[Any]) -> Any:
    """Read what `code_candidate.plain` wrote."""
    match value:
        case ["is", content]:
            return content
        case ["int", digits]:
            return int(digits, 16)
        case ["float", digits]:
            return float.fromhex(digits)
        case ["complex", real, imaginary]:
            return complex(float.fromhex(real), float.fromhex(imaginary))
        case ["bytes", digits]:
            return bytes.fromhex(digits)
        case [("list" | "tuple" | "set" | "frozenset") as kind, items]:
            kinds: dict[str, Any] = {"list": list, "tuple": tuple, "set": set}
            return kinds.get(kind, frozenset)(rebuilt(item) for item in items)
        case ["dict", pairs]:
            return {rebuilt(key): rebuilt(item) for key, item in pairs}
        case _:
            return Opaque()


def main() -> None:
    """Run the tests against a stand-in that passes calls on."""
    replies, lines = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)

    def say(line: object) -> None:
        lines.write(json.dumps(line) + "\n")
        lines.flush()

    def candidate(*arguments: Any, **named: Any) -> Any:
        call = base64.b64encode(pickle.dumps((arguments, named))).decode()
        say({"call": call})
        reply = json.loads(replies.readline())
        if "error" not in reply:
            return rebuilt(reply["value"])
        kind = getattr(builtins, reply["error"], RuntimeError)
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            kind = RuntimeError
        raise kind(reply["text"])

    say("ready")
    task = json.loads(replies.readline())
    sys.setrecursionlimit(5000)
    names: dict[str, Any] = {"__name__": "tests"}
    try:
        exec(task["prompt"], names)  # some tests use what the prompt defines
        names[task["entry_point"]] = candidate
        exec(task["test"], names)
        names["check"](candidate)
    except BaseException as error:  # noqa: BLE001 - SystemExit, too, is an answer that failed
        say({"passed": False, "why": f"{type(error).__name__}: {error}"[:500]})
        return
    say({"passed": True, "why": ""})


if __name__ == "__main__":
    main()
