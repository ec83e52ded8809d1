"""What a person sees of a run as it happens.

In: the journal's records and the model's words as they come. Out: lines on a terminal, or in a log.
Must not know: what the lines are about; the journal is the only source, so a resumed run shows what
happened before it, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from openk2.agent.describe import Line, Style, Totals, describe, printable
from openk2.agent.journal import Record
from openk2.types import Event, ReasoningDelta, TextDelta, ToolCallStart

if TYPE_CHECKING:
    from rich.console import Console

MARKS: dict[Style, str] = {
    "thinking": "  ┊ ",
    "text": "  ",
    "call": "→ ",
    "output": "  │ ",
    "error": "  ✗ ",
    "note": "· ",
    "good": "✓ ",
    "budget": "· ",
}
COLOURS: dict[Style, str] = {
    "thinking": "dim italic",
    "text": "",
    "call": "bold cyan",
    "output": "dim",
    "error": "red",
    "note": "yellow",
    "good": "green",
    "budget": "dim",
}


class View(Protocol):
    """Someone who watches a run."""

    def record(self, record: Record, new: bool) -> None:
        """See a record; not new: it was there before this process."""
        ...

    def event(self, event: Event) -> None:
        """See a piece of the model's answer."""
        ...

    def progress(self, call_id: str, text: str) -> None:
        """See output of a call that goes on."""
        ...

    def pause(self) -> None:
        """Make room for a question."""
        ...

    def unpause(self) -> None:
        """Go on after a question."""
        ...

    def close(self) -> None:
        """See nothing more."""
        ...


class LineView:
    """Plain lines: for pipes and logs."""

    def __init__(self, write: Callable[[str], Any]) -> None:
        """Write lines with `write`."""
        self._write = write
        self._totals = Totals()

    def record(self, record: Record, new: bool) -> None:
        """Write what a record means."""
        self._totals.add(record)
        for line in describe(record):
            self._write(f"{MARKS[line.style]}{printable(line.text)}")
        if record.kind == "result":
            self._write(f"{MARKS['budget']}{self._totals.line()}")
            self._write(f"{MARKS['budget']}{self._totals.details()}")

    def event(self, event: Event) -> None:
        """Nothing: lines come when they are whole."""

    def progress(self, call_id: str, text: str) -> None:
        """Nothing: the result comes whole."""

    def pause(self) -> None:
        """Nothing is in the way."""

    def unpause(self) -> None:
        """Nothing was in the way."""

    def close(self) -> None:
        """Nothing is open."""


class JsonView:
    """The journal's own records, one per line: for machines."""

    def __init__(self, write: Callable[[str], Any]) -> None:
        """Write lines with `write`."""
        self._write = write

    def record(self, record: Record, new: bool) -> None:
        """Write a record; those of before are in the journal."""
        if new:
            self._write(record.line().decode().rstrip("\n"))

    def event(self, event: Event) -> None:
        """Nothing: an answer is a record when it is whole."""

    def progress(self, call_id: str, text: str) -> None:
        """Nothing: a result is a record when it is whole."""

    def pause(self) -> None:
        """Nothing is in the way."""

    def unpause(self) -> None:
        """Nothing was in the way."""

    def close(self) -> None:
        """Nothing is open."""


class TerminalView:
    """Lines as they are finished, and under them what happens right now and what it costs."""

    def __init__(self, console: Console, currency: str = "USD") -> None:
        """Show the run on a console."""
        from rich.live import Live
        from rich.text import Text

        self._console = console
        self._text = Text
        self._currency = currency
        self._totals = Totals()
        self._began = time.monotonic()
        self._partial = ""
        self._style: Style = "text"
        self._streamed = False
        self._live = Live(console=console, refresh_per_second=8, transient=True)
        self._live.start()

    def record(self, record: Record, new: bool) -> None:
        """Show what a record means."""
        self._totals.add(record)
        self._flush()
        streamed, self._streamed = self._streamed, self._streamed and record.kind != "model"
        for line in describe(record):
            # The model's words stand there already, as they came.
            if not (record.kind == "model" and streamed and line.style in ("thinking", "text")):
                self._print(line)
        self._refresh("")

    def event(self, event: Event) -> None:
        """Show the model's words, line by line, the unfinished one in the status below."""
        match event:
            case ReasoningDelta():
                self._stream("thinking", event.text)
            case TextDelta():
                self._stream("text", event.text)
            case ToolCallStart():
                self._flush()
                self._refresh(f"→ {event.name} …")
            case _:
                pass

    def progress(self, call_id: str, text: str) -> None:
        """Show the last line of a call's output in the status."""
        lines = text.strip().splitlines()
        self._refresh(lines[-1] if lines else "")

    def close(self) -> None:
        """Leave the lines and take the status away."""
        self._flush()
        self._live.stop()

    def pause(self) -> None:
        """Make room for a question."""
        self._flush()
        self._live.stop()

    def unpause(self) -> None:
        """Go on after a question."""
        self._live.start()

    def _stream(self, style: Style, text: str) -> None:
        if style != self._style:
            self._flush()
            self._style = style
        self._streamed = True
        *whole, self._partial = (self._partial + text).split("\n")
        for line in whole:
            if line.strip():
                self._print(Line(style, line))
        self._refresh(self._partial)

    def _flush(self) -> None:
        if self._partial.strip():
            self._print(Line(self._style, self._partial))
        self._partial = ""

    def _print(self, line: Line) -> None:
        self._console.print(
            self._text(MARKS[line.style] + printable(line.text), style=COLOURS[line.style])
        )

    def _refresh(self, now: str) -> None:
        passed = time.monotonic() - self._began
        clock = f"{int(passed) // 60}:{int(passed) % 60:02}"
        status = self._text(f"{self._totals.line(self._currency)} · {clock}", style="dim")
        if now:
            room = max(20, self._console.width - 4)
            status = self._text(printable(now)[-room:] + "\n") + status
        self._live.update(status)
