"""A server that is a child process: started, spoken to over its pipes, ended with all it started.

In: how to start it, limits. Out: the two streams that the protocol's client drives.
Must not know: what the messages mean, beyond which request an answer belongs to.

The protocol package has such a transport; this one bounds the length of a message, passes on
nothing of our environment but what is asked for, and keeps error output within a limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from openk2.agent.mcp.config import McpSettings, ServerConfig

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from mcp.shared.message import SessionMessage

TOO_LONG = -32099
"""Error code of our own: an answer was longer than `message_bytes`."""

_CHUNK = 1 << 16
_EDGE = 256
_FIRST_ID = re.compile(rb'^\s*\{\s*"jsonrpc"\s*:\s*"2\.0"\s*,\s*"id"\s*:\s*(\d{1,15})\s*,')
_LAST_ID = re.compile(rb'"id"\s*:\s*(\d{1,15})\s*(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*$')
_INHERITED = ("PATH", "HOME", "LANG")


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

    def __init__(self, file: IO[bytes], config: ServerConfig, limit: int) -> None:
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
    config: ServerConfig, settings: McpSettings, environment: Mapping[str, str], log: Path
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
        environment: Ours, of which it gets PATH, HOME and LANG.
        log: The file of its error output; begun anew.

    Raises:
        OSError: It cannot be started.
    """
    import anyio
    from mcp.shared.message import SessionMessage

    log.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as files:
        keep = Log(files.enter_context(log.open("wb")), config, settings.log_bytes)
        process = await _Process.start(config, environment)
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
    from mcp_types import ErrorData, JSONRPCError, jsonrpc_message_adapter

    if isinstance(line, TooLong):
        problem = f"a message has {line.size:,} bytes; at most {limit:,} are read"
        log.write(f"openk2: {problem}".encode())
        if line.answers is None:
            return ValueError(problem)
        error = ErrorData(code=TOO_LONG, message=problem)
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


class _Process:
    """A process group with three pipes that are ours to close, whoever else holds their ends."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        stdin: asyncio.StreamWriter,
        readers: tuple[tuple[asyncio.ReadTransport, asyncio.StreamReader], ...],
    ) -> None:
        self._process = process
        self._readers = readers
        self.stdin = stdin
        self.stdout = readers[0][1]
        self.stderr = readers[1][1]

    @classmethod
    async def start(cls, config: ServerConfig, environment: Mapping[str, str]) -> _Process:
        import anyio

        given = {name: environment[name] for name in _INHERITED if name in environment}
        pipes = [os.pipe() for _ in range(3)]
        theirs = [pipes[0][0], pipes[1][1], pipes[2][1]]
        with contextlib.ExitStack() as ours:
            files = [
                ours.enter_context(os.fdopen(pipes[0][1], "wb", 0)),
                *(ours.enter_context(os.fdopen(read, "rb", 0)) for read, _ in pipes[1:]),
            ]
            try:
                # Pipes first: once it runs, nothing must come between it and who ends it.
                stdin = await _writer(files[0])
                ours.callback(stdin.transport.abort)
                readers = (await _reader(files[1]), await _reader(files[2]))
                for transport, _ in readers:
                    ours.callback(transport.close)
                process = None
                with anyio.CancelScope(shield=True):
                    process = await asyncio.create_subprocess_exec(
                        config.command,
                        *config.args,
                        stdin=theirs[0],
                        stdout=theirs[1],
                        stderr=theirs[2],
                        cwd=config.cwd,
                        env={**given, **config.env},
                        start_new_session=True,
                    )
            finally:
                for end in theirs:
                    os.close(end)
            assert process is not None
            ours.pop_all()  # their transports close them from here on
        return cls(process, stdin, readers)

    async def end(self, patience: float) -> None:
        """Ask it to end as the protocol says, and then make it: input, SIGTERM, SIGKILL."""
        self.stdin.close()
        for step in (None, signal.SIGTERM):
            if step is not None:
                self._signal(step)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), patience)
                break
        self._signal(signal.SIGKILL)  # also what it started and left behind
        await self._process.wait()
        if self.stdin.transport.get_write_buffer_size():
            self.stdin.transport.abort()  # nobody reads the rest
        for transport, _ in self._readers:
            transport.close()
        await asyncio.sleep(0)  # transports release their files in the next turn

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


async def _reader(file: IO[bytes]) -> tuple[asyncio.ReadTransport, asyncio.StreamReader]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
    return transport, reader


async def _writer(file: IO[bytes]) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), file
    )
    return asyncio.StreamWriter(transport, protocol, None, loop)
