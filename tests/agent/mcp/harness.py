"""Servers for the tests of this folder: how they are started, asked and counted."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from openk2.agent.mcp.config import McpSettings, parse_servers
from openk2.agent.mcp.connection import ServerState
from openk2.agent.mcp.tools import McpTools, connect_servers
from openk2.agent.sandbox.isolation import Sandbox
from openk2.agent.tool import Call, ToolResult

HERE = Path(__file__).parent
PATIENT = 30.0
"""Machines that run tests are busy; nothing here takes as long by itself."""


def bare(temper: str = "kind", note: Path | None = None, **entry: Any) -> dict[str, Any]:
    """Describe `bare_server.py`."""
    more = [str(note)] if note else []
    return {
        "command": sys.executable,
        "args": ["-S", "-E", str(HERE / "bare_server.py"), temper, *more],
        **entry,
    }


def package() -> dict[str, Any]:
    """Describe `package_server.py`."""
    return {"command": sys.executable, "args": [str(HERE / "package_server.py")]}


def ours(workspace: Path, *more: str) -> dict[str, Any]:
    """Describe `our_server.py`, which has the repository on its path."""
    root = str(HERE.parents[2])
    return {
        "command": sys.executable,
        "args": [str(HERE / "our_server.py"), str(workspace), *more],
        "env": {"PYTHONPATH": root},
    }


@asynccontextmanager
async def connected(
    folder: Path,
    entries: dict[str, Any],
    settle: float = PATIENT,
    sandbox: Sandbox | None = None,
    **settings: Any,
) -> AsyncGenerator[McpTools]:
    """Connect servers, wait until each has answered or failed, and close them."""
    config = parse_servers(entries, folder, {})
    assert config.problems == ()
    tools = connect_servers(
        config,
        environment=os.environ,
        logs=folder / "logs",
        cache=folder / "cache",
        sandbox=sandbox,
        workspace=folder,
        settings=McpSettings(**{"connect_seconds": PATIENT, **settings}),
    )
    try:
        await tools.settle(settle)
        yield tools
    finally:
        await tools.close()


async def use(
    tools: McpTools,
    name: str,
    arguments: dict[str, Any],
    folder: Path,
    seconds: float = PATIENT,
    progress: Callable[[str], None] = lambda text: None,
) -> ToolResult:
    """Call a tool as the loop does."""
    tool = tools.tool(name)
    assert tool is not None, f"{name} is not among {[tool.name for tool in tools.tools()]}"
    return await tool.run(arguments, Call("functions.x:7", folder, seconds, progress))


def state(tools: McpTools, name: str) -> ServerState:
    """Return how a server is."""
    return next(state for state in tools.states() if state.name == name)


def names(tools: McpTools) -> list[str]:
    """Return what the model is shown."""
    return [tool.name for tool in tools.tools()]


async def until(check: Callable[[], bool], seconds: float = PATIENT) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(seconds):
        while not check():
            await asyncio.sleep(0.02)


def alive(note: Path) -> list[int]:
    """Return the processes of a note that still run; a zombie does not."""
    pids = [int(line) for line in note.read_text().split()]
    return [pid for pid in pids if "State:\tZ" not in status(pid)]


def status(pid: int) -> str:
    """Tell how a process is; one that is gone is as good as a zombie."""
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "State:\tZ"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@asynccontextmanager
async def listening(command: list[str], port: int | None = None) -> AsyncGenerator[int]:
    """Start a server with a port at the end of its command, and wait until it listens."""
    port = port or free_port()
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[2])}
    process = await asyncio.create_subprocess_exec(
        *[word.replace("PORT", str(port)) for word in command], env=environment
    )
    try:
        async with asyncio.timeout(PATIENT):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    break
                except OSError:
                    assert process.returncode is None
                    await asyncio.sleep(0.05)
        writer.close()
        await writer.wait_closed()
        yield port
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()
