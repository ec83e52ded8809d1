"""One server: started, listened to, called, and started again when it ends.

In: how to reach it, limits. Out: its tools as far as they can be trusted, answers to calls, and a
sentence about its state.
Must not know: other servers, or how tools are shown to a model.

Everything of a connection is opened and closed by one task, its owner: the protocol's client holds
task groups, and those must be left by the task that entered them. Calls come from other tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from openk2.agent.mcp.cache import ToolCache
from openk2.agent.mcp.config import TOO_LONG, McpSettings, ServerEntry
from openk2.agent.mcp.http import Seen, http_transport
from openk2.agent.mcp.listing import CleanStream
from openk2.agent.mcp.process import Start
from openk2.agent.mcp.results import read_result
from openk2.agent.mcp.schema import RemoteTool, plain
from openk2.agent.mcp.stdio import stdio_transport
from openk2.agent.tool import Call, ToolError, ToolResult

if TYPE_CHECKING:
    import anyio
    from mcp import Client, MCPError
    from mcp.client._transport import TransportStreams
    from mcp.client.session import IncomingMessage

Status = Literal["asleep", "connecting", "ready", "waiting", "closed"]
"""asleep: its tools are known, the first call starts it. waiting: it failed and is tried again."""

_PAGES = 50
_SENTENCE = 300
_CUT_OFF = "SSE stream"  # how the client's words begin when an answer over HTTP breaks off
_TOO_MUCH = re.compile(rf"{TOO_LONG}|Server-sent event exceeded")


@dataclass(frozen=True, slots=True)
class ServerState:
    """What people and models are told about a server."""

    name: str
    status: Status
    sentence: str
    tools: int = 0
    warnings: tuple[str, ...] = ()
    """Tools that were left out, and why."""


@dataclass(slots=True)
class _Link:
    """What belongs to one connection and ends with it."""

    scope: anyio.CancelScope
    over: asyncio.Event = field(default_factory=asyncio.Event)
    relist: asyncio.Event = field(default_factory=asyncio.Event)
    seen: Seen = field(default_factory=Seen)
    warnings: list[str] = field(default_factory=list[str])
    ready_at: float | None = None


class Connection:
    """A server that may be there or not; nothing here ever waits for it longer than allowed."""

    def __init__(
        self,
        config: ServerEntry,
        settings: McpSettings,
        start: Start,
        log: Path,
        cache: ToolCache,
        on_change: Callable[[], None],
    ) -> None:
        """Take what is known from the cache; `start` begins.

        Args:
            config: How to reach it.
            settings: Limits.
            start: Starts its process.
            log: The file of a process's error output.
            cache: Where its tools are kept between runs.
            on_change: Is told that tools or state are others now.
        """
        self.config = config
        self._settings = settings
        self._start = start
        self._log = log
        self._cache = cache
        self._on_change = on_change
        known = cache.load(config)
        self._tools: tuple[RemoteTool, ...] = known or ()
        self._status: Status = "asleep" if known and settings.lazy else "connecting"
        self._sentence = "Its tools are known; the first call starts it."
        self._warnings: tuple[str, ...] = ()
        self._failures = 0
        self._wanted = asyncio.Event()
        self._settled = asyncio.Event()  # not connecting: ready, or failed once more
        self._client: Client | None = None
        self._link: _Link | None = None
        self._closing = False
        self._owner: asyncio.Task[None] | None = None

    @property
    def state(self) -> ServerState:
        """What is so now."""
        return ServerState(
            self.config.name, self._status, self._sentence, len(self.tools), self._warnings
        )

    @property
    def tools(self) -> tuple[RemoteTool, ...]:
        """What can be called: nothing while it keeps failing."""
        failing = self._client is None and self._failures >= self._settings.failures_tolerated
        return () if failing or self._closing else self._tools

    @property
    def settled(self) -> bool:
        """Whether a first attempt has ended, or none is needed."""
        return self._settled.is_set() or self._status == "asleep"

    async def wait_settled(self) -> None:
        """Wait until a first attempt has ended."""
        if not self.settled:
            await self._settled.wait()

    def start(self) -> None:
        """Begin to connect, in the background."""
        self._owner = asyncio.create_task(self._own(), name=f"mcp {self.config.name}")

    async def close(self) -> None:
        """End the connection, and the server if it is a process of ours."""
        import anyio

        if self._owner is None or self._closing:
            return
        self._closing = True
        self._wanted.set()
        if self._link is not None:
            # Ends a connection attempt at once, and bounds what a goodbye over HTTP may take.
            ready = self._link.ready_at is not None
            self._link.scope.deadline = anyio.current_time() + self._settings.close_seconds * ready
            self._link.over.set()
        await asyncio.wait({self._owner})
        self._say("closed", "It was closed.")

    # Calls ------------------------------------------------------------------------------------

    async def call(
        self, tool: RemoteTool, shown: str, arguments: Mapping[str, Any], call: Call
    ) -> ToolResult:
        """Call a tool of this server.

        Args:
            tool: Which.
            shown: The name by which the model called it.
            arguments: What it asks.
            call: Where and for how long.

        Raises:
            ToolError: The server is not there, broke off, answered too much, or took too long.
        """
        seconds = min(call.seconds, self.config.timeout or self._settings.call_seconds)
        try:
            async with asyncio.timeout(seconds):
                for attempt in range(2):
                    client = await self._connected(shown)
                    result = await self._try(client, tool, shown, arguments, call)
                    if result is not None:
                        return result
                    if attempt:
                        break
        except TimeoutError:
            if self._client is None:
                raise self._unavailable(f"{shown} cannot be called yet") from None
            raise ToolError(
                f"{shown} did not answer in {seconds:g} seconds; its MCP server was told to stop. "
                "Try a smaller task, or go on without it.",
                "timeout",
            ) from None
        raise self._unavailable(f"{shown}: the server forgot the connection twice")

    async def _try(
        self, client: Client, tool: RemoteTool, shown: str, arguments: Mapping[str, Any], call: Call
    ) -> ToolResult | None:
        """Call once; None if the server forgot who we are, and surely did nothing."""
        from mcp import InputRequiredRoundsExceededError, MCPError
        from pydantic import ValidationError

        async def tell(progress: float, total: float | None, message: str | None) -> None:
            share = f"{progress:g}" if total is None else f"{progress:g}/{total:g}"
            call.progress(plain(f"{share} {message or ''}", _SENTENCE))

        link = self._link
        try:
            answer = await client.call_tool(tool.name, dict(arguments), progress_callback=tell)
        except MCPError as error:
            if link is not None and link.seen.status == 404 and "session" in error.message.lower():
                link.over.set()
                return None
            if _TOO_MUCH.search(error.message):
                raise ToolError(f"{shown}: {error.message}. Ask for less, or a part.") from None
            if link is None or link.over.is_set() or error.message.startswith(_CUT_OFF):
                raise self._unavailable(
                    f"{shown}: the connection broke off during the call"
                ) from None
            return self._refused(error, shown)
        except (ValidationError, InputRequiredRoundsExceededError) as error:
            raise ToolError(
                f"{shown}: its server's answer breaks the protocol ({type(error).__name__}); "
                "use another tool.",
                "unavailable",
            ) from None
        return read_result(answer, shown, call)

    def _refused(self, error: MCPError, shown: str) -> ToolResult:
        words = plain(self.config.hide_secrets(error.message), 4 * _SENTENCE)
        return ToolResult(
            f"{shown} failed; its server says: {words}",
            untrusted=True,
            failed=True,
            details={"code": error.code},
        )

    async def _connected(self, shown: str) -> Client:
        """Wait for the connection, asking for it where nobody has yet."""
        if self._client is not None and self._link is not None and self._link.over.is_set():
            self._client, self._status = None, "waiting"  # its owner has yet to notice
        if self._client is None and self._failures < self._settings.failures_tolerated:
            if self._status in ("asleep", "waiting"):
                self._settled.clear()
                self._wanted.set()
            await self._settled.wait()
        if self._client is None:
            raise self._unavailable(f"{shown} cannot be called now")
        return self._client

    def _unavailable(self, what: str) -> ToolError:
        return ToolError(
            f"{what}. MCP server {self.config.name}: {self._sentence} "
            "Call again later, or use another tool.",
            "unavailable",
        )

    # The owner --------------------------------------------------------------------------------

    async def _own(self) -> None:
        clock = asyncio.get_running_loop().time
        if self._status == "asleep":
            await self._wanted.wait()
        while not self._closing:
            self._wanted.clear()
            self._say("connecting", "It is being connected.")
            problem = await self._live()
            ready_at = self._link.ready_at if self._link else None
            lasted = 0.0 if ready_at is None else clock() - ready_at
            self._link = self._client = None
            if self._closing:
                break
            healthy = ready_at is not None and lasted >= self._settings.healthy_seconds
            self._failures = 0 if healthy else self._failures + 1
            wait = self._wait()
            self._say("waiting", f"{problem} It is tried again in {wait:g} s.")
            if not self._wanted.is_set():  # else somebody waits for the next attempt already
                self._settled.set()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), wait)
        self._settled.set()

    def _wait(self) -> float:
        settings = self._settings
        doubled = settings.retry_seconds * 2.0 ** min(max(self._failures - 1, 0), 30)
        return min(doubled, settings.longest_retry_seconds)

    async def _live(self) -> str:
        """Connect and stay connected; return why that ended."""
        import anyio

        deadline = anyio.current_time() + self._settings.connect_seconds
        link = self._link = _Link(anyio.CancelScope(deadline=deadline))
        try:
            with link.scope:
                async with self._open(link) as client:
                    await self._list(client, link)
                    link.scope.deadline = float("inf")
                    link.ready_at = asyncio.get_running_loop().time()
                    self._client = client
                    # It gets one more chance; lasting for a while forgives the rest.
                    tolerated = self._settings.failures_tolerated
                    self._failures = min(self._failures, tolerated - 1)
                    self._say("ready", "It is connected.")
                    self._settled.set()
                    try:
                        await self._watch(client, link)
                    finally:
                        self._client, self._status = None, "waiting"
        # Whatever a server or the way to it does wrong is its own end, never the run's.
        except Exception as error:  # noqa: BLE001
            return self._told(error, link)
        if link.scope.cancelled_caught and link.ready_at is None:
            return f"It did not connect within {self._settings.connect_seconds:g} seconds."
        return "It ended the connection."

    @contextlib.asynccontextmanager
    async def _open(self, link: _Link) -> AsyncGenerator[Client]:
        from mcp import Client
        from mcp_types import Implementation, ToolListChangedNotification

        from openk2 import __version__

        async def listen(message: IncomingMessage) -> None:
            if isinstance(message, ToolListChangedNotification):
                link.relist.set()

        # Neither `elicitation_callback` nor `sampling_callback`: what is not offered is refused.
        async with Client(
            self._transport(link),
            message_handler=listen,
            client_info=Implementation(name="openk2", version=__version__),
            # Some older servers end at the first unknown request, which `auto` begins with.
            mode="auto" if self._failures % 2 == 0 else "legacy",
            cache=None,
        ) as client:
            yield client

    @contextlib.asynccontextmanager
    async def _transport(self, link: _Link) -> AsyncGenerator[TransportStreams]:
        config, settings = self.config, self._settings
        if config.transport == "stdio":
            opened = stdio_transport(config, settings, self._start, self._log)
        else:
            opened = http_transport(config, settings, link.seen)
        async with opened as (received, sent):
            yield CleanStream(received, settings, link.over, link.warnings), sent

    async def _watch(self, client: Client, link: _Link) -> None:
        import anyio
        from mcp_types.version import MODERN_PROTOCOL_VERSIONS

        offered = client.server_capabilities.tools
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._relist, client, link)
            modern = client.protocol_version in MODERN_PROTOCOL_VERSIONS
            if modern and offered and offered.list_changed:
                tasks.start_soon(self._subscribe, client, link)
            await link.over.wait()
            tasks.cancel_scope.cancel()

    async def _relist(self, client: Client, link: _Link) -> None:
        from mcp import MCPError

        while True:
            await link.relist.wait()
            link.relist.clear()
            try:
                async with asyncio.timeout(self._settings.connect_seconds):
                    await self._list(client, link)
            except (MCPError, TimeoutError, ValueError):
                self._warnings = ("Its tools changed, and it did not tell them.",)

    async def _subscribe(self, client: Client, link: _Link) -> None:
        """Hear of changes; since 2026-07-28 they come only to those who ask."""
        from mcp import MCPError
        from mcp.client.subscriptions import SubscriptionLost

        try:
            async with client.listen(tools_list_changed=True) as changes:
                async for _ in changes:
                    link.relist.set()
        except (MCPError, SubscriptionLost, TimeoutError):
            return  # its list stays as it was told last

    async def _list(self, client: Client, link: _Link) -> None:
        """Fetch all tools."""
        found: dict[str, RemoteTool] = {}
        link.warnings.clear()
        cursor: str | None = None
        for _ in range(_PAGES):
            page = await client.list_tools(cursor=cursor)
            for tool in page.tools:
                if tool.name in found:
                    link.warnings.append(f"{plain(tool.name, 60)!r}: it is listed twice")
                    continue
                hints = tool.annotations
                found[tool.name] = RemoteTool(
                    tool.name,
                    tool.description or "",
                    tool.input_schema,
                    bool(hints and hints.read_only_hint),
                )
            if page.next_cursor in (None, cursor):
                break
            cursor = page.next_cursor
        most = self._settings.tools_per_server
        if len(found) > most:
            link.warnings.append(f"{len(found) - most} tools more than {most}")
        self._tools = tuple(found.values())[:most]
        self._warnings = tuple(link.warnings)
        self._cache.store(self.config, self._tools)
        self._on_change()

    def _told(self, error: Exception, link: _Link) -> str:
        """Say why a connection failed, in one sentence without secrets."""
        from mcp_types import CONNECTION_CLOSED

        while isinstance(error, ExceptionGroup):
            error = cast("ExceptionGroup[Exception]", error).exceptions[0]
        if getattr(error, "code", None) == CONNECTION_CLOSED:
            return f"It ended before it was connected{self._where}."
        if isinstance(error, FileNotFoundError):
            return f"{self.config.command} is not installed, or its folder is missing."
        if link.seen.status in (401, 403):
            return f"It answered HTTP {link.seen.status}: set its token in headers."
        status = f" (HTTP {link.seen.status})" if link.seen.status else ""
        words = plain(self.config.hide_secrets(str(error)), _SENTENCE).rstrip(".")
        return f"It failed with {type(error).__name__}: {words}{status}{self._where}."

    @property
    def _where(self) -> str:
        return f"; its error output is in {self._log}" if self.config.command else ""

    def _say(self, status: Status, sentence: str) -> None:
        self._status, self._sentence = status, sentence
        self._on_change()
