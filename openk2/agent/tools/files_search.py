"""`list_files` and `search_files`: what is in the workspace, and where a pattern is in it.

In: a folder of the workspace, a pattern. Out: a tree, or lines that match.
Must not know: what any file means.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import json
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from openk2.agent.tool import Access, Call, Tool, ToolError, ToolResult
from openk2.agent.tools.confined import absolute, missing, reach
from openk2.types import ToolSpec

SCANNER = Path(__file__).with_name("scan.py")
"""Runs as a process of its own: a regular expression can take longer than the universe has, and
only a process can be stopped in the middle of one."""


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """How far listings and searches go."""

    ignore: tuple[str, ...] = (
        *(".git", ".hg", ".svn", "node_modules", "__pycache__", ".venv", "venv"),
        *(".ipynb_checkpoints", ".pytest_cache", ".ruff_cache", ".mypy_cache", ".DS_Store"),
    )
    """Names, with `*` for any text, that are neither listed nor searched: made by programs, or
    not for the model's eyes."""
    entries: int = 400
    """Most files and folders in one listing."""
    matches: int = 200
    """Most lines that one search brings."""
    line_characters: int = 300
    """Longer lines are cut around the match."""
    file_bytes: int = 5_000_000
    """Larger files are not searched; the answer says how many."""
    seconds: float = 20.0
    """A search that takes longer ends with what it has."""


@dataclass(slots=True)
class _Listing:
    lines: list[str] = field(default_factory=list[str])
    left_out: int = 0


def list_files(settings: SearchSettings | None = None) -> Tool:
    """Return the tool that shows a folder as a tree."""
    limits = settings or SearchSettings()

    def listed(arguments: Mapping[str, Any], call: Call) -> ToolResult:
        path = arguments.get("path", ".")
        with reach(call.workspace, path) as place:
            if place.status() is None:
                above = place.shown.rpartition("/")[0]
                raise ToolError(missing(path, place.folder, above, place.name))
            listing = _Listing()
            folder = place.open_folder()
            _tree(folder, 0, arguments.get("depth", 3), limits, listing)
            end = [f"[{listing.left_out} more: list a folder of it]"] if listing.left_out else []
            top = f"{place.shown}/" if place.shown != "." else "workspace/"
            return ToolResult("\n".join([top, *(listing.lines or ["  (empty)"]), *end]))

    spec = ToolSpec(
        "list_files",
        "List a folder of the workspace as a tree with sizes. Folders that programs fill (.git, "
        "node_modules, caches) are left out.",
        {
            "type": "object",
            "properties": {
                "path": {"type": "string", "description": "Folder; the workspace by default."},
                "depth": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": 10,
                    "description": "How many levels; 3 by default.",
                },
            },
            "required": [],
            "additionalProperties": False,
        },
    )
    return Tool(
        spec=spec,
        run=lambda arguments, call: asyncio.to_thread(listed, arguments, call),
        writes=False,
        access=_looks_at,
    )


def _looks_at(arguments: Mapping[str, Any], workspace: Path) -> Access:
    return Access(reads=absolute(workspace, arguments.get("path", ".")))


