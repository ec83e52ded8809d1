"""How a model might analyse the share: quotes that do not answer, a window that is too short."""

from __future__ import annotations

import re

from examples.turns import call, cell, done, finish, plan, reacting, run, turn
from openk2.agent.models.scripted import Turn


def turns() -> list[Turn]:
    """Return the model's decisions."""
    return [*computed(), *shown()]


def computed() -> list[Turn]:
    """Compute the indicators and read the news."""
    return [
        turn(
            "Try the quotes server first; the file is there if it does not answer.",
            plan(
                ("Compute the indicators", "30 days, from the whole history", "indicators.csv"),
                ("Draw the chart", "it opens, and answers to the mouse", "chart.html"),
                ("Write the summary", "figures, news, both sides", "summary.md"),
            ),
            call("fetch", url="https://quotes.example/LMBK.csv"),
        ),
        turn(
            "No live quotes. The goal names prices.csv for that case.",
            run(cell(__file__, "1_window_only.py")),
            after="quotes.example",
        ),
        turn(
            "RSI is undefined on half of the window, because it was computed from the window alone. "
            "Compute over all days, with Wilder's averages, and cut the window afterwards.",
            run(cell(__file__, "2_indicators.py")),
            after="undefined on 14 of 30",
        ),
        turn(
            "Two crossings in the window. Now what the news say.",
            done(p1="indicators.csv, 30 days without a gap"),
            call("web_search", query="Lumen Bank LMBK October 2025"),
            after="crossings",
        ),
        reacting(
            "Read what is about the bank.",
            lambda seen: [call("fetch", url=url) for url in addresses(seen[-1])],
            after="news.example",
        ),
    ]


def shown() -> list[Turn]:
    """Draw the chart and write the summary."""
    return [
        turn(
            "Candlesticks, MACD and RSI over one axis of time.",
            run(cell(__file__, "3_chart.py")),
        ),
        turn(
            "Does it open, and does it draw?",
            call("browser", action="open", url="chart.html"),
            call("browser", action="screenshot"),
            after="chart.html written",
        ),
        reacting(
            "It does. The summary, with the news that name the bank by its ticker: a maker of lamps "
            "has a similar name.",
            lambda seen: run(f"news = {news(seen)!r}\n{cell(__file__, '4_summary.py')}"),
        ),
        turn(
            "Figures, crossings, news and both sides are in it.",
            done(p2="chart.html opened in the browser without errors", p3="summary.md"),
            after="not investment advice",
        ),
        turn(
            "Done.",
            finish(
                "MACD crossed its signal upwards and, at the end of October, downwards; RSI was above "
                "70 for days and is back in the middle. chart.html is interactive, summary.md weighs "
                "both sides. Quotes did not answer, so prices.csv was used.",
                "chart.html",
                "summary.md",
                "indicators.csv",
            ),
        ),
    ]


def addresses(found: str) -> list[str]:
    """Return the addresses of search results that could be about the bank."""
    urls = dict.fromkeys(re.findall(r"https://news\.example/[\w-]+", found))
    return [url for url in urls if "bank" in url]


def news(seen: list[str]) -> str:
    """Write a list of the pages that name the share."""
    lines: dict[str, None] = {}
    for page in seen:
        address = re.search(r"https://news\.example/[\w-]+", page)
        day = re.search(r"2025-10-\d\d", page)
        if address and day and "LMBK" in page and page.count("https://news.example/") == 1:
            title = page.strip().splitlines()[0]
            lines[f"- {day[0]}: {title} ({address[0]})"] = None
    return "\n".join(sorted(lines))
