"""A question in our nouns as a Chat Completions body.

In: `ModelRequest`, `ChatStyle`. Out: dictionaries ready for `json.dumps`.
Must not know: sockets, streams, what becomes of the answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from openk2.agent.model import ModelRequest
from openk2.types import Message, Sampling, ToolSpec

Json = dict[str, Any]

KeepReasoning = Literal["all", "turn", "none"]

_DEMANDED = re.compile(r"missing|required|must", re.IGNORECASE)

_AS_THEY_ARE = (
    "top_p",
    "seed",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
)


@dataclass(frozen=True, slots=True)
class ChatStyle:
    """What an endpoint wants otherwise than others."""

    keep_reasoning: KeepReasoning = "all"
    """Which earlier thinking is sent back: all, that since the last user turn, or none.

    Unless none, every assistant turn with calls has `reasoning_content`, if an empty one: endpoints
    that think refuse a conversation without it (HTTP 400). none is for those that refuse the field.
    """
    limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """The newer name is known to OpenAI and Kimi, the older one to all."""
    usage_option: bool = True
    """Ask for the usage of a stream; a few old servers refuse `stream_options`."""
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Further fields of every body, such as `{"thinking": {"type": "enabled"}}`."""


def adapted(style: ChatStyle, refusal: str) -> ChatStyle | None:
    """Return the style that an endpoint's refusal asks for; None if it is about something else.

    Vendors do not say beforehand which fields they know: OpenAI, Groq and Mistral refuse
    `reasoning_content`, Kimi and DeepSeek refuse a thinking model's calls without it, newer models
    of OpenAI refuse `max_tokens`, older servers `stream_options`.
    """
    if "reasoning_content" in refusal:
        wanted: KeepReasoning = "all" if _DEMANDED.search(refusal) else "none"
        return replace(style, keep_reasoning=wanted) if wanted != style.keep_reasoning else None
    if "max_completion_tokens" in refusal and style.limit_field == "max_tokens":
        return replace(style, limit_field="max_completion_tokens")
    if "stream_options" in refusal and style.usage_option:
        return replace(style, usage_option=False)
    return None


def encode_chat(request: ModelRequest, model: str, style: ChatStyle) -> Json:
    """Write the body of `POST /chat/completions`; the answer is streamed."""
    body: Json = {**encode_prompt(request, model, style), "stream": True}
    if style.usage_option:
        body["stream_options"] = {"include_usage": True}
    if request.sampling is not None:
        body |= _sampling(request.sampling, style)
    return body | dict(style.extra)


def encode_prompt(request: ModelRequest, model: str, style: ChatStyle) -> Json:
    """Write the part of a body that the model reads: what a count of tokens is asked for with."""
    body: Json = {"model": model, "messages": encode_messages(request.messages, style)}
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        if request.tool_choice != "auto":
            body["tool_choice"] = request.tool_choice
    return body


def encode_messages(messages: Sequence[Message], style: ChatStyle) -> list[Json]:
    """Write a conversation; assistant turns without a word are left out, as many refuse them."""
    users = [index for index, message in enumerate(messages) if message.role == "user"]
    turn_begins = users[-1] if users else -1
    written: list[Json] = []
    for index, message in enumerate(messages):
        if message.role == "assistant" and not message.content and not message.tool_calls:
            continue
        keep = style.keep_reasoning == "all" or (
            style.keep_reasoning == "turn" and index > turn_begins
        )
        written.append(_message(message, message.reasoning if keep else "", style))
    return written


def _message(message: Message, reasoning: str, style: ChatStyle) -> Json:
    turn: Json = {"role": message.role, "content": message.content}
    if message.name is not None:
        turn["name"] = message.name
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    if reasoning or (message.tool_calls and style.keep_reasoning != "none"):
        turn["reasoning_content"] = reasoning
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    return turn


def _tool(tool: ToolSpec) -> Json:
    function: Json = {"name": tool.name, "parameters": dict(tool.parameters)}
    if tool.description:
        function["description"] = tool.description
    return {"type": "function", "function": function}


def _sampling(sampling: Sampling, style: ChatStyle) -> Json:
    default = Sampling()
    body: Json = {"temperature": sampling.temperature}
    for name in _AS_THEY_ARE:
        if getattr(sampling, name) != getattr(default, name):
            body[name] = getattr(sampling, name)
    if sampling.max_tokens is not None:
        body[style.limit_field] = sampling.max_tokens
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.logit_bias:
        # OpenAI's own are whole numbers.
        body["logit_bias"] = {
            str(token): bias if bias % 1 else int(bias) for token, bias in sampling.logit_bias
        }
    if sampling.cache_key is not None:
        body["prompt_cache_key"] = sampling.cache_key
    return body
