"""Two months of a shop's daily sales, with facts planted that a good report finds.

In: a folder and a seed. Out: `sales.csv`.
Must not know: how the report is made or checked.
"""

from __future__ import annotations

import csv
import math
import random
from datetime import date, timedelta
from pathlib import Path

FILES = ("sales.csv",)
FIRST, LAST = date(2025, 9, 1), date(2025, 10, 31)
MONTH = "2025-10"

CHANNELS = {"web": (62, 0.000), "app": (44, 0.010), "store": (36, -0.006)}
"""Orders per day and category on the first of October, and their growth per day within it."""
CATEGORIES = {"skincare": (1.25, 168), "makeup": (1.0, 142), "fragrance": (0.45, 325)}
"""Share of orders, and an order's usual value."""

SURGE = ("2025-10-11", "web", 3.1)
"""A campaign: orders are this many times as many."""
OUTAGE = ("2025-10-23", "app", 0.10)
MISSING = (("2025-10-17", "store"), ("2025-10-18", "store"))
"""Days on which a channel reported nothing."""

HEADER = ("date", "channel", "category", "orders", "revenue", "refunds", "new_customers")


def make(workspace: Path, seed: int = 11) -> None:
    """Write `sales.csv`, one row per day, channel and category."""
    draw = random.Random(seed)
    rows: list[list[str]] = []
    for number in range((LAST - FIRST).days + 1):
        day = FIRST + timedelta(days=number)
        for channel in CHANNELS:
            if (day.isoformat(), channel) not in MISSING:
                rows += [sales(draw, day, channel, category) for category in CATEGORIES]
    spoil(rows)
    with (workspace / "sales.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows(rows)


def sales(draw: random.Random, day: date, channel: str, category: str) -> list[str]:
    """Draw one row."""
    base, growth = CHANNELS[channel]
    share, value = CATEGORIES[category]
    level = base * share * math.exp(growth * (day - date(2025, 10, 1)).days)
    if day.month == 9:
        level *= 0.94
    if day.weekday() >= 5:
        level *= 1.18 if channel == "store" else 1.08
    for when, where, factor in (SURGE, OUTAGE):
        if (day.isoformat(), channel) == (when, where):
            level *= factor
    orders = max(1, round(draw.gauss(level, 0.06 * level)))
    revenue = orders * value * draw.gauss(1, 0.03)
    refunds = revenue * max(0.0, draw.gauss(0.042 if category == "makeup" else 0.021, 0.006))
    new = round(orders * min(1.0, max(0.0, draw.gauss(0.31 if channel == "app" else 0.22, 0.03))))
    amounts = [str(orders), f"{revenue:.2f}", f"{refunds:.2f}", str(new)]
    return [day.isoformat(), channel, category, *amounts]


def spoil(rows: list[list[str]]) -> None:
    """Plant a value that is no number, a negative one, and a repeated row, all in October."""
    october = [index for index, row in enumerate(rows) if row[0].startswith(MONTH)]
    rows[october[40]][4] = "pending"
    rows[october[131]][4] = "-" + rows[october[131]][4]
    rows.insert(october[200] + 1, list(rows[october[200]]))
