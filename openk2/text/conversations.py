"""A training conversation, and how a long one is cut into pieces that fit a context window.

In: messages and tools in the nouns of `openk2.types`. Out: the same, checked and cut.
Must not know: tokens (a caller counts them), file formats, the chat template.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from openk2.types import HistoryError, Message, ToolCall, ToolSpec, validate_history


@dataclass(frozen=True, slots=True)
class Conversation:
    """One dialogue to train or measure on."""

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    source: str = ""
    """The pack it came from."""
    key: str = ""
    """What a hold-out split must keep together: a dialogue's id, a story, a question."""
    context_messages: int = 0
    """The first messages that are context only: an earlier piece already trains on them."""


CountTokens = Callable[[Sequence[Message], Sequence[ToolSpec]], int]


def as_json(value: Any) -> str:
    """Write arguments and tool results as the model is taught to write them.

    A space follows every comma and colon: the first word of a value is then tokenized as the same
    word after a space in the request, which makes copying it one step.
    """
    return json.dumps(value, ensure_ascii=False)


def problem(conversation: Conversation) -> str | None:
    """Say why a conversation must not be trained on, or None if it is sound."""
    messages = conversation.messages
    if not messages or messages[-1].role != "assistant":
        return "does not end with the assistant"
    try:
        validate_history(messages)
    except HistoryError as error:
        return str(error)
    tools = {tool.name: tool for tool in conversation.tools}
    if len(tools) != len(conversation.tools):
        return "declares two tools with one name"
    for message in messages:
        if message.role == "assistant" and not (message.content or message.tool_calls):
            return "has an empty turn"
        for call in message.tool_calls:
            if call.name not in tools:
                return f"calls {call.name!r}, which is not declared"
            if fault := _argument_problem(call, tools[call.name]):
                return fault
    return None


def _argument_problem(call: ToolCall, tool: ToolSpec) -> str | None:
    if not call.arguments.startswith("{"):
        return f"{call.name!r} is called with {call.arguments[:40]!r}, not an object"
    arguments: dict[str, Any] = json.loads(call.arguments)
    missing = [name for name in tool.parameters.get("required", ()) if name not in arguments]
    unknown = [name for name in arguments if name not in tool.parameters.get("properties", {})]
    if missing or unknown:
        return f"{call.name!r} is called with missing {missing} and undeclared {unknown}"
    return None


def in_declared_order(conversation: Conversation) -> Conversation:
    """Write the arguments of every call in the order in which its tool declares them.

    That is the order in which constrained decoding has them written.
    """
    places = {
        tool.name: {key: i for i, key in enumerate(tool.parameters.get("properties", {}))}
        for tool in conversation.tools
    }

    def ordered(call: ToolCall) -> ToolCall:
        place, arguments = places.get(call.name, {}), json.loads(call.arguments)
        keys = sorted(arguments, key=lambda key: place.get(key, len(place)))
        if keys == list(arguments):
            return call
        return replace(call, arguments=as_json({key: arguments[key] for key in keys}))

    messages = tuple(
        replace(message, tool_calls=tuple(map(ordered, message.tool_calls)))
        for message in conversation.messages
    )
    return replace(conversation, messages=messages)


def trimmed(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Drop what precedes the first user turn and what follows the last assistant turn."""
    start = next((i for i, m in enumerate(messages) if m.role == "user"), len(messages))
    end = next((i for i in range(len(messages), 0, -1) if messages[i - 1].role == "assistant"), 0)
    head = [m for m in messages[:start] if m.role == "system"]
    return (*head, *messages[start:end])


def windows(
    conversation: Conversation, count_tokens: CountTokens, max_tokens: int
) -> Iterator[Conversation]:
    """Cut a conversation into pieces of at most `max_tokens` that keep its system turn and tools.

    Every assistant turn is trained on in exactly one piece. A later piece starts with as many
    earlier turns as fill half the window, as context. A piece is made of whole exchanges (a user
    turn and all that answers it), so no result is parted from its call. Of an exchange that does
    not fit on its own, the part up to the last assistant turn that fits is kept.

    Args:
        conversation: Starts with a user turn after its system turns, ends with an assistant turn.
        count_tokens: The length of messages and tools once rendered.
        max_tokens: The length that no piece exceeds.
    """
    total = count_tokens(conversation.messages, conversation.tools)
    if total <= max_tokens:
        yield conversation
        return
    head, exchanges = _exchanges(conversation.messages)

    def piece(start: int, new: int, end: int) -> Conversation:
        context = [m for exchange in exchanges[start:new] for m in exchange]
        fresh = [m for exchange in exchanges[new:end] for m in exchange]
        kept = len(head) + len(context) if start < new else 0
        return replace(conversation, messages=(*head, *context, *fresh), context_messages=kept)

    def fits(start: int, end: int, limit: int) -> bool:
        messages = piece(start, end, end).messages
        return count_tokens(messages, conversation.tools) <= limit

    new = 0
    while new < len(exchanges):
        start = new
        while start > 0 and fits(start - 1, new, max_tokens // 2):
            start -= 1
        while start < new and not fits(start, new + 1, max_tokens):
            start += 1
        end = new
        while end < len(exchanges) and fits(start, end + 1, max_tokens):
            end += 1
        if end > new:
            yield piece(start, new, end)
        elif opening := _opening(piece(new, new, new + 1), count_tokens, max_tokens):
            yield opening
        new = max(end, new + 1)


def _opening(
    exchange: Conversation, count_tokens: CountTokens, max_tokens: int
) -> Conversation | None:
    for end in range(len(exchange.messages) - 1, 0, -1):
        messages = exchange.messages[:end]
        fits = count_tokens(messages, exchange.tools) <= max_tokens
        if fits and messages[-1].role == "assistant":
            return replace(exchange, messages=messages)
    return None


def _exchanges(messages: Sequence[Message]) -> tuple[list[Message], list[list[Message]]]:
    head = [m for m in messages if m.role == "system"]
    exchanges: list[list[Message]] = []
    for message in messages:
        if message.role == "system":
            continue
        # Two user turns in a row belong together: a piece must end after an assistant turn.
        answered = not exchanges or any(m.role == "assistant" for m in exchanges[-1])
        if message.role == "user" and answered:
            exchanges.append([])
        exchanges[-1].append(message)
    return head, exchanges
