"""A picture of a run: reward, pass rates, lengths, entropy and KL, the critic, the time.

In: the rows of `metrics.jsonl`. Out: a PNG. Must not know: how the numbers came about.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# matplotlib's signatures end in untyped keyword arguments.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openk2.rl.metrics import families
from openk2.rl.view import held_out_passes
from openk2.train.metrics import read

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    Rows = Sequence[Mapping[str, Any]]

LINES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("reward: learned from, and earned", ("reward", "earned")),
    ("tokens of an answer", ("length",)),
    ("entropy and KL, nats per token", ("entropy", "kl")),
    (
        "shares",
        ("signal", "truncated", "repeated", "critic_agreement"),
    ),
)
"""Title and keys of a panel."""


def plot(log: Path, png: Path) -> None:
    """Draw a run's log."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = read(log)
    figure = Figure(figsize=(13, 7), layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(2, 3).flat)
    _held_out(panels[0], rows)
    for axes, (title, keys) in zip(panels[1:5], LINES, strict=True):
        for key in keys:
            _line(axes, rows, key, key)
        _dress(axes, title)
    for name in sorted({name for row in rows for name in families(row)}):
        _line(panels[5], rows, f"{name}/pass", name)
    _dress(panels[5], "pass rate while learning")
    figure.savefig(png, dpi=110)


def _line(axes: Axes, rows: Rows, key: str, label: str) -> None:
    points = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
    if points:
        axes.plot(*zip(*points, strict=True), label=label, linewidth=1)


def _held_out(axes: Axes, rows: Rows) -> None:
    tried = [(row["step"], found) for row in rows if (found := held_out_passes(row))]
    for name in sorted({name for _, found in tried for name in found}):
        points = [(at, *found[name]) for at, found in tried if name in found]
        at, value, low, high = zip(*points, strict=True)
        axes.plot(at, value, label=name, linewidth=1.2, marker="o", markersize=3)
        axes.fill_between(at, low, high, alpha=0.15, linewidth=0)
    _dress(axes, "held-out problems: pass rate, 95 %")


def _dress(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("iteration")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=7, loc="upper left")  # "best" looks at every point
