"""`read_file`, `write_file`, `edit_file`: the text files of the workspace.

In: a path and what to do there. Out: numbered lines, or what was changed.
Must not know: who asks, or where else files could be.
"""

from __future__ import annotations

import asyncio
import difflib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openk2.agent.tool import Access, Call, Tool, ToolError, ToolResult
from openk2.agent.tools.confined import Place, absolute, missing, reach
from openk2.agent.tools.kinds import describe_binary
from openk2.types import ToolSpec


@dataclass(frozen=True, slots=True)
class FileSettings:
    """How much of a file is shown or changed at once."""

    lines: int = 2_000
    """Most lines that one reading shows."""
    characters: int = 60_000
    """Most characters that one reading shows; about 15,000 tokens."""
    line_characters: int = 2_000
    """Longer lines are cut: nobody wrote them."""
    edit_bytes: int = 10_000_000
    """Largest file that can be edited."""


_PATH = {"type": "string", "minLength": 1, "description": "Path in the workspace."}


def read_file(settings: FileSettings | None = None) -> Tool:
    """Return the tool that shows a text file with numbered lines."""
    limits = settings or FileSettings()

    def read(arguments: Mapping[str, Any], call: Call) -> ToolResult:
        with reach(call.workspace, arguments["path"]) as place:
            _must_exist(place, arguments["path"])
            with os.fdopen(place.open_file(), "rb") as file:
                kind = describe_binary(file.read(8192), os.fstat(file.fileno()).st_size)
                if kind:
                    raise ToolError(f"`{place.shown}` is {kind}")
                file.seek(0)
                start = arguments.get("start", 1)
                most = min(arguments.get("lines", limits.lines), limits.lines)
                return _numbered(_lines(file, limits), place.shown, start, most, limits)

    spec = ToolSpec(
        "read_file",
        "Read a text file of the workspace. Lines come numbered; a long file comes in parts, and "
        "the last line says how to go on.",
        {
            "type": "object",
            "properties": {
                "path": _PATH,
                "start": {"type": "integer", "minimum": 1, "description": "First line to show."},
                "lines": {"type": "integer", "minimum": 1, "description": "How many lines."},
            },
            "required": ["path"],
            "additionalProperties": False,
        },
    )
    return Tool(
        spec=spec,
        run=lambda arguments, call: asyncio.to_thread(read, arguments, call),
        writes=False,
        access=lambda arguments, workspace: Access(reads=absolute(workspace, arguments["path"])),
    )


def _must_exist(place: Place, asked: str) -> None:
    if place.status() is None:
        above = place.shown.rpartition("/")[0]
        raise ToolError(missing(asked, place.folder, above, place.name))


def _lines(file: Any, limits: FileSettings) -> Iterator[str]:
    """Read line by line, each no longer than is shown: a file can be one line of gigabytes."""
    most = 4 * limits.line_characters
    while piece := file.readline(most):
        cut = len(piece) == most and not piece.endswith(b"\n")
        rest = piece
        while cut and rest and not rest.endswith(b"\n"):
            rest = file.readline(1 << 20)
        text = piece.decode("utf-8", errors="replace").rstrip("\r\n")
        if cut or len(text) > limits.line_characters:
            text = f"{text[: limits.line_characters]}… [line cut]"
        yield text


def _numbered(
    lines: Iterator[str], shown: str, start: int, most: int, limits: FileSettings
) -> ToolResult:
    kept: list[str] = []
    room = limits.characters
    number = 0
    for number, line in enumerate(lines, start=1):
        if number < start:
            continue
        if len(kept) == most or (kept and room < len(line) + 8):
            total = number + sum(1 for _ in lines)
            last = start + len(kept) - 1
            kept.append(f"[lines {start} to {last} of {total}: go on with start={last + 1}]")
            break
        kept.append(f"{number:>6}\t{line}")
        room -= len(line) + 8
    if number == 0:
        return ToolResult(f"`{shown}` is empty.")
    if not kept:
        raise ToolError(f"`{shown}` has {number} lines only: start earlier.", "bad_arguments")
    return ToolResult("\n".join(kept))


