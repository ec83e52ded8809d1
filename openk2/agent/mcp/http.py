"""A server behind a URL: Streamable HTTP, or the older server-sent events.

In: a URL with its headers, limits. Out: the two streams that the protocol's client drives, and the
last HTTP status that was an error.
Must not know: what the messages mean.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from openk2.agent.mcp.config import TOO_LONG, McpSettings, ServerEntry

if TYPE_CHECKING:
    import httpx2
    from mcp.client._transport import TransportStreams

_CONNECT_SECONDS = 10.0
_SLACK = 10.0  # a call's own limit ends it before the connection's does


@dataclass(slots=True)
class Seen:
    """What the answers' heads said."""

    status: int = 0
    """The last status from 400 on; the protocol's client does not tell it."""


@contextlib.asynccontextmanager
async def http_transport(
    config: ServerEntry, settings: McpSettings, seen: Seen
) -> AsyncGenerator[TransportStreams]:
    """Open the streams of a server behind a URL.

    Args:
        config: Where it is, and which headers it wants.
        settings: Limits.
        seen: Is told the status of answers that are errors.
    """
    import httpx2
    from mcp.client.sse import sse_client
    from mcp.client.streamable_http import streamable_http_client

    longest = (config.timeout or settings.call_seconds) + _SLACK
    if config.transport == "sse":
        headers = dict(config.headers)
        async with sse_client(
            config.url, headers=headers, timeout=_CONNECT_SECONDS, sse_read_timeout=longest
        ) as streams:
            yield streams
        return

    async def look(response: httpx2.Response) -> None:
        if response.status_code >= 400:
            seen.status = response.status_code
        # Event streams are bounded per event; the client reads a JSON body whole.
        if response.headers.get("content-type", "").startswith("application/json"):
            response.stream = _bounded(response, settings.message_bytes)

    async with (
        httpx2.AsyncClient(
            headers=dict(config.headers),
            timeout=httpx2.Timeout(_CONNECT_SECONDS, read=longest),
            event_hooks={"response": [look]},
        ) as client,
        streamable_http_client(
            config.url, http_client=client, max_sse_event_size=settings.message_bytes
        ) as streams,
    ):
        yield streams


def _bounded(response: httpx2.Response, limit: int) -> httpx2.AsyncByteStream:
    import httpx2

    inner = response.stream
    assert isinstance(inner, httpx2.AsyncByteStream)

    class Bounded(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            size = 0
            async for chunk in inner:
                size += len(chunk)
                if size > limit:
                    raise httpx2.StreamError(f"{TOO_LONG} {limit:,} bytes")
                yield chunk

        async def aclose(self) -> None:
            await inner.aclose()

    return Bounded()
