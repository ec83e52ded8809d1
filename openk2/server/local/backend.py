"""The engine in this process as a backend: requests in, events out.

In: a source of tokens, a tokenizer, `ChatRequest`s. Out: `Generation`s.
Must not know: HTTP, JSON bodies, or which dialect asked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from openk2.engine.request import Token
from openk2.engine.sampler import Mask, derive_seed, seed_of
from openk2.grammar.answer import Grammar
from openk2.server.errors import ApiError
from openk2.server.http import body_limit
from openk2.server.local.answer import Answer, Parser
from openk2.server.local.prompt import (
    ContextOverflowError,
    Prompt,
    check_fits,
    check_size,
    declared_tools,
    longest_token,
    read_prompt,
)
from openk2.server.local.strict import compile_request, start, vocabulary_of
from openk2.server.merge import merge, merge_pieces
from openk2.server.request import ChatRequest, Model
from openk2.server.routing import unknown_model
from openk2.text.parse import StreamParser
from openk2.text.template import CALL_BEGIN, SECTION_BEGIN
from openk2.text.tokenizer import Tokenizer
from openk2.types import Event, Finish, Message, PromptRead, Sampling, Usage

NEVER = -100.0
"""The bias of a token that is not to be written, where nothing else needs a grammar."""

SMALL_PROMPT = 4096
"""Characters that are rendered where they are, between two tokens of other answers."""

INSTRUCT_TEMPERATURE, THINKING_TEMPERATURE = 0.6, 1.0
"""What Kimi recommends for K2 Instruct and for K2 Thinking."""


class TokenStream(Protocol):
    """The tokens of one answer; closing it cancels the request."""

    def __aiter__(self) -> AsyncIterator[Token]:
        """Iterate once."""
        ...

    def ready(self) -> list[Token]:
        """Take the tokens that can be had without waiting."""
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
        self.tokenizer = tokenizer
        """The vocabulary."""
        self._thinking = thinking
        self._isolate = isolate
        self.longest_token = longest_token(tokenizer)
        """Bytes of the vocabulary's longest token."""
        self._vocabulary = vocabulary_of(tokenizer)
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
        return body_limit(self._model.context_length, self.longest_token)

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
        if _is_small(request):
            return self._prepare(request)
        return await asyncio.to_thread(self._prepare, request)

    async def count_tokens(self, request: ChatRequest) -> int:
        """Count the tokens of the prompt.

        Raises:
            ApiError: The model is unknown.
        """
        self.check_model(request.model)
        prompt = await asyncio.to_thread(self._read, request)
        return len(prompt.ids)

    def _prepare(self, request: ChatRequest) -> LocalGeneration:
        self.check_model(request.model)
        window = self._model.context_length
        try:
            check_size(request.messages, declared_tools(request), self.longest_token, window)
            prompt = self._read(request)
            check_fits(prompt, request.sampling, window)
        except ContextOverflowError as error:
            field = request.prompt_field if error.prompt_too_long else request.limit_field
            raise ApiError(
                400,
                f"{field}: {error}.",
                param=field,
                code="context_length_exceeded",
                overflow=error.overflow,
            ) from None
        grammar = None
        if self._vocabulary is not None:
            grammar = compile_request(request, prompt, self._vocabulary)
        mask = self._mask(grammar, prompt, request)
        sampling = self.at_temperature(request.sampling, default=request.default_temperature)
        if grammar is None:
            sampling = self._without_calls(sampling)
        plans = tuple(
            Plan(prompt.ids, own, partial(self._parser, prompt, request), mask)
            for own in self.samplings(sampling, request.n)
        )
        warnings = () if grammar is None else grammar.warnings
        return self.generation(plans, warnings)

    def generation(
        self, plans: tuple[Plan, ...], warnings: tuple[str, ...] = ()
    ) -> LocalGeneration:
        """Return what writes these answers."""
        return LocalGeneration(self._source, self.tokenizer, self._model.id, plans, warnings)

    def _without_calls(self, sampling: Sampling) -> Sampling:
        """Keep a model from calling tools that it was not given: the answer would be empty."""
        asked = dict(sampling.logit_bias)
        ids = (self.tokenizer.specials.get(name) for name in (SECTION_BEGIN, CALL_BEGIN))
        banned = {token: NEVER for token in ids if token is not None}
        return replace(sampling, logit_bias=tuple((asked | banned).items()))

    def _mask(
        self, grammar: Grammar | None, prompt: Prompt, request: ChatRequest
    ) -> Callable[[], Mask | None]:
        limit = request.sampling.max_tokens
        if grammar is None or limit == 0:
            return _no_mask
        room = self._model.context_length - len(prompt.ids)
        begin = partial(start, grammar, room if limit is None else limit, request)
        begin()  # refuses what cannot be obeyed while there is still a status to say it with
        return begin

    def at_temperature(self, sampling: Sampling, *, default: bool) -> Sampling:
        """Return the settings, at the model's own temperature if the client chose none."""
        if not default:
            return sampling
        temperature = THINKING_TEMPERATURE if self._thinking else INSTRUCT_TEMPERATURE
        return replace(sampling, temperature=temperature)

    def samplings(self, sampling: Sampling, n: int) -> list[Sampling]:
        """Return the settings of each choice: they differ in their seeds."""
        if not self._isolate:
            sampling = replace(sampling, cache_key=None)
        if n == 1:
            return [sampling]
        seed64 = seed_of(sampling.seed)
        return [replace(sampling, seed=derive_seed(seed64, i)) for i in range(n)]

    def _parser(self, prompt: Prompt, request: ChatRequest) -> StreamParser:
        return StreamParser(
            self.tokenizer,
            first_call_index=prompt.first_call_index,
            thinking=prompt.thinking == "inside",
            max_calls=_max_calls(request),
        )

    def _read(self, request: ChatRequest) -> Prompt:
        return read_prompt(request, self.tokenizer, thinking=self._thinking)

    def check_model(self, name: str | None) -> None:
        """Refuse a model that is not here.

        Raises:
            ApiError: 404.
        """
        if name is not None and name != self._model.id:
            raise unknown_model(name, self.models)


