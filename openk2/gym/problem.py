"""What a problem is, and what a family of problems can do.

In: a seed; a model that answers. Out: problems; conversations; scores by name.
Must not know: how problems are chosen, what is learned from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from openk2.agent.model import ChatModel, ModelRequest
from openk2.evals.benchmark import ask_within
from openk2.types import FinishReason, Message, Sampling, ToolSpec, Usage

HELD_OUT_SHARE = 0.1
"""Part of the keys that practice never sees. The smallest families have some hundred keys, and
must keep a few for measuring."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem: what the model reads, and all that scoring needs."""

    id: str
    """Unique among the problems of all families and seeds."""
    family: str
    key: str
    """What a hold-out split keeps together: problems that are the same but for their wording."""
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    max_tokens: int = 256
    """Budget of everything that the policy emits."""
    meta: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """JSON: all that scoring needs. `level` is how hard it is within its family, from 1."""


@dataclass(frozen=True, slots=True)
class Played:
    """What came after a problem's messages."""

    messages: tuple[Message, ...]
    """The model's turns, and what was said and done in between."""
    finish: FinishReason
    """Of the last turn of the model; `length`: the budget ran out."""
    usage: Usage
    """The sum over all turns."""


async def ask_once(model: ChatModel, problem: Problem, sampling: Sampling) -> Played:
    """Put a problem to a model and take the one turn that comes.

    Args:
        model: Who answers.
        problem: Its `max_tokens` bounds the turn, even where `sampling` allows more.
        sampling: How tokens are drawn.

    Raises:
        ModelError: The model did not answer.
    """
    budget = min(sampling.max_tokens or problem.max_tokens, problem.max_tokens)
    within = replace(sampling, max_tokens=budget)
    request = ModelRequest(problem.messages, problem.tools, sampling=within)
    reply = await ask_within(model, request)
    return Played((reply.message,), reply.finish, reply.usage)


class Family(Protocol):
    """Problems of one kind, without end or until they run out.

    A family that inherits from this class asks once; one that plays several turns says how.
    """

    name: str
    about: str
    """One sentence, English."""
    about_zh: str

    def problems(self, seed: int, *, held_out: bool = False) -> Iterator[Problem]:
        """Yield problems; the same seed gives the same ones.

        Args:
            seed: Any number.
            held_out: Yield only those whose keys practice never sees, instead of all the others.
        """
        ...

    async def play(self, model: ChatModel, problem: Problem, sampling: Sampling) -> Played:
        """Hold the conversation.

        Raises:
            ModelError: The model did not answer.
        """
        return await ask_once(model, problem, sampling)

    def score(self, problem: Problem, messages: Sequence[Message]) -> Mapping[str, float]:
        """Say what the messages after the problem's own are worth.

        Returns:
            `reward`, from 0 to 1, and what it is made of.
        """
        ...

    def gold(self, problem: Problem) -> tuple[Message, ...]:
        """Return messages that score 1."""
        ...

    def hacks(self, problem: Problem) -> Sequence[str]:
        """Return answers that look for a reward without the work; each scores 0."""
        ...
