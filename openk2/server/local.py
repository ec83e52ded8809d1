"""The engine in this process as a backend: requests in, events out.

In: a source of tokens, a tokenizer, `ChatRequest`s. Out: `Generation`s.
Must not know: HTTP, JSON bodies, or which dialect asked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from openk2.engine.request import Token
from openk2.engine.sampler import Mask, derive_seed, seed_of
from openk2.server.answer import Answer
from openk2.server.errors import ApiError
from openk2.server.http import body_limit
from openk2.server.merge import merge
from openk2.server.prompt import (
    ContextOverflowError,
    Prompt,
    check_fits,
    check_size,
    declared_tools,
    longest_token,
    read_prompt,
)
from openk2.server.request import ChatRequest, Model
from openk2.server.routing import unknown_model
from openk2.text.tokenizer import Tokenizer
from openk2.types import Event, Finish, Message, Sampling


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

    def generate(
        self, prompt_ids: Sequence[int], sampling: Sampling, mask: Mask | None = None
    ) -> TokenStream:
        """Queue a request."""
        ...


class LocalBackend:
    """Answers with an engine in this process."""

    def __init__(
        self,
        source: TokenSource,
        tokenizer: Tokenizer,
        model_id: str,
        *,
        thinking: bool = False,
        isolate: bool = False,
    ) -> None:
        """Answer as one model.

        Args:
            source: The engine's async front; the caller starts and closes it.
            tokenizer: The vocabulary that the model was trained with.
            model_id: The name that clients use.
            thinking: Write conversations in the Thinking template and not in Instruct's.
            isolate: Sessions never read what another one has left in the cache.
        """
        self._source = source
        self._tokenizer = tokenizer
        self._thinking = thinking
        self._isolate = isolate
        self._longest_token = longest_token(tokenizer)
        self._model = Model(model_id, source.max_len, int(time.time()), reasoning=thinking)

    @property
    def alive(self) -> bool:
        """Whether the engine takes requests."""
        return self._source.alive

    @property
    def models(self) -> Sequence[Model]:
        """The one model."""
        return (self._model,)

    @property
    def max_body(self) -> int:
        """The largest request body in bytes: more could not fit the context window."""
        return body_limit(self._model.context_length, self._longest_token)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Warm the model up; nothing is left to do afterwards."""
        # The first pass through a model allocates and picks kernels; no client should wait for it.
        greeting = ChatRequest((Message("user", "Hello"),), Sampling(1.0, max_tokens=2))
        generation = await self.prepare(greeting)
        async with aclosing(generation.events()) as events:
            async for _ in events:
                pass
        yield

    async def prepare(self, request: ChatRequest) -> LocalGeneration:
        """Render and check the prompt; other answers go on meanwhile.

        Raises:
            ApiError: The request cannot be answered: unknown model, too long, unusable schema.
        """
        return await asyncio.to_thread(self._prepare, request)

    async def count_tokens(self, request: ChatRequest) -> int:
        """Count the tokens of the prompt.

        Raises:
            ApiError: The model is unknown.
        """
        self._check_model(request.model)
        prompt = await asyncio.to_thread(self._read, request)
        return len(prompt.ids)

    def _prepare(self, request: ChatRequest) -> LocalGeneration:
        self._check_model(request.model)
        window = self._model.context_length
        try:
            check_size(request.messages, declared_tools(request), self._longest_token, window)
            prompt = self._read(request)
            check_fits(prompt, request.sampling, window)
        except ContextOverflowError as error:
            field = "messages" if error.prompt_too_long else request.limit_field
            raise ApiError(
                400, f"{field}: {error}.", param=field, code="context_length_exceeded"
            ) from None
        sampling = request.sampling
        if not self._isolate:
            sampling = replace(sampling, cache_key=None)
        return LocalGeneration(
            self._source,
            self._tokenizer,
            self._model.id,
            prompt,
            sampling,
            n=request.n,
            max_calls=_max_calls(request),
        )

    def _read(self, request: ChatRequest) -> Prompt:
        return read_prompt(request, self._tokenizer, thinking=self._thinking)

    def _check_model(self, name: str | None) -> None:
        if name is not None and name != self._model.id:
            raise unknown_model(name, self.models)


def _max_calls(request: ChatRequest) -> int | None:
    if not declared_tools(request):
        return 0
    return None if request.parallel_tool_calls else 1


@dataclass(frozen=True, slots=True)
class LocalGeneration:
    """A request that the engine can answer."""

    source: TokenSource
    tokenizer: Tokenizer
    model: str
    prompt: Prompt
    sampling: Sampling
    n: int = 1
    max_calls: int | None = None
    """How many tools each answer may call; None: any number."""
    warnings: tuple[str, ...] = ()

    async def events(self) -> AsyncGenerator[tuple[int, Event], None]:
        """Stream the answers as (choice, event); closing the stream cancels them all."""
        answers = [self._answer(sampling) for sampling in self._samplings()]
        async with aclosing(merge(answers) if len(answers) > 1 else _alone(answers[0])) as events:
            async for choice, event in events:
                yield choice, event

    def _samplings(self) -> list[Sampling]:
        if self.n == 1:
            return [self.sampling]
        seed64 = seed_of(self.sampling.seed)
        return [replace(self.sampling, seed=derive_seed(seed64, i)) for i in range(self.n)]

    async def _answer(self, sampling: Sampling) -> AsyncGenerator[Event, None]:
        # The engine writes one token at least: an answer of none only warms the cache.
        read_only = sampling.max_tokens == 0
        if read_only:
            sampling = replace(sampling, max_tokens=1)
        answer = Answer(self.tokenizer, self.prompt, sampling, max_calls=self.max_calls)
        async with aclosing(self.source.generate(self.prompt.ids, sampling)) as tokens:
            async for token in tokens:
                for event in answer.feed(token):
                    yield event
                    if read_only:
                        break
                if answer.finished or read_only:
                    break
        if read_only:
            yield Finish("length")
            yield replace(answer.usage(), completion_tokens=0, reasoning_tokens=0)
            return
        yield answer.usage()


async def _alone(events: AsyncGenerator[Event, None]) -> AsyncGenerator[tuple[int, Event], None]:
    async with aclosing(events):
        async for event in events:
            yield 0, event
