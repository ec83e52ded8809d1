"""What a run may use: steps, tokens, money, time, errors in a row.

In: what was used so far. Out: whether to go on, to warn, or to ask for a last answer.
Must not know: who spends it. The clock comes in as a number, so a replay sees the same one.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TypeVar

from openk2.types import Usage

WARN_AT = 0.8
"""Share of a limit at which the model is told."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a run, its sub-agents included, may use; None is without limit."""

    steps: int | None = 300
    """Model answers. 300 is what K2 Thinking's agentic evaluations allow."""
    tokens: int | None = None
    """Prompt and completion tokens of all requests together."""
    cost: int | None = None
    """Millionths of the model's currency."""
    seconds: float | None = None
    """Time at work; the pause between an interruption and a resumption does not count."""
    errors: int | None = 10
    """Failed calls without a successful one between them."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What was used so far."""

    steps: int = 0
    tokens: int = 0
    cost: int = 0
    seconds: float = 0.0
    errors: int = 0
    """Failed calls since the last successful one."""

    def plus_reply(self, usage: Usage, cost: int) -> Spent:
        """Add one answer of the model."""
        tokens = usage.prompt_tokens + usage.completion_tokens
        return dataclasses.replace(
            self, steps=self.steps + 1, tokens=self.tokens + tokens, cost=self.cost + cost
        )

    def plus_call(self, *, failed: bool) -> Spent:
        """Add one tool call."""
        return dataclasses.replace(self, errors=self.errors + 1 if failed else 0)

    def plus_child(self, child: Spent) -> Spent:
        """Add what a sub-agent used; its steps and time are its own, its tokens and money ours."""
        return dataclasses.replace(
            self, tokens=self.tokens + child.tokens, cost=self.cost + child.cost
        )


@dataclass(frozen=True, slots=True)
class Use:
    """How far one limit is used."""

    name: str
    share: float
    text: str
    """For people and the model: `steps 240 of 300`."""


def uses(limits: Limits, spent: Spent) -> list[Use]:
    """List how far each limit is used, the most used first."""
    found: list[Use] = []
    for field in dataclasses.fields(limits):
        limit = getattr(limits, field.name)
        if limit is None:
            continue
        used = getattr(spent, field.name)
        share = used / limit if limit else 1.0
        found.append(Use(field.name, share, _text(field.name, used, limit)))
    return sorted(found, key=lambda use: -use.share)


def _text(name: str, used: float, limit: float) -> str:
    if name == "cost":
        return f"cost {used / 1e6:.4f} of {limit / 1e6:.4f}"
    if name == "seconds":
        return f"time {used:.0f} of {limit:.0f} s"
    if name == "errors":
        return f"errors in a row {used:.0f} of {limit:.0f}"
    return f"{name} {used:,} of {limit:,}"


def exhausted(limits: Limits, spent: Spent) -> Use | None:
    """Return the limit that is used up, if one is."""
    return next((use for use in uses(limits, spent) if use.share >= 1.0), None)


def newly_low(limits: Limits, spent: Spent, warned: frozenset[str]) -> list[Use]:
    """Return the limits of which 80 % are used and that the model was not warned of.

    Args:
        limits: The limits.
        spent: What was used so far.
        warned: Names of limits that were warned of before.
    """
    return [use for use in uses(limits, spent) if use.share >= WARN_AT and use.name not in warned]


def share(limits: Limits, spent: Spent, parts: int, wanted: Limits | None = None) -> Limits:
    """Give a sub-agent its part of what is left.

    The parts are fixed when the sub-agents start, so that siblings cannot take from each other and
    a replay divides as the run did.

    Args:
        limits: The parent's limits.
        spent: What the parent used so far.
        parts: How many sub-agents share the rest.
        wanted: The sub-agent's own limits; the smaller of both holds.
    """
    wanted = wanted or Limits()
    tokens = _part(limits.tokens, spent.tokens, parts)
    cost = _part(limits.cost, spent.cost, parts)
    left = None if limits.seconds is None else max(0.0, limits.seconds - spent.seconds)
    return Limits(
        steps=_smaller(wanted.steps, limits.steps),
        tokens=_smaller(wanted.tokens, tokens),
        cost=_smaller(wanted.cost, cost),
        seconds=_smaller(wanted.seconds, left),
        errors=_smaller(wanted.errors, limits.errors),
    )


def _part(limit: int | None, used: int, parts: int) -> int | None:
    return None if limit is None else max(0, limit - used) // parts


Number = TypeVar("Number", int, float)


def _smaller(one: Number | None, other: Number | None) -> Number | None:
    return other if one is None else one if other is None else min(one, other)
