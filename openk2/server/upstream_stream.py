"""The bytes of a streamed Chat Completions answer in, events out.

In: pieces of bytes, cut anywhere. Out: (choice, event) pairs, and the usage.
Must not know: sockets, requests, what is done about a call that failed.

A server that answers a streaming request with one JSON object is understood, too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, cast

from openk2.server.upstream_choice import ChoiceReader
from openk2.server.upstream_errors import broke_off, error_in_stream, unreadable
from openk2.types import Event, PromptRead, Usage

Json = dict[str, Any]

MAX_EVENT = 8 * 2**20
"""Bytes of one server-sent event; a whole answer in one piece may have as many."""


class SseReader:
    """Cuts a byte stream into the data of its server-sent events.

    Lines end with LF, CR LF or CR; comments and fields other than `data` are passed over.
    """

    def __init__(self) -> None:
        """Start a stream."""
        self._tail = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._skip_lf = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the data of every event that `data` completes.

        Raises:
            ApiError: 502, an event is larger than `MAX_EVENT`.
        """
        if self._skip_lf and data[:1] == b"\n":
            data = data[1:]
        self._skip_lf = data.endswith(b"\r")
        end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        self._tail += data[:end] if end else data
        self._size += len(data)
        if self._size > MAX_EVENT:
            raise unreadable(f"an event of more than {MAX_EVENT // 2**20} MiB")
        if end:
            lines = bytes(self._tail).splitlines()
            self._tail[:] = data[end:]
            for line in lines:
                yield from self._line(line)
            self._size = len(self._tail) + sum(map(len, self._data))

    def close(self) -> Iterator[bytes]:
        """Yield the last event, though the blank line that would end it never came."""
        yield from self._line(bytes(self._tail))
        yield from self._line(b"")

    def _line(self, line: bytes) -> Iterator[bytes]:
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
        elif not line and self._data:
            event = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
            self._data.clear()
            yield event


class StreamDecoder:
    """Turns the chunks of all choices into events."""

    def __init__(self, choices: Sequence[ChoiceReader], key: str | None = None) -> None:
        """Read into `choices`; `key` is taken out of what the server says about errors."""
        self.choices = choices
        self.usage: Usage | None = None
        """Of all choices together, if the server said it."""
        self._usages: dict[int, Usage] = {}
        self._key = key
        self._sse = SseReader()
        self._whole: bytearray | None = None
        self._known = False  # whether it is a stream or one object
        self._began = False
        self._done = False

    @property
    def done(self) -> bool:
        """Whether the answer is over, though the connection may not be."""
        return self._done

    def feed(self, data: bytes) -> Iterator[tuple[int, Event]]:
        """Yield the events that `data` completes.

        Raises:
            ApiError: The server reports an error, or sends what is no answer.
        """
        if not self._known and (first := data.lstrip()[:1]):
            self._known = True
            self._whole = bytearray() if first == b"{" else None
        if self._whole is not None:
            self._whole += data
            if len(self._whole) > MAX_EVENT:
                raise unreadable(f"an answer of more than {MAX_EVENT // 2**20} MiB")
            return
        for event in self._sse.feed(data):
            yield from self._event(event)

    def close(self) -> Iterator[tuple[int, Event]]:
        """Yield what is left when the connection ends.

        Raises:
            ApiError: 502, the answer had not ended.
        """
        if not self._done:
            rest = [bytes(self._whole)] if self._whole is not None else self._sse.close()
            for event in rest:
                yield from self._event(event)
        # Some servers leave out the last line, some the finish reason: one of them is enough.
        said = all(choice.finished for choice in self.choices)
        if not self._began or not (self._done or said):
            raise broke_off()
        if any(choice.aborted for choice in self.choices):
            raise error_in_stream("it says that it was aborted", self._key)

    def usage_of(self, choice: int) -> Usage | None:
        """Return what the server counted for one choice, None if it counted nothing.

        Of a count for all choices together, the first has what was written.
        """
        if choice in self._usages:
            return self._usages[choice]
        if self.usage is None or choice == 0:
            return self.usage
        return Usage(self.usage.prompt_tokens, 0, self.usage.cached_tokens)

    def _event(self, event: bytes) -> Iterator[tuple[int, Event]]:
        if self._done:
            return
        if event == b"[DONE]":
            self._done = True
            return
        chunk = _object(event)
        if error := chunk.get("error"):
            raise error_in_stream(error, self._key)
        if "usage" in chunk:
            self.usage = read_usage(chunk["usage"]) or self.usage
        choices = chunk.get("choices")
        listed = cast("list[object]", choices) if isinstance(choices, list) else []
        if not self._began and listed:
            yield from self._begin(listed[0])
        for entry in listed:
            if isinstance(entry, dict):
                yield from self._choice(cast("Json", entry))

    def _begin(self, first: object) -> Iterator[tuple[int, Event]]:
        self._began = True
        usage = self.usage
        if usage is None and isinstance(first, dict):
            usage = read_usage(cast("Json", first).get("usage"))
        read = PromptRead(usage.prompt_tokens, usage.cached_tokens) if usage else PromptRead(0)
        for choice in range(len(self.choices)):
            yield choice, read

    def _choice(self, entry: Json) -> Iterator[tuple[int, Event]]:
        index = entry.get("index", 0)
        if not isinstance(index, int) or not 0 <= index < len(self.choices):
            return
        for event in self.choices[index].feed(entry):
            yield index, event
        if "usage" in entry and (usage := read_usage(entry["usage"])):
            self._usages[index] = usage


def read_usage(value: object) -> Usage | None:
    """Read a `usage` object, its details wherever Kimi or OpenAI puts them."""
    if not isinstance(value, dict):
        return None
    fields = cast("Json", value)
    cached = _count(fields.get("cached_tokens")) or _detail(
        fields, "prompt_tokens_details", "cached_tokens"
    )
    prompt = _count(fields.get("prompt_tokens"))
    return Usage(
        prompt,
        _count(fields.get("completion_tokens")),
        min(cached, prompt),
        _detail(fields, "completion_tokens_details", "reasoning_tokens"),
    )


def _detail(fields: Json, group: str, name: str) -> int:
    details = fields.get(group)
    return _count(cast("Json", details).get(name)) if isinstance(details, dict) else 0


def _count(value: object) -> int:
    return max(0, min(value, 2**53)) if isinstance(value, int) else 0


def _object(event: bytes) -> Json:
    try:
        value: object = json.loads(event)
    except (ValueError, RecursionError):
        raise unreadable("an event that is not JSON") from None
    if not isinstance(value, dict):
        raise unreadable("an event that is no JSON object")
    return cast("Json", value)
