"""Searches the text files below one open folder; a program of its own, which may be killed.

In: an order as JSON on standard input, and the folder's descriptor. Out: one JSON object per line:
matches, then what was left out. Must not know: anything of the package, which it runs without.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import resource
import signal
import stat
import sys
from collections.abc import Iterator
from typing import Any

MEMORY = 1 << 30


class TooSlow(Exception):
    """The order's time is over."""


def main() -> None:
    """Carry out the order."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    order: dict[str, Any] = json.load(sys.stdin)
    folder = int(sys.argv[1])
    try:
        expression = re.compile(order["pattern"], order["flags"])
    except (re.error, RecursionError, OverflowError) as error:
        _say({"wrong": str(error)})
        return
    state: dict[str, Any] = {"large": 0, "in": ""}
    # Python's matcher looks for signals while it backtracks, so the clock stops it in the middle.
    signal.signal(signal.SIGALRM, _stop)
    signal.setitimer(signal.ITIMER_REAL, order["seconds"])
    try:
        matches = _matches(folder, order, expression, state)
        for count, match in enumerate(matches, start=1):
            if count > order["matches"]:
                _say({"more": True})
                break
            _say(match)
    except TooSlow:
        _say({"slow": state["in"]})
    _say({"large": state["large"]})


def _stop(number: int, frame: object) -> None:
    raise TooSlow


def _say(found: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


def _matches(
    folder: int, order: dict[str, Any], expression: re.Pattern[str], state: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    shown = "" if order["shown"] == "." else order["shown"]
    for path, descriptor in _files(folder, order["name"], shown, order):
        with os.fdopen(descriptor, "rb") as file:
            state["in"] = path
            if os.fstat(file.fileno()).st_size > order["file_bytes"]:
                state["large"] += 1
                continue
            data = file.read(order["file_bytes"])
        if b"\0" in data[:8192]:
            continue
        for number, line in enumerate(data.decode("utf-8", errors="replace").split("\n"), start=1):
            found = expression.search(line)
            if found:
                text = _around(line, found.start(), order["line_characters"])
                yield {"path": path, "line": number, "text": text}


def _around(line: str, at: int, most: int) -> str:
    begin = max(0, at - most // 3) if len(line) > most else 0
    cut = line[begin : begin + most].rstrip("\r")
    return ("…" if begin else "") + cut + ("…" if begin + most < len(line) else "")


def _files(folder: int, name: str, shown: str, order: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield paths and open descriptors of regular files; no link is ever followed."""
    try:
        kind = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        if stat.S_ISREG(kind):
            if fnmatch.fnmatchcase(os.path.basename(shown), order["glob"]):  # noqa: PTH119
                yield shown, os.open(name, flags, dir_fd=folder)
            return
        if not stat.S_ISDIR(kind):
            return
        inner = os.open(name, flags | os.O_DIRECTORY, dir_fd=folder)
    except OSError:  # gone meanwhile, or not ours to read: it has no matches for us
        return
    try:
        for entry in sorted(os.listdir(inner)):  # noqa: PTH208
            if not any(fnmatch.fnmatchcase(entry, pattern) for pattern in order["ignore"]):
                yield from _files(inner, entry, f"{shown}/{entry}" if shown else entry, order)
    finally:
        os.close(inner)


if __name__ == "__main__":
    main()
