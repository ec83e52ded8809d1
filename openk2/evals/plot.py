"""A picture of a report: one bar per group with its interval, this run's beside the other's.

In: rows of reports. Out: a PNG.
Must not know: how scores came about.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# matplotlib's signatures end in untyped keyword arguments.

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from openk2.evals.report import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BAR, OTHER = "#3b6ea5", "#b9c6d3"


def draw(runs: Mapping[str, Sequence[Row]], png: Path) -> None:
    """Draw the headline of every row of the last run; the others' beside it.

    Args:
        runs: By the name that the legend says; the last one is the one that is reported.
        png: Where to.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(runs)
    rows = [row for row in runs[names[-1]] if row.headline in row.scores]
    height = 0.8 / len(names)
    figure = Figure(figsize=(9, 1.4 + 0.3 * max(len(rows), 1)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for offset, name in enumerate(reversed(names)):
        found = {(row.benchmark, row.group): row for row in runs[name]}
        color = BAR if name == names[-1] else OTHER
        for place, key in enumerate((row.benchmark, row.group) for row in rows):
            if key in found and found[key].headline in found[key].scores:
                _bar(axes, found[key], place - 0.4 + height * (offset + 0.5), height, color, name)
    _dress(axes, rows)
    handles, labels = axes.get_legend_handles_labels()
    known = dict(zip(labels, handles, strict=True))
    shown = [name for name in names if name in known]
    figure.legend([known[name] for name in shown], shown, fontsize=8, loc="outside upper left",
                  ncols=len(shown), frameon=False)  # fmt: skip
    figure.savefig(png, dpi=120)


def _dress(axes: Axes, rows: Sequence[Row]) -> None:
    axes.set_yticks(range(len(rows)), [_label(row) for row in rows])
    axes.tick_params(axis="y", labelsize=8, length=0)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 112)  # room for the number behind a whole bar
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("score, %, with its 95 % interval")
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    for place, (above, below) in enumerate(pairwise(rows)):
        if above.benchmark != below.benchmark:
            axes.axhline(place + 0.5, color="#999999", linewidth=0.6)


def _bar(axes: Axes, row: Row, y: float, height: float, color: str, name: str) -> None:
    found = row.scores[row.headline]
    value = 0.0 if math.isnan(found.value) else found.value * 100
    low, high = (value if math.isnan(end) else end * 100 for end in (found.low, found.high))
    ends = [[max(0.0, value - low)], [max(0.0, high - value)]]
    axes.barh(y, value, height * 0.92, color=color, label=name, xerr=ends,
              error_kw={"elinewidth": 1, "ecolor": "#333333", "capsize": 2})  # fmt: skip
    axes.annotate(f"{value:.1f}", (max(high, value), y), (3, 0), textcoords="offset points",
                  va="center", fontsize=6.5, color="#333333")  # fmt: skip


def _label(row: Row) -> str:
    group = "" if row.group == row.benchmark else f": {row.group}"
    return f"{row.benchmark}{group} ({row.headline}, n={row.cases})"
