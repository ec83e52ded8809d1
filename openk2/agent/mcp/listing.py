"""The stream from a server, with its lists of tools made safe before anybody reads them.

In: messages. Out: the same messages, each list without tools that cannot be used.
Must not know: connections, or how messages travel.

The protocol's client rejects a whole list for one wrong schema, and validates answers by schemas
that the server wrote. So lists are cleaned on their way in, and output schemas never arrive.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from openk2.agent.mcp.config import McpSettings
from openk2.agent.mcp.schema import Unusable, plain, read_tool

if TYPE_CHECKING:
    from mcp.client._transport import ReadStream
    from mcp.shared.message import SessionMessage


class CleanStream:
    """What a client reads from; `over` is set when nothing more will come."""

    def __init__(
        self,
        inner: ReadStream[SessionMessage | Exception],
        settings: McpSettings,
        over: asyncio.Event,
        warnings: list[str],
    ) -> None:
        """Read from `inner`; add to `warnings` what is left out."""
        self._inner = inner
        self._settings = settings
        self._over = over
        self._warnings = warnings

    @property
    def last_context(self) -> Any:
        """The context of whoever sent the last message, where the transport knows it."""
        return getattr(self._inner, "last_context", None)

    async def receive(self) -> SessionMessage | Exception:
        """Return the next message."""
        try:
            return self._cleaned(await self._inner.receive())
        except BaseException:
            self._over.set()
            raise

    async def aclose(self) -> None:
        """Read no more."""
        await self._inner.aclose()

    def __aiter__(self) -> ReadStream[SessionMessage | Exception]:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return self._cleaned(await self._inner.__anext__())
        except BaseException:
            self._over.set()
            raise

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> bool | None:
        return await self._inner.__aexit__(exc_type, exc_val, exc_tb)

    def _cleaned(self, item: SessionMessage | Exception) -> SessionMessage | Exception:
        from mcp_types import JSONRPCResponse

        if isinstance(item, Exception) or not isinstance(item.message, JSONRPCResponse):
            return item
        result = item.message.result
        if isinstance(result.get("tools"), list):  # no other answer has a list of this name
            result["tools"] = [*self._usable(cast("list[Any]", result["tools"]))]
        return item

    def _usable(self, raws: list[Any]) -> list[dict[str, Any]]:
        kept: list[dict[str, Any]] = []
        for raw in raws:
            try:
                kept.append(read_tool(raw, self._settings).to_json())
            except (Unusable, RecursionError) as problem:
                name = cast("Any", raw).get("name") if isinstance(raw, dict) else raw
                self._warnings.append(f"{plain(str(name), 60)!r}: {problem}")
        return kept
