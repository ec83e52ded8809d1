"""The connections to one vendor's server: its address, its key, its time limits.

In: JSON bodies. Out: bytes as they come, or a JSON document; failures as `ModelError`.
Must not know: what the bodies say.

The key is in one header and nowhere else: neither in messages nor in a `repr`. Redirects are not
followed, as they would carry it elsewhere; cookies are not kept.
"""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from openk2.agent.model import ModelError
from openk2.agent.models.wire.faults import (
    broken_off,
    endless,
    fault_of_status,
    silent,
    unreachable,
    unreadable,
)

MAX_ANSWER = 64 * 2**20
"""Bytes of one streamed answer: some hundred thousand tokens, each in a chunk of its own."""

MAX_DOCUMENT = 4 * 2**20
"""Bytes of a list of models, or of an error that is read."""

_KEPT_SECONDS = 4.0
"""Less than the five after which uvicorn, which many servers run on, closes idle connections."""

_DRAIN_SECONDS = 0.1

_LOOK_SECONDS = 1.0
"""How often a silent connection is looked at: aiohttp 3.14 does not tell a reader that it closed
one on which the framing of the body broke."""


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """How long to wait for an endpoint."""

    connect: float = 10.0
    """Seconds until there is a connection."""
    silence: float = 300.0
    """Seconds without a single byte: a long prompt is read in silence."""
    total: float = 3600.0
    """Seconds for a whole answer."""
    document: float = 20.0
    """Seconds for a list of models or a count of tokens."""


def parse_base_url(url: str) -> str:
    """Return an address that a person typed, without a slash at its end.

    Raises:
        ValueError: It is no http or https URL, or has more than an address in it.
    """
    try:
        parts = urlsplit(url.strip())
        port_known = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_known = urlsplit(""), False
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_known:
        raise ValueError(f"{url!r} is no URL such as http://127.0.0.1:8000/v1")
    if parts.username is not None or parts.password is not None:
        raise ValueError("the URL has a name or a password in it; give the key by itself")
    if parts.query or parts.fragment:
        raise ValueError(f"{url!r} has more than an address in it")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


@dataclass(slots=True)
class Endpoint:
    """One server's API."""

    name: str
    """What errors call it."""
    base: str
    """The URL before every path."""
    headers: Mapping[str, str] = field(repr=False)
    key: str | None = field(default=None, repr=False)
    """Taken out of every message."""
    limits: TimeLimits = field(default_factory=TimeLimits)
    _session: aiohttp.ClientSession | None = field(default=None, repr=False)

    async def stream(self, path: str, body: Mapping[str, Any]) -> AsyncGenerator[bytes, None]:
        """Post a body and yield the answer's bytes as they come; closing it ends the connection.

        Raises:
            ModelError: There is no connection, no answer, or not all of it.
        """
        limits = self.limits
        deadline = asyncio.get_running_loop().time() + limits.total
        response = await self._send("POST", path, body, limits.silence)
        try:
            if response.status != 200:
                raise await self._refused(response)
            size = 0
            while piece := await self._piece(response, deadline):
                size += len(piece)
                if size > MAX_ANSWER:
                    raise endless(self.name, MAX_ANSWER)
                yield piece
        finally:
            response.close()

    async def document(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Get a JSON document, or post `body` for one.

        Raises:
            ModelError: There is none.
        """
        limit = self.limits.document
        method = "GET" if body is None else "POST"
        try:
            async with asyncio.timeout(limit):
                response = await self._send(method, path, body, limit)
                try:
                    if response.status != 200:
                        raise await self._refused(response)
                    return json.loads(await _read(response))
                finally:
                    response.close()
        except TimeoutError:
            raise silent(self.name, limit) from None
        except (ValueError, RecursionError):
            raise unreadable(self.name, "a document that is not JSON") from None
        except (aiohttp.ClientError, OSError):
            raise broken_off(self.name) from None

    async def close(self) -> None:
        """Close all connections; the next request opens them again."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None, seconds: float
    ) -> aiohttp.ClientResponse:
        """Send a request; return once the headers of its response are there."""
        data = None
        if body is not None:
            # Half a character, which a model or a tool may write, is no UTF-8.
            data = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        try:
            async with asyncio.timeout(seconds):
                return await self._opened().request(
                    method, self.base + path, data=data, allow_redirects=False
                )
        except aiohttp.ConnectionTimeoutError:
            raise unreachable(
                self.name, f"no connection in {self.limits.connect:g} seconds"
            ) from None
        except TimeoutError:
            raise silent(self.name, seconds) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise unreachable(self.name, _problem(error)) from None

    async def _piece(self, response: aiohttp.ClientResponse, deadline: float) -> bytes:
        """Return the next bytes, none at the end."""
        loop, limits = asyncio.get_running_loop(), self.limits
        begun = loop.time()
        while True:
            now = loop.time()
            if now >= deadline:
                raise silent(self.name, limits.total, whole=True)
            if now - begun >= limits.silence:
                raise silent(self.name, limits.silence)
            left = min(_LOOK_SECONDS, deadline - now, begun + limits.silence - now)
            try:
                async with asyncio.timeout(left):
                    return await response.content.readany()
            except TimeoutError:
                connection = response.connection
                if connection is not None and connection.closed and not response.content.is_eof():
                    raise broken_off(self.name) from None
            except (aiohttp.ClientError, OSError):
                raise broken_off(self.name) from None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            host = urlsplit(self.base).hostname or ""
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEPT_SECONDS),
                headers={
                    "Content-Type": "application/json",
                    "Accept-Encoding": "identity",
                    **self.headers,
                },
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self.limits.connect),
                # A proxy of the environment is the way out of many offices, but not to oneself.
                trust_env=host not in ("localhost", "::1") and not host.startswith("127."),
            )
        return self._session

    async def _refused(self, response: aiohttp.ClientResponse) -> Exception:
        try:
            async with asyncio.timeout(self.limits.document):
                body = await _read(response)
        except (TimeoutError, aiohttp.ClientError, OSError):  # the status is enough
            body = b""
        return fault_of_status(self.name, response.status, response.headers, body, self.key)


async def drain(pieces: AsyncGenerator[bytes, None]) -> None:
    """Read what follows an answer that is over, for a moment: its connection can be kept then."""
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for _ in pieces:
                pass
    except (TimeoutError, ModelError):
        pass


async def _read(response: aiohttp.ClientResponse) -> bytes:
    data = bytearray()
    async for piece in response.content.iter_any():
        data += piece
        if len(data) > MAX_DOCUMENT:
            raise aiohttp.ClientPayloadError("too long")
    return bytes(data)


def _problem(error: Exception) -> str:
    """Say what is wrong in a word, never with the exception's own text: it may quote headers."""
    number = getattr(error, "errno", None)
    if isinstance(error, aiohttp.ClientSSLError):
        return "its certificate is not accepted"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name is not known"
    if isinstance(error, aiohttp.ServerDisconnectedError) or number == errno.ECONNRESET:
        return "it closed the connection"
    if number == errno.ECONNREFUSED:
        return "it refuses connections"
    return "the connection failed"