def _tree(folder: int, level: int, depth: int, limits: SearchSettings, listing: _Listing) -> None:
    """Add what a folder holds, then close it; folders before files."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: (not _is_folder(entry), entry.name))
        for entry in entries:
            if any(fnmatch.fnmatchcase(entry.name, pattern) for pattern in limits.ignore):
                continue
            if len(listing.lines) >= limits.entries:
                listing.left_out += 1
                continue
            listing.lines.append("  " * (level + 1) + _described(entry))
            if _is_folder(entry) and level + 1 < depth:
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                with contextlib.suppress(OSError):  # gone, or not ours to open: its name is shown
                    inner = os.open(entry.name, flags, dir_fd=folder)
                    _tree(inner, level + 1, depth, limits, listing)
    finally:
        os.close(folder)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


def _described(entry: os.DirEntry[str]) -> str:
    name = entry.name.encode(errors="replace").decode()
    if _is_folder(entry):
        return f"{name}/"
    status = entry.stat(follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        return f"{name} (link)"
    return f"{name} ({status.st_size:,} bytes)"


def search_files(
    settings: SearchSettings | None = None,
    hidden: Callable[[Path], bool] = lambda path: False,
) -> Tool:
    """Return the tool that finds lines by a regular expression.

    Args:
        settings: How far it goes.
        hidden: Tells of a file that its lines must not be shown.
    """
    limits = settings or SearchSettings()

    async def search(arguments: Mapping[str, Any], call: Call) -> ToolResult:
        pattern = arguments["pattern"]
        path = arguments.get("path", ".")
        with reach(call.workspace, path) as place:
            if place.status() is None:
                above = place.shown.rpartition("/")[0]
                raise ToolError(missing(path, place.folder, above, place.name))
            order = {
                **asdict(limits),
                "name": place.name,
                "shown": place.shown,
                "pattern": pattern,
                "glob": arguments.get("glob", "*"),
                "flags": int(re.IGNORECASE if arguments.get("ignore_case") else 0),
                "seconds": min(limits.seconds, max(0.5, call.seconds - 3)),
            }
            found = await _scan(order, place.folder)
        lines = [
            line
            for line in found
            if "path" not in line or not hidden(call.workspace / str(line["path"]))
        ]
        if lines and "wrong" in lines[0]:
            problem = lines[0]["wrong"]
            raise ToolError(
                f"{pattern!r} is not a regular expression of Python: {problem}.", "bad_arguments"
            )
        return ToolResult("\n".join(_answer(lines, pattern)))

    return Tool(spec=_SEARCH, run=search, writes=False, access=_looks_at)


_SEARCH = ToolSpec(
    "search_files",
    "Find lines in the workspace's text files by a regular expression of Python. You get "
    "`path:line: text` for each.",
    {
        "type": "object",
        "properties": {
            "pattern": {
                "type": "string",
                "minLength": 1,
                "description": "Regular expression, looked for in each line.",
            },
            "path": {"type": "string", "description": "Folder or file; all by default."},
            "glob": {"type": "string", "description": "Names of files to search, such as *.py."},
            "ignore_case": {"type": "boolean", "description": "Small letters match capitals."},
        },
        "required": ["pattern"],
        "additionalProperties": False,
    },
)


async def _scan(order: Mapping[str, Any], folder: int) -> list[dict[str, Any]]:
    """Search in a process; end it with its time, and keep what it found until then."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", str(SCANNER), str(folder)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        pass_fds=(folder,),
        limit=1 << 20,
    )
    assert process.stdin and process.stdout
    found: list[dict[str, Any]] = []
    try:
        process.stdin.write(json.dumps(order).encode())
        process.stdin.close()
        # Its own clock stops a slow pattern; ours is for what that cannot interrupt.
        async with asyncio.timeout(order["seconds"] + 2):
            while line := await process.stdout.readline():
                found.append(json.loads(line))
            if await process.wait():
                found.append({"slow": "a file"})
    except TimeoutError:
        found.append({"slow": "a file"})
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.wait()
    return found


def _answer(found: Sequence[Mapping[str, Any]], pattern: str) -> Iterator[str]:
    matches = [item for item in found if "text" in item]
    for item in matches:
        yield f"{item['path']}:{item['line']}: {item['text']}"
    if not matches:
        yield f"No line matches {pattern!r}."
    for item in found:
        if "more" in item:
            yield "[there are more matches: narrow the pattern, the path or the glob]"
        if item.get("large"):
            yield f"[{item['large']} files are too large to be searched: use the shell]"
        if "slow" in item:
            yield (
                f"[stopped in {item['slow']}: the pattern takes too long. Matches after it are "
                "missing. Use a simpler pattern, without nested repetitions.]"
            )
