"""What the routes need of each dialect, said the same way for all of them.

In: decoded bodies, events, errors. Out: `ChatRequest`s, and frames or JSON in the dialect's form.
Must not know: sockets, the engine, or what any field means: that is in each dialect's own files.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from openk2 import __version__
from openk2.server.dialects import (
    anthropic,
    anthropic_events,
    completions,
    openai,
    openai_events,
    responses,
    responses_events,
)
from openk2.server.dialects.signer import Signer
from openk2.server.errors import ApiError
from openk2.server.request import ChatRequest
from openk2.server.sse import COMMENT, data_frame
from openk2.types import Event

Json = dict[str, Any]

FINGERPRINT = f"fp_openk2_{__version__}"
"""Another version may draw other tokens from the same seed."""


class Reply(Protocol):
    """The answer to one request, on its way into one dialect."""

    def whole(self, events: Iterable[tuple[int, Event]]) -> Json:
        """Fold all events into one object."""
        ...

    def frames(self, choice: int, event: Event) -> Iterator[bytes]:
        """Yield the frames that an event causes in a stream."""
        ...

    def last_frames(self) -> Iterator[bytes]:
        """Yield what follows the last event."""
        ...

    def failure(self, error: ApiError, request_id: str) -> bytes:
        """Return the frame that ends a stream which breaks off."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """A valid body: what it asks for, and how the answer is written down."""

    request: ChatRequest
    stream: bool
    options: Any
    """The dialect's own, handed back to its `reply`."""
    warnings: tuple[str, ...] = ()
    """What was left out of the request."""


class Dialect(Protocol):
    """One way to talk to a model over HTTP."""

    @property
    def filler(self) -> bytes:
        """A frame that says nothing, for silent moments of a stream."""
        ...

    @property
    def lenient(self) -> bool:
        """Whether clients ask for models that nobody has here, and mean the default one."""
        ...

    def decode(self, body: object) -> Asked:
        """Read a request's body.

        Raises:
            ApiError: 400, names the field that is wrong.
        """
        ...

    def reply(self, asked: Asked, model: str) -> Reply:
        """Begin an answer by `model`."""
        ...

    def encode_error(self, error: ApiError, request_id: str) -> tuple[int, Json]:
        """Return the dialect's status and its error envelope."""
        ...


@dataclass(frozen=True, slots=True)
class Secrets:
    """What proves that reasoning which a client sends back was written here."""

    key: bytes

    @property
    def signer(self) -> Signer:
        """Signs thinking blocks of the Messages dialect."""
        return Signer(self.sign)

    def sign(self, data: bytes) -> bytes:
        """Sign any bytes: a keyed hash that nobody without the key can make."""
        return hmac.digest(self.key, data, "sha256")


def _head(kind: str, model: str) -> openai_events.Head:
    made = int(time.time())
    return openai_events.Head(f"{kind}{secrets.token_hex(16)}", made, model, FINGERPRINT)


# Chat Completions -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Chat:
    """`POST /v1/chat/completions`; a Responses body gets its answer in chat chunks too."""

    secrets: Secrets
    filler: bytes = COMMENT
    lenient: bool = False

    def decode(self, body: object) -> Asked:
        """Read a body of either OpenAI dialect: Cursor sends Responses bodies here."""
        if responses.is_responses_body(body):
            request, theirs = _read_response(body, self.secrets)
            options = openai.ChatOptions(
                theirs.stream, theirs.include_usage, request.n, theirs.warnings
            )
        else:
            request, options = openai.decode_request(body)
        return Asked(request, options.stream, options, options.warnings)

    def reply(self, asked: Asked, model: str) -> Reply:
        """Begin an answer by `model`."""
        head = _head("chatcmpl-", model)
        return _ChatReply(head, openai_events.ChunkEncoder(head, asked.options))

    def encode_error(self, error: ApiError, request_id: str) -> tuple[int, Json]:
        """Return OpenAI's envelope."""
        return error.status, openai_events.encode_error(error)


@dataclass(frozen=True, slots=True)
class _ChatReply:
    head: openai_events.Head
    encoder: openai_events.ChunkEncoder

    def whole(self, events: Iterable[tuple[int, Event]]) -> Json:
        return openai_events.encode_response(self.head, events)

    def frames(self, choice: int, event: Event) -> Iterator[bytes]:
        return map(data_frame, self.encoder.encode(choice, event))

    def last_frames(self) -> Iterator[bytes]:
        yield b"data: [DONE]\n\n"

    def failure(self, error: ApiError, request_id: str) -> bytes:
        return data_frame(openai_events.encode_error(error))


