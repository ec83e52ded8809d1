"""How the agent talks to any language model.

In: a conversation and tools. Out: the stream of events that every room shares, folded into a
message with its usage and price.
Must not know: HTTP, any vendor, tokens, or what the tools do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal, Protocol

from openk2.types import (
    Event,
    Finish,
    FinishReason,
    Message,
    ReasoningDelta,
    Sampling,
    TextDelta,
    ToolCall,
    ToolCallArguments,
    ToolCallStart,
    ToolSpec,
    Usage,
)


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One question to a model."""

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: Literal["auto", "none", "required"] = "auto"
    sampling: Sampling | None = None
    """None: what the endpoint does by itself."""


ModelFault = Literal["busy", "server", "network", "broken_stream", "too_long", "refused"]
"""busy: 429. too_long: the conversation exceeds the window. refused: any other 4xx."""


class ModelError(Exception):
    """A model did not answer; the message says which endpoint, why, and what to do next."""

    def __init__(
        self, message: str, fault: ModelFault, *, retry_after: float | None = None
    ) -> None:
        """Remember whether trying again can help, and when."""
        super().__init__(message)
        self.fault: ModelFault = fault
        self.retry_after = retry_after

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return self.fault in ("busy", "server", "network", "broken_stream")


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens cost, in millionths of a unit of `currency`."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0
    currency: str = "USD"

    def of(self, usage: Usage) -> int:
        """Price a usage, in millionths, rounded up: a budget is never undercut by rounding."""
        fresh = usage.prompt_tokens - usage.cached_tokens
        total = (
            fresh * self.prompt
            + usage.cached_tokens * self.cached
            + usage.completion_tokens * self.completion
        )
        return -(-total // 1_000_000)


class ChatModel(Protocol):
    """Anything that answers a conversation: our server, another vendor's, a recording, a fake."""

    @property
    def name(self) -> str:
        """The model's name, for journals and prices."""
        ...

    @property
    def context_window(self) -> int:
        """Most tokens of prompt and answer together."""
        ...

    @property
    def price(self) -> Price:
        """What its tokens cost."""
        ...

    def stream(self, request: ModelRequest) -> AsyncGenerator[Event]:
        """Answer once, without trying again; the last events are `Finish` and `Usage`.

        Raises:
            ModelError: The endpoint refused, failed, or broke off.
        """
        ...

    async def count_tokens(self, request: ModelRequest) -> int:
        """Count the prompt's tokens: exactly where the tokenizer can be asked, else estimated."""
        ...

    async def close(self) -> None:
        """End connections."""
        ...


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    message: Message
    finish: FinishReason
    usage: Usage


async def ask(
    model: ChatModel, request: ModelRequest, on_event: Callable[[Event], None] = lambda event: None
) -> Reply:
    """Fold a model's stream into one message.

    Args:
        model: Who answers.
        request: The question.
        on_event: Sees every event as it comes.

    Raises:
        ModelError: The endpoint failed, or its stream ended before its `Finish`.
    """
    text: list[str] = []
    reasoning: list[str] = []
    calls: dict[int, ToolCall] = {}
    finish: FinishReason | None = None
    usage = Usage(0, 0)
    async with aclosing(model.stream(request)) as events:
        async for event in events:
            on_event(event)
            match event:
                case TextDelta():
                    text.append(event.text)
                case ReasoningDelta():
                    reasoning.append(event.text)
                case ToolCallStart():
                    calls[event.index] = ToolCall(event.id, event.name, "")
                case ToolCallArguments():
                    call = calls[event.index]
                    calls[event.index] = dataclasses.replace(
                        call, arguments=call.arguments + event.text
                    )
                case Finish():
                    finish = event.reason
                case Usage():
                    usage = event
                case _:  # the prompt was read; log-probabilities: nothing of the message
                    pass
    if finish is None:
        raise ModelError(
            f"{model.name} ended its stream without a finish; try again", "broken_stream"
        )
    message = Message(
        "assistant",
        "".join(text),
        reasoning="".join(reasoning),
        tool_calls=tuple(calls[index] for index in sorted(calls)),
    )
    return Reply(message, finish, usage)
