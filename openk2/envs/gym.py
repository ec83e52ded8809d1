"""The classic form of an environment: `reset(seed)` and `step(action)` with a reward.

The names and tuples are those of Gymnasium, which is not needed: a loop written for it works. The
reward is 0 until the end, where it is the rubric's score.

In: a domain and its tasks. Out: observations as text, rewards. Must not know: policies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openk2.envs.domain import Domain
from openk2.envs.env import Session
from openk2.envs.rubric import score
from openk2.envs.task import Task
from openk2.types import Message, ToolCall

Action = str | Sequence[ToolCall]


class WorldGym:
    """Tasks of one domain as episodes."""

    def __init__(self, domain: Domain, tasks: Sequence[Task]) -> None:
        """Hold the tasks; the seed of a reset chooses among them.

        Raises:
            ValueError: There is no task.
        """
        if not tasks:
            raise ValueError("there are no tasks: give at least one")
        self.domain, self.tasks = domain, tasks
        self._episode = 0
        self._session: Session | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[list[Message], dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: Chooses the task; none takes the next one.
            options: `{"task": i}` names a task by its place.

        Returns:
            The conversation so far, and the tools that are offered.
        """
        place = self._episode if seed is None else seed
        if options is not None:
            place = int(options.get("task", place))
        self._episode = place + 1
        self._session = Session(self.domain, self.tasks[place % len(self.tasks)])
        return list(self._session.messages), {"tools": self._session.tools}

    def step(self, action: Action) -> tuple[list[Message], float, bool, bool, dict[str, Any]]:
        """Say something, or make calls.

        Returns:
            What answers it, the reward, whether the episode ended, whether it was cut off, and
            the rubric's values at the end.

        Raises:
            ValueError: There is no episode, or it is over.
        """
        session = self._session
        if session is None:
            raise ValueError("there is no episode yet: call reset first")
        said = isinstance(action, str)
        answers = session.move(
            Message("assistant", action if said else "", tool_calls=() if said else tuple(action))
        )
        if not session.done:
            return list(answers), 0.0, False, False, {}
        verdict = score(session)
        values = {name: value for name, (value, _) in verdict.values.items()}
        return list(answers), verdict.score, session.user.done, bool(session.cut_off), values
