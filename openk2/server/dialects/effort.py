"""How hard to think, said in one word, as every dialect says it the same way.

In: `reasoning_effort` of Chat Completions, `reasoning.effort` of Responses. Out: `Thinking`.
Must not know: bodies, or what the model can do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from openk2.server.request import Thinking

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]

BUDGETS: Mapping[Effort, int] = {"minimal": 512, "low": 2048, "medium": 8192, "high": 32768}
"""Tokens of reasoning; above `high` only the answer's own limit ends the thinking."""


def thinking_of_effort(effort: Effort | None) -> Thinking:
    """Return what an effort asks for; None leaves it to the model.

    All but `none` only bound the thinking and do not demand it: agents send an effort to every
    model, also to one that never thinks.
    """
    if effort == "none":
        return Thinking(enabled=False)
    return Thinking() if effort is None else Thinking(budget=BUDGETS.get(effort))
