"""The answers of the Chat Completions dialect: events in, chunks or one response out.

In: (choice, event) pairs of a generation, errors, models. Out: dictionaries ready for
`json.dumps`.
Must not know: requests' bodies, tokens, the engine, sockets, or any other dialect.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from openk2.server.dialects.openai import ChatOptions
from openk2.server.errors import ApiError
from openk2.server.request import Model
from openk2.types import (
    Event,
    Finish,
    FinishReason,
    Logprobs,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    ToolCallArguments,
    ToolCallStart,
    Usage,
)

Json = dict[str, Any]

LEAST_LOGPROB = -9999.0
"""What OpenAI sends for a token that cannot be drawn: JSON has no infinity."""


@dataclass(frozen=True, slots=True)
class Head:
    """What every chunk of one answer repeats."""

    id: str
    created: int
    """Seconds since 1970."""
    model: str
    fingerprint: str | None = None
    """Changes whenever the same seed may give another answer."""


# One response -----------------------------------------------------------------------------------


def encode_response(head: Head, events: Iterable[tuple[int, Event]]) -> Json:
    """Fold the events of all choices into one `chat.completion` object."""
    choices: dict[int, _Choice] = {}
    for index, event in events:
        choices.setdefault(index, _Choice(index)).add(event)
    ordered = [choices[index] for index in sorted(choices)]
    return _envelope(
        head,
        "chat.completion",
        [choice.encode() for choice in ordered],
        usage=encode_usage(total_usage(choice.usage for choice in ordered)),
    )


@dataclass(slots=True)
class _Choice:
    index: int
    text: list[str] = field(default_factory=lambda: [])
    reasoning: list[str] = field(default_factory=lambda: [])
    logprobs: list[Json] = field(default_factory=lambda: [])
    calls: dict[int, Json] = field(default_factory=lambda: {})
    finish: FinishReason = "stop"
    usage: Usage = field(default_factory=lambda: Usage(0, 0))

    def add(self, event: Event) -> None:
        match event:
            case TextDelta() | Logprobs() if self.calls:
                pass  # see `ChunkEncoder._piece`
            case TextDelta(piece):
                self.text.append(piece)
            case ReasoningDelta(piece):
                self.reasoning.append(piece)
            case Logprobs(tokens):
                self.logprobs += map(encode_logprob, tokens)
            case ToolCallStart(index, call_id, name):
                self.calls[index] = _call(call_id, name)
            case ToolCallArguments(index, piece):
                self.calls[index]["function"]["arguments"] += piece
            case Finish(reason):
                self.finish = reason
            case Usage():
                self.usage = event
            case _:
                pass

    def encode(self) -> Json:
        text, reasoning = "".join(self.text), "".join(self.reasoning)
        message: Json = {"role": "assistant", "content": text if text or not self.calls else None}
        if reasoning:
            message["reasoning_content"] = reasoning
        if self.calls:
            message["tool_calls"] = [self.calls[index] for index in sorted(self.calls)]
        return {
            "index": self.index,
            "message": message,
            "logprobs": _logprobs(self.logprobs),
            "finish_reason": encode_reason(self.finish),
        }


# Chunks -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class _OpenChoice:
    logprobs: list[Json] = field(default_factory=lambda: [])
    """Of tokens whose text has not come yet."""
    called: bool = False
    """Whether a tool call has begun."""
    finish: FinishReason = "stop"


class ChunkEncoder:
    """Turns the events of all choices of one answer into `chat.completion.chunk` objects."""

    def __init__(self, head: Head, options: ChatOptions) -> None:
        """Start an answer as the client wants it."""
        self._head = head
        self._options = options
        self._open: dict[int, _OpenChoice] = {}
        self._usages: list[Usage] = []

    def encode(self, choice: int, event: Event) -> Iterator[Json]:
        """Yield the chunks that `event` causes: the roles precede the first, usage is last."""
        if not self._open:
            yield from self._begin()
        state = self._open[choice]
        match event:
            case Finish(reason):
                state.finish = reason
            case Usage():
                yield from self._close(choice, event)
            case Logprobs(tokens):
                # A byte of a character has no text of its own: it waits for the others.
                if not state.called:
                    state.logprobs += map(encode_logprob, tokens)
            case _:
                yield from self._piece(choice, event)

    def _begin(self) -> Iterator[Json]:
        # All choices at once and in order: openai-python's stream helper appends a choice that it
        # has not seen, whatever its index.
        for choice in range(self._options.n):
            self._open[choice] = _OpenChoice()
            yield self._chunk(choice, {"role": "assistant", "content": ""})

    def _piece(self, choice: int, event: Event) -> Iterator[Json]:
        state = self._open[choice]
        # Clients take content for the end of the calls before it: what a model still says after
        # its calls has no place in this dialect.
        if state.called and isinstance(event, TextDelta):
            return
        state.called |= isinstance(event, ToolCallStart)
        if delta := encode_delta(event):
            yield self._chunk(choice, delta)

    def _close(self, choice: int, usage: Usage) -> Iterator[Json]:
        self._usages.append(usage)
        last = self._chunk(choice, {}, encode_reason(self._open[choice].finish))
        # The Kimi platform repeats the usage inside the choice, asked for or not.
        last["choices"][0]["usage"] = encode_usage(usage)
        yield last
        if self._options.include_usage and len(self._usages) == self._options.n:
            total = encode_usage(total_usage(self._usages))
            yield _envelope(self._head, "chat.completion.chunk", [], usage=total)

    def _chunk(self, choice: int, delta: Json, reason: str | None = None) -> Json:
        state = self._open[choice]
        body: Json = {
            "index": choice,
            "delta": delta,
            "logprobs": _logprobs(state.logprobs),
            "finish_reason": reason,
        }
        state.logprobs = []
        chunk = _envelope(self._head, "chat.completion.chunk", [body])
        return chunk | {"usage": None} if self._options.include_usage else chunk


# Parts ------------------------------------------------------------------------------------------


def encode_delta(event: Event) -> Json:
    """Return the `delta` that carries one piece of an answer; empty if `event` is none.

    A tool-call delta always has its `index`: clients merge or lose calls without it.
    """
    match event:
        case TextDelta(piece):
            return {"content": piece}
        case ReasoningDelta(piece):
            return {"reasoning_content": piece}
        case ToolCallStart(index, call_id, name):
            return {"tool_calls": [{"index": index} | _call(call_id, name)]}
        case ToolCallArguments(index, piece):
            return {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
        case _:
            return {}


def encode_reason(reason: FinishReason) -> str:
    """Return the `finish_reason`; an answer that was broken off is one that was cut short."""
    return "length" if reason == "cancelled" else reason


def encode_logprob(token: TokenLogprob) -> Json:
    """Return one entry of `logprobs.content`."""
    top = [_weighed_token(rival, logprob) for rival, logprob in token.top]
    return _weighed_token(token.token, token.logprob) | {"top_logprobs": top}


def _weighed_token(token: bytes, logprob: float) -> Json:
    return {
        "token": token.decode(errors="replace"),
        # The comparison is false for NaN too.
        "logprob": logprob if logprob > LEAST_LOGPROB else LEAST_LOGPROB,
        "bytes": list(token),
    }


def _logprobs(tokens: list[Json]) -> Json | None:
    return {"content": tokens, "refusal": None} if tokens else None


def total_usage(usages: Iterable[Usage]) -> Usage:
    """Count choices together: each was written, but all have the same prompt, read once."""
    listed = list(usages)
    if len(listed) == 1:
        return listed[0]
    return Usage(
        prompt_tokens=max((usage.prompt_tokens for usage in listed), default=0),
        completion_tokens=sum(usage.completion_tokens for usage in listed),
        # The other choices find in the cache what the first has put there.
        cached_tokens=min((usage.cached_tokens for usage in listed), default=0),
        reasoning_tokens=sum(usage.reasoning_tokens for usage in listed),
    )


def encode_usage(usage: Usage) -> Json:
    """Return the `usage` object, the cached part both where Kimi and where OpenAI puts it."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "cached_tokens": usage.cached_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def _call(call_id: str, name: str) -> Json:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": ""}}


