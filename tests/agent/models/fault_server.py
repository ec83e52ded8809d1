"""A server on a real socket that says exactly the bytes a test wants, and remembers requests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

RESET = "reset"
"""In place of bytes: the connection is cut at once."""

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
class FaultServer:
    """Gives the n-th request the n-th answer; the last one again and again."""

    answers: Sequence[Sequence[Step]]
    path: str = ""
    """What the paths that get them end with; others are not found."""
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a client leaves in the middle of an answer."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while (asked := await self._read(reader)) is not None:
                for step in self._steps(asked):
                    if step == RESET:
                        return
                    if step == HANG:
                        await reader.read(1)
                        self.left.set()
                        return
                    if isinstance(step, float):
                        await asyncio.sleep(step)
                    else:
                        writer.write(step if isinstance(step, bytes) else step.encode())
                        await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            self.left.set()
        finally:
            writer.transport.abort()

    def _steps(self, asked: Asked) -> Sequence[Step]:
        if not asked.path.endswith(self.path):
            return response(404, {})
        self.asked.append(asked)
        return self.answers[min(len(self.asked), len(self.answers)) - 1]

    async def _read(self, reader: asyncio.StreamReader) -> Asked | None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.IncompleteReadError:
            return None
        first, *lines = head.strip().split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        method, path, _ = first.split(" ")
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return Asked(method, path, headers, json.loads(body) if body else None)


@asynccontextmanager
async def serving(
    *answers: Sequence[Step], path: str = ""
) -> AsyncGenerator[tuple[FaultServer, str], None]:
    """Serve; gives the server and its URL without a path."""
    faults = FaultServer(answers, path)
    server = await asyncio.start_server(faults.serve, "127.0.0.1", 0)
    try:
        yield faults, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def response(status: int, body: Any, headers: dict[str, str] | None = None) -> list[Step]:
    """Answer whole."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return [_head(status, {"Content-Length": str(len(data)), **(headers or {})}), data]


def stream(*events: Any, done: bool = True, end: bool = True) -> list[Step]:
    """Stream Chat Completions chunks; without `end`, the connection breaks after the last."""
    data = [chunked(f"data: {json.dumps(event)}\n\n".encode()) for event in events]
    if done:
        data.append(chunked(b"data: [DONE]\n\n"))
    return [sse_head(), *data, b"0\r\n\r\n" if end else RESET]


def named_stream(*events: Any, end: bool = True) -> list[Step]:
    """Stream events of the Messages dialect."""
    data = [
        chunked(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
        for event in events
    ]
    return [sse_head(), *data, b"0\r\n\r\n" if end else RESET]


def dribbled(steps: Sequence[Step]) -> list[Step]:
    """Have every byte of a body in a chunk of its own."""
    small: list[Step] = [steps[0]]
    for step in steps[1:-1]:
        assert isinstance(step, bytes)
        body = step.partition(b"\r\n")[2][:-2]
        small.append(b"".join(chunked(body[i : i + 1]) for i in range(len(body))))
    return [*small, steps[-1]]


def sse_head() -> bytes:
    return _head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
