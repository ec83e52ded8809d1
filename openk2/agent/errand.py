"""What one agent asks of another: a goal, a workspace of its own, a part of the budget.

In: an errand. Out: its report; files that move between workspaces without taking anything along
that is not theirs.
Must not know: how an agent works: whoever runs errands brings that (`RunErrand`).
"""

from __future__ import annotations

import functools
import re
import shutil
import stat
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from openk2.agent.budget import Limits, Spent

WORKSPACE = "workspace"


@dataclass(frozen=True, slots=True)
class Errand:
    """Something that a sub-agent is to do."""

    id: str
    """The same at every attempt; fit for a file name."""
    goal: str
    folder: Path
    """Its own: what the sub-agent keeps (its journal), beside its workspace."""
    limits: Limits
    """Its part of the budget."""

    @property
    def workspace(self) -> Path:
        """Where it works; nobody else does."""
        return self.folder / WORKSPACE


@dataclass(frozen=True, slots=True)
class Report:
    """What became of an errand."""

    status: str
    """As runs end: `complete`, `blocked`, `answered`, `budget`, `repeat`."""
    summary: str
    artifacts: tuple[str, ...] = ()
    """Files made for people, as paths in its workspace."""
    spent: Spent = Spent()
    """By all attempts at it together."""
    untrusted: bool = False
    """Text of strangers was in its conversation: it may be in the summary, too."""

    @property
    def ok(self) -> bool:
        """Whether it has a result."""
        return self.status in ("complete", "answered")


RunErrand = Callable[[Errand], Awaitable[Report]]
"""Runs a sub-agent to its end, going on where an earlier attempt in the same folder ended.

Raises ModelError where the endpoint does not answer, and whatever else broke; the errand can then
be run again."""


def total(spent: Iterable[Spent]) -> Spent:
    """Add what sub-agents used."""
    return functools.reduce(Spent.plus_child, spent, Spent())


def prepare(errand: Errand, base: Path | None, only: Sequence[str] | None = None) -> None:
    """Give an errand its workspace: a copy, unless an earlier attempt has left one.

    Args:
        errand: Whose workspace.
        base: What is copied; None is nothing.
        only: Paths in `base` to copy; None is all of it.

    Raises:
        FileNotFoundError: One of the paths does not exist in `base`.
    """
    if errand.workspace.exists():
        return
    errand.folder.mkdir(parents=True, exist_ok=True)
    # A copy that was interrupted must not be taken for a workspace.
    fresh = errand.folder / "copying"
    shutil.rmtree(fresh, ignore_errors=True)
    if base is None or only is not None:
        fresh.mkdir()
        if base is not None:
            for name in only or ():
                copy(name, base, fresh)
    else:
        root = errand.folder.resolve()
        shutil.copytree(base, fresh, symlinks=True, ignore=_not_ours(root))
    fresh.rename(errand.workspace)


def size(base: Path, only: Sequence[str] | None = None) -> int:
    """Return how many bytes a copy of a workspace, or of some of its files, takes."""
    roots = [base] if only is None else [base / name for name in only]
    files = (path for root in roots for path in (root, *root.rglob("*")))
    return sum(path.lstat().st_size for path in files if path.is_file() and not path.is_symlink())


def copy(name: str, source: Path, target: Path) -> Path:
    """Copy a file or folder from one workspace to another; return the copy.

    Args:
        name: Its path in `source`.
        source: Where it is; a link that leads out of it is refused.
        target: Where it goes, under the same name.

    Raises:
        FileNotFoundError: It does not exist in `source`, or leads out of it.
    """
    root = source.resolve()
    path = (root / name).resolve()
    if not path.is_relative_to(root) or not (path.is_file() or path.is_dir()):
        raise FileNotFoundError(f"{name!r} is no file or folder in the workspace {source}")
    made = target / path.relative_to(root)
    made.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        shutil.copy2(path, made)
    else:
        # Links stay links: what one of them leads to is not the sub-agent's to give.
        ignore = _not_ours(target.resolve())
        shutil.copytree(path, made, symlinks=True, ignore=ignore, dirs_exist_ok=True)
    return made


def bring_back(report: Report, source: Path, target: Path) -> tuple[tuple[Path, ...], str]:
    """Copy a report's artifacts; return the copies, and what is to be said of the others.

    Args:
        report: Names them.
        source: The workspace that they are in.
        target: Where they go.
    """
    copies: list[Path] = []
    problems: list[str] = []
    for name in report.artifacts:
        try:
            copies.append(copy(name, source, target))
        except OSError as error:
            problems.append(f"not taken over: {error}")
    return tuple(copies), "; ".join(problems)


def file_name(text: str) -> str:
    """Return a name for a folder that tells what it is for, whatever the text holds.

    >>> file_name("functions.task:3 – 北京/…")
    'functions.task-3-北京'
    """
    return re.sub(r"[^\w.]+", "-", text).strip("-.")[:40] or "item"


def _not_ours(target: Path) -> Callable[[str, list[str]], set[str]]:
    """Leave out the folder that is copied into, and what is neither file nor folder nor link."""

    def ignore(folder: str, names: list[str]) -> set[str]:
        left_out: set[str] = set()
        for name in names:
            path = Path(folder, name)
            mode = path.lstat().st_mode
            plain = stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)
            if not plain or target.is_relative_to(path.resolve()):
                left_out.add(name)
        return left_out

    return ignore