def write_file() -> Tool:
    """Return the tool that puts a whole file in place."""

    def write(arguments: Mapping[str, Any], call: Call) -> ToolResult:
        content = _encoded(arguments["content"])
        with reach(call.workspace, arguments["path"], create=True) as place:
            before = place.status()
            if arguments.get("append") and before is not None:
                with os.fdopen(place.open_file(), "rb") as file:
                    content = file.read() + content
            place.write(content)
            done = "Wrote" if before is None else "Replaced"
            done = "Appended to" if arguments.get("append") and before is not None else done
            lines = content.count(b"\n") + (not content.endswith(b"\n") and bool(content))
            text = f"{done} `{place.shown}`: now {lines} lines, {len(content):,} bytes."
            return ToolResult(text, artifacts=(call.workspace / place.shown,))

    spec = ToolSpec(
        "write_file",
        "Write a whole text file in the workspace; folders are made, an older file is replaced. "
        "To change a part of a file use edit_file.",
        {
            "type": "object",
            "properties": {
                "path": _PATH,
                "content": {"type": "string", "description": "The text of the file."},
                "append": {"type": "boolean", "description": "Add to the end instead."},
            },
            "required": ["path", "content"],
            "additionalProperties": False,
        },
    )
    return Tool(
        spec=spec,
        run=lambda arguments, call: asyncio.to_thread(write, arguments, call),
        access=lambda arguments, workspace: Access(writes=absolute(workspace, arguments["path"])),
    )


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ToolError(
            f"The text has half a character at {error.start}: write it whole.", "bad_arguments"
        ) from error


def edit_file(settings: FileSettings | None = None) -> Tool:
    """Return the tool that replaces one passage of a file."""
    limits = settings or FileSettings()

    def edit(arguments: Mapping[str, Any], call: Call) -> ToolResult:
        with reach(call.workspace, arguments["path"]) as place:
            _must_exist(place, arguments["path"])
            with os.fdopen(place.open_file(), "rb") as file:
                data = file.read(limits.edit_bytes + 1)
            before = _decoded(data, place.shown, limits)
            after = _replaced(before, arguments, place.shown)
            place.write(_encoded(after))
            changes = _changes(before, after)
            text = f"Changed `{place.shown}`:\n{changes}"
            return ToolResult(text, artifacts=(call.workspace / place.shown,))

    spec = ToolSpec(
        "edit_file",
        "Replace one passage of a text file by another. `old` must be in the file exactly once, "
        "blanks and line ends included: take enough lines around it. You get the changed lines.",
        {
            "type": "object",
            "properties": {
                "path": _PATH,
                "old": {"type": "string", "minLength": 1, "description": "The text to replace."},
                "new": {"type": "string", "description": "What to put in its place."},
                "all": {"type": "boolean", "description": "Replace every place that has `old`."},
            },
            "required": ["path", "old", "new"],
            "additionalProperties": False,
        },
    )
    return Tool(
        spec=spec,
        run=lambda arguments, call: asyncio.to_thread(edit, arguments, call),
        access=_edited,
    )


def _edited(arguments: Mapping[str, Any], workspace: Path) -> Access:
    paths = absolute(workspace, arguments["path"])
    return Access(reads=paths, writes=paths)


def _decoded(data: bytes, shown: str, limits: FileSettings) -> str:
    if len(data) > limits.edit_bytes:
        raise ToolError(
            f"`{shown}` is larger than {limits.edit_bytes:,} bytes: change it with code instead."
        )
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ToolError(
            f"`{shown}` is not UTF-8 text (byte {error.start}): change it with code instead."
        ) from error


def _replaced(text: str, arguments: Mapping[str, Any], shown: str) -> str:
    old, new = arguments["old"], arguments["new"]
    if old not in text and "\r\n" in text:
        old, new = (re.sub(r"\r?\n", "\r\n", part) for part in (old, new))
    found = text.count(old)
    if found == 0:
        raise ToolError(f"`old` is not in `{shown}`, to the letter. {_nearest(text, old)}")
    if found > 1 and not arguments.get("all"):
        lines = [str(text.count("\n", 0, at) + 1) for at in _starts(text, old)]
        raise ToolError(
            f"`old` is in `{shown}` {found} times, at lines {', '.join(lines[:10])}: add lines "
            "around it until it is there once, or set all=true."
        )
    if old == new:
        raise ToolError("`old` and `new` are the same: nothing would change.", "bad_arguments")
    return text.replace(old, new)


def _starts(text: str, part: str) -> Iterator[int]:
    at = text.find(part)
    while at >= 0:
        yield at
        at = text.find(part, at + len(part))


def _nearest(text: str, old: str) -> str:
    """Say where something like it is: most misses are blanks, or a file that has changed."""
    first = next((line.strip() for line in old.splitlines() if line.strip()), "")
    lines = text.splitlines()[:20_000]
    same = [number for number, line in enumerate(lines, start=1) if line.strip() == first]
    if same and first:
        return f"Line {same[0]} is like its first line, but what follows differs: read it again."
    near = difflib.get_close_matches(first, [line.strip() for line in lines[:2_000]], n=1)
    if near:
        number = next(n for n, line in enumerate(lines, start=1) if line.strip() == near[0])
        return f"The nearest is line {number}: {near[0][:200]}"
    return "Nothing like it is there: read the file first."


def _changes(before: str, after: str) -> str:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=2, lineterm="")
    kept = [line for line in lines if not line.startswith(("---", "+++"))]
    more = [f"[{len(kept) - 80} more lines]"] if len(kept) > 80 else []
    return "\n".join([*(line[:500] for line in kept[:80]), *more])
