"""Bytes of a server-sent event stream in, events out.

In: pieces of bytes, cut anywhere, even within a character. Out: `ServerEvent`s.
Must not know: sockets, JSON, any vendor.

The rules are those of the HTML standard's section 9.2: lines end with LF, CR LF or CR, a line that
begins with a colon is a comment, several `data` lines are one text, an event without data is none.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_EVENT = 16 * 2**20
"""Bytes that one event may have: a whole answer in one piece, with room to spare."""

_MARK = b"\xef\xbb\xbf"
"""The byte order mark, which may come first."""


class SseError(ValueError):
    """The stream is no stream of events."""


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event."""

    data: bytes
    name: str = ""
    """The `event` field; vendors who leave it out say the type in the data."""


class SseReader:
    """Cuts a byte stream into events."""

    def __init__(self) -> None:
        """Start a stream."""
        self._tail = bytearray()
        self._data: list[bytes] = []
        self._name = ""
        self._size = 0
        self._after_cr = False
        self._first = True

    def feed(self, piece: bytes) -> list[ServerEvent]:
        """Return the events that `piece` completes.

        Raises:
            SseError: An event is larger than `MAX_EVENT`.
        """
        if not piece:
            return []
        if self._after_cr and piece[:1] == b"\n":
            piece = piece[1:]
            self._after_cr = False
            if not piece:
                return []
        self._after_cr = piece.endswith(b"\r")
        end = max(piece.rfind(b"\n"), piece.rfind(b"\r")) + 1
        self._size += len(piece)
        if self._size > MAX_EVENT:
            raise SseError(f"an event of more than {MAX_EVENT // 2**20} MiB")
        if not end:
            self._tail += piece
            return []
        lines = (bytes(self._tail) + piece[:end]).splitlines()
        self._tail[:] = piece[end:]
        events = self._read(lines)
        self._size = len(self._tail) + sum(map(len, self._data))
        return events

    def close(self) -> list[ServerEvent]:
        """Return the last event, though the blank line that should end it never came."""
        rest = [bytes(self._tail), b""] if self._tail else [b""]
        self._tail.clear()
        return self._read(rest)

    def _read(self, lines: list[bytes]) -> list[ServerEvent]:
        events: list[ServerEvent] = []
        if self._first and lines:
            lines[0] = lines[0].removeprefix(_MARK)
            self._first = False
        for line in lines:
            if not line:
                if self._data:
                    events.append(ServerEvent(b"\n".join(self._data), self._name))
                self._data, self._name = [], ""
                continue
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"data":
                self._data.append(value)
            elif field == b"event":
                self._name = value.decode("utf-8", "replace")
        return events
