"""How a model might study remote work and pay: a formula that fails, then two models side by side."""

from __future__ import annotations

from examples.turns import call, cell, done, finish, plan, run, turn
from openk2.agent.models.scripted import Turn


def turns() -> list[Turn]:
    """Return the model's decisions."""
    return [
        turn(
            "Seniority may drive both remote work and pay: describe, test, model twice, draw, tell.",
            plan(
                ("Describe and test the groups", "all rows counted", "summary.json"),
                ("Fit both models", "robust errors", "regression.csv"),
                ("Draw in one palette", "violin, box, scatter", "charts/*.png"),
                ("Write the report", "effects, confounding, limits", "report.html"),
            ),
            run(cell(__file__, "1_load.py")),
        ),
        turn(
            "Formulas know no `log`. Take the logarithm as a column first; then both models.",
            run(cell(__file__, "2_models.py")),
            after="name 'log' is not defined",
        ),
        turn(
            "22 % more without, 4 % with everything else held equal: most of the plain difference "
            "is experience. Draw that, too.",
            done(p1="summary.json, 130,000 rows", p2="regression.csv, HC1 errors"),
            run(cell(__file__, "3_charts.py")),
            after="adjusted",
        ),
        turn(
            "Now the report, in both forms.",
            done(p3="three charts, one palette"),
            run(cell(__file__, "4_report.py")),
            after="violin.png",
        ),
        turn(
            "Look at the page.",
            call("browser", action="open", url="report.html"),
            call("browser", action="screenshot", full_page=True),
            after="# Remote work and pay",
        ),
        turn("It reads well.", done(p4="report.html opened without errors")),
        turn(
            "Done.",
            finish(
                "Fully remote people earn 22 % more; held equal in experience and the rest, 4 % are "
                "left, and half-remote goes with 2 % less. report.html shows why: experience drives "
                "both.",
                "report.html",
                "report.md",
                "regression.csv",
                "summary.json",
            ),
        ),
    ]
