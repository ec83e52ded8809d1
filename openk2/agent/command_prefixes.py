"""Programs that start other programs: where in their words the other one begins.

In: the words of a command. Out: the words, or the shell text, that it would start.
Must not know: how shell text is parsed, or what is allowed.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass

from openk2.agent.shell_words import UNKNOWN


@dataclass(frozen=True, slots=True)
class Inner:
    """What a command starts."""

    commands: tuple[tuple[str, ...], ...] = ()
    text: str | None = None
    """Shell text; may hold UNKNOWN."""
    environment: tuple[str, ...] = ()
    transparent: bool = False
    """The command is harmless in itself: what it starts is all that matters."""
    opaque: str = ""
    """Why it cannot be told what it starts."""


@dataclass(frozen=True, slots=True)
class _Prefix:
    """The options of a program that come before the program it starts."""

    flags: str = ""
    """Letters of options without a value."""
    valued: str = ""
    """Letters of options with a value."""
    long_flags: tuple[str, ...] = ()
    long_valued: tuple[str, ...] = ()
    operands: int = 0
    """Words between the options and the program."""
    assignments: bool = False
    """NAME=VALUE may come before the program."""
    transparent: bool = True


_PREFIXES = {
    "builtin": _Prefix(),
    "command": _Prefix("pvV"),
    "coproc": _Prefix(),
    "exec": _Prefix("cl", "a"),
    "nohup": _Prefix(),
    "time": _Prefix("pvaq", "fo", ("--verbose", "--portability"), ("--format", "--output")),
    "nice": _Prefix("0123456789", "n", (), ("--adjustment",)),
    "ionice": _Prefix("t", "cn", ("--ignore",), ("--class", "--classdata")),
    "timeout": _Prefix(
        "vpf",
        "ks",
        ("--foreground", "--preserve-status", "--verbose"),
        ("--kill-after", "--signal"),
        operands=1,
    ),
    "stdbuf": _Prefix("", "ioe", (), ("--input", "--output", "--error")),
    "setsid": _Prefix("cfw", "", ("--ctty", "--fork", "--wait")),
    "env": _Prefix(
        "i0v",
        "uC",
        ("--ignore-environment", "--null", "--debug"),
        ("--unset", "--chdir"),
        assignments=True,
    ),
    "xargs": _Prefix(
        "0rtpxo",
        "aEIsnPLd",
        ("--null", "--no-run-if-empty", "--verbose", "--exit", "--interactive", "--open-tty"),
        ("--arg-file", "--max-args", "--max-procs", "--max-lines", "--delimiter", "--max-chars"),
    ),
    "sudo": _Prefix(
        "AbEHKknPS",
        "CDgpRrTtUu",
        ("--background", "--preserve-env", "--non-interactive", "--stdin", "--set-home"),
        ("--user", "--group", "--chdir", "--host", "--prompt"),
        assignments=True,
        transparent=False,
    ),
    "doas": _Prefix("Lns", "Cu", transparent=False),
    "chroot": _Prefix("", "", (), ("--userspec", "--groups"), operands=1, transparent=False),
    "flock": _Prefix("esxnuoF", "wEc", operands=1, transparent=False),
    "busybox": _Prefix(transparent=False),
    "toybox": _Prefix(transparent=False),
    "strace": _Prefix("fqvtTCc", "eopsuE", transparent=False),
    "catchsegv": _Prefix(transparent=False),
}

_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "mksh", "ash", "rbash", "fish"})
_UNSEEN = {
    "source": "it runs a file whose text is not seen",
    ".": "it runs a file whose text is not seen",
    "alias": "it changes what later words run",
    "hash": "it changes what later words run",
    "enable": "it changes what later words run",
    "shopt": "it changes how the shell reads the rest",
    "parallel": "it starts programs that cannot be told",
    "watch": "it starts programs that cannot be told",
    "script": "it starts programs that cannot be told",
    "su": "it starts programs that cannot be told",
    "unshare": "it starts programs that cannot be told",
    "nsenter": "it starts programs that cannot be told",
    "let": "it calculates with variables, whose values may hold commands",
}


def look_into(words: Sequence[str], stdin: str = "") -> Inner | None:
    """Tell what a command starts besides itself; None: nothing that is known here.

    Args:
        words: The program and its arguments.
        stdin: Text that the command reads; empty where it is not in the script.
    """
    if not words or words[0] == UNKNOWN:
        return None
    name, rest = posixpath.basename(words[0]), tuple(words[1:])
    if UNKNOWN in name:
        return Inner(opaque="the program's name is only known when it runs")
    if name in _SHELLS:
        return _shell(rest, stdin)
    if name == "eval":
        return Inner(text=" ".join(rest), transparent=True)
    if name == "trap":
        operands = [word for word in rest if word not in ("--", "-")]
        return Inner(text=operands[0], transparent=True) if operands else None
    if name == "find":
        return _find(rest)
    if name in _UNSEEN:
        return Inner(opaque=_UNSEEN[name])
    prefix = _PREFIXES.get(name)
    return _started(name, prefix, rest) if prefix and rest else None


def _started(name: str, prefix: _Prefix, words: tuple[str, ...]) -> Inner:
    at = _after_options(prefix, words)
    if at is None or any(UNKNOWN in word for word in words[:at]):
        return Inner(opaque=f"the options of `{name}` do not tell what it starts")
    options, program = words[:at], words[at + prefix.operands :]
    environment: list[str] = []
    while prefix.assignments and program and (found := re.match(r"(\w+)=", program[0])):
        environment.append(found[1])
        program = program[1:]
    if name == "xargs" and program:
        program = (*_with_holes(program, options), UNKNOWN)
    inner = (program,) if program else ()
    return Inner(inner, environment=tuple(environment), transparent=prefix.transparent)


def _after_options(prefix: _Prefix, words: Sequence[str]) -> int | None:
    """Find the first word that is no option; None where an option is not known."""
    at = 0
    while at < len(words) and words[at].startswith("-") and words[at] != "-":
        word = words[at]
        if word == "--":
            return at + 1
        size = _long(prefix, word) if word.startswith("--") else _short(prefix, word)
        if size is None:
            return None
        at += size
    return at


def _long(prefix: _Prefix, word: str) -> int | None:
    name, equals, _ = word.partition("=")
    if name in prefix.long_valued:
        return 1 if equals else 2
    return 1 if name in prefix.long_flags else None


def _short(prefix: _Prefix, word: str) -> int | None:
    for place, letter in enumerate(word[1:], start=1):
        if letter in prefix.valued:
            return 2 if place == len(word) - 1 else 1
        if letter not in prefix.flags:
            return None
    return 1


def _with_holes(program: Sequence[str], options: Sequence[str]) -> list[str]:
    holes = ["{}"]
    for place, word in enumerate(options):
        if word == "-I" and place + 1 < len(options):
            holes.append(options[place + 1])
        elif word.startswith("-I"):
            holes.append(word[2:])
    return [_filled(word, holes) for word in program]


def _filled(word: str, holes: Sequence[str]) -> str:
    for hole in holes:
        if hole:
            word = word.replace(hole, UNKNOWN)
    return word


def _shell(words: Sequence[str], stdin: str) -> Inner:
    at = 0
    reads_text = False
    while at < len(words) and words[at][:1] in ("-", "+") and len(words[at]) > 1:
        word = words[at]
        at += 1
        if word in ("--version", "--help"):
            return Inner(transparent=True)
        if word in ("--rcfile", "--init-file") or UNKNOWN in word:
            return Inner(opaque="the options of the shell do not tell what it runs")
        if word == "--":
            break
        if not word.startswith("--"):
            reads_text = reads_text or "c" in word
            at += word.count("o") + word.count("O")
    if at < len(words):
        if reads_text:
            return Inner(text=words[at], transparent=True)
        return Inner(opaque="it runs a file whose text is not seen")
    if stdin:
        return Inner(text=stdin, transparent=True)
    return Inner(opaque="the shell runs what it reads, which is not seen")


def _find(words: Sequence[str]) -> Inner | None:
    commands: list[tuple[str, ...]] = []
    at = 0
    while at < len(words):
        if words[at] in ("-exec", "-execdir", "-ok", "-okdir"):
            end = at + 1
            while end < len(words) and words[end] not in (";", "+"):
                end += 1
            commands.append(tuple(_filled(word, ["{}"]) for word in words[at + 1 : end]))
            at = end
        at += 1
    return Inner(tuple(command for command in commands if command)) if commands else None
