"""The bytes of a streamed Messages answer in, events out.

In: pieces of bytes, cut anywhere. Out: events, and the signed thinking that has to be sent back.
Must not know: sockets, what is done about an answer that failed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from openk2.agent.model import ModelError, ModelRequest
from openk2.agent.models.wire.faults import broken_off, fault_in_stream, unreadable
from openk2.agent.models.wire.halves import Halves
from openk2.agent.models.wire.replies import call_ids
from openk2.agent.models.wire.sse import SseError, SseReader
from openk2.types import (
    Event,
    Finish,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    ToolCallArguments,
    ToolCallStart,
    Usage,
)

Json = dict[str, Any]

_FINISHES: dict[str, FinishReason] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
}
"""Every other reason is a stop, or calls if there are any."""


@dataclass(slots=True)
class _Block:
    """One content block that is being written."""

    kind: str
    call: int | None = None
    """The number of the call that it is."""
    whole: str = ""
    """Arguments that came with the block's beginning."""
    pieces: bool = False
    """Whether arguments came after it."""


class MessagesDecoder:
    """Reads one answer."""

    def __init__(self, request: ModelRequest, endpoint: str, key: str | None = None) -> None:
        """Read the answer to `request`; `key` is taken out of what is quoted."""
        self._endpoint = endpoint
        self._key = key
        self._sse = SseReader()
        self._blocks: dict[int, _Block] = {}
        self._taken = {call.id for message in request.messages for call in message.tool_calls}
        self._numbers = call_ids(request)
        self._calls: list[str] = []
        self._counts: dict[str, int] = {}
        self._reason: str | None = None
        self._stop: str | None = None
        self._reasoning: list[str] = []
        self._thought, self._said = Halves(), Halves()
        self.thinking: list[Json] = []
        """The blocks of thinking, with their signatures."""
        self.done = False
        """Whether the answer is over, though the connection may not be."""

    @property
    def key(self) -> tuple[str, tuple[str, ...]]:
        """By what a turn is known again: its reasoning and the ids of its calls."""
        return "".join(self._reasoning), tuple(self._calls)

    def feed(self, piece: bytes) -> Iterator[Event]:
        """Yield the events that `piece` completes.

        Raises:
            ModelError: The endpoint reports an error, or sends what is no answer.
        """
        try:
            events = self._sse.feed(piece)
        except SseError as error:
            raise unreadable(self._endpoint, str(error)) from None
        for event in events:
            yield from self._read(event.data)

    def close(self) -> Iterator[Event]:
        """Yield what is left when the connection ended, then `Finish` and `Usage`.

        Raises:
            ModelError: The answer had not ended, or was refused.
        """
        for event in self._sse.close():
            yield from self._read(event.data)
        if self._reason is None:
            raise broken_off(self._endpoint)
        if self._reason == "refusal":
            raise ModelError(f"{self._endpoint} refused to answer; ask in another way", "refused")
        ended: FinishReason = "tool_calls" if self._calls else "stop"
        yield Finish(_FINISHES.get(self._reason, ended), self._stop)
        yield self._usage()

    def _usage(self) -> Usage:
        cached = self._counts.get("cache_read_input_tokens", 0)
        fresh = self._counts.get("input_tokens", 0)
        fresh += self._counts.get("cache_creation_input_tokens", 0)
        return Usage(fresh + cached, self._counts.get("output_tokens", 0), cached)

    def _read(self, data: bytes) -> Iterator[Event]:
        if self.done or data.strip() == b"[DONE]":  # which some gateways add
            return
        try:
            value: object = json.loads(data)
        except (ValueError, RecursionError):
            raise unreadable(self._endpoint, "an event that is not JSON") from None
        if not isinstance(value, dict):
            raise unreadable(self._endpoint, "an event that is no JSON object")
        event = cast(Json, value)
        match event.get("type"):
            case "message_start":
                self._count(_object(event.get("message")).get("usage"))
            case "content_block_start":
                yield from self._begin(_index(event), _object(event.get("content_block")))
            case "content_block_delta":
                yield from self._delta(_index(event), _object(event.get("delta")))
            case "content_block_stop":
                yield from self._end(_index(event))
            case "message_delta":
                delta = _object(event.get("delta"))
                self._reason = _word(delta.get("stop_reason")) or self._reason
                self._stop = _word(delta.get("stop_sequence"))
                self._count(event.get("usage"))
            case "message_stop":
                self.done = True
            case "error":
                raise fault_in_stream(self._endpoint, event.get("error"), self._key)
            case _:  # pings, and what is not known yet
                pass

    def _begin(self, index: int, block: Json) -> Iterator[Event]:
        kind = str(block.get("type"))
        state = self._blocks[index] = _Block(kind)
        if kind == "tool_use":
            state.call = len(self._calls)
            name = _word(block.get("name")) or ""
            identity = self._identity(_word(block.get("id")), name)
            self._calls.append(identity)
            yield ToolCallStart(state.call, identity, name)
            if arguments := block.get("input"):
                state.whole = json.dumps(arguments, ensure_ascii=False)
        elif kind == "thinking":
            self.thinking.append({"type": "thinking", "thinking": "", "signature": ""})
            yield from self._think(_word(block.get("thinking")))
            self._sign(block)
        elif kind == "redacted_thinking":
            self.thinking.append({"type": kind, "data": block.get("data", "")})
        else:
            yield from self._say(_word(block.get("text")))

    def _delta(self, index: int, delta: Json) -> Iterator[Event]:
        state = self._blocks.setdefault(index, _Block("text"))
        if text := _word(delta.get("text")):
            yield from self._say(text)
        elif text := _word(delta.get("partial_json")):
            if state.call is not None:
                state.pieces = True
                yield ToolCallArguments(state.call, text)
        elif "thinking" in delta:
            if not self.thinking or self.thinking[-1]["type"] != "thinking":
                self.thinking.append({"type": "thinking", "thinking": "", "signature": ""})
            yield from self._think(_word(delta.get("thinking")))
        elif "signature" in delta:
            self._sign(delta)

    def _end(self, index: int) -> Iterator[Event]:
        state = self._blocks.get(index)
        # A call without arguments has an empty object, which no delta says.
        if state is not None and state.call is not None and not state.pieces:
            state.pieces = True
            yield ToolCallArguments(state.call, state.whole or "{}")

    def _say(self, text: str | None) -> Iterator[Event]:
        if whole := self._said.whole(text or ""):
            yield TextDelta(whole)

    def _think(self, text: str | None) -> Iterator[Event]:
        if text := self._thought.whole(text or ""):
            self.thinking[-1]["thinking"] += text
            self._reasoning.append(text)
            yield ReasoningDelta(text)

    def _sign(self, fields: Json) -> None:
        if self.thinking and (signature := _word(fields.get("signature"))):
            self.thinking[-1]["signature"] = signature

    def _identity(self, identity: str | None, name: str) -> str:
        while identity is None or identity in self._taken:
            identity = f"functions.{name}:{next(self._numbers)}"
        self._taken.add(identity)
        return identity

    def _count(self, usage: object) -> None:
        for name, value in _object(usage).items():
            if isinstance(value, int):  # cumulative; gateways say 0 where they do not know yet
                self._counts[name] = max(self._counts.get(name, 0), value)


def _object(value: object) -> Json:
    return cast(Json, value) if isinstance(value, dict) else {}


def _index(event: Json) -> int:
    index = event.get("index")
    return index if isinstance(index, int) else 0


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
