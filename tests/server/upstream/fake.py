"""A server that says exactly the bytes that a test wants, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

ABORT = "abort"
"""In place of bytes: the connection is cut."""

HANG = "hang"
"""In place of bytes: nothing more is said until the other side leaves."""

Step = bytes | str | float
"""Bytes to write, seconds to wait, or one of the above."""


@dataclass
class Asked:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class FakeUpstream:
    """Answers on a real socket, in a thread of its own."""

    answer: Callable[[Asked], Sequence[Step]]
    models: Any = None
    """What GET /v1/models says; None is a 404."""
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    left: threading.Event = field(default_factory=threading.Event)
    """Set when somebody closes a connection on which an answer was not finished."""
    url: str = ""

    @property
    def chats(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.path.endswith("/chat/completions")]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while (asked := await self._read(reader)) is not None:
                self.asked.append(asked)
                if not await self._write(self._steps(asked), reader, writer):
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            self.left.set()
        finally:
            writer.transport.abort()

    def _steps(self, asked: Asked) -> Sequence[Step]:
        if asked.method == "GET" and asked.path.endswith("/models"):
            return document(self.models) if self.models is not None else document({}, 404)
        return self.answer(asked)

    async def _read(self, reader: asyncio.StreamReader) -> Asked | None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        first, *lines = head.decode().split("\r\n")
        headers = {
            k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines if line)
        }
        data = await reader.readexactly(int(headers.get("content-length", "0")))
        method, path, _ = first.split(" ")
        return Asked(method, path, headers, json.loads(data) if data else None)

    async def _write(
        self, steps: Sequence[Step], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        for step in steps:
            if step == ABORT:
                return False
            if step == HANG:
                await reader.read(1)
                self.left.set()
                return False
            if isinstance(step, float):
                await asyncio.sleep(step)
            elif isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
        return True


@contextmanager
def upstream(
    answer: Callable[[Asked], Sequence[Step]] | Sequence[Step], models: Any = None
) -> Iterator[FakeUpstream]:
    """Run a server that gives every request the same steps, or those a function returns."""
    fake = FakeUpstream(answer if callable(answer) else lambda _: answer, models)
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(fake.serve, "127.0.0.1", 0))
    fake.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"

    async def end() -> None:
        server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        loop.stop()

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield fake
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop)
        thread.join()
        loop.close()


def document(value: Any, status: int = 200, **headers: str) -> list[Step]:
    """Answer with a JSON document."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    extra = "".join(f"{name.replace('_', '-')}: {text}\r\n" for name, text in headers.items())
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(data)}\r\n{extra}\r\n"
    return [head.encode() + data]


SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
END = b"0\r\n\r\n"


def chunked(data: bytes) -> bytes:
    """Write `data` as one HTTP chunk."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def frame(value: Any) -> bytes:
    """Write one server-sent event."""
    return b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"


def sse(*events: Any, done: bool = True) -> list[Step]:
    """Answer with events: dictionaries or bytes, each in a chunk of its own."""
    frames = [*map(frame, events), *([frame(b"[DONE]")] if done else [])]
    return [SSE_HEAD, *map(chunked, frames), END]


def delta(reason: str | None = None, index: int = 0, **fields: Any) -> dict[str, Any]:
    """Write a chunk with one delta."""
    return {"choices": [{"index": index, "delta": fields, "finish_reason": reason}]}


def call(name: str | None, arguments: Any, **fields: Any) -> dict[str, Any]:
    """Write an entry of `delta.tool_calls`."""
    function = {"name": name, "arguments": arguments}
    return {**fields, "function": {key: v for key, v in function.items() if v is not None}}


USAGE = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}
