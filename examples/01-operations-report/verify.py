"""Checks an operations report against the sales it was made from.

In: the workspace after the run. Out: checks. Every figure is counted again from the seeded inputs.
Must not know: how the agent came to its figures.
"""

from __future__ import annotations

import csv
import importlib
import math
from collections import defaultdict
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

from examples.browser import opened, require_fits, require_quiet, shown_pictures
from examples.checks import (
    Check,
    judge,
    picture,
    read_json,
    read_text,
    require,
    require_close,
    require_number,
    require_words,
    unchanged,
)

inputs = importlib.import_module("examples.01-operations-report.inputs")
CHARTS = ("charts/daily_revenue.png", "charts/channels.png", "charts/categories.png")
SURGE, OUTAGE = inputs.SURGE, inputs.OUTAGE


def verify(workspace: Path) -> list[Check]:
    """Check every artefact of the scenario."""
    return judge(
        workspace,
        [
            the_sales_are_as_given,
            the_figures_are_those_of_the_sales,
            every_bad_row_is_left_out_and_no_other,
            the_anomalies_are_found_and_nothing_else,
            the_missing_days_are_found,
            the_trends_are_right,
            the_charts_show_something,
            the_report_says_the_figures,
            the_report_names_what_happened,
            the_page_shows_figures_and_charts_in_a_browser,
        ],
    )


@cache
def facts() -> dict[str, Any]:
    """Count the month again, from a fresh copy of the sales."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        inputs.make(Path(folder))
        with (Path(folder) / "sales.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))[1:]
    seen: set[tuple[str, ...]] = set()
    kept: list[list[str]] = []
    dropped: list[int] = []
    for line, row in enumerate(rows, 2):
        if tuple(row) in seen or any(not possible(value) for value in row[3:]):
            dropped.append(line)
        else:
            kept.append(row)
        seen.add(tuple(row))
    october = [row for row in kept if row[0].startswith(inputs.MONTH)]
    before = sum(float(row[4]) for row in kept if not row[0].startswith(inputs.MONTH))
    revenue, orders = sum(float(row[4]) for row in october), sum(int(row[3]) for row in october)
    return {
        "revenue": revenue,
        "orders": orders,
        "average_order_value": revenue / orders,
        "refund_rate": sum(float(row[5]) for row in october) / revenue,
        "revenue_change": revenue / before - 1,
        "revenue_by_channel": totals(october, 1),
        "revenue_by_category": totals(october, 2),
        "dropped_lines": dropped,
        "trend": {channel: slope(october, channel) for channel in inputs.CHANNELS},
    }


def possible(value: str) -> bool:
    """Tell whether a value is a number that is not negative."""
    try:
        return math.isfinite(float(value)) and float(value) >= 0
    except ValueError:
        return False


def totals(rows: list[list[str]], column: int) -> dict[str, float]:
    """Add up revenue by channel or category."""
    sums: dict[str, float] = defaultdict(float)
    for row in rows:
        sums[row[column]] += float(row[4])
    return dict(sums)


def slope(rows: list[list[str]], channel: str) -> float:
    """Fit a line through a channel's complete and ordinary days."""
    days: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row[1] == channel:
            days[row[0]].append(float(row[4]))
    odd = {day for day, where, _ in (SURGE, OUTAGE) if where == channel}
    points = [
        (int(day[-2:]), sum(values))
        for day, values in days.items()
        if len(values) == len(inputs.CATEGORIES) and day not in odd
    ]
    centre, level = mean(x for x, _ in points), mean(y for _, y in points)
    return sum((x - centre) * (y - level) for x, y in points) / sum(
        (x - centre) ** 2 for x, _ in points
    )


def the_sales_are_as_given(workspace: Path) -> str:
    return unchanged(workspace, inputs.FILES, inputs.make)


def the_figures_are_those_of_the_sales(workspace: Path) -> str:
    told, true = read_json(workspace, "metrics.json"), facts()
    for name in ("revenue", "orders", "average_order_value"):
        require_close(name, told.get(name), true[name], 0.001)
    for name in ("refund_rate", "revenue_change"):
        require_close(name, told.get(name), true[name], 0.01)
    for group in ("revenue_by_channel", "revenue_by_category"):
        parts = told[group]
        require(isinstance(parts, dict) and set(parts) == set(true[group]), f"{group}: {parts}")
        for name, value in true[group].items():
            require_close(f"{group}.{name}", parts[name], value, 0.001)
    return f"revenue {true['revenue']:,.0f} from {true['orders']:,} orders"


