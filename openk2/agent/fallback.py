"""Tools of one capability stand in for each other; one that keeps failing rests for some steps.

In: tools, how their calls went, the number of the step. Out: what to offer, what to run instead,
and what to tell the model about it.
Time is counted in steps, not seconds, so that a replay rests the same tools.
Must not know: what a tool does, or who calls it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jsonschema_rs

from openk2.agent.tool import ErrorKind, Tool

State = Literal["closed", "open", "half_open"]
BREAKS: frozenset[ErrorKind] = frozenset({"unavailable", "timeout"})
"""What says something about the tool; other errors are the model's, a rule's or the work's."""


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """When a tool rests, and for how long."""

    failures: int = 3
    """Calls in a row that found the tool unavailable or too slow until it rests."""
    rest_steps: int = 10
    """Steps that it rests; then one call tries it."""

    def __post_init__(self) -> None:
        """Refuse a breaker that never closes or always opens.

        Raises:
            ValueError: A number is below 1.
        """
        if self.failures < 1 or self.rest_steps < 1:
            raise ValueError("failures and rest_steps must be 1 or more")


@dataclass(frozen=True, slots=True)
class Breaker:
    """How one tool has been lately."""

    failures: int = 0
    """In a row."""
    opened_at: int | None = None
    """The step in which it began to rest."""

    def state(self, step: int, settings: BreakerSettings) -> State:
        """Say whether a call may go through: open, it may not; half open, one may try."""
        if self.opened_at is None:
            return "closed"
        return "open" if step < self.opened_at + settings.rest_steps else "half_open"

    def after(self, error: ErrorKind | None, step: int, settings: BreakerSettings) -> Breaker:
        """Return the breaker after a call.

        Args:
            error: Why the call brought nothing; None if it brought something.
            step: The step of the call.
            settings: When it opens.
        """
        if error not in BREAKS:
            # A refused or mistaken call never reached the tool: it proves nothing.
            return Breaker() if error in (None, "failed") else self
        failures = self.failures + 1
        trial = self.state(step, settings) == "half_open"
        if trial or (self.opened_at is None and failures >= settings.failures):
            return Breaker(failures, step)
        return dataclasses.replace(self, failures=failures)


class Health:
    """How all tools have been lately: only what recorded results tell."""

    def __init__(self, settings: BreakerSettings = BreakerSettings()) -> None:
        """Begin with every tool in good health."""
        self.settings = settings
        self._breakers: dict[str, Breaker] = {}

    def of(self, name: str) -> Breaker:
        """Return a tool's breaker."""
        return self._breakers.get(name, Breaker())

    def state(self, name: str, step: int) -> State:
        """Say whether a tool may be called in this step."""
        return self.of(name).state(step, self.settings)

    def record(self, name: str, error: ErrorKind | None, step: int) -> bool:
        """Take over how a call went; return whether the tool begins to rest.

        Args:
            name: The tool's.
            error: Why the call brought nothing; None if it brought something.
            step: The step of the call.
        """
        before = self.of(name)
        after = self._breakers[name] = before.after(error, step, self.settings)
        return after.opened_at == step and before.opened_at != step

    def rests_until(self, name: str) -> int | None:
        """Return the step in which a resting tool may be tried again."""
        opened = self.of(name).opened_at
        return None if opened is None else opened + self.settings.rest_steps


def peers(tool: Tool, tools: Sequence[Tool], health: Health, step: int) -> list[Tool]:
    """List the others of its capability that may be called, the healthiest and cheapest first."""
    others = [
        other
        for other in tools
        if tool.capability
        and other.capability == tool.capability
        and other.name != tool.name
        and health.state(other.name, step) != "open"
    ]
    return sorted(others, key=lambda other: _rank(other, health, step))


def offer(tools: Sequence[Tool], health: Health, step: int) -> list[Tool]:
    """Return the tools to show to the model, in a stable order.

    A resting tool is not shown while another of its capability can do its work; without one it
    stays, so that the model learns from the refusal when to try again. Within a capability the
    healthiest and cheapest comes first, in the places that the capability has: all else stays
    where it is, for the server's prefix cache.

    Args:
        tools: All there are.
        health: How they have been.
        step: The step that comes now.
    """
    groups: dict[str, list[Tool]] = {}
    for tool in tools:
        if tool.capability:
            groups.setdefault(tool.capability, []).append(tool)
    for group in groups.values():
        group.sort(key=lambda tool: _rank(tool, health, step))
    shown: list[Tool] = []
    for place in tools:
        tool = groups[place.capability].pop(0) if place.capability else place
        resting = health.state(tool.name, step) == "open"
        if not (resting and peers(tool, tools, health, step)):
            shown.append(tool)
    return shown


def stand_in(
    tool: Tool,
    arguments: Mapping[str, Any],
    error: ErrorKind,
    tools: Sequence[Tool],
    health: Health,
    step: int,
) -> Tool | None:
    """Return the tool that can be run at once with the same arguments, if there is one.

    Args:
        tool: What failed, or rests.
        arguments: What it was called with.
        error: Why; a tool that changes something and timed out may have done so already.
        tools: All there are.
        health: How they have been.
        step: The step that goes on.
    """
    if error not in BREAKS or (tool.writes and error == "timeout"):
        return None
    for other in peers(tool, tools, health, step):
        # Only what was allowed to change something may be replaced by what changes something.
        if _takes(other, tool, arguments) and (tool.writes or not other.writes):
            return other
    return None


def refusal(tool: Tool, tools: Sequence[Tool], health: Health, step: int) -> str | None:
    """Return why a call is not made in this step; None if it may be made."""
    until = health.rests_until(tool.name)
    if until is None or health.state(tool.name, step) != "open":
        return None
    rest = (
        f"{tool.name} failed {health.of(tool.name).failures} times in a row and rests until "
        f"step {until}."
    )
    return f"{rest} {alternatives(tool, tools, health, step)}"


def alternatives(tool: Tool, tools: Sequence[Tool], health: Health, step: int) -> str:
    """Say to the model what it can use instead of a tool that failed or rests."""
    others = peers(tool, tools, health, step)
    if not others:
        return "Nothing else here does the same: go on with what does not need it, or try later."
    names = ", ".join(other.name for other in others)
    return f"For the same purpose there is {names}, with arguments of its own."


def stood_in(tool: Tool, reason: str, other: Tool) -> str:
    """Return the note that goes before the result of a stand-in.

    Args:
        tool: What was called.
        reason: Why it brought nothing.
        other: What was run instead.
    """
    return (
        f"[{tool.name} brought nothing ({reason}). {other.name} was called with the same arguments "
        "instead; its result may differ in source, age or form.]"
    )


def _rank(tool: Tool, health: Health, step: int) -> tuple[int, float, str]:
    order: dict[State, int] = {"closed": 0, "half_open": 1, "open": 2}
    return order[health.state(tool.name, step)], tool.cost, tool.name


def _takes(other: Tool, tool: Tool, arguments: Mapping[str, Any]) -> bool:
    """Say whether arguments for one tool mean the same to another: same needs, and they fit."""
    needed = set(tool.spec.parameters.get("required", ()))
    if needed != set(other.spec.parameters.get("required", ())):
        return False
    known = other.spec.parameters.get("properties", {})
    return arguments.keys() <= known.keys() and jsonschema_rs.is_valid(
        dict(other.spec.parameters), dict(arguments)
    )
