"""The record of a run: one JSON object per step, and a picture of it.

In: numbers of a step. Out: `metrics.jsonl`, and a PNG with four panels. Must not know: models.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class MetricsLog:
    """Append-only JSONL; every line is on disk when `write` returns."""

    def __init__(self, path: Path, resume_step: int = 0) -> None:
        """Open the log, dropping lines of steps after `resume_step`: they will be redone."""
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [row for row in read(path) if row["step"] <= resume_step] if resume_step else []
        temporary = path.with_name(path.name + ".tmp")  # a kill must not cost the log
        temporary.write_text("".join(json.dumps(row) + "\n" for row in kept))
        temporary.replace(path)
        self._file = path.open("a", buffering=1)

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one row."""
        self._file.write(json.dumps(row) + "\n")

    def __enter__(self) -> MetricsLog:
        """Return the open log."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the file."""
        self._file.close()


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a log; a line that a kill cut short is left out."""
    rows = []
    lines = path.read_text().splitlines() if path.exists() else []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


_PANELS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("training loss (nats per token)", ("loss",)),
    ("held out", ("bits_per_byte", "held_out_loss", "name_right", "arguments_right", "both_right")),
    ("largest attention logit", ("max_logit",)),
    ("expert load, 1 is even", ("load_max", "load_worst")),
)


def plot(log: Path, png: Path) -> None:
    """Draw the run: loss, held-out quality, largest attention logit and expert load."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = read(log)
    figure = Figure(figsize=(11, 7), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, keys) in zip(figure.subplots(2, 2).flat, _PANELS, strict=True):
        for key in keys:
            points = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), label=key, linewidth=1)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        if len(keys) > 1 and axes.lines:
            axes.legend(fontsize=8)
    figure.savefig(png, dpi=110)
