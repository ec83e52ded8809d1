"""How many tokens of each request a step gives: one, or a burst of them.

In: what a step is about to compute, and how long the last ones took. Out: a number of tokens.
Must not know: how they are computed, or where they go.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

import numpy as np

from openk2.engine.runner import RepeatingRunner, Runner
from openk2.engine.scheduler import Draft, Feed

LONGEST = 16
"""Tokens of a request that one step gives at most."""
SECONDS = 0.02
"""A burst takes about this long at most: streams stay smooth, and a cancelled request ends soon."""


class Pace:
    """Bursts where nobody has to be asked between one token and the next."""

    def __init__(self, runner: Runner, draft: Draft | None, longest: int) -> None:
        """Allow bursts of up to `longest` tokens if the runner can repeat a batch."""
        can_repeat = isinstance(runner, RepeatingRunner) and runner.repeats
        self.runner = runner if isinstance(runner, RepeatingRunner) and can_repeat else None
        """Computes bursts; None if there are none."""
        self.interrupt = np.zeros(1, np.int64)
        """Not 0: somebody wants to be heard, and the burst ends."""
        self._draft = draft
        self._longest = longest
        self._step_seconds = SECONDS / 2

    def took(self, seconds: float, steps: int) -> None:
        """Learn how long decoding took."""
        self._step_seconds = seconds / steps

    def steps(self, feeds: Sequence[Feed], filled: Container[int]) -> int:
        """Count for how many tokens nobody has to be asked and there is time; 0 if for none.

        Args:
            feeds: All that is running.
            filled: Requests whose grammar has said what it allows next.
        """
        hurried, self.interrupt[0] = bool(self.interrupt[0]), 0
        if self.runner is None or hurried:
            return 0
        steps = max(1, min(self._longest, int(SECONDS / self._step_seconds)))
        for feed in feeds:
            request, mask = feed.request, feed.request.mask
            decodes = feed.count == feed.wanted == 1
            allowed = mask is None or (mask.until is not None and request.id in filled)
            if not (decodes and allowed and request.state.steady):
                return 0
            steps = min(steps, request.max_new - request.generated)
            if self._draft is not None and mask is None:
                steps = min(steps, self._draft.patience(request))
        return steps
