"""The bytes of a streamed Chat Completions answer in, events out.

In: pieces of bytes, cut anywhere. Out: (choice, event) pairs, and the usage.
Must not know: sockets, requests, what is done about a call that failed.

A server that answers a streaming request with one JSON object is understood, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from openk2.server.merge import merge_pieces
from openk2.server.upstream.choice import ChoiceReader
from openk2.server.upstream.errors import broke_off, error_in_stream, unreadable
from openk2.server.wire_json import read_wire
from openk2.types import Event, PromptRead, TextDelta, Usage

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
        self._mark = b"\xef\xbb\xbf"  # the byte order mark that may come first

    def feed(self, data: bytes) -> list[bytes]:
        """Return the data of every event that `data` completes.

        Raises:
            ApiError: 502, an event is larger than `MAX_EVENT`.
        """
        if (events := self._whole_events(data)) is not None:
            return events
        if self._skip_lf and data[:1] == b"\n":
            data = data[1:]
        self._skip_lf = data.endswith(b"\r")
        end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        self._size += len(data)
        if self._size > MAX_EVENT:
            raise unreadable(f"events of more than {MAX_EVENT // 2**20} MiB")
        if not end:
            self._tail += data
            return []
        lines = (bytes(self._tail) + data[:end]).splitlines()
        self._tail[:] = data[end:]
        events = self._read(lines)
        self._size = len(self._tail) + sum(map(len, self._data))
        return events

    def close(self) -> list[bytes]:
        """Return the last event, though the blank line that would end it never came."""
        return self._read([bytes(self._tail), b""])

    def _whole_events(self, data: bytes) -> list[bytes] | None:
        """Cut what nearly always comes: whole events of one line each, with nothing before them."""
        if self._tail or self._data or not (data.startswith(b"data: ") and data.endswith(b"\n\n")):
            return None
        events = data[6:-2].split(b"\n\ndata: ")
        if data.count(b"\n") != 2 * len(events) or b"\r" in data or len(data) > MAX_EVENT:
            return None
        self._mark, self._skip_lf = b"", False
        return events

    def _read(self, lines: list[bytes]) -> list[bytes]:
        events: list[bytes] = []
        if self._mark and lines:
            lines[0], self._mark = lines[0].removeprefix(self._mark), b""
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            elif not line and self._data:
                events.append(b"\n".join(self._data))
                self._data.clear()
        return events


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

    def feed(self, data: bytes) -> list[tuple[int, Event]]:
        """Return the events that `data` completes, pieces of one text put together.

        Raises:
            ApiError: The server reports an error, or sends what is no answer.
        """
        if not self._known and (first := data.lstrip()[:1]):
            self._known = True
            self._whole = bytearray() if first == b"{" else None
        if self._whole is None:
            return self._read(self._sse.feed(data))
        self._whole += data
        if len(self._whole) > MAX_EVENT:
            raise unreadable(f"an answer of more than {MAX_EVENT // 2**20} MiB")
        return []

    def close(self) -> list[tuple[int, Event]]:
        """Return what is left when the connection ends.

        Raises:
            ApiError: 502, the answer had not ended.
        """
        left: list[tuple[int, Event]] = []
        if not self._done:
            rest = [bytes(self._whole)] if self._whole is not None else self._sse.close()
            left = self._read(rest)
        # Some servers leave out the last line, some the finish reason: one of them is enough.
        said = all(choice.finished for choice in self.choices)
        if not self._began or not (self._done or said):
            raise broke_off()
        if any(choice.aborted for choice in self.choices):
            raise error_in_stream("it says that it was aborted", self._key)
        return left

    def usage_of(self, choice: int) -> Usage | None:
        """Return what the server counted for one choice, None if it counted nothing.

        Of a count for all choices together, the first has what was written.
        """
        if choice in self._usages:
            return self._usages[choice]
        if self.usage is None or choice == 0:
            return self.usage
        return Usage(self.usage.prompt_tokens, 0, self.usage.cached_tokens)

    def _read(self, events: list[bytes]) -> list[tuple[int, Event]]:
        items: list[tuple[int, Event]] = []
        pieces: list[str] = []  # of one text, which grows as long as chunks say nothing else
        writer = 0
        for event in events:
            if event == b"[DONE]":
                self._done = True
                break
            chunk = _object(event)
            choice, text = self._plain_text(chunk)
            if pieces and (text is None or choice != writer):
                items.append((writer, TextDelta("".join(pieces))))
                pieces.clear()
            if text is None:
                self._chunk(chunk, items)
            else:
                writer = choice
                pieces.append(text)
        if pieces:
            items.append((writer, TextDelta("".join(pieces))))
        return merge_pieces(items) if len(items) > 1 else items

    def _plain_text(self, chunk: Json) -> tuple[int, str | None]:
        """Return the choice and the text of a chunk that says nothing else: nearly every one."""
        if not self._began or chunk.get("usage") or chunk.get("error"):
            return 0, None
        entries = chunk.get("choices")
        if isinstance(entries, list) and len(cast("list[object]", entries)) == 1:
            entry = cast("object", entries[0])
            if isinstance(entry, dict):
                fields = cast("Json", entry)
                index = fields.get("index", 0)
                if isinstance(index, int) and 0 <= index < len(self.choices):
                    return index, self.choices[index].plain_text(fields)
        return 0, None

    def _chunk(self, chunk: Json, items: list[tuple[int, Event]]) -> None:
        if error := chunk.get("error"):
            raise error_in_stream(error, self._key)
        if usage := chunk.get("usage"):
            self.usage = read_usage(usage) or self.usage
        choices = chunk.get("choices")
        if not isinstance(choices, list):
            return
        for entry in cast("list[object]", choices):
            if not isinstance(entry, dict):
                continue
            fields = cast("Json", entry)
            if not self._began:
                self._begin(fields, items)
            index = fields.get("index", 0)
            if not isinstance(index, int) or not 0 <= index < len(self.choices):
                continue
            items += [(index, event) for event in self.choices[index].feed(fields)]
            if "usage" in fields and (usage := read_usage(fields["usage"])):
                self._usages[index] = usage

    def _begin(self, first: Json, items: list[tuple[int, Event]]) -> None:
        self._began = True
        usage = self.usage or read_usage(first.get("usage"))
        read = PromptRead(usage.prompt_tokens, usage.cached_tokens) if usage else PromptRead(0)
        items += [(choice, read) for choice in range(len(self.choices))]


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
        value: object = read_wire(event)
    except ValueError:
        raise unreadable("an event that is not JSON") from None
    if not isinstance(value, dict):
        raise unreadable("an event that is no JSON object")
    return cast("Json", value)
