"""Servers behind a URL: one written with the package, and ports that answer as they should not."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from openk2.agent.tool import ToolError
from tests.agent.mcp.harness import HERE, connected, free_port, listening, names, state, until, use

TOKEN = "sesame-1618033988"
COMMAND = [sys.executable, str(HERE / "package_server.py"), "PORT"]


@pytest.mark.parametrize("protocol", ["auto", pytest.param("legacy", marks=pytest.mark.slow)])
def test_a_server_written_with_the_package(
    tmp_path: Path, protocol: str, monkeypatch: pytest.MonkeyPatch
):
    async def run() -> None:
        async with listening(COMMAND) as port:
            entry = {"url": f"http://127.0.0.1:{port}/mcp"}
            async with connected(tmp_path, {"http": entry}, message_bytes=4 << 20) as tools:
                added = await use(tools, "http__add", {"a": 2, "b": 3}, tmp_path)
                assert json.loads(added.content) == {"sum": 5}
                # Longer than the package would take of an event by itself.
                whole = await use(tools, "http__much", {"megabytes": 2}, tmp_path)
                assert len(whole.content) == 2 << 20
                with pytest.raises(ToolError, match="Ask for less"):
                    await use(tools, "http__much", {"megabytes": 12}, tmp_path)
                added = await use(tools, "http__add", {"a": 2, "b": 3}, tmp_path)
                assert json.loads(added.content) == {"sum": 5}
                trace = tmp_path / "trace"
                with pytest.raises(ToolError, match="did not answer"):
                    slow = {"seconds": 60, "trace": str(trace)}
                    await use(tools, "http__slow", slow, tmp_path, seconds=0.5)
                await until(lambda: trace.exists() and trace.read_text() == "cancelled")
                await use(tools, "http__grow", {}, tmp_path)
                if protocol == "auto":
                    await until(lambda: "http__late" in names(tools))

    if protocol == "legacy":
        import mcp.client.client

        # What a client does with a server that does not know the newer handshake.
        monkeypatch.setattr(
            mcp.client.client, "negotiate_auto", lambda session: session.initialize()
        )
    asyncio.run(run())


@pytest.mark.slow
def test_a_server_that_was_started_anew_is_met_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import mcp.client.client

    monkeypatch.setattr(mcp.client.client, "negotiate_auto", lambda session: session.initialize())

    async def run() -> None:
        port = free_port()
        entry = {"url": f"http://127.0.0.1:{port}/mcp"}
        async with listening(COMMAND, port):
            pass
        async with connected(tmp_path, {"http": entry}, retry_seconds=0.1) as tools:
            assert names(tools) == []
            for _ in range(2):  # the second one has never heard of our session
                async with listening(COMMAND, port):
                    await until(lambda: "http__add" in names(tools))
                    added = await use(tools, "http__add", {"a": 2, "b": 3}, tmp_path)
                    assert json.loads(added.content) == {"sum": 5}, added

    asyncio.run(run())


@pytest.mark.slow
def test_a_server_of_the_older_kind(tmp_path: Path):
    async def run() -> None:
        async with listening([*COMMAND, "sse"]) as port:
            entry = {"type": "sse", "url": f"http://127.0.0.1:{port}/sse"}
            async with connected(tmp_path, {"old": entry}) as tools:
                added = await use(tools, "old__add", {"a": 2, "b": 3}, tmp_path)
                assert json.loads(added.content) == {"sum": 5}
                trace = tmp_path / "trace"
                with pytest.raises(ToolError, match="did not answer"):
                    slow = {"seconds": 60, "trace": str(trace)}
                    await use(tools, "old__slow", slow, tmp_path, seconds=0.5)
                await until(lambda: trace.exists() and trace.read_text() == "cancelled")

    asyncio.run(run())


@asynccontextmanager
async def answering(handler: Callable[[web.Request], Any]) -> AsyncGenerator[str]:
    """Answer every request of a port by a function."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/mcp?key={TOKEN}"
    finally:
        await runner.cleanup()


def test_ports_that_do_not_answer_as_a_server(tmp_path: Path):
    async def broken(request: web.Request) -> web.Response:
        return web.Response(status=500, text=f"{request.headers['X-Token']} is wrong")

    async def page(request: web.Request) -> web.Response:
        return web.Response(text="<html>Hello</html>", content_type="text/html")

    async def silent(request: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    async def elsewhere(request: web.Request) -> web.Response:
        raise web.HTTPFound("http://169.254.169.254/latest/meta-data")

    async def endless(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        for _ in range(1000):
            await answer.write(b" " * (1 << 20))
        return answer

    async def run() -> None:
        handlers = {
            "broken": broken,
            "page": page,
            "silent": silent,
            "elsewhere": elsewhere,
            "endless": endless,
        }

        async def handle(request: web.Request) -> web.StreamResponse:
            return await handlers[request.headers["X-Case"]](request)

        async with answering(handle) as url:
            entries: dict[str, Any] = {
                name: {"url": url, "headers": {"X-Case": name, "X-Token": TOKEN}}
                for name in handlers
            }
            entries["nobody"] = {"url": f"http://127.0.0.1:{free_port()}/mcp"}
            entries["nowhere"] = {"url": "http://no-such-host.invalid/mcp"}
            settings = {"connect_seconds": 3.0, "retry_seconds": 60.0}
            began = time.monotonic()
            async with connected(tmp_path, entries, **settings) as tools:
                assert time.monotonic() - began < 10
                told = {name: state(tools, name) for name in entries}
                for name, one in told.items():
                    assert one.status == "waiting", name
                    assert one.tools == 0 and TOKEN not in one.sentence
                assert "did not connect within 3 seconds" in told["silent"].sentence
                assert "HTTP 500" in told["broken"].sentence
                assert "content type" in told["page"].sentence
                assert "not followed" in told["elsewhere"].sentence
                assert "ConnectError" in told["nobody"].sentence

    asyncio.run(run())
