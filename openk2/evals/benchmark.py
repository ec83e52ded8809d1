"""What a benchmark is: cases, how a model answers one, and what an answer is worth.

In: the folder of data packs. Out: cases; messages of a model; scores by name.
Must not know: how many cases run at once, where answers are kept, how scores are shown.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from openk2.agent.model import ChatModel, ModelError, ModelRequest, Reply
from openk2.agent.models.retry import ask_with_patience
from openk2.types import FinishReason, Message, Sampling, ToolCall, ToolSpec, Usage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Scores = Mapping[str, float]
"""What one answer is worth, by the metric's name; a metric that does not apply to it is absent.
A name that begins with `_` is a count that derived metrics are made of, and is not shown."""


@dataclass(frozen=True, slots=True)
class Case:
    """One question of a benchmark and what is right."""

    id: str
    group: str
    """The part of the benchmark that it counts for: a report has a row for each."""
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: Literal["auto", "none", "required"] = "auto"
    gold: Any = None
    """JSON that only the benchmark's own scorer reads."""
    meta: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """JSON that answering or scoring needs beyond the question."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came after a case's messages."""

    messages: tuple[Message, ...]
    """The model's turns; where there are several, what was said and done in between, too."""
    finish: FinishReason
    usage: Usage
    """The sum over all turns."""
    seconds: float

    @property
    def text(self) -> str:
        """The visible text of the last turn of the model."""
        return next((m.content for m in reversed(self.messages) if m.role == "assistant"), "")

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The calls of all turns."""
        return tuple(call for message in self.messages for call in message.tool_calls)


@dataclass(frozen=True, slots=True)
class AskSettings:
    """How a model is asked. The same settings and seed ask the same again."""

    temperature: float = 0.0
    """0: the most likely answer. Public leaderboards are made with 0 or nearly so."""
    top_p: float = 1.0
    """Tokens are drawn from the likeliest that together have this probability."""
    max_tokens: int | None = None
    """Most tokens of one turn; None: what the benchmark says."""
    max_steps: int = 20
    """Most turns of the model for one message of the user, where it acts step by step: BFCL's."""
    seed: int = 0
    """Of the sample of cases and of what is drawn; the n-th sample of a case has `seed + n`."""

    def sampling(self, benchmark_max_tokens: int) -> Sampling:
        """Say the same to a model."""
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            max_tokens=self.max_tokens or benchmark_max_tokens,
        )


Means = Mapping[str, "NDArray[np.float64]"]
"""Each metric's mean over the cases that have it, for several samples of the cases at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A named set of cases with its way of answering and scoring."""

    name: str
    about: str
    """One sentence, English."""
    about_zh: str
    licence: str
    source: str
    """Repository and commit that the packs come from."""
    packs: tuple[str, ...]
    """Its files, relative to the folder of data packs."""
    headline: str
    """The metric that a report names first."""
    cases: Callable[[Path], Iterable[Case]]
    """Read all cases from the folder of data packs, in an order that never changes."""
    score: Callable[[Case, Answer], Scores]
    answer: Callable[[Case, ChatModel, AskSettings], Awaitable[Answer]]
    """Put a case to a model; `ask_once()` makes one for a single turn.
    It raises what the model raises."""
    failed: Scores
    """The scores of a case that the model did not answer: the request failed or did not fit."""
    derived: Mapping[str, Callable[[Means], NDArray[np.float64]]] = field(
        default_factory=dict[str, Callable[[Means], "NDArray[np.float64]"]]
    )
    """Metrics that are not means but made of means, such as F1."""
    total: bool = True
    """Whether a score over all groups means something; BFCL says that it does not."""
    samples: int = 1
    """How often each case is asked by default; with more than one, pass@k is reported."""


LEAST_ROOM = 32
"""Tokens of an answer below which a question is too long."""


async def ask_within(model: ChatModel, request: ModelRequest) -> Reply:
    """Ask; where prompt and answer together exceed the window, ask for a shorter answer.

    Raises:
        ModelError: The model did not answer, or the window leaves no room for an answer.
    """
    try:
        return await ask_with_patience(model, request)
    except ModelError as error:
        room = model.context_window - await model.count_tokens(request)
        wanted = request.sampling.max_tokens if request.sampling else None
        if error.fault != "too_long" or wanted is None or not LEAST_ROOM <= room < wanted:
            raise
    sampling = replace(request.sampling or Sampling(), max_tokens=room)
    return await ask_with_patience(model, replace(request, sampling=sampling))


def ask_once(max_tokens: int = 512) -> Callable[[Case, ChatModel, AskSettings], Awaitable[Answer]]:
    """Make a benchmark's `answer` that asks once and takes what comes.

    Args:
        max_tokens: Most tokens of an answer, unless the settings say otherwise.
    """

    async def answer(case: Case, model: ChatModel, settings: AskSettings) -> Answer:
        began = time.monotonic()
        reply = await ask_within(
            model,
            ModelRequest(
                case.messages, case.tools, case.tool_choice, settings.sampling(max_tokens)
            ),
        )
        return Answer((reply.message,), reply.finish, reply.usage, time.monotonic() - began)

    return answer


def in_order(cases: Iterable[Case]) -> Iterator[Case]:
    """Yield cases and check that no two have one id.

    Raises:
        ValueError: Two have.
    """
    seen: set[str] = set()
    for case in cases:
        if case.id in seen:
            raise ValueError(f"two cases have the id {case.id!r}; an answer would count for both")
        seen.add(case.id)
        yield case
