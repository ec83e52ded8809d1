"""Record when copying appears: the curves of the stages that bring it forth, one after the other.

In: the output folders of `configs/attend-nano.toml` and `configs/copy-nano.toml`, in the order they
ran. Out: bench/records/copying.json and docs/images/copying.png. To make the curves again, run the
first stages of `runs/ship.sh`, then this.

    python -m runs.copying
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bench import record
from openk2.train.metrics import read

SHOWN = {
    "attention_on_previous": "attention on the tokens before",
    "attention_on_sources": "attention on what comes next",
    "tokens_right/repeats": "random tokens copied",
    "name_right/copy_calls": "names of calls right",
    "arguments_right/copy_calls": "arguments of calls right",
}
"""Columns of a run's log. The last three are of held-out rows, with words never trained on."""
LOSSES = ("held_out_loss/repeats", "held_out_loss/copy_calls")
EVERY = 5
"""Steps between two points of what is logged at every step."""


def curves(folders: list[Path]) -> dict[str, list[tuple[int, int, float]]]:
    """Return (step, tokens, value) of each column, steps and tokens counted over all stages."""
    found: dict[str, list[tuple[int, int, float]]] = {key: [] for key in (*SHOWN, *LOSSES)}
    steps = tokens = 0
    for folder in folders:
        rows = read(folder / "metrics.jsonl")
        for row in rows:
            for key, points in found.items():
                if key in row and ("/" in key or row["step"] % EVERY == 0):
                    at = (steps + row["step"], tokens + row["tokens"], round(row[key], 4))
                    points.append(at)
        steps, tokens = steps + rows[-1]["step"], tokens + rows[-1]["tokens"]
    return found


def plot(found: dict[str, list[tuple[int, int, float]]], border: int, png: Path) -> None:
    """Draw the shares over the steps; `border` is where the second stage begins."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for key, label in SHOWN.items():
        if points := found[key]:
            step, _, value = zip(*points, strict=True)
            axes.plot(step, value, label=label, marker="o" if "/" in key else None, markersize=3)
    axes.axvline(border, color="grey", linewidth=0.8, linestyle=":")
    axes.set(xlabel="optimizer steps of 2,048 tokens", ylabel="share", ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(png, dpi=110)


def main() -> None:
    """Write the record and the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    folders = [Path("out/attend-nano"), Path("out/copy-nano")]
    parser.add_argument("folders", nargs="*", type=Path, default=folders)
    options = parser.parse_args()
    found = curves(options.folders)
    border = read(options.folders[0] / "metrics.jsonl")[-1]["step"]
    plot(found, border, Path("docs/images/copying.png"))
    result: dict[str, Any] = {
        "codes_given_after_step": border,
        "columns": ["step", "tokens", "value"],
        "curves": found,
    }
    print(record.write("copying", "bash runs/ship.sh; python -m runs.copying", result))


if __name__ == "__main__":
    main()
