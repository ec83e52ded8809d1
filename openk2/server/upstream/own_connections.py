"""Connections to one other server, on asyncio's transports and httptools' parser.

In: requests with their bodies. Out: replies, read piece by piece.
Must not know: what the bodies say.

A client for any server, such as aiohttp, spends more on a request than everything else that a
gateway does with it. This one knows one server and one kind of request: headers are written once,
what a reply consists of is a list of pieces, and one timer looks after all connections. The parser
is Node's, in C; names, TLS and several addresses of one name are asyncio's to deal with.
`aiohttp_connections` is its twin: tests hold both to the same.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import quote, urlsplit

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from openk2 import __version__
from openk2.server.upstream.address import Address, TimeLimits
from openk2.server.upstream.connections import (
    KEPT_SECONDS,
    MAX_CONNECTIONS,
    BrokenReplyError,
    HungUpError,
    NoConnectionError,
    problem_of,
)

_MAX_HEAD = 64 * 2**10
"""Bytes before a body, those of provisional responses (1xx) included."""

_MAX_WAITING = 256 * 2**10
"""Bytes of a body that wait to be read before the other side has to wait."""

_OTHER_ADDRESS_SECONDS = 0.25
"""After so long the next address of a name is tried, too (RFC 8305 recommends it)."""

_NO_HEADER = re.compile(r"[\r\n\0]")


class OwnConnections:
    """All connections to one server."""

    def __init__(self, address: Address, headers: Mapping[str, str], limits: TimeLimits) -> None:
        """Send `headers` with every request to `address`."""
        parts = urlsplit(address.base)
        self._host = parts.hostname or ""
        self._tls = parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._limits = limits
        own = {"Host": _host_header(self._host, parts.port), "Accept": "*/*"}
        own["User-Agent"] = f"openk2/{__version__}"
        lines = [f"{name}: {value}" for name, value in (own | dict(headers)).items()]
        self._valid = not any(map(_NO_HEADER.search, lines))
        self._headers = "\r\n".join(lines).encode()
        self._heads: dict[tuple[str, str], bytes] = {}
        self._context: ssl.SSLContext | None = None
        self._places: asyncio.Semaphore | None = None
        self._all: set[Connection] = set()
        self._free: list[Connection] = []
        self._timer: asyncio.TimerHandle | None = None

    async def send(self, method: str, url: str, data: bytes | None) -> Connection:
        """Send a request, and return once the headers of its reply are there.

        Raises:
            NoConnectionError: There is no connection, or no HTTP on it.
            HungUpError: The other side leaves without a word.
            TimeoutError: Nothing came for too long.
        """
        request = self._head(method, url)
        if data is not None:
            request = b"%bContent-Length: %d\r\n\r\n%b" % (request, len(data), data)
        else:
            request += b"\r\n"
        if self._places is None:
            self._places = asyncio.Semaphore(MAX_CONNECTIONS)
        await self._places.acquire()
        connection = None
        try:
            connection = self._kept() or await self._connect()
            await connection.ask(request)
        except BaseException:
            if connection is None:
                self._places.release()
            else:
                connection.close()
            raise
        return connection

    async def close(self) -> None:
        """Close them all."""
        for connection in tuple(self._all):
            connection.drop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await asyncio.sleep(0)  # for the sockets to be closed

    def released(self, connection: Connection, *, kept: bool) -> None:
        """Take back a connection that has done its request."""
        if self._places is not None:
            self._places.release()
        if kept:
            self._free.append(connection)

    def lost(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self._all.discard(connection)
        if connection in self._free:
            self._free.remove(connection)

    def _head(self, method: str, url: str) -> bytes:
        head = self._heads.get((method, url))
        if head is None:
            if not self._valid:
                raise NoConnectionError("its key cannot be sent in a header")
            # As it is, but for what cannot be in a request line.
            path = quote(urlsplit(url).path or "/", safe="/%:@!$&'()*+,;=~")
            head = b"%b %b HTTP/1.1\r\n%b\r\n" % (method.encode(), path.encode(), self._headers)
            self._heads[method, url] = head
        return head

    def _kept(self) -> Connection | None:
        since = asyncio.get_running_loop().time() - KEPT_SECONDS
        while self._free:
            connection = self._free.pop()  # the one used last, so that the others can end
            if connection.heard >= since and connection.open:
                return connection
            connection.drop()
        return None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        if self._tls and self._context is None:
            self._context = await asyncio.to_thread(ssl.create_default_context)
        # uvloop, which uvicorn takes where it is installed, tries one address after the other.
        own = isinstance(loop, asyncio.BaseEventLoop)
        eyeballs: dict[str, Any] = {"happy_eyeballs_delay": _OTHER_ADDRESS_SECONDS} if own else {}
        try:
            async with asyncio.timeout(self._limits.connect):
                _, connection = await loop.create_connection(
                    lambda: Connection(self, loop),
                    self._host,
                    self._port,
                    ssl=self._context,
                    **eyeballs,
                )
        except TimeoutError:
            waited = f"no connection in {self._limits.connect:g} seconds"
            raise NoConnectionError(waited) from None
        except (OSError, ValueError) as error:  # a name that cannot be one is a ValueError
            raise NoConnectionError(problem_of(error)) from None
        self._all.add(connection)
        if self._timer is None:
            self._look_later(loop)
        return connection

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(min(self._limits.idle / 4, 1.0), self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """End the requests in which nothing came for too long, and what nobody needs any more."""
        now = loop.time()
        for connection in tuple(self._free):
            if connection.heard < now - KEPT_SECONDS:
                connection.drop()
        for connection in tuple(self._all):
            if connection.heard < now - self._limits.idle:
                connection.fail(TimeoutError())
        self._timer = None
        if self._all:
            self._look_later(loop)


class Connection(asyncio.Protocol):
    """One connection, and the reply to the request that is on it."""

    def __init__(self, owner: OwnConnections, loop: asyncio.AbstractEventLoop) -> None:
        """Belong to `owner`."""
        self._owner = owner
        self._loop = loop
        self._parser = HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self.heard = loop.time()
        """When something was last sent or received."""
        self._begin()
        self._asked = False

    def _begin(self) -> None:
        self.status = 0
        """The status of the reply; 0 until it is there."""
        self.headers: dict[str, str] = {}
        """Its headers; the names in lower case."""
        self._asked = True
        self._head_size = 0
        self._pieces: list[bytes] = []
        self._size = 0
        self._paused = False
        self._to_the_end = False
        self._complete = False
        self._keep = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    # For whoever asks

    @property
    def open(self) -> bool:
        """Whether a request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def complete(self) -> bool:
        """Whether all of the reply is there and was read."""
        return self._complete and not self._pieces

    async def ask(self, request: bytes) -> None:
        """Send a request; return once the headers of its reply are there.

        Raises:
            NoConnectionError: What came is not HTTP.
            HungUpError: The other side leaves without a word.
            TimeoutError: Nothing came for too long.
        """
        self._begin()
        self.heard = self._loop.time()
        if self._transport is not None:
            self._transport.write(request)
        while not self.status:
            if self._error is not None:
                raise self._error
            await self._wait()

    async def read(self) -> bytes:
        """Wait for the next piece of the body and return it; empty at its end.

        Raises:
            TimeoutError: Nothing came for too long.
            BrokenReplyError: The body is not complete.
        """
        while not self._pieces:
            if self._complete:
                return b""
            if self._error is not None:
                raise self._error
            await self._wait()
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    def close(self) -> None:
        """Be done with the request; the connection is kept only if all of the reply was read."""
        if not self._asked:
            return
        self._asked = False
        transport = self._transport
        kept = (
            self.complete
            and self._keep
            and self._error is None
            and transport is not None
            and not transport.is_closing()
            and not transport.get_write_buffer_size()
        )
        if not kept:
            if not self._complete and self._error is None:
                self._error = BrokenReplyError()  # for whoever reads on: the server is stopping
            self._wake()
            self.drop()
        self._owner.released(self, kept=kept)

    def drop(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def fail(self, error: Exception) -> None:
        """End the request that is on it, unless its reply is complete."""
        if self._asked and not self._complete and self._error is None:
            self._error = error
        self._wake()

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # For the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        if (raw := cast("socket.socket | None", transport.get_extra_info("socket"))) is not None:
            # A server that vanishes while it thinks would not be missed for ten minutes.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        """Read what came."""
        if not self._asked or self._complete:  # nobody asked for it
            self._keep = False
            self.drop()
            return
        self.heard = self._loop.time()
        if not self.status:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self._keep = False
            self._break_off()
        if not self.status and self._head_size > _MAX_HEAD:
            self._break_off()
        if self._size > _MAX_WAITING and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the reply, as its headers say that it ends, or too early."""
        if self.status and self._to_the_end and exc is None:
            self._complete = True
        self._keep = False
        self.fail(BrokenReplyError() if self.status else HungUpError())
        self._transport = None
        self._owner.lost(self)

    def _break_off(self) -> None:
        failed = NoConnectionError("it does not speak HTTP")
        self.fail(BrokenReplyError() if self.status else failed)
        self.drop()

    # For the parser

    def on_message_begin(self) -> None:
        """Begin a response; after one that is complete, nobody asked for it."""
        if self._complete:
            self._keep = False
        else:
            self.headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        if not self._complete:
            self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Know the status, unless it is a provisional one."""
        status = self._parser.get_status_code()
        if status < 200 or self._complete:
            return
        self.status = status
        self._keep = self._parser.should_keep_alive()
        self._to_the_end = not (
            "content-length" in self.headers
            or "chunked" in self.headers.get("transfer-encoding", "").lower()
        )

    def on_body(self, data: bytes) -> None:
        """Keep a piece of the body."""
        if not self._complete:
            self._pieces.append(data)
            self._size += len(data)

    def on_message_complete(self) -> None:
        """Know that the reply is complete, unless it was a provisional one."""
        if self.status:
            self._complete = True


def _host_header(host: str, port: int | None) -> str:
    try:
        shown = f"[{host}]" if ":" in host else host.encode("idna").decode()
    except UnicodeError:
        shown = host  # no such name can be connected to, either
    return shown if port is None else f"{shown}:{port}"
