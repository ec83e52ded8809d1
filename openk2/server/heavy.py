"""Heavy mode: several attempts at one request, and one answer made of them.

In: a `ChatRequest` with `trajectories` above 1, and a backend for ordinary requests. Out: one
answer's events, its usage the sum of all.
Must not know: who writes the answers, HTTP, dialects.

All attempts get the same prompt and different seeds. Without tools, the model then reads them side
by side and writes the final answer. With tools, attempts may end in calls, and calls cannot be
blended: the calls on which most attempts agree are the answer, as they were first made. Where
most attempts answer in words, only those are read, and the final answer has no calls.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from openk2.server.errors import ApiError
from openk2.server.request import Backend, ChatRequest, Generation, Model
from openk2.text.parse import assemble
from openk2.types import (
    Event,
    Logprobs,
    Message,
    PromptRead,
    ReasoningDelta,
    Sampling,
    Usage,
)

LEAST_SHOWN = 64
"""Characters of an attempt below which it says nothing."""

ASK = (
    "Above is the conversation. {count} independent attempts at the next answer follow. They may "
    "contain mistakes and disagree. Compare them, find out what is right, and write the best final "
    "answer to the conversation. Write only that answer and do not mention the attempts."
)
"""What the model is told before it reads the attempts."""


class HeavyBackend:
    """Adds heavy mode to a backend."""

    def __init__(self, backend: Backend) -> None:
        """Make attempts with `backend`."""
        self._backend = backend

    @property
    def alive(self) -> bool:
        """Whether it takes requests."""
        return self._backend.alive

    @property
    def models(self) -> Sequence[Model]:
        """What is behind it."""
        return self._backend.models

    async def prepare(self, request: ChatRequest) -> Generation:
        """Make ready for all attempts at once, or for the one answer of an ordinary request.

        Raises:
            ApiError: The request cannot be answered, or not by several attempts.
        """
        if request.trajectories == 1:
            return await self._backend.prepare(request)
        if request.partial:
            path = f"messages[{len(request.messages) - 1}].partial"
            problem = "heavy mode cannot continue a message; ask without heavy"
            raise ApiError(400, f"{path}: {problem}.", param=path)
        attempts = await self._backend.prepare(_attempts_at(request))
        return _HeavyGeneration(self._backend, request, attempts)

    async def count_tokens(self, request: ChatRequest) -> int:
        """Count the tokens of the prompt that every attempt reads.

        Raises:
            ApiError: The model is unknown, or the count cannot be had.
        """
        return await self._backend.count_tokens(request)


def _attempts_at(request: ChatRequest) -> ChatRequest:
    sampling = replace(request.sampling, logprobs=False, top_logprobs=0)
    if sampling.temperature == 0:  # attempts that cannot differ are one attempt
        sampling = replace(sampling, temperature=Sampling().temperature)
    return replace(request, sampling=sampling, n=request.trajectories, trajectories=1)


@dataclass(slots=True)
class _Attempt:
    events: list[Event] = field(default_factory=lambda: list[Event]())

    @property
    def message(self) -> Message:
        return assemble(self.events)

    @property
    def outcome(self) -> str:
        """What two attempts have in common that agree; empty if it is an answer in words."""
        calls = [(call.name, _canonical(call.arguments)) for call in self.message.tool_calls]
        return json.dumps(sorted(calls)) if calls else ""

    @property
    def usage(self) -> Usage:
        return next((e for e in self.events if isinstance(e, Usage)), Usage(0, 0))


def _canonical(arguments: str) -> str:
    try:
        return json.dumps(json.loads(arguments), sort_keys=True)
    except (ValueError, RecursionError):
        return arguments


def majority(outcomes: Sequence[str]) -> str:
    """Return the most frequent outcome; the earliest of those that are equally frequent."""
    return max(outcomes, key=outcomes.count)


@dataclass(frozen=True, slots=True)
class _HeavyGeneration:
    backend: Backend
    request: ChatRequest
    attempts: Generation

    @property
    def model(self) -> str:
        return self.attempts.model

    @property
    def warnings(self) -> Sequence[str]:
        return self.attempts.warnings

    async def events(self) -> AsyncGenerator[tuple[int, Event], None]:
        """Stream the progress of the attempts, then the one answer."""
        attempts = [_Attempt() for _ in range(self.request.trajectories)]
        async with aclosing(self._attempt(attempts)) as progress:
            async for event in progress:
                yield 0, event
        chosen = majority([attempt.outcome for attempt in attempts])
        agreeing = [attempt for attempt in attempts if attempt.outcome == chosen]
        spent = _spent([attempt.usage for attempt in attempts])
        final = None if chosen else await self._reading(agreeing)
        if final is None:
            for event in _told_again(agreeing[0], spent):
                yield 0, event
            return
        yield 0, ReasoningDelta("Writing the final answer.\n")
        async with aclosing(final.events()) as events:
            async for _, event in events:
                if isinstance(event, Usage):
                    event = _sum(spent, event)
                if not isinstance(event, PromptRead):
                    yield 0, event

    async def _attempt(self, attempts: list[_Attempt]) -> AsyncGenerator[Event, None]:
        """Fill in the attempts; the client sees when the prompt was read and each one's end."""
        begun, done = False, 0
        async with aclosing(self.attempts.events()) as events:
            async for choice, event in events:
                attempts[choice].events.append(event)
                if isinstance(event, PromptRead) and not begun:
                    begun = True
                    yield event
                if isinstance(event, Usage):
                    done += 1
                    yield ReasoningDelta(f"Attempt {done} of {len(attempts)} is done.\n")

    async def _reading(self, attempts: Sequence[_Attempt]) -> Generation | None:
        """Ask for the final answer; None if not even the beginnings of the attempts fit."""
        texts = [attempt.message.content for attempt in attempts]
        asked = self.request.sampling.max_tokens
        # An answer of as yet unknown length: about that of the attempts.
        room = max(attempt.usage.completion_tokens for attempt in attempts)
        window = _window(self.backend.models, self.request.model)
        shown = max(map(len, texts))
        while True:
            request = _final(self.request, [text[:shown] for text in texts])
            tokens = await self.backend.count_tokens(request)
            if tokens + (room if asked is None else asked) <= window:
                return await self.backend.prepare(request)
            shown //= 2
            if shown < LEAST_SHOWN:
                return None


