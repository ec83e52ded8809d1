"""Connections to one other server, by aiohttp: the plain twin of `own_connections`.

In: requests with their bodies. Out: replies, read piece by piece.
Must not know: what the bodies say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import aiohttp

from openk2.server.upstream.address import TimeLimits
from openk2.server.upstream.connections import (
    KEPT_SECONDS,
    MAX_CONNECTIONS,
    BrokenReplyError,
    HungUpError,
    NoConnectionError,
    problem_of,
)

_WATCH_SECONDS = 0.5


class AiohttpConnections:
    """All connections to one server."""

    def __init__(self, headers: Mapping[str, str], limits: TimeLimits) -> None:
        """Send `headers` with every request."""
        self._headers = headers
        self._limits = limits
        self._session: aiohttp.ClientSession | None = None

    async def send(self, method: str, url: str, data: bytes | None) -> AiohttpReply:
        """Send a request, and return once the headers of its reply are there.

        Raises:
            NoConnectionError: There is no connection, or no HTTP on it.
            HungUpError: The other side leaves without a word.
            TimeoutError: Nothing came for too long.
        """
        try:
            response = await self._opened().request(method, url, data=data, allow_redirects=False)
        except (aiohttp.ServerDisconnectedError, ConnectionResetError):
            raise HungUpError from None
        except aiohttp.ConnectionTimeoutError:
            waited = f"no connection in {self._limits.connect:g} seconds"
            raise NoConnectionError(waited) from None
        except TimeoutError:
            raise
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NoConnectionError(_problem(error)) from None
        return AiohttpReply(response)

    async def close(self) -> None:
        """Close them all."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=MAX_CONNECTIONS, keepalive_timeout=KEPT_SECONDS
                ),
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=self._limits.connect, sock_read=self._limits.idle
                ),
                auto_decompress=False,
                trust_env=False,
            )
        return self._session


class AiohttpReply:
    """A response whose status and headers are there."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        """Read `response`."""
        self._response = response
        self._watch = _Watch(response)

    @property
    def status(self) -> int:
        """The status."""
        return self._response.status

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers."""
        return self._response.headers

    @property
    def complete(self) -> bool:
        """Whether all of it is there and was read."""
        return self._response.content.at_eof()

    async def read(self) -> bytes:
        """Wait for the next piece of the body and return it; empty at its end.

        Raises:
            TimeoutError: Nothing came for too long.
            BrokenReplyError: The body is not complete.
        """
        try:
            return await self._response.content.readany()
        except TimeoutError:
            raise
        except (aiohttp.ClientError, OSError):
            raise BrokenReplyError from None

    def close(self) -> None:
        """Be done with it."""
        self._watch.stop()
        self._response.close()


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


def _problem(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name is not known"
    # aiohttp wraps what the socket said, but is an OSError of the same number itself.
    inner = error.__cause__ or error
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        inner = error.certificate_error
    return problem_of(inner)
