"""The folders of runs: one each, with its journal, its long results, and perhaps its workspace.

In: where runs are kept. Out: new folders with unused names, and what there is.
Must not know: what happens in a run.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from openk2.agent.journal import NAME, JournalError, Record, read

RESULTS = "results"
WORKSPACE = "workspace"


@dataclass(frozen=True, slots=True)
class Run:
    """What a list of runs says about one."""

    id: str
    folder: Path
    goal: str
    status: str
    """How it ended; `interrupted` can be resumed."""
    steps: int
    cost: int
    """Millionths."""
    began: float
    """Seconds since 1970."""


def ending(records: Sequence[Record]) -> str | None:
    """Return how a run ended; None if it was interrupted, or went on after its end."""
    for record in reversed(records):
        if record.kind == "result":
            return record.data["status"]
        if record.phase != "remark":
            break
    return None


def default_folder() -> Path:
    """Return where runs are kept: $XDG_STATE_HOME/openk2/runs."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "openk2" / "runs"


def new_folder(runs: Path) -> Path:
    """Make a folder for a new run, named after the time."""
    for _ in range(100):
        folder = runs / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        try:
            folder.mkdir(parents=True, mode=0o700)
            return folder
        except FileExistsError:
            continue
    raise JournalError(f"cannot find an unused name for a run in {runs}")


def find(runs: Path, name: str) -> Path:
    """Return the folder of a run by its path, its id, the beginning of its id, or `last`.

    Raises:
        JournalError: There is no such run, or more than one.
    """
    if (Path(name) / NAME).is_file():
        return Path(name)
    folders = sorted(path.parent for path in runs.glob(f"*/{NAME}"))
    if name == "last" and folders:
        return folders[-1]
    found = [folder for folder in folders if folder.name.startswith(name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise JournalError(f"{len(found)} runs begin with {name!r}; write more of the id")
    raise JournalError(f"there is no run {name!r} in {runs}; `openk2 runs` lists them")


def overview(folder: Path) -> Run:
    """Say what a run is and how far it came.

    Raises:
        JournalError: Its journal cannot be read, or was changed.
    """
    records, _ = read(folder / NAME)
    goal, status, steps, cost = "", "interrupted", 0, 0
    for record in records:
        if record.kind in ("run", "heavy"):
            goal = record.data["settings"]["goal"]
        elif record.kind in ("model", "summary", "drift") and record.phase == "end":
            steps += record.kind == "model"
            cost += record.data.get("cost", 0)
        elif record.kind == "result":
            status = record.data["status"]
    began = records[0].at if records else 0.0
    return Run(folder.name, folder, goal, status, steps, cost, began)


def list_runs(runs: Path) -> list[Run]:
    """List the runs whose journals can be read, the newest first."""
    found: list[Run] = []
    for path in sorted(runs.glob(f"*/{NAME}"), reverse=True):
        try:
            found.append(overview(path.parent))
        except (JournalError, KeyError) as error:
            found.append(Run(path.parent.name, path.parent, str(error), "unreadable", 0, 0, 0.0))
    return found