def every_bad_row_is_left_out_and_no_other(workspace: Path) -> str:
    told = read_json(workspace, "metrics.json")["dropped_lines"]
    true = facts()["dropped_lines"]
    require(isinstance(told, list) and len(told) == len(true), f"dropped_lines is {told}")
    # Of two equal rows, which one is the repetition is a matter of taste.
    near = all(abs(a - b) <= 1 for a, b in zip(sorted(told), true, strict=True))
    require(near, f"dropped_lines is {told}, expected {true}")
    return f"lines {', '.join(map(str, true))}"


def the_anomalies_are_found_and_nothing_else(workspace: Path) -> str:
    told = read_json(workspace, "metrics.json")["anomalies"]
    found = {(event["date"], event["channel"], event["direction"]) for event in told}
    true = {(*SURGE[:2], "high"), (*OUTAGE[:2], "low")}
    require(found == true, f"anomalies are {sorted(found)}, expected {sorted(true)}")
    return ", ".join(f"{day} {channel} {way}" for day, channel, way in sorted(true))


def the_missing_days_are_found(workspace: Path) -> str:
    told = read_json(workspace, "metrics.json")["missing"]
    found = {(gap["date"], gap["channel"]) for gap in told}
    require(found == set(inputs.MISSING), f"missing is {sorted(found)}")
    return ", ".join(f"{day} {channel}" for day, channel in inputs.MISSING)


def the_trends_are_right(workspace: Path) -> str:
    told = read_json(workspace, "metrics.json")["trend"]
    for channel, true in facts()["trend"].items():
        off = abs(told[channel] - true)
        require(
            off <= max(2.0, abs(true) * 0.03), f"trend of {channel}: {told[channel]}, {true:.1f}"
        )
    return ", ".join(f"{name} {value:+.0f}" for name, value in facts()["trend"].items())


def the_charts_show_something(workspace: Path) -> str:
    sizes = [picture(workspace, name).shape for name in CHARTS]
    return ", ".join(f"{width}x{height}" for height, width, _ in sizes)


def says_the_figures(text: str) -> None:
    true = facts()
    require_number(text, "the revenue", true["revenue"], 0.001 * true["revenue"])
    require_number(text, "the orders", true["orders"], 0.5)
    require_number(text, "the refund rate in percent", 100 * true["refund_rate"], 0.06)
    require_number(text, "the change of revenue in percent", 100 * true["revenue_change"], 0.06)
    for name, value in true["revenue_by_channel"].items():
        require_number(text, f"the revenue of {name}", value, 0.001 * value)


def the_report_says_the_figures(workspace: Path) -> str:
    text = read_text(workspace, "report.md")
    says_the_figures(text)
    shown = [name for name in CHARTS if f"]({name})" in text or f"](./{name})" in text]
    require(len(shown) == len(CHARTS), f"report.md shows only {shown}")
    return "revenue, orders, rates, channels, three charts"


def the_report_names_what_happened(workspace: Path) -> str:
    text = read_text(workspace, "report.md")
    for day, _ in ((SURGE[0], 0), (OUTAGE[0], 0), *inputs.MISSING):
        require_words(text, "report.md", day)
    for line in facts()["dropped_lines"]:
        require_words(text, "report.md", str(line), str(line + 1), str(line - 1))
    require_words(text, "report.md", "recommend")
    return "anomalies, missing days, rows left out, recommendations"


def the_page_shows_figures_and_charts_in_a_browser(workspace: Path) -> str:
    with opened(workspace / "report.html") as look:
        says_the_figures(look.page.inner_text("body"))
        pictures = shown_pictures(look.page) + look.page.locator("svg").count()
        require(pictures >= len(CHARTS), f"the page shows {pictures} pictures")
        require_fits(look.page)
        require_quiet(look)
    return f"{pictures} charts, no error, nothing loaded from elsewhere, fits a phone"
