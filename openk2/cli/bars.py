"""A progress bar on stderr for work that is counted.

In: how much is done. Out: a bar with time left. Must not know: what is counted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Protocol


class Advance(Protocol):
    """Says how far the work is."""

    def __call__(self, done: int, total: int | None = None, note: str = "") -> None:
        """Move the bar to `done` of `total`, with a word beside it."""
        ...


@contextlib.contextmanager
def counted(what: str, total: int | None = None, *, show: bool = True) -> Generator[Advance]:
    """Give a function that moves a bar; without `show` it does nothing.

    Args:
        what: What is counted.
        total: How many there will be; none until it is said.
        show: Whether there is a bar.
    """
    if not show:
        yield lambda done, total=None, note="": None
        return
    import rich.progress as rp
    from rich.console import Console

    columns = (
        rp.TextColumn("{task.description}"),
        rp.BarColumn(),
        rp.MofNCompleteColumn(),
        rp.TimeElapsedColumn(),
        rp.TextColumn("left"),
        rp.TimeRemainingColumn(),
        rp.TextColumn("{task.fields[note]}"),
    )
    with rp.Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total, note="")

        def advance(done: int, total: int | None = None, note: str = "") -> None:
            bar.update(task, completed=done, note=note)
            if total is not None:
                bar.update(task, total=total)

        yield advance
