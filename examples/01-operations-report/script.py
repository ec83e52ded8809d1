"""How a model might write the report: one look that fails, then clean, count, draw, tell, check."""

from __future__ import annotations

from examples.turns import call, cell, done, finish, plan, reacting, run, turn
from openk2.agent.models.scripted import Turn

REPORT = ("report.html", "report.md", "metrics.json")


def turns() -> list[Turn]:
    """Return the model's decisions."""
    return [
        turn(
            "Four results: clean figures, charts, a report, and a page that I have looked at.",
            plan(
                ("Count October", "figures agree with the sales", "metrics.json"),
                ("Draw charts", "three charts with labels", "charts/daily_revenue.png"),
                ("Write the report", "figures and findings are in it", "report.md"),
                ("Make one page of it", "it opens without errors", "report.html"),
            ),
            call("list_files"),
        ),
        turn(
            "Look at the file before anything else.",
            run(cell(__file__, "1_first_look.py")),
            after="sales.csv",
        ),
        turn(
            "A revenue is the word 'pending', so there are rows that cannot be true. Find all of "
            "them by rule instead of one by one, and keep their line numbers.",
            run(cell(__file__, "2_clean.py")),
            after="could not convert string to float",
        ),
        turn(
            "Three rows are out, two days of the store are missing, and two days stand out. The "
            "figures next.",
            run(cell(__file__, "3_metrics.py")),
            after="left out:",
        ),
        turn(
            "Charts in one palette, with the anomalies marked and the gap shaded.",
            done(p1="metrics.json is written from the cleaned rows"),
            run(cell(__file__, "4_charts.py")),
        ),
        turn(
            "The report in Markdown, and the same as one page.",
            done(p2="three charts are in charts/"),
            run(cell(__file__, "5_report.py")),
            after="daily_revenue.png",
        ),
        turn(
            "Look at the page as a reader would.",
            call("browser", action="open", url="report.html"),
            after="# Operations report",
        ),
        reacting(
            "The page opens. Keep a picture of it and end.",
            lambda seen: [
                call("browser", action="screenshot"),
                done(p3="report.md has figures and findings", p4=seen[-1].splitlines()[0]),
            ],
            after="Operations report, October 2025",
        ),
        turn("Everything is there and was looked at.", finish(SUMMARY, *REPORT)),
    ]


SUMMARY = (
    "October's report is in report.html (and report.md). Three rows of sales.csv were left out, two "
    "days of the store are missing, and two days stand out: a surge of the web shop on 2025-10-11 and "
    "an outage of the app on 2025-10-23."
)
