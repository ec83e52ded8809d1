"""A picture of a report: one bar per group with its interval, this run's beside the other's.

In: rows of reports. Out: a PNG.
Must not know: how scores came about.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
    places = [(row.benchmark, row.group) for row in runs[names[-1]] if row.headline in row.scores]
    height = 0.8 / len(names)
    figure = Figure(figsize=(9, 1.2 + 0.32 * max(len(places), 1)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for offset, name in enumerate(reversed(names)):
        found = {(row.benchmark, row.group): row for row in runs[name]}
        color = BAR if name == names[-1] else OTHER
        for place, key in enumerate(places):
            if key in found and found[key].headline in found[key].scores:
                _bar(axes, found[key], place - 0.4 + height * (offset + 0.5), height, color, name)
    axes.set_yticks(range(len(places)), [_label(runs[names[-1]], place) for place in places])
    axes.tick_params(axis="y", labelsize=8, length=0)
    axes.set_ylim(len(places) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    axes.set_xlabel("score, %, with its 95 % interval")
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    axes.legend([unique[name] for name in names if name in unique],
                [name for name in names if name in unique],
                fontsize=8, loc="lower right", frameon=True)  # fmt: skip
    figure.savefig(png, dpi=120)


def _bar(axes: Axes, row: Row, y: float, height: float, color: str, name: str) -> None:
    found = row.scores[row.headline]
    value = 0.0 if math.isnan(found.value) else found.value * 100
    ends = (found.low * 100, found.high * 100)
    bars = [[max(0.0, value - ends[0])], [max(0.0, ends[1] - value)]]
    known = None if any(math.isnan(end) for end in ends) else bars
    axes.barh(y, value, height * 0.92, color=color, label=name, xerr=known,
              error_kw={"elinewidth": 1, "ecolor": "#333333", "capsize": 2})  # fmt: skip


def _label(rows: Sequence[Row], place: tuple[str, str]) -> str:
    row = next(row for row in rows if (row.benchmark, row.group) == place)
    return f"{row.benchmark}: {row.group} ({row.headline}, n={row.cases})"
