"""Requests to one other server, and what becomes of them in words for a client.

In: JSON bodies. Out: bytes as they come, or decoded JSON; failures as `ApiError`.
Must not know: what the bodies say, or how bytes are carried.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from openk2.server.errors import ApiError
from openk2.server.upstream.address import Address, TimeLimits
from openk2.server.upstream.connections import (
    BrokenReplyError,
    Connections,
    HungUpError,
    NoConnectionError,
    Reply,
    open_connections,
)
from openk2.server.upstream.errors import (
    broke_off,
    refusal,
    silent,
    stopping,
    unreachable,
    unreadable,
)
from openk2.server.wire_json import read_wire, write_wire

MAX_ANSWER = 64 * 2**20
"""Bytes of one streamed answer: some hundred thousand tokens, each in a chunk of its own."""

MAX_DOCUMENT = 4 * 2**20
"""Bytes of any other response, such as a list of models."""

MAX_REFUSAL = 64 * 2**10
"""Bytes of an error that are read; its first sentence is all that is shown."""

_DRAIN_SECONDS = 0.1


@dataclass(slots=True)
class UpstreamHttp:
    """The connections to one server."""

    address: Address
    key: str | None = field(default=None, repr=False)
    limits: TimeLimits = field(default_factory=TimeLimits)
    _connections: Connections | None = field(default=None, repr=False)
    _open: set[Answer] = field(default_factory=lambda: set(), repr=False)
    _stopping: bool = False

    async def stream(self, body: dict[str, Any]) -> Answer:
        """Post to /chat/completions; the answer's bytes are read as they come.

        Raises:
            ApiError: There is no connection, or no answer.
        """
        reply = await self._post_twice(write_wire(body))
        answer = Answer(self, reply)
        self._open.add(answer)
        if reply.status != 200:
            try:
                raise await self._refused(reply)
            except TimeoutError:
                raise silent(self.limits.idle) from None
            finally:
                answer.close()
        return answer

    async def document(self, url: str, body: dict[str, Any] | None = None) -> Any:
        """Get a JSON document, or post `body` for one.

        Raises:
            ApiError: There is none.
        """
        method, data = ("GET", None) if body is None else ("POST", write_wire(body))
        try:
            async with asyncio.timeout(self.limits.document):
                reply = await self._send(method, url, data)
                try:
                    if reply.status != 200:
                        raise await self._refused(reply)
                    return read_wire(await _read(reply, MAX_DOCUMENT))
                finally:
                    reply.close()
        except TimeoutError:
            raise silent(self.limits.document) from None
        except ValueError:
            raise unreadable("a document that is not JSON") from None
        except (BrokenReplyError, HungUpError):
            raise broke_off() from None

    def stop(self) -> None:
        """End all answers, so that their clients hear why."""
        self._stopping = True
        for answer in tuple(self._open):
            answer.close()

    def ended(self, answer: Answer) -> None:
        """Forget an answer that is closed."""
        self._open.discard(answer)

    def broken(self) -> ApiError:
        """Say why an answer ended too early."""
        return stopping() if self._stopping else broke_off()

    async def close(self) -> None:
        """Close all connections."""
        if self._connections is not None:
            connections, self._connections = self._connections, None
            await connections.close()

    async def _post_twice(self, data: bytes) -> Reply:
        # A kept connection may be closed from the other side just as it is used again. Nothing
        # of an answer has come then, and asking once more is what the client would do.
        url = f"{self.address.base}/chat/completions"
        try:
            return await self._send("POST", url, data)
        except HungUpError:
            pass
        try:
            return await self._send("POST", url, data)
        except HungUpError:
            raise broke_off() from None

    async def _send(self, method: str, url: str, data: bytes | None) -> Reply:
        """Send a request; return once the headers of its response are there."""
        if self._connections is None:
            self._connections = open_connections(self.address, self.key, self.limits)
        try:
            return await self._connections.send(method, url, data)
        except TimeoutError:
            raise silent(self.limits.idle) from None
        except NoConnectionError as error:
            raise unreachable(str(error)) from None

    async def _refused(self, reply: Reply) -> ApiError:
        try:
            body = await _read(reply, MAX_REFUSAL)
        except BrokenReplyError:  # too long, or broken off: the status is enough
            body = b""
        return refusal(reply.status, reply.headers, body, self.key)


class Answer:
    """One answer of the server, on its way."""

    __slots__ = ("_http", "_reply", "_size")

    def __init__(self, http: UpstreamHttp, reply: Reply) -> None:
        """Read `reply`."""
        self._http = http
        self._reply = reply
        self._size = 0

    async def read(self) -> bytes:
        """Wait for more of it and return that; empty at its end.

        Raises:
            ApiError: It breaks off, is silent for too long, or never ends.
        """
        try:
            data = await self._reply.read()
        except TimeoutError:
            raise silent(self._http.limits.idle) from None
        except BrokenReplyError:
            raise self._http.broken() from None
        self._size += len(data)
        if self._size > MAX_ANSWER:
            raise unreadable(f"more than {MAX_ANSWER // 2**20} MiB")
        return data

    async def drain(self) -> None:
        """Read what follows an answer that is over, for a moment: its connection is kept then."""
        if self._reply.complete:
            return
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                while await self.read():
                    pass
        except (TimeoutError, ApiError):
            pass

    def close(self) -> None:
        """Be done with it: at once, unless it was read to its end."""
        self._http.ended(self)
        self._reply.close()


async def _read(reply: Reply, limit: int) -> bytes:
    data = bytearray()
    while piece := await reply.read():
        data += piece
        if len(data) > limit:
            raise BrokenReplyError
    return bytes(data)
