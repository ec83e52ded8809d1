"""Connections to one other server, whoever carries the bytes.

In: requests with their bodies. Out: replies, read piece by piece; what went wrong, in a word.
Must not know: what the bodies say, or how a failure is told to a client.

Connections are kept and used again. Redirects are not followed, cookies not kept, proxies of the
environment not used, compressed answers not asked for. The key is in one header and nowhere else.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Mapping
from typing import Protocol

from openk2.server.upstream.address import Address, TimeLimits

KEPT_SECONDS = 4.0
"""Less than the five after which uvicorn, which most such servers run on, closes idle ones."""

MAX_CONNECTIONS = 2048
"""Further requests wait for one to become free."""


class NoConnectionError(Exception):
    """There is no connection; its text says why, and never quotes what was sent."""


class HungUpError(Exception):
    """The other side closed the connection and has not begun an answer."""


class BrokenReplyError(Exception):
    """The connection ended, or what came is not HTTP, before a reply was complete."""


class Reply(Protocol):
    """A response whose status and headers are there."""

    @property
    def status(self) -> int:
        """The status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers; names are looked up in lower case."""
        ...

    @property
    def complete(self) -> bool:
        """Whether all of it is there and was read."""
        ...

    async def read(self) -> bytes:
        """Wait for the next piece of the body and return it; empty at its end.

        Raises:
            TimeoutError: Nothing came for too long.
            BrokenReplyError: The body is not complete.
        """
        ...

    def close(self) -> None:
        """Be done with it; the connection is kept only if all of it was read."""
        ...


class Connections(Protocol):
    """All connections to one server."""

    async def send(self, method: str, url: str, data: bytes | None) -> Reply:
        """Send a request, and return once the headers of its reply are there.

        Raises:
            NoConnectionError: There is no connection, or no HTTP on it.
            HungUpError: The other side leaves without a word; another connection may do.
            TimeoutError: Nothing came for too long.
        """
        ...

    async def close(self) -> None:
        """Close them all."""
        ...


def open_connections(address: Address, key: str | None, limits: TimeLimits) -> Connections:
    """Choose who carries the bytes; nothing is connected yet."""
    headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    try:
        from openk2.server.upstream.own_connections import OwnConnections
    except ImportError:  # there is no httptools for this machine
        from openk2.server.upstream.aiohttp_connections import AiohttpConnections

        return AiohttpConnections(headers, limits)
    return OwnConnections(address, headers, limits)


def problem_of(error: BaseException) -> str:
    """Say why there is no connection, never with the exception's own text: it may quote headers."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return "its certificate is not accepted"
    if isinstance(error, ssl.SSLError):
        return "it does not speak TLS as this machine does"
    if isinstance(error, socket.gaierror):
        return "its name is not known"
    refused = errno.ECONNREFUSED
    # Several addresses that all refuse are one error that has only their texts.
    if getattr(error, "errno", None) == refused or f"[Errno {refused}]" in str(error):
        return "it refuses connections"
    return "the connection failed"
