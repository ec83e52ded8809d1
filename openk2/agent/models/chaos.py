"""A model that misbehaves as real ones do, on schedule or by lot, around one that does not.

In: another model, a seed. Out: its answers, some of them spoilt.
Must not know: what the answers are about, or who has to cope with them.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Literal, get_args

from openk2.agent.canonical import digest
from openk2.agent.model import ChatModel, ModelError, ModelRequest, Price, Reply, ask
from openk2.agent.models.wire.replies import call_ids, reply_events
from openk2.types import Event, Message, ToolCall

Trouble = Literal["busy", "server", "half", "slow", "malformed", "unknown_tool", "huge", "repeat"]
"""429 with a time to come back; 500; a stream that breaks off; pauses between pieces; arguments
that are no JSON; a tool that is not there; far too much text; the last calls again."""

TROUBLES: tuple[Trouble, ...] = get_args(Trouble)

MILD: Mapping[Trouble, float] = dict.fromkeys(TROUBLES, 0.03)
"""How often each happens by default: about every fourth answer is spoilt."""

_HUGE = 400_000
"""Characters of far too much text."""


class Chaos:
    """Spoils another model's answers; `ChatModel`."""

    def __init__(
        self,
        model: ChatModel,
        seed: int = 0,
        *,
        rates: Mapping[Trouble, float] = MILD,
        schedule: Sequence[Trouble | None] = (),
        retry_after: float = 1.0,
        pause: float = 0.05,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Spoil what `model` says.

        Args:
            model: Who answers.
            seed: The same seed spoils the same answers.
            rates: How often each trouble happens, from 0 to 1, 1 altogether at most.
            schedule: What happens to the first answers, None nothing; after it, `rates` decide.
            retry_after: Seconds that a busy answer asks for.
            pause: Seconds between the pieces of a slow answer.
            sleep: Waits.

        Raises:
            ValueError: The rates are none.
        """
        if min(rates.values(), default=0) < 0 or sum(rates.values()) > 1:
            raise ValueError(f"the rates {dict(rates)} are not between 0 and 1 altogether")
        self._model = model
        self._seed = seed
        self._rates = rates
        self._schedule = schedule
        self._retry_after = retry_after
        self._pause = pause
        self._sleep = sleep
        self._calls: tuple[ToolCall, ...] = ()
        self.happened: list[Trouble | None] = []
        """What has happened to each answer, None nothing."""

    @property
    def name(self) -> str:
        """The other model's name."""
        return self._model.name

    @property
    def context_window(self) -> int:
        """Most tokens of prompt and answer together."""
        return self._model.context_window

    @property
    def price(self) -> Price:
        """What its tokens cost."""
        return self._model.price

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Event, None]:
        """Answer once, well or not.

        Raises:
            ModelError: The other model failed, or it was time for a failure.
        """
        trouble = self._draw()
        self.happened.append(trouble)
        if trouble == "busy":
            raise ModelError("chaos: HTTP 429", "busy", retry_after=self._retry_after)
        if trouble == "server":
            raise ModelError("chaos: HTTP 500", "server")
        reply = await ask(self._model, request)
        spoilt = dataclasses.replace(reply, message=self._spoilt(trouble, request, reply))
        self._calls = reply.message.tool_calls or self._calls
        events = list(reply_events(_ended(spoilt), 4096 if trouble == "huge" else 24))
        for event in islice(events, len(events) // 2 if trouble == "half" else None):
            if trouble == "slow":
                await self._sleep(self._pause)
            yield event
        if trouble == "half":
            raise ModelError("chaos: the stream broke off", "broken_stream")

    async def count_tokens(self, request: ModelRequest) -> int:
        """Count as the other model does."""
        return await self._model.count_tokens(request)

    async def close(self) -> None:
        """End the other model's connections."""
        await self._model.close()

    def _draw(self) -> Trouble | None:
        number = len(self.happened)
        if number < len(self._schedule):
            return self._schedule[number]
        lot = int(digest([self._seed, number])[:13], 16) / 16**13
        for trouble, rate in self._rates.items():
            lot -= rate
            if lot < 0:
                return trouble
        return None

    def _spoilt(self, trouble: Trouble | None, request: ModelRequest, reply: Reply) -> Message:
        message = reply.message
        match trouble:
            case "malformed":
                return _with_calls(message, _each(message, arguments=lambda text: text[:-1]))
            case "unknown_tool":
                return _with_calls(message, _each(message, name=lambda name: f"{name}_v0"))
            case "huge":
                return dataclasses.replace(message, content=_filled(message.content))
            case "repeat" if self._calls:
                again = zip(self._calls, call_ids(request), strict=False)
                return _with_calls(
                    message,
                    (
                        dataclasses.replace(call, id=f"functions.{call.name}:{index}")
                        for call, index in again
                    ),
                )
            case _:
                return message


def _each(
    message: Message,
    *,
    name: Callable[[str], str] = str,
    arguments: Callable[[str], str] = str,
) -> Iterator[ToolCall]:
    for call in message.tool_calls:
        yield ToolCall(call.id, name(call.name), arguments(call.arguments))


def _with_calls(message: Message, calls: Iterator[ToolCall]) -> Message:
    return dataclasses.replace(message, tool_calls=tuple(calls))


def _filled(text: str) -> str:
    return text + "and so on " * ((_HUGE - len(text)) // 10)


def _ended(reply: Reply) -> Reply:
    finish = "tool_calls" if reply.message.tool_calls else reply.finish
    return dataclasses.replace(reply, finish=finish)
