"""How a model might test the ablation: a dash that is no number, a table that does not compile."""

from __future__ import annotations

from examples.turns import call, cell, done, finish, plan, run, turn
from openk2.agent.models.scripted import Turn

COMPILE = "pdflatex -interaction=nonstopmode -halt-on-error appendix.tex | tail -n 12"


def turns() -> list[Turn]:
    """Return the model's decisions."""
    return [*tested(), *typeset()]


def tested() -> list[Turn]:
    """Read the tables and test every variant."""
    return [
        turn(
            "Read, test, write, compile. The page first, as it is.",
            plan(
                ("Read the tables", "all methods, variants and seeds", "tables.json"),
                ("Test every variant", "paired, corrected, with effect sizes", "tests.json"),
                ("Write the appendix", "two tables and what they mean", "appendix.tex"),
                ("Compile it", "pdflatex finds no error", "appendix.pdf"),
            ),
            call("browser", action="open", url="paper.html"),
        ),
        turn(
            "Differences are to be taken within a column, so the tests are paired. One cell is a "
            "dash. Take the tables by their ids.",
            run(cell(__file__, "1_tables.py")),
            after="diverged and has no result",
        ),
        turn(
            "The dash of the run that diverged is no number. It has to stay a gap: the pair is "
            "left out, nothing is put in its place.",
            run(cell(__file__, "2_missing.py")),
            after="could not convert string to float",
        ),
        turn(
            "Now the tests.",
            run(cell(__file__, "3_tests.py")),
            after="NaN",
        ),
    ]


def typeset() -> list[Turn]:
    """Write the appendix and compile it."""
    return [
        turn(
            "Pairing matters: Welch misses the warm-up, the paired test does not. And the auxiliary "
            "loss makes no significant difference, whatever the abstract says. Write it down.",
            done(p1="tables.json, one gap", p2="tests.json, four variants"),
            run(cell(__file__, "4_appendix.py")),
            call("shell", command=COMPILE),
            after="cohens_dz",
        ),
        turn(
            "An ampersand in a variant's name ends a column. Escape it in every place, and compile "
            "again.",
            run(cell(__file__, "5_escape.py")),
            call("shell", command=COMPILE),
            after="(?i)alignment",
        ),
        turn(
            "It compiles. Look whether anything sticks out into the margin, and what the page says.",
            call(
                "shell",
                command="grep -c Overfull appendix.log; "
                "pdftotext -layout appendix.pdf - 2>/dev/null | head -n 25",
            ),
            after="Output written on appendix.pdf",
        ),
        turn(
            "Nothing sticks out.",
            done(p3="two booktabs tables, three paragraphs", p4="one page, no error"),
        ),
        turn(
            "Everything is there.",
            finish(
                "appendix.pdf has both tables. Recycling, gate, and warm-up & decay matter (Holm "
                "p < 0.05); the auxiliary loss does not, against the abstract's claim. Seed 6 of "
                "warm-up & decay diverged and was left out of that pair.",
                "appendix.pdf",
                "appendix.tex",
                "tests.json",
                "tables.json",
            ),
        ),
    ]
