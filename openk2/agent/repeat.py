"""The guard against going in circles.

A call that brings the same result again has told the model all it will. The guard looks at the
calls so far as a sequence of (call, result) and stops a call *before* it would complete the n-th
repetition of a cycle of one to four calls with unchanged results. A call whose result changes
(a job that is polled, tests after an edit) never counts.

In: calls and digests of their results. Out: go on, go on with a reminder, or blocked.
Must not know: tools, models, or how a call is run.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["go", "remind", "block"]


@dataclass(frozen=True, slots=True)
class RepeatLimits:
    """When a repetition is too much."""

    block_at: int = 5
    """The execution that is not carried out: the fifth identical one. Users of other agents report
    loops of 76 and more identical calls; polling needs a few."""
    remind_at: int = 3
    """The execution after which the model is told that it repeats itself."""
    longest_cycle: int = 4
    """Calls in the longest cycle that is looked for."""
    most_calls: int = 60
    """Times that one call may be carried out in a run whatever it brings: a clock in its output
    would hide a loop for ever."""
    blocked_calls: int = 6
    """Blocked calls after which the run ends."""


@dataclass(slots=True)
class RepeatGuard:
    """Watches the calls of one run."""

    limits: RepeatLimits = RepeatLimits()
    blocked: int = 0
    """Calls that were not carried out since the last one that was."""
    _counts: Counter[str] = field(default_factory=Counter[str])
    _history: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def check(self, call: str) -> Verdict:
        """Say whether this call may be carried out.

        Args:
            call: Digest of the tool's name and arguments.
        """
        periods = range(1, self.limits.longest_cycle + 1)
        repetitions, period = max((self._repetitions(call, period), period) for period in periods)
        if self._counts[call] >= self.limits.most_calls:
            self.blocked += 1
            return "block"
        if repetitions + 1 >= self.limits.block_at:
            self.blocked += 1
            # As if it had brought the same again: the rest of the cycle is stopped too.
            self._remember(call, self._history[-period][1])
            return "block"
        return "remind" if repetitions + 1 >= self.limits.remind_at else "go"

    def _repetitions(self, call: str, period: int) -> int:
        """Count how often the cycle that this call would complete was gone through already."""
        history = self._history
        if len(history) < period or history[-period][0] != call:
            return 0
        # The call would give what it gave one period ago: compare the past with itself, shifted.
        matching = 0
        index = len(history) - 1
        while index - period >= 0 and history[index] == history[index - period]:
            matching += 1
            index -= 1
        return (matching + period) // period

    def ran(self, call: str, result: str) -> None:
        """Remember a call that was carried out.

        Args:
            call: Digest of the tool's name and arguments.
            result: Digest of what it brought.
        """
        self.blocked = 0
        self._counts[call] += 1
        self._remember(call, result)

    def _remember(self, call: str, result: str) -> None:
        self._history.append((call, result))
        del self._history[: -self.limits.block_at * self.limits.longest_cycle * 2]

    @property
    def hopeless(self) -> bool:
        """Whether the model keeps asking for calls that are not carried out."""
        return self.blocked >= self.limits.blocked_calls
