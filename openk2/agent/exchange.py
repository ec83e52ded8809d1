"""Questions to a model, each written down with its answer and its price.

In: a request under a key. Out: a reply, from the journal or from the model.
Must not know: what the question is about, or what follows from the answer.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from openk2.agent.canonical import digest, from_json, to_json
from openk2.agent.journal import Journal
from openk2.agent.meter import Count
from openk2.agent.model import ChatModel, ModelError, ModelFault, ModelRequest, Reply
from openk2.agent.models.retry import Patience, ask_with_patience
from openk2.types import Event, Message, ToolSpec


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said, and what it cost."""

    reply: Reply
    cost: int
    """Millionths of the model's currency."""


@dataclass(frozen=True, slots=True)
class TooLong:
    """The endpoint finds the conversation too long."""

    message: str


@dataclass(slots=True)
class Exchanges:
    """The questions of one run."""

    model: ChatModel
    journal: Journal
    patience: Patience
    on_event: Callable[[Event], None]
    _sent: dict[str, tuple[Message, ...]] = field(default_factory=dict[str, tuple[Message, ...]])

    async def ask(self, kind: str, key: str, request: ModelRequest) -> Answer | TooLong:
        """Ask, waiting and asking again where that can help.

        The journal holds of a request only what the one of its kind before did not have: a
        conversation that grows step by step would else be written down whole hundreds of times.

        Raises:
            ModelError: There is no answer; nothing is written, so that a resumed run asks again.
        """
        kept = _common_prefix(self._sent.get(kind, ()), request.messages)
        self._sent[kind] = request.messages
        asked = {
            "model": self.model.name,
            "kept": kept,
            "messages": to_json(request.messages[kept:]),
            "tools": digest(request.tools),
            "choice": request.tool_choice,
        }

        async def perform() -> dict[str, Any]:
            return await self._perform(key, request)

        answer = await self.journal.effect(kind, key, asked, perform)
        if "too_long" in answer:
            return TooLong(answer["too_long"])
        return Answer(from_json(Reply, answer["reply"]), answer["cost"])

    def counter(self, key: str, tools: tuple[ToolSpec, ...]) -> Count:
        """Return what counts prompts with these tools, each count written down under the key."""
        numbers = itertools.count(1)

        async def count(messages: Sequence[Message]) -> int:
            request = ModelRequest(tuple(messages), tools)

            async def look() -> int:
                return await self.model.count_tokens(request)

            return await self.journal.observe("count", f"{key} count {next(numbers)}", look)

        return count

    async def _perform(self, key: str, request: ModelRequest) -> dict[str, Any]:
        def on_retry(fault: ModelFault, seconds: float, attempt: int) -> None:
            note = {"fault": fault, "seconds": seconds, "attempt": attempt}
            self.journal.remark("retry", key, note)

        try:
            reply = await ask_with_patience(
                self.model,
                request,
                patience=self.patience,
                on_event=self.on_event,
                on_retry=on_retry,
            )
        except ModelError as error:
            if error.fault != "too_long":
                raise
            return {"too_long": str(error)}
        return {"reply": to_json(reply), "cost": self.model.price.of(reply.usage)}


def _common_prefix(before: Sequence[Message], now: Sequence[Message]) -> int:
    for index, (one, other) in enumerate(zip(before, now, strict=False)):
        if one is not other and one != other:
            return index
    return min(len(before), len(now))