# Responses --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Responses:
    """`POST /v1/responses`."""

    secrets: Secrets
    filler: bytes = COMMENT
    lenient: bool = False

    def decode(self, body: object) -> Asked:
        """Read a body."""
        request, options = _read_response(body, self.secrets)
        return Asked(request, options.stream, options, options.warnings)

    def reply(self, asked: Asked, model: str) -> Reply:
        """Begin an answer by `model`."""
        head = _head("resp_", model)
        encoder = responses_events.ResponseEncoder(head, asked.options)
        return _ResponsesReply(head, asked.options, encoder)

    def encode_error(self, error: ApiError, request_id: str) -> tuple[int, Json]:
        """Return OpenAI's envelope."""
        return error.status, openai_events.encode_error(error)


def _read_response(
    body: object, secrets: Secrets
) -> tuple[ChatRequest, responses.ResponsesOptions]:
    return responses.decode_request(body, secrets.sign)


@dataclass(frozen=True, slots=True)
class _ResponsesReply:
    head: openai_events.Head
    options: responses.ResponsesOptions
    encoder: responses_events.ResponseEncoder

    def whole(self, events: Iterable[tuple[int, Event]]) -> Json:
        told = (event for _, event in events)
        return responses_events.encode_response(self.head, self.options, told)

    def frames(self, choice: int, event: Event) -> Iterator[bytes]:
        return map(_named_frame, self.encoder.encode(event))

    def last_frames(self) -> Iterator[bytes]:
        return iter(())

    def failure(self, error: ApiError, request_id: str) -> bytes:
        return _named_frame(self.encoder.encode_failure(error))


def _named_frame(frame: tuple[str, Json]) -> bytes:
    name, data = frame
    return data_frame(data, name)


# Messages ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Messages:
    """`POST /v1/messages`, and the same body for its tokens to be counted."""

    secrets: Secrets
    temperature_scale: Callable[[], float]
    count_only: bool = False
    filler: bytes = _named_frame(anthropic_events.PING)
    lenient: bool = True

    def decode(self, body: object) -> Asked:
        """Read a body."""
        request, options = anthropic.decode_request(
            body,
            signer=self.secrets.signer,
            temperature_scale=self.temperature_scale(),
            count_only=self.count_only,
        )
        return Asked(request, options.stream, options, options.warnings)

    def reply(self, asked: Asked, model: str) -> Reply:
        """Begin an answer by `model`."""
        head = anthropic_events.Head(f"msg_{secrets.token_hex(16)}", model)
        signer = self.secrets.signer
        return _MessageReply(head, signer, anthropic_events.MessageEncoder(head, signer))

    def encode_error(self, error: ApiError, request_id: str) -> tuple[int, Json]:
        """Return Anthropic's envelope, and its status for a full queue."""
        status = anthropic_events.error_status(error)
        return status, anthropic_events.encode_error(error, request_id)


@dataclass(frozen=True, slots=True)
class _MessageReply:
    head: anthropic_events.Head
    signer: Signer
    encoder: anthropic_events.MessageEncoder

    def whole(self, events: Iterable[tuple[int, Event]]) -> Json:
        told = (event for _, event in events)
        return anthropic_events.encode_response(self.head, told, self.signer)

    def frames(self, choice: int, event: Event) -> Iterator[bytes]:
        return map(_named_frame, self.encoder.encode(event))

    def last_frames(self) -> Iterator[bytes]:
        return iter(())

    def failure(self, error: ApiError, request_id: str) -> bytes:
        return _named_frame(anthropic_events.error_event(error, request_id))


# Legacy completions -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CompletionReply:
    """The answer to `POST /v1/completions`, whose requests are no conversations."""

    request: completions.CompletionRequest
    head: openai_events.Head
    encoder: completions.CompletionEncoder

    @classmethod
    def begin(cls, request: completions.CompletionRequest, model: str) -> CompletionReply:
        """Begin an answer by `model`."""
        head = _head("cmpl-", model)
        return cls(request, head, completions.CompletionEncoder(head, request))

    def whole(self, events: Iterable[tuple[int, Event]]) -> Json:
        """Fold all events into one object."""
        return completions.encode_response(self.head, self.request, events)

    def frames(self, choice: int, event: Event) -> Iterator[bytes]:
        """Yield the frames that an event causes in a stream."""
        return map(data_frame, self.encoder.encode(choice, event))

    def last_frames(self) -> Iterator[bytes]:
        """Yield what follows the last event."""
        yield b"data: [DONE]\n\n"

    def failure(self, error: ApiError, request_id: str) -> bytes:
        """Return the frame that ends a stream which breaks off."""
        return data_frame(openai_events.encode_error(error))
