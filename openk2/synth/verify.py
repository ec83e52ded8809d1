"""Verification: a conversation is worth something if it happens again on a fresh world, and passes.

In: a trajectory. Out: the verdict, or why it is rejected. Must not know: how it was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from openk2.envs.domain import Domain
from openk2.envs.env import Session
from openk2.envs.rubric import Verdict, score
from openk2.synth.trajectories import Trajectory
from openk2.types import HistoryError, Message, validate_history


@dataclass(frozen=True, slots=True)
class Checked:
    """What verification found."""

    verdict: Verdict | None
    rejected: str = ""
    """Why it must not be used; empty if it may."""


def verify(one: Trajectory, domain: Domain) -> Checked:
    """Replay a conversation's assistant turns on a fresh world and judge what comes of it.

    Args:
        one: The conversation.
        domain: Made anew from its description, or at least not touched since.
    """
    session = Session(domain, one.task, fresh=True)
    start = len(session.messages)
    if tuple(session.messages) != one.messages[:start]:
        return Checked(None, "its beginning is not the task's")
    at = start
    while at < len(one.messages):
        if session.done or one.messages[at].role != "assistant":
            return Checked(None, f"message {at} does not follow")
        answers = session.move(one.messages[at])
        if answers != one.messages[at + 1 : at + 1 + len(answers)]:
            return Checked(None, f"message {at} is answered differently on a fresh world")
        at += 1 + len(answers)
    try:
        validate_history(one.messages)
    except HistoryError as error:
        return Checked(None, str(error))
    verdict = score(session)
    failed = [name for name, (value, _) in verdict.values.items() if value < 1]
    return Checked(verdict, f"failed: {', '.join(failed)}" if failed else "")


def spoken(messages: Sequence[Message]) -> str:
    """Return what people and the model said, without results and reasoning."""
    return "\n".join(m.content for m in messages if m.role in ("user", "assistant") and m.content)
