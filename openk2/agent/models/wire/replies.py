"""A whole answer as the stream of events that it would have come as.

In: a `Reply`. Out: its events, long texts in pieces.
Must not know: who answers, or why a piece is as long as it is.
"""

from __future__ import annotations

from collections.abc import Iterator

from openk2.agent.model import ModelRequest, Reply
from openk2.agent.models.estimate import estimate, estimate_message
from openk2.types import (
    Event,
    Finish,
    Message,
    ReasoningDelta,
    TextDelta,
    ToolCallArguments,
    ToolCallStart,
    Usage,
)

PIECE = 24
"""Characters of a piece, about what a token or two of a fast server are."""


def reply_events(reply: Reply, piece: int = PIECE) -> Iterator[Event]:
    """Yield the events that fold into `reply`."""
    message = reply.message
    for text in _pieces(message.reasoning, piece):
        yield ReasoningDelta(text)
    for text in _pieces(message.content, piece):
        yield TextDelta(text)
    for index, call in enumerate(message.tool_calls):
        yield ToolCallStart(index, call.id, call.name)
        for text in _pieces(call.arguments, piece):
            yield ToolCallArguments(index, text)
    yield Finish(reply.finish)
    yield reply.usage


def reply_of(request: ModelRequest, message: Message) -> Reply:
    """Complete a message to a reply: how it ended, and an estimate of its tokens."""
    usage = Usage(estimate(request), estimate_message(message))
    return Reply(message, "tool_calls" if message.tool_calls else "stop", usage)


def call_ids(request: ModelRequest) -> Iterator[int]:
    """Count the calls that the conversation has not had yet, as K2 numbers them."""
    index = sum(len(message.tool_calls) for message in request.messages)
    while True:
        yield index
        index += 1


def _pieces(text: str, piece: int) -> Iterator[str]:
    for start in range(0, len(text), piece):
        yield text[start : start + piece]
