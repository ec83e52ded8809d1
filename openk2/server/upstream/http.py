"""Requests to one other server, and what becomes of them in words for a client.

In: JSON bodies. Out: bytes as they come, or decoded JSON; failures as `ApiError`.
Must not know: what the bodies say, or how bytes are carried.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
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
    _open: set[Reply] = field(default_factory=lambda: set(), repr=False)
    _stopping: bool = False

    async def stream(self, body: dict[str, Any]) -> AsyncGenerator[bytes, None]:
        """Post to /chat/completions and yield the answer's bytes as they come.

        Closing the generator closes the connection at once, unless the answer was read to its end.

        Raises:
            ApiError: There is no connection, no answer, or not all of it.
        """
        reply = await self._post_twice(write_wire(body))
        self._open.add(reply)
        try:
            if reply.status != 200:
                raise await self._refused(reply)
            size = 0
            while data := await reply.read():
                size += len(data)
                if size > MAX_ANSWER:
                    raise unreadable(f"more than {MAX_ANSWER // 2**20} MiB")
                yield data
        except TimeoutError:
            raise silent(self.limits.idle) from None
        except BrokenReplyError:
            raise (stopping() if self._stopping else broke_off()) from None
        finally:
            self._open.discard(reply)
            reply.close()

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
        for reply in tuple(self._open):
            reply.close()

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


async def drain(stream: AsyncGenerator[bytes, None]) -> None:
    """Read what follows an answer that is over, for a moment: its connection can be kept then."""
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for _ in stream:
                pass
    except (TimeoutError, ApiError):
        pass


async def _read(reply: Reply, limit: int) -> bytes:
    data = bytearray()
    while piece := await reply.read():
        data += piece
        if len(data) > limit:
            raise BrokenReplyError
    return bytes(data)
