"""One generation: a conversation in, one stream of events out, whatever API dialect asked.

In: messages, tools, sampling; a source of tokens. Out: `types.Event`s ending in Finish, Usage.
Must not know: HTTP, JSON, or which dialect encodes the events.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from openk2.server.stop import StopMatcher
from openk2.text.parse import StreamParser
from openk2.text.template import declare_tools, next_call_index, render
from openk2.text.tokenizer import Tokenizer
from openk2.types import Event, Finish, Message, Sampling, TextDelta, ToolSpec, Usage

if TYPE_CHECKING:
    # The engine brings torch, which `openk2 chat --base-url` has no use for.
    from openk2.engine.request import Token


class TokenStream(Protocol):
    """The tokens of one answer; closing it cancels the request."""

    def __aiter__(self) -> AsyncIterator[Token]:
        """Iterate once."""
        ...

    async def aclose(self) -> None:
        """Cancel what is left."""
        ...


class TokenSource(Protocol):
    """The part of `EngineThread` that a generation needs."""

    @property
    def max_len(self) -> int:
        """The context window: prompt and answer together."""
        ...

    @property
    def alive(self) -> bool:
        """Whether it takes requests."""
        ...

    def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> TokenStream:
        """Queue a request."""
        ...


class ContextOverflowError(ValueError):
    """Prompt and answer do not fit into the context window together."""

    def __init__(
        self, prompt_tokens: int, max_tokens: int | None, window: int, *, estimated: bool = False
    ) -> None:
        """Say all numbers; `estimated` if the prompt is known to be at least that long."""
        asked = "" if max_tokens is None else f" and {max_tokens} for the answer"
        room = window - prompt_tokens
        advice = (
            "shorten the conversation"
            if room < 1
            else f"ask for at most {room} or shorten the conversation"
        )
        super().__init__(
            f"the context window holds {window} tokens, but the request needs "
            f"{'at least ' if estimated else ''}{prompt_tokens} for the messages and tools{asked}; "
            f"{advice}"
        )
        self.prompt_too_long = room < 1


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation as the model reads it."""

    ids: tuple[int, ...]
    first_call_index: int
    """K2 numbers tool calls over the whole conversation; this answer's first call gets this one."""


def read_prompt(
    messages: Sequence[Message],
    tools: Sequence[ToolSpec],
    tokenizer: Tokenizer,
    *,
    thinking: bool = False,
) -> Prompt:
    """Render a conversation into the ids after which the model answers.

    Raises:
        ValueError: `thinking`, and the tokenizer has no tokens to think between.
    """
    ids = render(messages, tools, tokenizer, thinking=thinking)
    return Prompt(tuple(ids), next_call_index(messages))


def longest_token(tokenizer: Tokenizer) -> int:
    """Return the size in bytes of the vocabulary's longest ordinary token."""
    specials = set(tokenizer.specials.values())
    ordinary = (token for token in range(tokenizer.vocab_size) if token not in specials)
    return max(len(tokenizer.token_bytes(token)) for token in ordinary)


def check_size(
    messages: Sequence[Message], tools: Sequence[ToolSpec], longest_token: int, window: int
) -> None:
    """Refuse, without tokenizing it, a text that cannot fit however well it is tokenized.

    Raises:
        ContextOverflowError: With the least number of tokens that the text can have.
    """
    texts = [declare_tools(tools)] if tools else []
    for message in messages:
        texts += [message.content, *(call.arguments for call in message.tool_calls)]
    least = sum(len(text.encode()) for text in texts) // longest_token
    if least >= window:
        raise ContextOverflowError(least, None, window, estimated=True)


def check_fits(prompt: Prompt, sampling: Sampling, window: int) -> None:
    """Refuse what cannot be answered in full.

    Raises:
        ContextOverflowError: The prompt, or the prompt plus `max_tokens`, exceeds `window`.
    """
    if len(prompt.ids) + (sampling.max_tokens or 1) > window:
        raise ContextOverflowError(len(prompt.ids), sampling.max_tokens, window)


async def generate(
    source: TokenSource,
    tokenizer: Tokenizer,
    prompt: Prompt,
    sampling: Sampling,
    *,
    max_calls: int | None = None,
) -> AsyncGenerator[Event, None]:
    """Stream one answer; closing the stream cancels it in the engine.

    With `max_calls`, the answer ends after so many tool calls; with 0 it has none.
    """
    answer = Answer(tokenizer, prompt, sampling.stop, max_calls=max_calls)
    async with aclosing(source.generate(prompt.ids, sampling)) as tokens:
        async for token in tokens:
            for event in answer.feed(token):
                yield event
            if answer.finished:
                break
    yield answer.usage()


class Answer:
    """Turns the tokens of one answer into events, and ends it at a stop string."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt: Prompt,
        stops: Sequence[str],
        *,
        max_calls: int | None = None,
    ) -> None:
        """Start an answer to `prompt` that ends before any of `stops` and after `max_calls`."""
        self._parser = StreamParser(
            tokenizer, first_call_index=prompt.first_call_index, max_calls=max_calls
        )
        self._stop = StopMatcher(stops)
        self._prompt_tokens = len(prompt.ids)
        self._completion_tokens = 0
        self._cached_tokens = 0
        self.finished = False

    def feed(self, token: Token) -> Iterator[Event]:
        """Yield the events that `token` completes; after a Finish, `finished` is true."""
        self._completion_tokens += 1
        self._cached_tokens = token.cached_tokens
        yield from self._until_stop(self._parser.feed([token.id]))
        reason = "stop" if self._parser.calls_complete else token.finish_reason
        if reason is not None and not self.finished:
            yield from self._until_stop(self._parser.finish(reason))

    def usage(self) -> Usage:
        """Count what was read and written so far."""
        return Usage(self._prompt_tokens, self._completion_tokens, self._cached_tokens)

    def _until_stop(self, events: Iterable[Event]) -> Iterator[Event]:
        for event in events:
            if isinstance(event, TextDelta):
                if text := self._stop.feed(event.text):
                    yield TextDelta(text)
                if self._stop.matched:
                    event = Finish("stop")
                else:
                    continue
            elif text := self._stop.flush():
                yield TextDelta(text)
            yield event
            if isinstance(event, Finish):
                self.finished = True
                return
