"""The Messages dialect's answers: events in, server-sent events or one message out.

In: the events of one answer, errors, models. Out: dictionaries ready for `json.dumps`.
Must not know: requests' bodies, tokens, the engine, sockets, or any other dialect.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, cast

from pydantic import TypeAdapter, ValidationError

from openk2.server.dialects.signer import Signer
from openk2.server.errors import ApiError
from openk2.server.request import Model
from openk2.types import (
    Event,
    Finish,
    PromptRead,
    ReasoningDelta,
    TextDelta,
    ToolCallArguments,
    ToolCallStart,
    Usage,
)

Json = dict[str, Any]
Frame = tuple[str, Json]
"""A server-sent event: its name and its data."""

BlockKind = Literal["thinking", "text", "tool_use"]

PING: Frame = ("ping", {"type": "ping"})
"""Says nothing; clients expect one at the beginning and may get them at any time."""

_LARGEST = 1.7976931348623157e308  # JSON has no infinity


@dataclass(frozen=True, slots=True)
class Head:
    """What an answer says before its first word."""

    id: str
    """`msg_` and something that no other answer has: the ids of its calls are made from it."""
    model: str


# A stream ---------------------------------------------------------------------------------------


class MessageEncoder:
    """Turns the events of one answer into server-sent events; blocks come one after the other."""

    def __init__(self, head: Head, signer: Signer) -> None:
        """Start an answer whose thinking is signed by `signer`."""
        self._head = head
        self._signer = signer
        self._begun = False
        self._index = -1
        self._open: BlockKind | None = None
        self._thought: list[str] = []
        # Space that may be the beginning of a text, or of nothing.
        self._space: list[str] = []
        # The call whose block came last, and whether any of its arguments have come.
        self._call: int | None = None
        self._has_arguments = False
        self._finish = Finish("stop")

    def encode(self, event: Event) -> Iterator[Frame]:
        """Yield the server-sent events that `event` causes.

        Raises:
            ValueError: A piece of a call came after the call had ended.
        """
        if not self._begun:
            self._begun = True
            read = event if isinstance(event, PromptRead) else PromptRead(0)
            yield from self._begin(Usage(read.prompt_tokens, 0, read.cached_tokens))
        match event:
            case ReasoningDelta(text) if text:
                yield from self._think(text)
            case TextDelta(text) if text:
                yield from self._say(text)
            case ToolCallStart():
                yield from self._start_call(event)
            case ToolCallArguments(index, text):
                yield from self._argue(index, text)
            case Finish():
                self._finish = event
                yield from self._close_block()
            case Usage():
                yield from self._end(event)
            case _:
                pass

    def _begin(self, usage: Usage) -> Iterator[Frame]:
        message: Json = {
            "id": self._head.id,
            "type": "message",
            "role": "assistant",
            "model": self._head.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": encode_usage(usage),
        }
        yield _frame("message_start", {"message": message})
        yield PING

    def _end(self, usage: Usage) -> Iterator[Frame]:
        reason = self._stop_reason()
        matched = self._finish.stop_sequence if reason == "stop_sequence" else None
        delta = {"stop_reason": reason, "stop_sequence": matched}
        yield _frame("message_delta", {"delta": delta, "usage": encode_usage(usage)})
        yield _frame("message_stop", {})

    def _stop_reason(self) -> str:
        if self._finish.reason in ("length", "cancelled"):
            return "max_tokens"
        # Whatever ended it: a client that is told anything else leaves its tools alone.
        if self._call is not None:
            return "tool_use"
        return "end_turn" if self._finish.stop_sequence is None else "stop_sequence"

    def _think(self, text: str) -> Iterator[Frame]:
        self._space.clear()
        if self._open != "thinking":
            yield from self._open_block("thinking", {"thinking": "", "signature": ""})
        self._thought.append(text)
        yield self._delta("thinking_delta", {"thinking": text})

    def _say(self, text: str) -> Iterator[Frame]:
        if self._open != "text":
            # The Messages API refuses blocks of nothing but space when they come back: a session
            # that has one could not move there.
            self._space.append(text)
            if text.isspace():
                return
            text = "".join(self._space)
            yield from self._open_block("text", {"text": ""})
        yield self._delta("text_delta", {"text": text})

    def _start_call(self, start: ToolCallStart) -> Iterator[Frame]:
        block: Json = {"id": _call_id(self._head, start), "name": start.name, "input": {}}
        yield from self._open_block("tool_use", block)
        self._call, self._has_arguments = start.index, False

    def _argue(self, index: int, text: str) -> Iterator[Frame]:
        if self._open != "tool_use" or index != self._call:
            raise ValueError(f"a piece of call {index} came after the call had ended")
        # The SDK takes an input of nothing but space for broken.
        text = text if self._has_arguments else text.lstrip()
        if text:
            self._has_arguments = True
            yield self._delta("input_json_delta", {"partial_json": text})

    def _open_block(self, kind: BlockKind, fields: Json) -> Iterator[Frame]:
        yield from self._close_block()
        self._index, self._open = self._index + 1, kind
        self._space.clear()
        block = {"type": kind} | fields
        yield _frame("content_block_start", {"index": self._index, "content_block": block})

    def _close_block(self) -> Iterator[Frame]:
        if self._open is None:
            return
        if self._open == "thinking":
            signature = self._signer.sign("".join(self._thought))
            self._thought.clear()
            yield self._delta("signature_delta", {"signature": signature})
        if self._open == "tool_use" and not self._has_arguments:
            # Not every client takes no text for no arguments.
            yield self._delta("input_json_delta", {"partial_json": "{}"})
        self._open = None
        yield _frame("content_block_stop", {"index": self._index})

    def _delta(self, kind: str, fields: Json) -> Frame:
        delta = {"type": kind} | fields
        return _frame("content_block_delta", {"index": self._index, "delta": delta})


def _frame(kind: str, fields: Json) -> Frame:
    return kind, {"type": kind} | fields


def _call_id(head: Head, start: ToolCallStart) -> str:
    count = start.id.rpartition(":")[2]
    count = count if count.isdecimal() and count.isascii() else str(start.index)
    # Derived and not drawn: the same answer streamed and whole has the same ids.
    origin = f"{head.id} {start.index} {start.id}".encode("utf-8", "surrogatepass")
    return f"toolu_{count[:9]}_{hashlib.sha256(origin).hexdigest()[:20]}"


def encode_usage(usage: Usage) -> Json:
    """Return the `usage` object: what was read is divided into new and cached, and adds up."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
    }


