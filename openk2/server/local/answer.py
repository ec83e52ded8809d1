"""One answer: the tokens that a model writes in, events out.

In: tokens, as the engine gives them. Out: `types.Event`s from `PromptRead` to `Finish` and `Usage`.
Must not know: who wrote the tokens, HTTP, or which dialect encodes the events.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from openk2.server.local.stop import StopMatcher
from openk2.text.tokenizer import Tokenizer
from openk2.types import (
    Event,
    Finish,
    FinishReason,
    Logprobs,
    PromptRead,
    Sampling,
    TextDelta,
    TokenLogprob,
    Usage,
)

if TYPE_CHECKING:
    # The engine brings torch, which nobody needs who only reads answers.
    from openk2.engine.request import Token


class Parser(Protocol):
    """What `Answer` needs of a `text.parse.StreamParser`."""

    @property
    def reasoning(self) -> bool:
        """Whether the next ordinary token is a part of the thinking."""
        ...

    @property
    def speaking(self) -> bool:
        """Whether the next ordinary token is a part of the visible text."""
        ...

    @property
    def calls_complete(self) -> bool:
        """Whether the answer has as many tool calls as it may have."""
        ...

    def feed(self, ids: Iterable[int]) -> list[Event]:
        """Return the events that `ids` complete."""
        ...

    def finish(self, reason: FinishReason) -> list[Event]:
        """Flush what waits; the last event is a Finish."""
        ...


class Answer:
    """Turns the tokens of one answer into events, and ends it at a stop string."""

    def __init__(
        self, tokenizer: Tokenizer, parser: Parser, prompt_tokens: int, sampling: Sampling
    ) -> None:
        """Start an answer; `parser` knows what its tokens mean."""
        self._parser = parser
        self._stop = StopMatcher(sampling.stop)
        self._logprobs = _VisibleLogprobs(tokenizer) if sampling.logprobs else None
        self._prompt_tokens = prompt_tokens
        self._completion_tokens = 0
        self._reasoning_tokens = 0
        self._cached_tokens = 0
        self.finished = False

    def feed(self, token: Token) -> Iterator[Event]:
        """Yield the events that `token` completes; after a Finish, `finished` is true."""
        if not self._completion_tokens:
            self._cached_tokens = token.cached_tokens
            yield PromptRead(self._prompt_tokens, self._cached_tokens)
        self._completion_tokens += 1
        thought = self._parser.reasoning
        if self._logprobs is not None and self._parser.speaking:
            self._logprobs.add(token)
        events = self._parser.feed([token.id])
        self._reasoning_tokens += thought or self._parser.reasoning
        yield from self._until_stop(events)
        reason = "stop" if self._parser.calls_complete else token.finish_reason
        if reason is not None and not self.finished:
            yield from self._until_stop(self._parser.finish(reason))

    def usage(self) -> Usage:
        """Count what was read and written so far."""
        return Usage(
            self._prompt_tokens,
            self._completion_tokens,
            self._cached_tokens,
            self._reasoning_tokens,
        )

    def _until_stop(self, events: Iterable[Event]) -> Iterator[Event]:
        for event in events:
            if isinstance(event, TextDelta):
                if self._logprobs is not None:
                    self._logprobs.written += len(event.text)
                yield from self._show(self._stop.feed(event.text))
                if self._stop.match is None:
                    continue
                event = Finish("stop", self._stop.match)
            else:
                yield from self._show(self._stop.flush())
            yield event
            if isinstance(event, Finish):
                self.finished = True
                return

    def _show(self, text: str) -> Iterator[Event]:
        if not text:
            return
        if self._logprobs is not None and (tokens := self._logprobs.show(len(text))):
            yield Logprobs(tokens)
        yield TextDelta(text)


class _VisibleLogprobs:
    """Holds each token back until the first character that it is part of is shown."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._specials = frozenset(tokenizer.specials.values())
        self._waiting: deque[tuple[int, TokenLogprob]] = deque()
        self._shown = 0
        self.written = 0
        """Characters of the visible text so far, those that wait for a stop string included."""

    def add(self, token: Token) -> None:
        """Take a token, before its text is written."""
        if token.id in self._specials:
            return
        spell = self._tokenizer.token_bytes
        top = tuple((spell(rival), logprob) for rival, logprob in token.top)
        self._waiting.append((self.written, TokenLogprob(spell(token.id), token.logprob, top)))

    def show(self, characters: int) -> tuple[TokenLogprob, ...]:
        """Return the tokens of which these next characters are the first to be shown."""
        self._shown += characters
        ready: list[TokenLogprob] = []
        while self._waiting and self._waiting[0][0] < self._shown:
            ready.append(self._waiting.popleft()[1])
        return tuple(ready)
