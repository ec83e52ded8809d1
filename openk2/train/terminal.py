"""A long run's two links to the person who started it: a polite stop and a progress bar.

In: signals, and numbers of a step. Out: an event, and a bar on stderr. Must not know: training.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from types import FrameType


@contextlib.contextmanager
def stop_requested() -> Iterator[threading.Event]:
    """Turn SIGINT and SIGTERM into an event; a second SIGINT interrupts as usual."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    for number in before:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def progress(total: int, done: int, show: bool) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """Give a function that advances a bar by one step; without `show` it does nothing."""
    if not show:
        yield lambda metrics: None
        return
    import rich.progress as rp
    from rich.console import Console

    columns = (
        rp.TextColumn("step"),
        rp.MofNCompleteColumn(),
        rp.BarColumn(),
        rp.TextColumn("{task.description}"),
        rp.TimeElapsedColumn(),
        rp.TextColumn("left"),
        rp.TimeRemainingColumn(),
    )
    with rp.Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total, completed=done)
        yield lambda m: bar.update(
            task,
            advance=1,
            description=f"loss {m['loss']:.3f}  {m['tokens_per_s']:,.0f} tokens/s",
        )
