"""What a person sees of a run as it happens.

In: the rows of `metrics.jsonl`, those from before a resume included, and how far the iteration is.
Out: a dashboard on a terminal, or a line per iteration. Must not know: how the run works.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from openk2.rl.metrics import families

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    Row = Mapping[str, Any]

BARS = "▁▂▃▄▅▆▇█"
CURVE = 40
"""Iterations that a curve shows."""
SHOWN: tuple[tuple[str, str, str], ...] = (
    ("reward", "reward", ".3f"),
    ("pass", "pass rate", ".0%"),
    ("signal", "problems with signal", ".0%"),
    ("length", "response, tokens", ".0f"),
    ("truncated", "ran out of budget", ".0%"),
    ("entropy", "entropy, nats", ".3f"),
    ("kl", "KL from iteration's start", ".4f"),
    ("critic_agreement", "critic agrees with verifier", ".0%"),
)
"""Key in a row, what it is called, how it is written."""


class View(Protocol):
    """Someone who watches a run."""

    def begin(self, rows: Sequence[Row], iterations: int) -> None:
        """See what there is already, and how long the run will be."""
        ...

    def phase(self, what: str, done: int = 0, of: int = 0) -> None:
        """See what the run does now, and how much of it is done."""
        ...

    def row(self, row: Row) -> None:
        """See what an iteration came to."""
        ...

    def close(self) -> None:
        """See nothing more."""
        ...


class LineView:
    """A line per iteration: for pipes and logs."""

    def __init__(self, write: Callable[[str], Any]) -> None:
        """Write lines with `write`."""
        self._write = write
        self._iterations = 0

    def begin(self, rows: Sequence[Row], iterations: int) -> None:
        """Remember how long the run is; what it did before stands in the log already."""
        self._iterations = iterations

    def phase(self, what: str, done: int = 0, of: int = 0) -> None:
        """Nothing: lines come when they are whole."""

    def row(self, row: Row) -> None:
        """Write an iteration's line, and one more if held-out problems were tried."""
        if "reward" in row:
            self._write(self._line(row))
        if held_out := held_out_passes(row):
            shown = [
                f"{name} {now:.0%} [{low:.0%}, {high:.0%}]"
                for name, (now, low, high) in held_out.items()
            ]
            self._write("held out: " + "  ".join(shown))

    def _line(self, row: Row) -> str:
        passes = "  ".join(f"{name} {row[f'{name}/pass']:.0%}" for name in families(row))
        return (
            f"iteration {row['step']}/{self._iterations}  reward {row['reward']:.3f}  "
            f"pass {row['pass']:.0%}  length {row['length']:.0f}  {passes}"
        )

    def close(self) -> None:
        """Nothing is open."""


class Dashboard:
    """The whole run on one screen, redrawn as numbers come."""

    def __init__(self, console: Console) -> None:
        """Draw on `console`."""
        from rich.live import Live

        self._console = console
        self._rows: list[Row] = []
        self._iterations = 0
        self._known = 0
        """Iterations that were there before this process."""
        self._phase: tuple[str, int, int] = ("starting", 0, 0)
        self._began = time.monotonic()
        self._live = Live(console=console, get_renderable=self.render, refresh_per_second=2)

    def begin(self, rows: Sequence[Row], iterations: int) -> None:
        """Show what there is already."""
        self._rows, self._iterations = list(rows), iterations
        self._known = self._done()
        self._began = time.monotonic()
        self._live.start()

    def phase(self, what: str, done: int = 0, of: int = 0) -> None:
        """Show what the run does now."""
        self._phase = (what, done, of)

    def row(self, row: Row) -> None:
        """Add an iteration."""
        self._rows.append(row)

    def close(self) -> None:
        """Leave the last picture on the screen."""
        self._live.stop()

    def render(self) -> RenderableType:
        """Return the picture as it is now."""
        from rich.console import Group
        from rich.panel import Panel
        from rich.text import Text

        done = self._done()
        passed = time.monotonic() - self._began
        new = done - self._known
        left = time_left(passed, new, self._iterations - done)
        what, at, of = self._phase
        now = f"{what} {at}/{of}" if of else what
        title = f"iteration {done}/{self._iterations} · {now} · {clock(passed)} · left {left}"
        tables: list[RenderableType] = [Text(title, style="bold")]
        if self._rows:
            tables += [
                self._numbers(),
                self._by_family(),
                Text(machine_line(self._rows[-1]["machine"])),
            ]
        return Panel(Group(*tables), title="openk2 rl", border_style="dim")

    def _done(self) -> int:
        return self._rows[-1]["step"] if self._rows else 0

    def _numbers(self) -> RenderableType:
        from rich.table import Table

        table = Table(box=None, header_style="dim")
        for heading in ("", "now", "start", f"last {CURVE} iterations"):
            table.add_column(heading, justify="left" if heading[:1] in ("", "l") else "right")
        for key, name, form in SHOWN:
            values = [row[key] for row in self._rows if key in row]
            if values:
                table.add_row(name, f"{values[-1]:{form}}", f"{values[0]:{form}}", curve(values))
        return table

    def _by_family(self) -> RenderableType:
        from rich.table import Table

        table = Table(box=None, header_style="dim")
        for heading in ("family", "pass", "held out", "95 %", "at first", "pass, over time"):
            table.add_column(heading, justify="left" if heading[0] in "fp" else "right")
        tried = [found for row in self._rows if (found := held_out_passes(row))]
        for name in sorted({name for row in self._rows for name in families(row)}):
            values = [row[f"{name}/pass"] for row in self._rows if f"{name}/pass" in row]
            cells = ["", "", ""]
            if tried and name in tried[-1]:
                now, low, high = tried[-1][name]
                first = next(found[name][0] for found in tried if name in found)
                cells = [f"{now:.0%}", f"{low:.0%}–{high:.0%}", f"{first:.0%}"]
            table.add_row(name, f"{values[-1]:.0%}", *cells, curve(values))
        return table


def held_out_passes(row: Row) -> dict[str, tuple[float, float, float]]:
    """Return each family's held-out pass rate with its interval, if a row has them."""
    prefix, suffix = "held_out/", "/pass"
    names = [
        name.removeprefix(prefix).removesuffix(suffix)
        for name in row
        if name.startswith(prefix) and name.endswith(suffix)
    ]
    return {
        name: (
            row[f"{prefix}{name}{suffix}"],
            row[f"{prefix}{name}{suffix}/low"],
            row[f"{prefix}{name}{suffix}/high"],
        )
        for name in names
    }


def machine_line(times: Mapping[str, float]) -> str:
    """Say where an iteration's time went, and how busy the engine was."""
    total = max(times.get("iteration", 0.0), 1e-9)
    shares = "  ".join(
        f"{name} {times[name] / total:.0%}"
        for name in ("rollout", "update", "sync")
        if name in times
    )
    return (
        f"engine: {times.get('tokens_per_s', 0.0):,.0f} tokens/s, "
        f"{times.get('utilisation', 0.0):.0%} of its rows in use · time: {shares}"
    )


def curve(values: Sequence[float]) -> str:
    """Draw the last values as a line of bars between their least and their greatest."""
    shown = values[-CURVE:]
    low, high = min(shown), max(shown)
    if high == low:
        return BARS[3] * len(shown)
    return "".join(BARS[round((value - low) / (high - low) * (len(BARS) - 1))] for value in shown)


def time_left(passed: float, done: int, left: int) -> str:
    """Say how long the rest takes at the pace so far; unknown before an iteration is done."""
    return clock(passed / done * left) if done else "?"


def clock(seconds: float) -> str:
    """Write a duration as hours, minutes and seconds."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
