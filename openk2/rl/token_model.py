"""One episode's conversation with the policy, in the tokens that it really wrote.

In: turns, through the `ChatModel` protocol that agents, worlds and evals speak. Out: the events of
each answer, and the episode as segments. Must not know: problems, rewards, training.

Text has several spellings in tokens, so a turn that is rendered again need not be what the policy
wrote. Here its tokens stay as they are: the template renders only what came since, and that is
appended. The engine thus reads, from turn to turn, exactly the segments that training reads.

Every token is recorded with the log-probability with which it was drawn: at the temperature, within
what a grammar allowed. What the grammar kept of the policy's own distribution is recorded beside
it, so that their sum is what a forward pass of the model gives at that temperature. Tokens that the
grammar left no choice about are written without asking the model; nobody drew them, and they have
no loss. A declared tool brings a grammar; without tools there is none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import groupby
from typing import Literal, NamedTuple

from openk2.agent.model import ModelError, ModelRequest, Price
from openk2.engine.request import EngineError, QueueFullError, Token
from openk2.engine.sampler import derive_seed, seed_of
from openk2.engine.thread import TokenStream
from openk2.grammar.answer import AnswerRule, BudgetError, Matcher, SchemaError, compile_answer
from openk2.grammar.answer import Thinking as MayThink
from openk2.rl.player import Policy, RolloutConfig
from openk2.rl.repetition import LoopDetector
from openk2.server.local.answer import Answer
from openk2.text.parse import StreamParser, assemble
from openk2.text.template import next_call_index, render
from openk2.types import Event, Finish, FinishReason, Message, Sampling, Segment, ToolSpec

FULL = 0.002
"""Seconds until a request is made again that the engine had no room for."""

Why = Literal["budget", "window", "loop", "pause"]
"""The problem's tokens are used up; the model's window is; the policy went round in a loop; the
rest of the episode is for the next policy."""


class EpisodeError(ModelError):
    """An episode could not be played; the message says why. It costs only itself."""

    def __init__(self, message: str) -> None:
        """Say that asking again does not help: the episode is lost."""
        super().__init__(message, "refused")


class Stopped(ModelError):
    """The episode has ended, or waits, whatever its conversation would still have asked."""

    def __init__(self, why: Why) -> None:
        """Remember why."""
        super().__init__(f"the episode is over ({why}): score what there is", "refused")
        self.why: Why = why


class Written(NamedTuple):
    """One token of an episode."""

    id: int
    logprob: float | None = None
    """None: nobody drew it."""
    kept: float = 0.0
    version: int = 0


class TokenModel:
    """The policy as one episode talks to it; a `ChatModel` whose conversation only grows."""

    def __init__(
        self,
        policy: Policy,
        config: RolloutConfig,
        seed: int,
        budget: int,
        begun: Sequence[Segment] = (),
    ) -> None:
        """Begin an episode, or go on with one.

        Args:
            policy: Who answers.
            config: How it is drawn; the temperature of a request counts for nothing.
            seed: Fixes every draw.
            budget: Tokens that the policy may write over all turns.
            begun: What was read and written before a pause. The conversation is held again from
                its start, which brings its surroundings back to where they were, and the policy
                says again what it said; then it goes on with the noise of its place.
        """
        self._policy = policy
        self._config = config
        self._seed64 = seed_of(seed)
        self._budget = budget
        self._begun = [token for segment in begun for token in _tokens_of(segment)]
        self._written: list[Written] = []
        self._tools: tuple[ToolSpec, ...] = ()
        self._turns = 0
        self._fresh = 0
        """Tokens written since the episode was begun or gone on with."""
        self.messages: tuple[Message, ...] = ()
        """The conversation so far."""
        self.emitted = 0
        """Tokens that the policy wrote, drawn or not."""
        self.finish: FinishReason = "stop"
        """Of the last turn."""
        self.stopped: Why | None = None
        """Why no more turns are answered."""

    @property
    def name(self) -> str:
        """The policy with its version."""
        return f"policy-{self._policy.version}"

    @property
    def context_window(self) -> int:
        """Most tokens of an episode."""
        return self._policy.source.max_len

    @property
    def price(self) -> Price:
        """Nothing."""
        return Price()

    @property
    def segments(self) -> tuple[Segment, ...]:
        """What was read and written so far, runs of one origin and one policy version together."""
        runs = groupby(self._written, key=lambda token: (token.logprob is not None, token.version))
        return tuple(_segment(list(tokens), version) for (_, version), tokens in runs)

    async def count_tokens(self, request: ModelRequest) -> int:
        """Count the tokens of a prompt as the template renders it."""
        policy = self._policy
        return len(
            render(request.messages, request.tools, policy.tokenizer, thinking=policy.thinking)
        )

    async def close(self) -> None:
        """Do nothing: the policy is shared."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Event]:
        """Answer once.

        Raises:
            Stopped: The episode is over, or paused in the middle of this answer.
            EpisodeError: The conversation does not go on from where it was, or the engine failed.
        """
        if self.stopped is not None:
            raise Stopped(self.stopped)
        self._read(request)
        room = self._room(request)
        policy, sampling = self._policy, self._sampling(request, room)
        parser = StreamParser(
            policy.tokenizer,
            first_call_index=next_call_index(request.messages),
            thinking=False,
            max_calls=None if self._tools else 0,
        )
        answer = Answer(policy.tokenizer, parser, len(self._written), sampling)
        events: list[Event] = []
        async with aclosing(self._answer(sampling, self._mask(request, room), room)) as tokens:
            async for token in tokens:
                for event in answer.feed(token):
                    events.append(event)
                    yield event
                if answer.finished:
                    break
        self.finish = next(event.reason for event in events if isinstance(event, Finish))
        self.messages = (*request.messages, assemble(events))
        yield answer.usage()

    # What the policy reads ------------------------------------------------------------------------

    def _read(self, request: ModelRequest) -> None:
        """Append the turns that are new, as the template writes them."""
        policy, known = self._policy, len(self.messages)
        tools = () if request.tool_choice == "none" else request.tools
        if self._turns == 0:
            self._tools = tools
        elif tools != self._tools or not _goes_on(self.messages, request.messages):
            raise EpisodeError(
                f"turn {self._turns + 1} of an episode rewrites what the policy has read: only "
                "append to its conversation, and offer the same tools"
            )
        self._turns += 1
        ids = render(request.messages, tools, policy.tokenizer, thinking=policy.thinking)
        if known:
            said = render(
                request.messages[:known],
                tools,
                policy.tokenizer,
                generation_prompt=False,
                thinking=policy.thinking,
            )
            end = policy.tokenizer.im_end
            # A turn that was cut off, or ended otherwise, is closed before the next one begins.
            ids = [*([end] if self._written[-1].id != end else []), *ids[len(said) :]]
        before = len(self._written)
        seen = self._begun[before : before + len(ids)]
        if before < len(self._begun) and [(token.id, token.logprob) for token in seen] != [
            (id, None) for id in ids
        ]:
            raise EpisodeError(
                f"turn {self._turns} of a paused episode is not what it was before the pause: its "
                "surroundings must do the same again"
            )
        self._written += [Written(id) for id in ids]
        self.messages = request.messages

    def _room(self, request: ModelRequest) -> int:
        """Return how many tokens the answer may have."""
        window = self.context_window - len(self._written)
        left = self._budget - self.emitted
        if left < 1 or window < 1:
            self.finish = "length"
            self.stopped = "budget" if left < 1 else "window"
            raise Stopped(self.stopped)
        asked = request.sampling.max_tokens if request.sampling else None
        return min(left, window, asked or left)

    def _sampling(self, request: ModelRequest, room: int) -> Sampling:
        """Return how this turn is drawn: nothing but temperature and grammar bends it."""
        return Sampling(
            temperature=self._config.temperature,
            seed=derive_seed(self._seed64, self._turns),
            max_tokens=room,
            stop=request.sampling.stop if request.sampling else (),
            draws=True,
        )

    def _mask(self, request: ModelRequest, room: int) -> Matcher | None:
        vocabulary = self._policy.vocabulary
        if not (self._tools and self._config.grammar) or vocabulary is None:
            return None
        rule = AnswerRule(
            tools=self._tools,
            choice=request.tool_choice,
            first_call_index=next_call_index(request.messages),
            thinking=MayThink.MAY if self._policy.thinking else MayThink.NEVER,
        )
        try:
            return compile_answer(rule, vocabulary).matcher(room)
        except SchemaError as error:
            raise EpisodeError(f"{error.path}: {error.problem}") from error
        except BudgetError as error:  # a call is required, and none is so short
            self.finish, self.stopped = "length", "budget"
            raise Stopped("budget") from error

    # What the policy writes -----------------------------------------------------------------------

    async def _answer(
        self, sampling: Sampling, mask: Matcher | None, room: int
    ) -> AsyncGenerator[Token]:
        """Yield the tokens of an answer: first those from before a pause, then the engine's."""
        prompt = [token.id for token in self._written]
        loops = LoopDetector(self._config.loop_period, self._config.loop_tokens)
        for token in self._again(mask, room):
            loops.looped(token.id)
            yield token
            if token.finish_reason is not None:
                return
        place = len(self._written) - len(prompt)
        prompt = [token.id for token in self._written]
        stream = await self._generate(
            prompt, replace(sampling, max_tokens=room - place, place=place), mask
        )
        async with aclosing(stream):
            while True:
                try:
                    token = await anext(stream)
                except StopAsyncIteration:
                    return
                except EngineError as error:
                    raise EpisodeError(f"{self.name}: {error}") from error
                for each in (token, *stream.ready()):
                    yield self._record(each, loops)

    async def _generate(
        self, prompt: Sequence[int], sampling: Sampling, mask: Matcher | None
    ) -> TokenStream:
        while True:
            try:
                return self._policy.source.generate(prompt, sampling, mask)
            except QueueFullError:
                await asyncio.sleep(FULL)
            except EngineError as error:
                raise EpisodeError(f"{self.name}: {error}") from error

    def _record(self, token: Token, loops: LoopDetector) -> Token:
        """Keep a token that the engine wrote; end the answer if it goes round in a loop."""
        draw, limit = token.draw, self._config.pause_after
        # Only before a draw: what a grammar forces after the last one belongs to it.
        if draw is not None and limit is not None and self._fresh >= limit:
            self.finish, self.stopped = "cancelled", "pause"
            raise Stopped("pause")
        self._fresh += 1
        self.emitted += 1
        if draw is None:
            self._written.append(Written(token.id, version=token.version))
        else:
            kept = draw.tempered - draw.logprob
            self._written.append(Written(token.id, draw.logprob, kept, token.version))
        if loops.looped(token.id) and token.finish_reason is None:
            self.stopped = "loop"
            return token._replace(finish_reason="length")
        return token

    def _again(self, mask: Matcher | None, room: int) -> Iterator[Token]:
        """Yield what this answer had before a pause, and bring its grammar to where it was."""
        count = 0
        forced: list[int] = []
        while len(self._written) < len(self._begun):
            written = self._begun[len(self._written)]
            if forced and forced.pop(0) != written.id:
                raise EpisodeError(
                    "a paused episode's grammar forces other tokens than before the pause: its "
                    "tools must be the same again"
                )
            if written.logprob is not None and mask is not None:
                until = mask.until
                mask.accept(written.id)
                if until is None or written.id in until:
                    forced = list(mask.jump())
            self._written.append(written)
            self.emitted += 1
            count += 1
            ended = written.id in self._policy.engine.stop_ids
            reason: FinishReason | None = "stop" if ended else "length" if count == room else None
            yield Token(-1, written.id, written.logprob or 0.0, reason)
            if reason is not None:
                return


def _goes_on(before: Sequence[Message], now: Sequence[Message]) -> bool:
    """Tell whether a conversation begins with another; the ids of calls are the caller's own."""
    if len(now) < len(before):
        return False
    return all(_said(one) == _said(other) for one, other in zip(before, now, strict=False))


def _said(message: Message) -> tuple[object, ...]:
    calls = tuple((call.name, call.arguments) for call in message.tool_calls)
    return message.role, message.content, message.name, calls


def _segment(tokens: Sequence[Written], version: int) -> Segment:
    ids = tuple(token.id for token in tokens)
    logprobs = tuple(token.logprob for token in tokens if token.logprob is not None)
    kept = tuple(token.kept for token in tokens) if any(token.kept for token in tokens) else ()
    return Segment(ids, logprobs, version, kept)


def _tokens_of(segment: Segment) -> Iterator[Written]:
    logprobs = segment.logprobs or (None,) * len(segment.ids)
    kept = segment.kept or (0.0,) * len(segment.ids)
    for id, logprob, share in zip(segment.ids, logprobs, kept, strict=True):
        yield Written(id, logprob, share, segment.version)
