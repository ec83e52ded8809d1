"""Prices of a made-up share with the history that indicators need, and pages of news about it.

In: a folder and a seed. Out: `prices.csv`, 120 trading days of which the last 30 are asked for;
one day is listed twice, the later row being the correction. The news are documents of a corpus.
Must not know: how indicators are computed or checked.
"""

from __future__ import annotations

import csv
import math
import random
from datetime import date, timedelta
from pathlib import Path

FILES = ("prices.csv",)
COMPANY, TICKER = "Lumen Bank", "LMBK"
LAST = date(2025, 10, 31)
SEED = 3
"""Of the prices that are drawn."""
DAYS, WINDOW = 120, 30
CORRECTED = 20
"""Trading days before the last one, whose first row is wrong."""
DRIFTS = ((60, 0.0004), (82, -0.0035), (94, 0.0010), (112, 0.0080), (120, -0.0050))
"""Until which day the price drifts how: quiet, a fall, a strong rise within the window, a turn."""
NEWS = (
    (
        "lumen-bank-fee-income",
        "2025-10-09",
        "Lumen Bank lifts its forecast on fee income",
        "Lumen Bank (LMBK) raised its full-year forecast: fees from its advisory business grew by "
        "14 %, while net interest income was flat. Analysts called the guidance credible.",
    ),
    (
        "lumen-bank-buyback",
        "2025-10-20",
        "Lumen Bank announces a buy-back of up to 2 % of its shares",
        "The board of Lumen Bank (LMBK) approved a share buy-back of up to two per cent, to be "
        "completed within six months. The programme depends on the regulator's consent.",
    ),
    (
        "banks-reserve-ratio",
        "2025-10-27",
        "Regulator weighs a higher reserve ratio for mid-size banks",
        "A consultation paper proposes a higher reserve ratio for mid-size banks from next year. "
        "Lumen Bank (LMBK) and two peers would be affected; banking shares fell by one per cent.",
    ),
)
UNRELATED = (
    (
        "lumen-lighting-recall",
        "2025-10-22",
        "Lumen Lighting recalls desk lamps",
        "Lumen Lighting, a maker of lamps that has nothing to do with the bank of a similar name, "
        "recalls 40,000 desk lamps because of a faulty switch.",
    ),
    (
        "weather",
        "2025-10-23",
        "A mild autumn keeps energy demand low",
        "Utilities report the lowest October demand in ten years.",
    ),
)


def make(workspace: Path, seed: int = SEED) -> None:
    """Write `prices.csv`."""
    rows = prices(seed)
    wrong = list(rows[-CORRECTED - 1])
    wrong[4] = f"{float(wrong[4]) * 1.06:.2f}"
    wrong[2] = f"{max(float(wrong[2]), float(wrong[4])):.2f}"
    rows.insert(len(rows) - CORRECTED - 1, wrong)
    with (workspace / "prices.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("date", "open", "high", "low", "close", "volume"))
        writer.writerows(rows)


def prices(seed: int) -> list[list[str]]:
    """Draw a walk with the drifts, oldest day first."""
    draw = random.Random(seed)
    days: list[date] = []
    day = LAST
    while len(days) < DAYS:
        if day.weekday() < 5:
            days.append(day)
        day -= timedelta(days=1)
    rows: list[list[str]] = []
    close = 36.0
    for number, day in enumerate(reversed(days)):
        drift = next(drift for until, drift in DRIFTS if number < until)
        opening = close * math.exp(draw.gauss(0, 0.003))
        close = opening * math.exp(draw.gauss(drift, 0.013))
        high = max(opening, close) * (1 + abs(draw.gauss(0, 0.004)))
        low = min(opening, close) * (1 - abs(draw.gauss(0, 0.004)))
        volume = round(draw.gauss(4.2e6, 5e5) * (1 + 30 * abs(close / opening - 1)))
        shown = [f"{value:.2f}" for value in (opening, high, low, close)]
        rows.append([day.isoformat(), *shown, str(volume)])
    return rows


def documents() -> list[dict[str, str]]:
    """Return the pages that a search can find."""
    return [
        {"url": address(name), "title": title, "text": f"{day}\n\n{text}", "lang": "en"}
        for name, day, title, text in (*NEWS, *UNRELATED)
    ]


def address(name: str) -> str:
    """Return a page's address."""
    return f"https://news.example/{name}"
