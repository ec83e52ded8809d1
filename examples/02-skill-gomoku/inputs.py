"""The game starts from nothing but its rules, which are in the goal.

In: a folder. Out: nothing is written.
Must not know: the game.
"""

from __future__ import annotations

from pathlib import Path

FILES = ()


def make(workspace: Path, seed: int = 0) -> None:
    """Leave the workspace empty."""
