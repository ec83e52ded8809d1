"""The page about the sandbox lists what is tried, and what each mechanism does about it."""

from __future__ import annotations

from pathlib import Path

from tests.agent.sandbox.attempts import ATTEMPTS, MECHANISMS
from tests.agent.sandbox.test_exhaustion import FLOODS

PAGE = Path(__file__).resolve().parents[3] / "docs" / "concepts" / "sandbox.md"


def rows() -> list[str]:
    """Return the rows of the page's table."""
    lines = [
        [attempt.what, *("open" if name in attempt.open_in else "✔" for name in MECHANISMS)]
        for attempt in ATTEMPTS
    ]
    for flood in FLOODS:
        bounded = "✔ ¹" if flood.needs_group else "✔"
        lines.append(
            [flood.what, *("open" if name in flood.open_in else bounded for name in MECHANISMS)]
        )
    return [f"| {' | '.join(cells)} |" for cells in lines]


def test_the_table_is_what_the_tests_try():
    lines = PAGE.read_text("utf-8").splitlines()
    start = lines.index("| attempt | bubblewrap | Landlock, namespaces | Landlock alone |") + 2
    table = lines[start : start + len(rows())]
    assert table == rows(), "\n".join(rows())
    assert not lines[start + len(rows())].startswith("|")


def test_there_are_enough_of_them_and_each_is_another():
    whats = [attempt.what for attempt in ATTEMPTS] + [flood.what for flood in FLOODS]
    names = [attempt.name for attempt in ATTEMPTS] + [flood.name for flood in FLOODS]
    assert len(set(names)) == len(names)
    assert len(set(whats)) == len(whats) >= 40
