"""Server-sent events, and work that ends when its client goes away.

In: frames of bytes from an async generator. Out: an ASGI response.
Must not know: what the frames say, or which dialect wrote them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from openk2.server.wire_json import write_wire

T = TypeVar("T")

KEEP_ALIVE_SECONDS = 15.0
"""Proxies commonly close a connection that is silent for 30 or 60 seconds."""

WATCH_AFTER_SECONDS = 0.02
"""Nobody looks before whether a client is still there: most answers are under way by then."""

# JSON may hold these as they are, but some SSE readers take them for the end of a line.
_LINE_ENDS = tuple((mark.encode(), b"\\u%04x" % ord(mark)) for mark in "\x85\u2028\u2029")

COMMENT = b": keep-alive\n\n"
"""A frame that every reader of events skips."""


def data_frame(value: object, event: str | None = None) -> bytes:
    """Return `value` as one `data:` frame, under the name `event` if it has one."""
    data = write_wire(value)
    if not data.isascii():
        for mark, escaped in _LINE_ENDS:
            data = data.replace(mark, escaped)
    if event is None:
        return b"data: %b\n\n" % data
    return b"event: %b\ndata: %b\n\n" % (event.encode(), data)


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
        self._seen = 0
        self._timer: asyncio.TimerHandle | None = None
        self._filling: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response; an error before the first frame is raised, for its own status."""
        await while_connected(receive, self._send_all(send))

    async def _send_all(self, send: Send) -> None:
        # A timer looks for silence in the whole stream: one for each frame would cost more than
        # all else that happens to a frame.
        self._look_later(send)
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
            await self._stop_filling()
        await _send_body(send, b"", more=False)

    def _look_later(self, send: Send) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._keep_alive, self._look, send)

    def _look(self, send: Send) -> None:
        if self._sent == self._seen and (self._filling is None or self._filling.done()):
            self._filling = asyncio.ensure_future(self._send(send, self._filler))
        self._seen = self._sent
        self._look_later(send)

    async def _stop_filling(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._filling is not None:
            self._filling.cancel()
            await asyncio.gather(self._filling, return_exceptions=True)

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


async def while_connected(receive: Receive, work: Awaitable[T]) -> T | None:
    """Do `work`, but cancel it and return None as soon as the client is gone."""
    watch = _Watch(receive)
    try:
        return await work
    except asyncio.CancelledError:
        if watch.cancelled_for_good():
            raise
        return None
    finally:
        watch.stop()


class _Watch:
    """Cancels the running task once its client is gone; begins to look after a moment.

    It counts cancellations as `asyncio.timeout` does, so that one from elsewhere is not swallowed.
    """

    def __init__(self, receive: Receive) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._receive = receive
        self._task = task
        self._cancelling = task.cancelling()
        self._gone = False
        self._looking: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(WATCH_AFTER_SECONDS, self._begin)

    def stop(self) -> None:
        self._timer.cancel()
        if self._looking is not None:
            self._looking.cancel()

    def cancelled_for_good(self) -> bool:
        """Whether somebody else has cancelled the task."""
        return not self._gone or self._task.uncancel() > self._cancelling

    def _begin(self) -> None:
        self._looking = asyncio.ensure_future(self._look())

    async def _look(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._task.cancel()
