"""Which files a program made or changed in a workspace.

In: the workspace before and after. Out: paths, the ones that changed last first.
Must not know: what ran.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

LEFT_OUT = frozenset(
    {".git", "node_modules", "__pycache__", ".venv", "venv", ".ipynb_checkpoints", ".cache"}
)
MOST_FILES = 20_000
"""A workspace with more is not looked through to its end: it takes longer than most programs."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The files of a workspace at one moment."""

    files: Mapping[str, tuple[int, int, int]]
    """Path to what changes with a file: number, size, time of change."""

    @classmethod
    def take(cls, workspace: Path) -> Snapshot:
        """Look through a workspace; links are not followed."""
        found: dict[str, tuple[int, int, int]] = {}
        for folder, folders, names in os.walk(workspace):
            folders[:] = sorted(name for name in folders if name not in LEFT_OUT)
            for name in sorted(names):
                path = os.path.join(folder, name)  # noqa: PTH118 - ten thousand times per call
                try:
                    status = os.lstat(path)
                except OSError:  # gone meanwhile
                    continue
                if stat.S_ISREG(status.st_mode):
                    found[path] = (status.st_ino, status.st_size, status.st_mtime_ns)
            if len(found) > MOST_FILES:
                break
        return cls(found)

    def changed_since(self, before: Snapshot) -> tuple[Path, ...]:
        """Return the files that are new or different; sorted by name."""
        return tuple(
            Path(path) for path, mark in self.files.items() if before.files.get(path) != mark
        )


def listed(paths: tuple[Path, ...], workspace: Path, most: int = 20) -> str:
    """Name files in one line for the model; an empty string where there are none."""
    if not paths:
        return ""
    names = ", ".join(str(path.relative_to(workspace)) for path in paths[:most])
    more = f" and {len(paths) - most} more" if len(paths) > most else ""
    return f"[new or changed files: {names}{more}]"