def _final(request: ChatRequest, texts: Sequence[str]) -> ChatRequest:
    shown = "\n\n".join(f"## Attempt {i}\n\n{text}" for i, text in enumerate(texts, start=1))
    ask = Message("user", f"{ASK.format(count=len(texts))}\n\n{shown}")
    return replace(
        request, messages=(*request.messages, ask), tool_choice="none", trajectories=1, n=1
    )


def _window(models: Sequence[Model], name: str | None) -> int:
    return next((m for m in models if m.id == name), models[0]).context_length


def _told_again(attempt: _Attempt, spent: Usage) -> Iterator[Event]:
    for event in attempt.events:
        if isinstance(event, Usage):
            # This attempt's own tokens are the answer, not thinking about it.
            thought = spent.reasoning_tokens - event.completion_tokens + event.reasoning_tokens
            event = replace(spent, reasoning_tokens=thought)
        if not isinstance(event, PromptRead | Logprobs):
            yield event


def _spent(usages: Sequence[Usage]) -> Usage:
    """Add up the attempts: one prompt that was read once, and all that was written is thinking."""
    written = sum(usage.completion_tokens for usage in usages)
    cached = min(usage.cached_tokens for usage in usages)
    return Usage(usages[0].prompt_tokens, written, cached, reasoning_tokens=written)


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(
        one.prompt_tokens + other.prompt_tokens,
        one.completion_tokens + other.completion_tokens,
        one.cached_tokens + other.cached_tokens,
        one.reasoning_tokens + other.reasoning_tokens,
    )
