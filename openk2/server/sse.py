"""Server-sent events, and work that ends when its client goes away.

In: frames of bytes from an async generator. Out: an ASGI response.
Must not know: what the frames say, or which dialect wrote them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

T = TypeVar("T")

KEEP_ALIVE_SECONDS = 15.0
"""Proxies commonly close a connection that is silent for 30 or 60 seconds."""

# JSON may hold these as they are, but some SSE readers take them for the end of a line.
_LINE_ENDS = {ord(mark): f"\\u{ord(mark):04x}" for mark in "\x85\u2028\u2029"}


COMMENT = b": keep-alive\n\n"
"""A frame that every reader of events skips."""


def data_frame(value: object, event: str | None = None) -> bytes:
    """Return `value` as one `data:` frame, under the name `event` if it has one."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    name = "" if event is None else f"event: {event}\n"
    return f"{name}data: {text.translate(_LINE_ENDS)}\n\n".encode()


class EventStream(Response):
    """Sends frames as they come; a client that goes away closes the generator of frames."""

    def __init__(
        self,
        frames: AsyncGenerator[bytes, None],
        error_frame: Callable[[Exception], bytes],
        *,
        headers: Mapping[str, str] | None = None,
        filler: bytes = COMMENT,
        keep_alive: float = KEEP_ALIVE_SECONDS,
    ) -> None:
        """Prepare to send `frames`.

        Args:
            frames: Closed by this response, however it ends.
            error_frame: Says to the client, and logs, what broke the stream after it began.
            headers: Of the response, beside those that a stream needs.
            filler: A frame that says nothing, sent in silence.
            keep_alive: Seconds of silence after which it is sent.
        """
        super().__init__(
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"} | dict(headers or {}),
            media_type="text/event-stream",
        )
        del self.headers["content-length"]
        self._frames = frames
        self._error_frame = error_frame
        self._filler = filler
        self._keep_alive = keep_alive
        self._sending = asyncio.Lock()
        self._sent = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response; an error before the first frame is raised, for its own status."""
        await while_connected(receive, self._send_all(send))

    async def _send_all(self, send: Send) -> None:
        # One task fills silence for the whole stream: one for each frame would cost more than all
        # else that happens to a frame.
        filler = asyncio.ensure_future(self._fill_silence(send))
        try:
            async with aclosing(self._frames):
                try:
                    async for frame in self._frames:
                        await self._send(send, frame)
                except Exception as error:  # `error_frame` tells and logs it
                    if not self._sent:
                        raise
                    await self._send(send, self._error_frame(error))
        finally:
            filler.cancel()
            await asyncio.gather(filler, return_exceptions=True)
        await _send_body(send, b"", more=False)

    async def _fill_silence(self, send: Send) -> None:
        while True:
            sent = self._sent
            await asyncio.sleep(self._keep_alive)
            if self._sent == sent:
                await self._send(send, self._filler)

    async def _send(self, send: Send, frame: bytes) -> None:
        async with self._sending:
            # The status waits for the first frame: until then an error can still have its own.
            self._sent += 1
            if self._sent == 1:
                start = {"status": self.status_code, "headers": self.raw_headers}
                await send({"type": "http.response.start"} | start)
            await _send_body(send, frame)


async def _send_body(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T | None:
    """Run `work`, but cancel it and return None as soon as the client is gone."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