def _envelope(head: Head, kind: str, choices: list[Json], *, usage: Json | None = None) -> Json:
    body: Json = {
        "id": head.id,
        "object": kind,
        "created": head.created,
        "model": head.model,
        "system_fingerprint": head.fingerprint,
        "choices": choices,
    }
    return body if usage is None else body | {"usage": usage}


# Errors and models ------------------------------------------------------------------------------

_ERROR_TYPES = {
    401: "invalid_authentication_error",
    403: "permission_denied_error",
    404: "resource_not_found_error",
    429: "engine_overloaded_error",
    499: "client_closed_request",
    503: "server_unavailable",
}
"""The Kimi platform's words; other statuses are `invalid_request_error` or `server_error`."""

_ERROR_TYPES_OF_CODES = {
    "content_filter": "content_filter",
    "invalid_api_key": "incorrect_api_key_error",
    "insufficient_quota": "exceeded_current_quota_error",
    "rate_limit_exceeded": "rate_limit_reached_error",
}
"""Statuses that have several types: OpenAI's codes say which."""


def encode_error(error: ApiError) -> Json:
    """Return the error envelope: OpenAI's keys and codes, the Kimi platform's types."""
    fallback = "server_error" if error.status >= 500 else "invalid_request_error"
    by_status = _ERROR_TYPES.get(error.status, fallback)
    return {
        "error": {
            "message": error.message,
            "type": _ERROR_TYPES_OF_CODES.get(error.code or "", by_status),
            "param": error.param,
            "code": error.code,
        }
    }


def encode_model(model: Model) -> Json:
    """Return one entry of `GET /v1/models`, with the keys that the Kimi platform adds."""
    return {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": "openk2",
        "context_length": model.context_length,
        "supports_image_in": False,
        "supports_video_in": False,
        "supports_reasoning": model.reasoning,
    }