# One message ------------------------------------------------------------------------------------

_PIECES = {
    "thinking_delta": "thinking",
    "text_delta": "text",
    "input_json_delta": "partial_json",
}


def encode_response(head: Head, events: Iterable[Event], signer: Signer) -> Json:
    """Fold a whole answer into one message: what a client that streams it has at the end."""
    encoder = MessageEncoder(head, signer)
    message: Json = {}
    block: Json = {}
    pieces: list[str] = []
    for kind, data in (frame for event in events for frame in encoder.encode(event)):
        match kind, data:
            case "message_start", {"message": opened}:
                message = opened
            case "content_block_start", {"content_block": opened}:
                block = opened
                pieces = []
            case "content_block_delta", {"delta": {"type": "signature_delta"} as delta}:
                block["signature"] = delta["signature"]
            case "content_block_delta", {"delta": delta}:
                pieces.append(delta[_PIECES[delta["type"]]])
            case "content_block_stop", _:
                message["content"].append(_filled(block, "".join(pieces)))
            case "message_delta", {"delta": delta, "usage": usage}:
                message |= delta | {"usage": usage}
            case _:
                pass
    return message


def _filled(block: Json, text: str) -> Json:
    kind: str = block["type"]
    return block | ({"input": read_input(text)} if kind == "tool_use" else {kind: text})


_INPUT = TypeAdapter(dict[str, Any])


def read_input(arguments: str) -> Json:
    """Return the arguments of a call as an object; of a call that was cut off, what is complete."""
    try:
        value = _INPUT.validate_json(
            arguments.encode(errors="replace"), experimental_allow_partial="on"
        )
    except ValidationError:  # no beginning of an object: nothing that a tool could take
        return {}
    return _finite(value)


def _finite(value: Any) -> Any:
    """Return JSON in which no number has become infinite by being read."""
    match value:
        case float():
            return max(-_LARGEST, min(_LARGEST, value)) if not math.isnan(value) else None
        case list():
            return [_finite(item) for item in cast("list[Any]", value)]
        case dict():
            return {key: _finite(item) for key, item in cast("Json", value).items()}
        case _:
            return value


# Errors, counts and models ----------------------------------------------------------------------

OVERLOADED = 529

_ERROR_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    OVERLOADED: "overloaded_error",
}
"""Other statuses are `invalid_request_error` below 500 and `api_error` from there."""


def error_status(error: ApiError) -> int:
    """Return the HTTP status of `error` in this dialect.

    A full queue is 529 and not 429: here 429 says that the account's own limits are used up,
    which clients tell their user, while 529 makes them wait or take another model.
    """
    return OVERLOADED if error.code == "engine_overloaded" else error.status


def encode_error(error: ApiError, request_id: str) -> Json:
    """Return the error envelope; it has no place for the field, so the message names it."""
    status = error_status(error)
    fallback = "api_error" if status >= 500 else "invalid_request_error"
    message = error.message
    if error.code == "context_length_exceeded":
        message = f"{_overflow_words(error)}; {message}"
    elif error.param is not None and not message.startswith(error.param):
        message = f"{error.param}: {message}"
    return {
        "type": "error",
        "error": {"type": _ERROR_TYPES.get(status, fallback), "message": message},
        "request_id": request_id,
    }


def _overflow_words(error: ApiError) -> str:
    # By these words, and the numbers in them, agents know that they have to shorten the
    # conversation, or which `max_tokens` they may ask for.
    found = error.overflow
    if error.param == "max_tokens":
        sum_ = f": {found.prompt_tokens} + {found.max_tokens} > {found.window}" if found else ""
        return f"input length and `max_tokens` exceed context limit{sum_}"
    size = f": {found.prompt_tokens} tokens > {found.window} maximum" if found else ""
    return f"prompt is too long{size}"


def error_event(error: ApiError, request_id: str) -> Frame:
    """Return the server-sent event that ends a stream which has begun and cannot go on."""
    return "error", encode_error(error, request_id)


def encode_count(tokens: int) -> Json:
    """Return the answer of `POST /v1/messages/count_tokens`."""
    return {"input_tokens": tokens}


def model_keys(model: Model) -> Json:
    """Return what the Anthropic SDK reads of one entry of `GET /v1/models`, but for its `id`."""
    created = datetime.fromtimestamp(model.created, UTC)
    return {
        "type": "model",
        "display_name": model.id,
        "created_at": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
        "max_input_tokens": model.context_length,
        "max_tokens": model.context_length,
    }