def _is_small(request: ChatRequest) -> bool:
    """Whether it takes longer to wake a thread than to render the prompt."""
    plain = not request.tools and request.answer_format is None
    return plain and sum(len(message.content) for message in request.messages) <= SMALL_PROMPT


def _max_calls(request: ChatRequest) -> int | None:
    if not declared_tools(request):
        return 0
    return None if request.parallel_tool_calls else 1


def _no_mask() -> Mask | None:
    return None


@dataclass(frozen=True, slots=True)
class Plan:
    """One answer that the engine is going to write."""

    ids: tuple[int, ...]
    """The prompt."""
    sampling: Sampling
    parser: Callable[[], Parser]
    mask: Callable[[], Mask | None] = _no_mask
    """What the answer may hold."""


@dataclass(frozen=True, slots=True)
class LocalGeneration:
    """A request that the engine can answer."""

    source: TokenSource
    tokenizer: Tokenizer
    model: str
    plans: tuple[Plan, ...]
    """One per choice."""
    warnings: tuple[str, ...] = ()

    async def events(self) -> AsyncGenerator[tuple[int, Event], None]:
        """Stream the answers as (choice, event); closing the stream cancels them all."""
        answers = [self._answer(plan) for plan in self.plans]
        async with aclosing(merge(answers) if len(answers) > 1 else _alone(answers[0])) as events:
            async for choice, event in events:
                yield choice, event

    async def _answer(self, plan: Plan) -> AsyncGenerator[Event, None]:
        if plan.sampling.max_tokens == 0:
            only_read = self._read_prompt(plan)
            async with aclosing(only_read):
                async for event in only_read:
                    yield event
            return
        answer = Answer(self.tokenizer, plan.parser(), len(plan.ids), plan.sampling)
        tokens = self.source.generate(plan.ids, plan.sampling, plan.mask())
        async with aclosing(tokens):
            async for token in tokens:
                # What is there at once is told at once: each piece costs its reader time.
                for event in _told(answer, [token, *tokens.ready()]):
                    yield event
                if answer.finished:
                    break
        yield answer.usage()

    async def _read_prompt(self, plan: Plan) -> AsyncGenerator[Event, None]:
        """Put the prompt into the cache; the engine writes a token at least, which is dropped."""
        sampling = replace(plan.sampling, max_tokens=1)
        async with aclosing(self.source.generate(plan.ids, sampling)) as tokens:
            async for token in tokens:
                read = len(plan.ids), token.cached_tokens
                yield PromptRead(*read)
                yield Finish("length")
                yield Usage(read[0], 0, read[1])
                return


def _told(answer: Answer, tokens: Sequence[Token]) -> list[Event]:
    """Return the events that `tokens` complete, up to the answer's end."""
    events: list[tuple[int, Event]] = []
    for token in tokens:
        events += [(0, event) for event in answer.feed(token)]
        if answer.finished:
            break
    return [event for _, event in (merge_pieces(events) if len(tokens) > 1 else events)]


async def _alone(events: AsyncGenerator[Event, None]) -> AsyncGenerator[tuple[int, Event], None]:
    async with aclosing(events):
        async for event in events:
            yield 0, event
