"""Whether a rule's pattern fits a command, a path, a host or a name.

In: a pattern in which `*` stands for any text, and what it is held against, parts of which may be
unknown. Out: yes, no, or maybe. Must not know: verdicts.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

from openk2.agent.commands import Command
from openk2.agent.shell_words import UNKNOWN

Match = Literal["yes", "maybe", "no"]

_ANY = "any"
_BREAK = "break"
"""Neither is one character long: they cannot be confused with a letter."""


def command_match(pattern: str, command: Command, *, strict: bool) -> Match:
    """Hold a pattern such as `git push*` against one command.

    Args:
        pattern: Words; `*` stands for any text, further words included; at the end also for none.
        command: One part of a script.
        strict: The program must be written as in the pattern. Otherwise `/bin/rm -fr x` is
            `rm -r -f x`: its folder and the order of its short options do not matter.
    """
    words = command.words
    if not words:
        return "no"
    best = _held(_tokens(pattern), words)
    if best == "yes" or strict:
        return best
    named = (posixpath.basename(words[0]) or words[0], *words[1:])
    return max(best, _held(_tokens(pattern), named), _unordered(pattern, named), key=_RANK.index)


_RANK: list[Match] = ["no", "maybe", "yes"]


def _unordered(pattern: str, words: Sequence[str]) -> Match:
    """Compare the letters of short options by themselves, the other words without them."""
    wanted = [word for word in pattern.split() if re.fullmatch(r"-[A-Za-z]{1,3}", word)]
    if not wanted:
        return "no"
    letters = set("".join(wanted)) - {"-"}
    rest = " ".join(word for word in pattern.split() if word not in wanted)
    found: set[str] = set()
    others: list[str] = []
    unknown = False
    for word in words:
        if re.fullmatch(r"-[A-Za-z]+", word):
            found |= set(word) - {"-"}
        elif word in _LONG:
            found.add(_LONG[word])
        else:
            unknown = unknown or UNKNOWN in word
            others.append(word)
    held = _held(_tokens(rest), others)
    if letters <= found or {letter.lower() for letter in letters} <= {x.lower() for x in found}:
        return held
    return "maybe" if unknown and held != "no" else "no"


_LONG = {"--recursive": "r", "--force": "f", "--delete": "d", "--all": "a"}
"""Long forms of the short options that rules are written about."""


def _tokens(pattern: str) -> list[str]:
    tokens: list[str] = []
    for word in pattern.split():
        tokens += [_BREAK] if tokens else []
        tokens += _stars(word)
    return tokens


def _stars(text: str) -> list[str]:
    found = re.findall(r"\\[*\\]|\*+|.", text, re.DOTALL)
    return [_ANY if piece[0] == "*" else piece[-1] for piece in found]


def _held(pattern: list[str], words: Sequence[str]) -> Match:
    text: list[str] = []
    for place, word in enumerate(words):
        text += [_BREAK, *word] if place else [*word]
    endings = [pattern]
    if pattern[-2:] == [_BREAK, _ANY]:
        endings.append(pattern[:-2])
    if any(_covers(ending, text) for ending in endings):
        return "yes"
    if any(UNKNOWN in word for word in words):
        loose = [_ANY if token == UNKNOWN else token for token in text]
        return "maybe" if any(_meet(ending, loose) for ending in endings) else "no"
    return "no"


def _covers(pattern: Sequence[str], text: Sequence[str]) -> bool:
    """Whether the pattern fits whatever the unknown parts of the text turn out to be."""
    at, star, mark, place = 0, -1, 0, 0
    while place < len(text):
        if at < len(pattern) and pattern[at] == _ANY:
            star, mark = at, place
            at += 1
        elif at < len(pattern) and pattern[at] == text[place]:
            at += 1
            place += 1
        elif star >= 0:
            mark += 1
            at, place = star + 1, mark
        else:
            return False
    return all(token == _ANY for token in pattern[at:])


def _meet(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether there is a text that fits both."""
    reached = {0}
    for token in [*one, ""]:
        reached = _skipped(other, reached)
        if token == "":
            return len(other) in reached
        if token == _ANY:
            reached = set(range(min(reached, default=len(other) + 1), len(other) + 1))
            continue
        step: set[int] = set()
        for place in reached:
            if place < len(other) and other[place] == _ANY:
                step.add(place)
            elif place < len(other) and other[place] == token:
                step.add(place + 1)
        reached = step
    return False


def _skipped(other: Sequence[str], reached: set[int]) -> set[int]:
    found = set(reached)
    for place in sorted(reached):
        at = place
        while at < len(other) and other[at] == _ANY:
            at += 1
            found.add(at)
    return found


def name_matches(pattern: str, name: str) -> bool:
    """Hold a pattern against the name of a tool."""
    return _covers(_stars(pattern), [*name])


def host_matches(pattern: str, host: str) -> bool:
    """Hold a pattern against a host; `*.example.org` is also example.org itself."""
    pattern, host = pattern.lower(), host.lower()
    if host == "*":
        return pattern in ("*", "\\*")
    return host == pattern.removeprefix("*.") or _covers(_stars(pattern), [*host])


def path_matches(pattern: str, path: Path, workspace: Path) -> bool:
    """Hold a pattern against an absolute path; a folder's pattern is also all that is in it.

    A relative pattern that leads out of the workspace, such as `../**`, is about what is outside.
    """
    if pattern.startswith("../") and path.is_relative_to(workspace):
        return False
    return _path_expression(_absolute(pattern, workspace)).fullmatch(str(path)) is not None


def may_name(pattern: str, path: Path, workspace: Path) -> bool:
    """Whether a path that is known in parts only could match the pattern."""
    wanted = _stars(_absolute(pattern, workspace).replace("**/", "*"))
    text = [_ANY if letter == UNKNOWN else letter for letter in str(path)]
    return _meet(wanted, text) or _meet([*wanted, "/", _ANY], text)


def _absolute(pattern: str, workspace: Path) -> str:
    if pattern.startswith("**"):
        return f"/{pattern}"
    return posixpath.normpath(workspace / Path(pattern).expanduser())


@lru_cache(maxsize=256)
def _path_expression(pattern: str) -> re.Pattern[str]:
    pieces: list[str] = []
    for piece in re.findall(r"\\[*\\]|\*\*/|\*+|.", pattern, re.DOTALL):
        if piece == "**/":
            pieces.append("(?:.*/)?")
        elif piece[0] == "*":
            pieces.append("[^/]*" if piece == "*" else ".*")
        else:
            pieces.append(re.escape(piece[-1]))
    return re.compile("".join(pieces) + "(?:/.*)?", re.DOTALL)
