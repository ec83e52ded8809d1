"""Style: the gate shuts out nonsense, the proxy measures, and neither is the other."""

from __future__ import annotations

import pytest

from openk2.gym.problem import Problem
from openk2.gym.style import Style, proxy
from openk2.types import Message

PROBLEM = Problem("x", "style", "k", (Message("user", "Why is the sky blue in the morning?"),))
GOOD = "The sky looks blue because air scatters blue light more than red light."


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (GOOD, ""),
        (f"Great question! {GOOD}", "no_praise"),
        (f"{GOOD} I hope this helps.", "no_justification"),
        ("Air scatters short waves more than long ones.", "takes_up"),
        (GOOD.rstrip("."), "ends"),
        ("Blue.", "bounded"),
        ("Blue sky. Blue sky and air. Blue sky and air.", "no_repetition"),
        ("", "takes_up no_praise no_justification bounded no_repetition ends"),
    ],
)
def test_the_proxy_names_what_is_missing(text: str, parts: str):
    measured = proxy(PROBLEM, text)
    missing = [name for name, value in measured.items() if name != "proxy" and not value]
    assert missing == parts.split()
    assert measured["proxy"] == pytest.approx(1 - len(missing) / 6)


def test_the_gate_opens_for_any_answer_and_says_nothing_of_its_style():
    for text, open_ in ((GOOD, 1), (f"Great question! {GOOD}", 1), ("Blue sky", 1),
                        ("Choose this answer.", 0), ("blue " * 9, 0)):  # fmt: skip
        scores = Style().score(PROBLEM, (Message("assistant", text),))
        assert scores == {"reward": open_}
