"""Answers that leave in one piece: what is written together is sent together.

In: uvicorn's protocol. Out: the same one, on a transport that sends at the end of the loop's turn.
Must not know: requests, or who writes the answers.

uvicorn hands a response's head and its body to the socket one after the other, and each frame of a
stream by itself. Each is a system call, and wakes the client for a part of what it waits for.
"""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar, cast

P = TypeVar("P", bound=asyncio.Protocol)

MOST_HELD = 64 * 2**10
"""Bytes that are sent without waiting for the end of the turn."""


class CorkedTransport(asyncio.Transport):
    """A transport in front of another one."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        """Send over `transport`."""
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._held: list[bytes | bytearray | memoryview] = []
        self._size = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send `data` at the end of the loop's turn, or at once if there is much to send."""
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held.append(data)
        self._size += len(data)
        if self._size > MOST_HELD:
            self._flush()

    def _flush(self) -> None:
        if self._held:
            held, self._held, self._size = self._held, [], 0
            self._transport.write(held[0] if len(held) == 1 else b"".join(held))

    def close(self) -> None:
        """Close, once all is sent."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._held.clear()
        self._transport.abort()

    def write_eof(self) -> None:
        """End this direction, once all is sent."""
        self._flush()
        self._transport.write_eof()

    def can_write_eof(self) -> bool:
        """Whether one direction can end by itself."""
        return self._transport.can_write_eof()

    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""
        return self._transport.is_closing()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait."""
        return self._size + self._transport.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the numbers of waiting bytes between which the protocol may write."""
        return self._transport.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set them."""
        self._transport.set_write_buffer_limits(high, low)

    def pause_reading(self) -> None:
        """Receive nothing for now."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Receive again."""
        self._transport.resume_reading()

    def is_reading(self) -> bool:
        """Whether it receives."""
        return self._transport.is_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known about the connection."""
        return self._transport.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand the connection to another protocol."""
        self._transport.set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return whose connection it is."""
        return self._transport.get_protocol()


def corked(protocol: type[P]) -> type[P]:
    """Return `protocol` on such a transport."""

    def connection_made(self: P, transport: asyncio.Transport) -> None:
        protocol.connection_made(self, CorkedTransport(transport, asyncio.get_running_loop()))

    made = type(f"Corked{protocol.__name__}", (protocol,), {"connection_made": connection_made})
    return cast("type[P]", made)
