"""Requests to one other server: its address, its key, its time limits.

In: JSON bodies. Out: bytes as they come, or decoded JSON; failures as `ApiError`.
Must not know: what the bodies say.

Connections are kept and used again. Redirects are not followed, cookies not kept, proxies of the
environment not used, compressed answers not asked for. The key is in one header and nowhere else.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from openk2.server.errors import ApiError
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

_KEPT_SECONDS = 4.0
"""Less than the five after which uvicorn, which most such servers run on, closes idle ones."""

_CONNECTIONS = 2048

_DRAIN_SECONDS = 0.1
_WATCH_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Address:
    """Where another server is."""

    base: str
    """Up to and including `/v1`, or what it has in its place."""

    @property
    def root(self) -> str:
        """The part before `/v1`."""
        return self.base.removesuffix("/v1")

    @property
    def host(self) -> str:
        """The host's name."""
        return urlsplit(self.base).hostname or ""

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read what a user typed: with or without `/v1`, or the whole path to completions.

        Raises:
            ValueError: It is no http or https URL, or it holds more than an address.
        """
        try:
            parts = urlsplit(url.strip())
            port_known = parts.port is None or parts.port > 0
        except ValueError:
            port_known = False
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.hostname or not port_known:
            raise ValueError(f"{url!r} is no URL such as http://127.0.0.1:8000/v1")
        if parts.username is not None or parts.password is not None:
            raise ValueError("a URL with a name or a password in it; give the key in a variable")
        if parts.query or parts.fragment:
            raise ValueError(f"{url!r} has more than an address in it")
        path = parts.path.rstrip("/").removesuffix("/chat/completions")
        return cls(f"{parts.scheme}://{parts.netloc}{path or '/v1'}")


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """How long to wait for another server."""

    connect: float = 10.0
    """Seconds until there is a connection."""
    idle: float = 600.0
    """Seconds without a single byte: a long prompt is read in silence."""
    document: float = 20.0
    """Seconds for a list of models or a count of tokens, all in all."""


@dataclass(slots=True)
class UpstreamHttp:
    """The connections to one server."""

    address: Address
    key: str | None = field(default=None, repr=False)
    limits: TimeLimits = field(default_factory=TimeLimits)
    _session: aiohttp.ClientSession | None = field(default=None, repr=False)
    _open: set[aiohttp.ClientResponse] = field(default_factory=lambda: set(), repr=False)
    _stopping: bool = False

    async def stream(self, body: dict[str, Any]) -> AsyncGenerator[bytes, None]:
        """Post to /chat/completions and yield the answer's bytes as they come.

        Closing the generator closes the connection at once, unless the answer was read to its end.

        Raises:
            ApiError: There is no connection, no answer, or not all of it.
        """
        response = await self._post_twice(write_wire(body))
        self._open.add(response)
        watch = _Watch(response)
        try:
            if response.status != 200:
                raise await self._refused(response)
            size = 0
            async for data in response.content.iter_any():
                size += len(data)
                if size > MAX_ANSWER:
                    raise unreadable(f"more than {MAX_ANSWER // 2**20} MiB")
                yield data
        except TimeoutError:
            raise silent(self.limits.idle) from None
        except (aiohttp.ClientError, OSError):
            raise (stopping() if self._stopping else broke_off()) from None
        finally:
            watch.stop()
            self._open.discard(response)
            response.close()

    async def document(self, url: str, body: dict[str, Any] | None = None) -> Any:
        """Get a JSON document, or post `body` for one.

        Raises:
            ApiError: There is none.
        """
        method, data = ("GET", None) if body is None else ("POST", write_wire(body))
        try:
            async with asyncio.timeout(self.limits.document):
                response = await self._send(method, url, data)
                try:
                    if response.status != 200:
                        raise await self._refused(response)
                    return read_wire(await _read(response, MAX_DOCUMENT))
                finally:
                    response.close()
        except TimeoutError:
            raise silent(self.limits.document) from None
        except ValueError:
            raise unreadable("a document that is not JSON") from None
        except (aiohttp.ClientError, OSError):
            raise broke_off() from None

    def stop(self) -> None:
        """End all answers, so that their clients hear why."""
        self._stopping = True
        for response in tuple(self._open):
            response.close()

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def _post_twice(self, data: bytes) -> aiohttp.ClientResponse:
        # A kept connection may be closed from the other side just as it is used again. Nothing
        # of an answer has come then, and asking once more is what the client would do.
        url = f"{self.address.base}/chat/completions"
        try:
            return await self._send("POST", url, data)
        except aiohttp.ServerDisconnectedError:
            pass
        try:
            return await self._send("POST", url, data)
        except aiohttp.ServerDisconnectedError:
            raise broke_off() from None

    async def _send(self, method: str, url: str, data: bytes | None) -> aiohttp.ClientResponse:
        """Send a request; return once the headers of its response are there."""
        try:
            return await self._opened().request(method, url, data=data, allow_redirects=False)
        except aiohttp.ServerDisconnectedError:
            raise
        except aiohttp.ConnectionTimeoutError:
            raise unreachable(f"no connection in {self.limits.connect:g} seconds") from None
        except TimeoutError:
            raise silent(self.limits.idle) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise unreachable(_problem(error)) from None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
            if self.key:
                headers["Authorization"] = f"Bearer {self.key}"
            limits = self.limits
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS, keepalive_timeout=_KEPT_SECONDS),
                headers=headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=limits.connect, sock_read=limits.idle
                ),
                auto_decompress=False,
                trust_env=False,
            )
        return self._session

    async def _refused(self, response: aiohttp.ClientResponse) -> ApiError:
        try:
            body = await _read(response, MAX_REFUSAL)
        except (aiohttp.ClientError, OSError):  # too long, or broken off: the status is enough
            body = b""
        return refusal(response.status, response.headers, body, self.key)


class _Watch:
    """Ends an answer whose connection is lost.

    aiohttp (3.14) closes a connection on which the framing of a body breaks, but forgets to tell
    whoever waits for the body.
    """

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(_WATCH_SECONDS, self._look)
        self._lost = False

    def stop(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        connection, content = self._response.connection, self._response.content
        lost = connection is not None and connection.closed and not content.is_eof()
        if lost and self._lost:  # the second time: what was under way has arrived by now
            self._response.close()
            return
        self._lost = lost
        self._timer = self._loop.call_later(_WATCH_SECONDS, self._look)


async def drain(stream: AsyncGenerator[bytes, None]) -> None:
    """Read what follows an answer that is over, for a moment: its connection can be kept then."""
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for _ in stream:
                pass
    except (TimeoutError, ApiError):
        pass


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    data = bytearray()
    async for piece in response.content.iter_any():
        data += piece
        if len(data) > limit:
            raise aiohttp.ClientPayloadError("too long")
    return bytes(data)


def _problem(error: Exception) -> str:
    """Say what is wrong in a word, never with the exception's own text: it may quote headers."""
    number = getattr(error, "errno", None)
    if isinstance(error, aiohttp.ClientSSLError):
        return "its certificate is not accepted"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name is not known"
    if number == errno.ECONNREFUSED:
        return "it refuses connections"
    return "the connection failed"
