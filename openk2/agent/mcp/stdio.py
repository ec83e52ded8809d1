"""A server that is a child process: started, spoken to over its pipes, ended with all it started.

In: how to start it, limits. Out: the two streams that the protocol's client drives.
Must not know: what the messages mean, beyond which request an answer belongs to.

The protocol package has such a transport; this one bounds the length of a message, passes on
nothing of our environment but what is asked for, and keeps error output within a limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from openk2.agent.mcp.config import TOO_LONG, McpSettings, ServerEntry
from openk2.agent.mcp.process import Start

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from mcp.shared.message import SessionMessage

_CHUNK = 1 << 16
_EDGE = 256
_FIRST_ID = re.compile(rb'^\s*\{\s*"jsonrpc"\s*:\s*"2\.0"\s*,\s*"id"\s*:\s*(\d{1,15})\s*,')
_LAST_ID = re.compile(rb'"id"\s*:\s*(\d{1,15})\s*(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*$')


@dataclass(frozen=True, slots=True)
class TooLong:
    """A message that was longer than allowed: its size and its ends."""

    size: int
    head: bytes
    tail: bytes

    @property
    def answers(self) -> int | None:
        """Which request it answers: servers write the id first or last."""
        match = _FIRST_ID.search(self.head) or _LAST_ID.search(self.tail)
        return int(match[1]) if match else None


class Lines:
    """Cuts a stream of bytes into lines, holding no more than the longest that is allowed."""

    def __init__(self, limit: int) -> None:
        """Begin an empty line; longer ones than `limit` bytes come out as `TooLong`."""
        self._limit = limit
        self._line = bytearray()
        self._dropped = 0
        self._tail = b""

    def feed(self, chunk: bytes) -> Iterator[bytes | TooLong]:
        """Take the next bytes; yield the lines that end in them."""
        *whole, rest = chunk.split(b"\n")
        for piece in whole:
            self._add(piece)
            yield self._end()
        self._add(rest)

    def _add(self, piece: bytes) -> None:
        if self._dropped or len(self._line) + len(piece) > self._limit:
            if not self._dropped:
                self._tail = bytes(self._line[-_EDGE:])
                self._dropped = len(self._line)
                self._line += piece[:_EDGE]
                del self._line[_EDGE:]
            self._dropped += len(piece)
            self._tail = (self._tail + piece[-_EDGE:])[-_EDGE:]
        else:
            self._line += piece

    def _end(self) -> bytes | TooLong:
        line = bytes(self._line)
        self._line.clear()
        if not self._dropped:
            return line
        found = TooLong(self._dropped, line, self._tail)
        self._dropped, self._tail = 0, b""
        return found


class Log:
    """Where a server's error output goes: without secrets, and only so much."""

    def __init__(self, file: IO[bytes], config: ServerEntry, limit: int) -> None:
        """Write to `file` until `limit` bytes are reached."""
        self._file = file
        self._config = config
        self._left = limit

    def write(self, line: bytes | TooLong) -> None:
        """Add a line, if there is room."""
        raw = line.head if isinstance(line, TooLong) else line
        text = self._config.hide_secrets(raw.decode(errors="replace")).encode() + b"\n"
        if self._left > 0:
            self._file.write(text[: self._left])
            self._file.flush()
            self._left -= len(text)


@contextlib.asynccontextmanager
async def stdio_transport(
    config: ServerEntry, settings: McpSettings, start: Start, log: Path
) -> AsyncGenerator[
    tuple[
        MemoryObjectReceiveStream[SessionMessage | Exception],
        MemoryObjectSendStream[SessionMessage],
    ]
]:
    """Start a server and give its streams; after it, neither it nor its children live.

    Args:
        config: How to start it.
        settings: Limits.
        start: Starts its process.
        log: The file of its error output; begun anew.

    Raises:
        OSError: It cannot be started.
    """
    import anyio
    from mcp.shared.message import SessionMessage

    log.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as files:
        keep = Log(files.enter_context(log.open("wb")), config, settings.log_bytes)
        process = await start(config)
        incoming, received = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        sent, outgoing = anyio.create_memory_object_stream[SessionMessage](0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_receive, process.stdout, incoming, keep, settings.message_bytes)
            tasks.start_soon(_send, process.stdin, outgoing)
            tasks.start_soon(_copy, process.stderr, keep)
            try:
                yield received, sent
            finally:
                with anyio.CancelScope(shield=True):
                    # Closed first: the reader then only drains, so a server that is stuck in
                    # writing comes to read that its input has ended.
                    received.close()
                    await process.end(settings.close_seconds)
                tasks.cancel_scope.cancel()
                for stream in (sent, incoming, outgoing):
                    stream.close()


async def _receive(
    stdout: asyncio.StreamReader,
    incoming: MemoryObjectSendStream[SessionMessage | Exception],
    log: Log,
    limit: int,
) -> None:
    import anyio

    lines = Lines(limit)
    wanted = True
    async with incoming:
        while chunk := await stdout.read(_CHUNK):
            for line in lines.feed(chunk):
                message = _message(line, log, limit) if wanted else None
                if message is None:
                    continue
                try:
                    await incoming.send(message)
                except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                    wanted = False
                if isinstance(message, Exception):
                    return  # whom it would have answered is unknown: the connection is over


def _message(line: bytes | TooLong, log: Log, limit: int) -> SessionMessage | Exception | None:
    from mcp.shared.message import SessionMessage
    from mcp_types import INTERNAL_ERROR, ErrorData, JSONRPCError, jsonrpc_message_adapter

    if isinstance(line, TooLong):
        problem = f"{TOO_LONG} {limit:,} bytes: {line.size:,}"
        log.write(f"openk2: {problem}".encode())
        if line.answers is None:
            return ValueError(problem)
        error = ErrorData(code=INTERNAL_ERROR, message=problem)
        return SessionMessage(JSONRPCError(jsonrpc="2.0", id=line.answers, error=error))
    if not line.strip():
        return None
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError:  # many servers print a greeting where only messages belong
        log.write(b"openk2: this line is no message: " + line[:_EDGE])
        return None


async def _send(
    stdin: asyncio.StreamWriter, outgoing: MemoryObjectReceiveStream[SessionMessage]
) -> None:
    async with outgoing:
        async for item in outgoing:
            text = item.message.model_dump_json(by_alias=True, exclude_unset=True)
            try:
                stdin.write(text.encode() + b"\n")
                await stdin.drain()
            except (ConnectionError, RuntimeError):
                return  # it has closed its input; the end of its output ends the connection


async def _copy(stderr: asyncio.StreamReader, log: Log) -> None:
    lines = Lines(_CHUNK)
    while chunk := await stderr.read(_CHUNK):
        for line in lines.feed(chunk):
            log.write(line)
