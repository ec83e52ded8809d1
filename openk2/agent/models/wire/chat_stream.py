"""The bytes of a streamed Chat Completions answer in, events out.

In: pieces of bytes, cut anywhere. Out: events; `Finish` and `Usage` come when the stream is closed.
Must not know: sockets, what is done about an answer that failed.

An endpoint that answers a streaming request with one JSON object is understood, too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

from openk2.agent.model import ModelError, ModelRequest
from openk2.agent.models.estimate import estimate, estimate_text
from openk2.agent.models.wire.chat_calls import CallReader
from openk2.agent.models.wire.faults import broken_off, fault_in_stream, unreadable
from openk2.agent.models.wire.halves import Halves
from openk2.agent.models.wire.sse import SseError, SseReader
from openk2.types import Event, Finish, FinishReason, ReasoningDelta, TextDelta, Usage

Json = dict[str, Any]

_CUT = ("length", "max_tokens", "model_length", "model_context_window_exceeded")
_FAILED = ("error", "abort", "insufficient_system_resource")


class ChatDecoder:
    """Reads one answer."""

    def __init__(self, request: ModelRequest, endpoint: str, key: str | None = None) -> None:
        """Read the answer to `request`; `key` is taken out of what is quoted."""
        self._request = request
        self._endpoint = endpoint
        self._key = key
        self._sse = SseReader()
        self._whole: bytearray | None = None
        self._known = False  # whether it is a stream or one object
        self._calls = CallReader(request)
        self._thought, self._said = Halves(), Halves()
        self._reason: str | None = None
        self._usage: Usage | None = None
        self._written = 0  # estimated tokens, for endpoints that count none
        self.done = False
        """Whether the answer is over, though the connection may not be."""

    def feed(self, piece: bytes) -> Iterator[Event]:
        """Yield the events that `piece` completes.

        Raises:
            ModelError: The endpoint reports an error, or sends what is no answer.
        """
        if not self._known and (first := piece.lstrip()[:1]):
            self._known = True
            self._whole = bytearray() if first == b"{" else None
        if self._whole is not None:
            self._whole += piece
            return
        try:
            events = self._sse.feed(piece)
        except SseError as error:
            raise unreadable(self._endpoint, str(error)) from None
        for event in events:
            yield from self._read(event.data)

    def close(self) -> Iterator[Event]:
        """Yield what is left when the connection ended, then `Finish` and `Usage`.

        Raises:
            ModelError: The answer had not ended, or was withheld.
        """
        rest = [bytes(self._whole)] if self._whole is not None else None
        for data in rest or [event.data for event in self._sse.close()]:
            yield from self._read(data)
        # Some endpoints leave out the last line, some the finish reason: one of them is enough.
        if not self.done and self._reason is None:
            raise broken_off(self._endpoint)
        finish = self._finish()
        yield from self._calls.close(cut=finish == "length")
        yield Finish(finish)
        yield self._usage or Usage(estimate(self._request), self._written)

    def _finish(self) -> FinishReason:
        reason = self._reason
        if reason == "content_filter":
            raise ModelError(
                f"{self._endpoint} withheld its answer (content_filter); ask in another way",
                "refused",
            )
        if reason in _FAILED:
            raise broken_off(self._endpoint, f"it gave up within its answer ({reason})")
        if reason in _CUT:
            return "length"
        return "tool_calls" if len(self._calls) else "stop"

    def _read(self, data: bytes) -> Iterator[Event]:
        if self.done:
            return
        if data.strip() == b"[DONE]":
            self.done = True
            return
        try:
            chunk: object = json.loads(data)
        except (ValueError, RecursionError):
            raise unreadable(self._endpoint, "an event that is not JSON") from None
        if not isinstance(chunk, dict):
            raise unreadable(self._endpoint, "an event that is no JSON object")
        yield from self._chunk(cast(Json, chunk))

    def _chunk(self, chunk: Json) -> Iterator[Event]:
        if error := chunk.get("error"):
            raise fault_in_stream(self._endpoint, error, self._key)
        self._usage = read_usage(chunk.get("usage")) or self._usage
        choices = chunk.get("choices")
        for entry in cast(list[object], choices) if isinstance(choices, list) else []:
            if not isinstance(entry, dict):
                continue
            choice = cast(Json, entry)
            if choice.get("index", 0) not in (0, None):
                continue
            # Kimi counts inside the choice.
            self._usage = read_usage(choice.get("usage")) or self._usage
            delta = choice.get("delta") or choice.get("message")
            if isinstance(delta, dict):
                yield from self._delta(cast(Json, delta))
            if isinstance(reason := choice.get("finish_reason"), str) and reason:
                self._reason = reason

    def _delta(self, delta: Json) -> Iterator[Event]:
        thought = _text(delta.get("reasoning_content")) or _text(delta.get("reasoning"))
        if thought := self._thought.whole(thought):
            self._written += estimate_text(thought)
            yield ReasoningDelta(thought)
        if said := self._said.whole(_text(delta.get("content")) or _text(delta.get("refusal"))):
            self._written += estimate_text(said)
            yield TextDelta(said)
        calls = delta.get("tool_calls")
        for call in cast(list[object], calls) if isinstance(calls, list) else []:
            self._written += 1
            yield from self._calls.feed(call)


def read_usage(value: object) -> Usage | None:
    """Read a `usage` object, its details wherever Kimi or OpenAI puts them."""
    if not isinstance(value, dict):
        return None
    fields = cast(Json, value)
    prompt, completion = _count(fields, "prompt_tokens"), _count(fields, "completion_tokens")
    if not prompt and not completion:  # what some put into every chunk but the last
        return None
    cached = _count(fields, "cached_tokens") or _count(
        fields.get("prompt_tokens_details"), "cached_tokens"
    )
    # DeepSeek's own name.
    cached = cached or _count(fields, "prompt_cache_hit_tokens")
    reasoning = _count(fields.get("completion_tokens_details"), "reasoning_tokens")
    return Usage(prompt, completion, min(cached, prompt), min(reasoning, completion))


def _count(fields: object, name: str) -> int:
    value = cast(Json, fields).get(name) if isinstance(fields, dict) else None
    return max(0, min(value, 2**53)) if isinstance(value, int) else 0


def _text(value: object) -> str:
    """Return the text of a delta, which some write as a list of parts."""
    if isinstance(value, str):
        return value
    parts = cast(list[object], value) if isinstance(value, list) else []
    texts = (cast(Json, part).get("text") for part in parts if isinstance(part, dict))
    return "".join(text for text in texts if isinstance(text, str))
