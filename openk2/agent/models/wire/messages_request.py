"""A question in our nouns as a body of Anthropic's Messages API.

In: `ModelRequest`, `MessagesStyle`, signed thinking. Out: dictionaries ready for `json.dumps`.
Must not know: sockets, streams, what becomes of the answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from openk2.agent.canonical import digest
from openk2.agent.model import ModelRequest
from openk2.types import Message, Sampling, ToolCall

Json = dict[str, Any]

Blocks = tuple[Json, ...]

_CACHE: Json = {"cache_control": {"type": "ephemeral"}}


@dataclass(frozen=True, slots=True)
class MessagesStyle:
    """What an endpoint wants otherwise than others."""

    max_tokens: int = 16_384
    """Most tokens of an answer where a request sets no limit: this API demands one. Together with
    the prompt they have to fit the context window."""
    temperature_scale: float = 1.0
    """What the endpoint multiplies temperatures by; they are divided by it. 0.6 for Kimi's, which
    puts this API's default of 1.0 at K2's 0.6."""
    cache: bool = True
    """Mark the end of the system prompt and of the conversation for the prompt cache, which this
    API does not use by itself."""
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Further fields of every body, such as `{"thinking": {"type": "adaptive"}}`."""


def encode_request(
    request: ModelRequest, model: str, style: MessagesStyle, thinking: Callable[[Message], Blocks]
) -> Json:
    """Write the body of `POST /v1/messages`; the answer is streamed.

    Args:
        request: The question.
        model: The name that the endpoint knows.
        style: What the endpoint wants.
        thinking: Returns the signed blocks that an assistant's turn began with.
    """
    body: Json = {**encode_prompt(request, model, style, thinking), "stream": True}
    body["max_tokens"] = style.max_tokens
    if request.sampling is not None:
        body |= _sampling(request.sampling, style)
    body |= style.extra
    if "thinking" in body and not _may_think(body["messages"]):
        body["thinking"] = {"type": "disabled"}
    return body


def encode_prompt(
    request: ModelRequest, model: str, style: MessagesStyle, thinking: Callable[[Message], Blocks]
) -> Json:
    """Write the part of a body that the model reads: what tokens are counted of."""
    opening = 0
    while opening < len(request.messages) and request.messages[opening].role == "system":
        opening += 1
    system = [_text(message.content) for message in request.messages[:opening]]
    turns = _turns(request.messages[opening:], thinking)
    if style.cache:
        _mark(system)
        if turns:
            _mark(turns[-1]["content"])
    body: Json = {"model": model, "messages": turns}
    if system:
        body["system"] = system
    if request.tools:
        body["tools"] = [
            {
                "name": tool.name,
                "description": tool.description,
                "input_schema": dict(tool.parameters),
            }
            for tool in request.tools
        ]
        if request.tool_choice != "auto":
            choice = "any" if request.tool_choice == "required" else "none"
            body["tool_choice"] = {"type": choice}
    return body


def wire_id(identity: str) -> str:
    """Return a call's id in the alphabet of this API; different ids stay different."""
    clean = re.sub(r"[^a-zA-Z0-9_-]", "_", identity)
    if clean == identity and identity:
        return identity
    return f"{clean}_{digest(identity)[:8]}"


def _turns(messages: Sequence[Message], thinking: Callable[[Message], Blocks]) -> list[Json]:
    """Write the turns, those of one role that follow each other as one: roles alternate here."""
    turns: list[Json] = []
    for message in messages:
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _blocks(message, thinking)
        if not blocks:
            continue
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    return turns


def _blocks(message: Message, thinking: Callable[[Message], Blocks]) -> list[Json]:
    if message.role == "tool":
        result: Json = {
            "type": "tool_result",
            "tool_use_id": wire_id(message.tool_call_id or ""),
        }
        # An empty text is refused, a result without content is not.
        return [result | {"content": message.content} if message.content else result]
    if message.role == "system":  # a note within the conversation; the API has no such turn
        return [_text(f"<system>\n{message.content}\n</system>")]
    said = [_text(message.content)] if message.content.strip() else []
    if message.role == "user":
        return said
    calls = [_call(call) for call in message.tool_calls]
    return [*thinking(message), *said, *calls] if said or calls else []


def _call(call: ToolCall) -> Json:
    try:
        value: object = json.loads(call.arguments)
    except (ValueError, RecursionError):
        value = None
    # The API takes objects only; what else a model wrote is shown to it as it was.
    written = cast(Json, value) if isinstance(value, dict) else {"malformed": call.arguments}
    return {"type": "tool_use", "id": wire_id(call.id), "name": call.name, "input": written}


def _may_think(turns: Sequence[Json]) -> bool:
    """Tell whether the running turn began with thinking, if it is one that called tools.

    The API refuses to go on thinking after a turn whose own thinking is missing: after a run was
    resumed, the signatures are gone.
    """
    if len(turns) < 2 or turns[-1]["content"][0]["type"] != "tool_result":
        return True
    return "thinking" in turns[-2]["content"][0]["type"]


def _text(text: str) -> Json:
    return {"type": "text", "text": text}


def _mark(blocks: list[Json]) -> None:
    """Have the cache keep everything up to here; thinking cannot be marked."""
    if blocks and "thinking" not in blocks[-1]["type"]:
        blocks[-1] = blocks[-1] | _CACHE


def _sampling(sampling: Sampling, style: MessagesStyle) -> Json:
    default = Sampling()
    body: Json = {"temperature": min(1.0, sampling.temperature / style.temperature_scale)}
    if sampling.top_p != default.top_p:
        body["top_p"] = sampling.top_p
    if sampling.top_k != default.top_k:
        body["top_k"] = sampling.top_k
    if sampling.max_tokens is not None:
        body["max_tokens"] = sampling.max_tokens
    if sampling.stop:
        body["stop_sequences"] = list(sampling.stop)
    return body
