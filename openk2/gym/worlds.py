"""The worlds of `openk2.envs` as problems of several turns: tools act, a scripted user answers.

In practice domains one can train on, held out those that never are. The simple tasks, which are
the default, are one wish that few calls bring about, with few tools on offer, so that a tiny model
succeeds now and then.

In: a seed. Out: tasks as problems; episodes; the verdict of the world's rubric on them.
Must not know: what any domain is about.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from openk2.agent.model import ChatModel, ModelError, Reply
from openk2.envs.catalogue import domain
from openk2.envs.env import Session
from openk2.envs.episode import play
from openk2.envs.oracle import Oracle
from openk2.envs.rubric import score
from openk2.envs.task import read_task
from openk2.gym.problem import Family, Played, Problem
from openk2.gym.world_draw import WorldDraw, problem_of
from openk2.types import FinishReason, Message, Sampling, Usage

_PARTS = ("state", "told", "spoke", "finished", "schema", "no_invented_ids",
          "no_needless_refusals")  # fmt: skip


@dataclass(frozen=True)
class Worlds(Family):
    """Bring about in a world what a user wants."""

    draw: WorldDraw = field(default_factory=WorldDraw)
    """Which tasks."""
    partial: float = 0.0
    """Reward of an episode that does not get there, times `progress`: the share of the needed
    calls that were made, out of all calls that were made or needed. 0 pays for success alone."""
    name: str = "worlds"
    about: str = "Use a few tools in several turns until the world is as the user wants it."
    about_zh: str = "多轮使用少量工具，使世界状态符合用户所求。"

    def problems(self, seed: int, *, held_out: bool = False) -> Iterator[Problem]:
        """Yield tasks without end; a split keeps whole domains together."""
        side = "held_out" if held_out else "practice"
        for solved in self.draw.tasks(f"{self.name}/{seed}/{side}", held_out=held_out):
            yield problem_of(solved, self.name)

    async def play(self, model: ChatModel, problem: Problem, sampling: Sampling) -> Played:
        """Hold the conversation until the user is done, a limit is met, or the budget is spent.

        A conversation that outgrows the model's window ends there, as one whose budget is spent.

        Raises:
            ModelError: The model did not answer.
        """
        session, replies = _session(problem), list[Reply]()
        budget = min(sampling.max_tokens or problem.max_tokens, problem.max_tokens)
        finish: FinishReason | None = None
        try:
            await play(model, session, sampling, replies.append, budget)
        except ModelError as error:
            if error.fault != "too_long" or not replies:
                raise
            finish = "length"
        messages = tuple(session.messages[len(problem.messages) :])
        return Played(messages, finish or replies[-1].finish, _sum(replies))

    def score(self, problem: Problem, messages: Sequence[Message]) -> Mapping[str, float]:
        """Play the assistant's turns again on a fresh world and judge where they lead.

        Returns:
            `reward`; `progress`; the rubric's values.
        """
        session = _session(problem)
        for message in messages:
            if message.role == "assistant" and not session.done:
                session.move(message)
        verdict = score(session)
        progress = _progress(problem, session)
        return {
            "reward": 1.0 if verdict.passed else self.partial * progress,
            "progress": progress,
            **{name: verdict.values[name][0] for name in _PARTS},
        }

    def gold(self, problem: Problem) -> tuple[Message, ...]:
        """Return what the solver that knows says and does, with what answers it."""
        session = _session(problem)
        Oracle(session).play()
        return tuple(session.messages[len(problem.messages) :])

    def hacks(self, problem: Problem) -> Sequence[str]:
        """Return claims that it is done, calls that are only text, and refusals."""
        name, arguments = problem.meta["calls"][-1]
        call = json.dumps({"name": name, "arguments": json.loads(arguments)}, ensure_ascii=False)
        return (
            "Done! Everything is as you wanted it.",
            "已经办好了。",
            call,
            f"<tool_call>{call}</tool_call>",
            f"I called {name} with {arguments}. Anything else?",
            "I'm sorry, I have no tool that can do this.",
            problem.messages[-1].content,
            "?",
        )


def _session(problem: Problem) -> Session:
    task = read_task(problem.meta["task"])
    return Session(domain(task.domain), task)


def _progress(problem: Problem, session: Session) -> float:
    """Return the share of the solution's calls that were made; calls beyond it count against."""
    needed = Counter(_plain(name, arguments) for name, arguments in problem.meta["calls"])
    made = Counter(_plain(done.call.name, done.call.arguments) for done in session.calls)
    return (needed & made).total() / max(needed.total(), made.total())


def _plain(name: str, arguments: str) -> str:
    """Write a call so that equal ones are equal, whatever the order of their arguments."""
    try:
        return f"{name} {json.dumps(json.loads(arguments), sort_keys=True)}"
    except (ValueError, RecursionError):
        return f"{name} {arguments}"


def _sum(replies: Sequence[Reply]) -> Usage:
    return Usage(
        sum(reply.usage.prompt_tokens for reply in replies),
        sum(reply.usage.completion_tokens for reply in replies),
        sum(reply.usage.cached_tokens for reply in replies),
        sum(reply.usage.reasoning_tokens for reply in replies),
    )
