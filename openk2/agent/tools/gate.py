"""The one way out of the browser: a SOCKS5 proxy on this machine that connects to what it checked.

In: the browser's connections, by name and port. Out: the same bytes to addresses that may be
reached, and a list of what was refused.
Must not know: what is sent; TLS passes through it unread.

The browser cannot guard itself: it looks a name up after its address was judged, follows redirects
without asking, and opens WebSockets. A proxy sees each connection, looks the name up once, and
connects to just that answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress

from openk2.agent.tool import ToolError
from openk2.agent.tools.addresses import Reach

_SUCCEEDED, _FORBIDDEN, _UNREACHABLE, _NO_COMMAND, _NO_ADDRESS = 0, 2, 4, 7, 8
"""Replies of RFC 1928, section 6."""


class Gate:
    """Listens on the loopback while the browser lives."""

    def __init__(self, reach: Reach, connect_seconds: float = 15.0) -> None:
        """Take the rule; nothing listens yet."""
        self.reach = reach
        self.connect_seconds = connect_seconds
        self.problems: dict[str, ToolError] = {}
        """`host:port` → why it was not reached, since somebody last emptied it."""
        self._shut = False
        self._tunnels: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Listen; the port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    def shut(self, shut: bool) -> None:
        """Let nothing through and end what is open, or let things through again."""
        self._shut = shut
        if shut:
            for tunnel in self._tunnels:
                tunnel.cancel()

    async def close(self) -> None:
        """Stop listening and end what is open."""
        if self._server is not None:
            self._server.close()
            self.shut(True)
            await asyncio.gather(*self._tunnels, return_exceptions=True)
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tunnels.add(task)
        try:
            await self._tunnel(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # either side may go at any time; the browser reports it to its page
        finally:
            self._tunnels.discard(task)
            writer.close()

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(self.connect_seconds):
            asked = await _asked(reader, writer)
            if asked is None:
                return
            try:
                there, back = await self._connect(*asked)
            except ToolError as error:
                if len(self.problems) < 100:
                    self.problems["{}:{}".format(*asked)] = error
                _reply(writer, _FORBIDDEN if error.kind == "refused" else _UNREACHABLE)
                await writer.drain()
                return
        try:
            _reply(writer, _SUCCEEDED)
            async with asyncio.TaskGroup() as both:
                both.create_task(_pump(reader, back))
                both.create_task(_pump(there, writer))
        except* OSError:
            pass
        finally:
            back.close()

    async def _connect(
        self, host: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._shut:
            raise ToolError(
                f"{host}:{port} was not reached: pages of the workspace have no network; put what "
                "they need into the workspace",
                "refused",
            )
        problem: OSError | None = None
        for number in await self.reach.resolve(host, port):
            try:
                return await asyncio.open_connection(number, port)
            except OSError as error:
                problem = error
        raise ToolError(f"{host}:{port} does not answer ({problem})", "failed")


async def _asked(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[str, int] | None:
    """Read where the browser wants to go; None: what it said is not for us."""
    version, methods = await reader.readexactly(2)
    if version != 5:
        return None
    await reader.readexactly(methods)
    writer.write(b"\x05\x00")
    _, command, _, kind = await reader.readexactly(4)
    if kind == 1:
        host = str(ipaddress.IPv4Address(await reader.readexactly(4)))
    elif kind == 4:
        host = str(ipaddress.IPv6Address(await reader.readexactly(16)))
    elif kind == 3:
        (length,) = await reader.readexactly(1)
        host = (await reader.readexactly(length)).decode("ascii", "replace").lower()
    else:
        _reply(writer, _NO_ADDRESS)
        return None
    port = int.from_bytes(await reader.readexactly(2), "big")
    if command != 1:
        _reply(writer, _NO_COMMAND)
        return None
    return host, port


def _reply(writer: asyncio.StreamWriter, code: int) -> None:
    writer.write(bytes((5, code, 0, 1)) + bytes(6))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(1 << 16):
        writer.write(chunk)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()
