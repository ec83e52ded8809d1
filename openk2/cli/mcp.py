"""`openk2 mcp`: the agent's tools for other agents.

In: a folder, rules, perhaps a port. Out: a server of the Model Context Protocol.
Must not know: how a tool works, or what the protocol says.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openk2.cli.agent import (
    CorpusOption,
    OfflineOption,
    RuleOption,
    SearxngOption,
    UnsafeOption,
)
from openk2.cli.tree import app, fail

if TYPE_CHECKING:
    from openk2.agent.approval import Policy
    from openk2.agent.mcp.server import ToolServer
    from openk2.agent.outfit import Options

TOKEN_VARIABLE = "OPENK2_MCP_TOKEN"
GOODBYE_SECONDS = 2  # what an agent that listens for news may take to leave


@app.command()
def mcp(
    workspace: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder that the tools work in.")
    ] = Path(),
    http: Annotated[
        int | None,
        typer.Option(
            "--http",
            metavar="PORT",
            min=0,
            max=65535,
            help="Serve on this port of 127.0.0.1; 0 takes a free one.",
            show_default="standard input and output",
        ),
    ] = None,
    token_env: Annotated[
        str,
        typer.Option(metavar="NAME", help="Environment variable with the token of --http."),
    ] = TOKEN_VARIABLE,
    rule: RuleOption = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Allow what would be asked; rules still deny.")
    ] = False,
    corpus: CorpusOption = None,
    searxng: SearxngOption = None,
    offline: OfflineOption = False,
    unsafe: UnsafeOption = False,
) -> None:
    """Serve the agent's tools to other agents (Model Context Protocol).

    Claude Code, Codex, Cursor and others start this command and speak to it over its input and
    output. Nobody can be asked here: what a rule would ask is refused, unless there is --yes.
    """
    import asyncio
    import importlib.util

    if importlib.util.find_spec("mcp") is None:
        fail("this needs packages that are not installed: pip install 'openk2[agent]'.")
    from openk2.agent.approval import Policy
    from openk2.agent.outfit import Options

    if not workspace.is_dir():
        fail(f"there is no folder {workspace}; make it, or name another with --workspace.")
    try:
        policy = Policy.of(rule or [], yes=yes)
    except ValueError as error:
        fail(f"--rule: {error}.")
    options = Options(
        corpus=corpus, searxng=searxng, network=not offline, unsafe=unsafe, sub_agents=False
    )
    listener = None if http is None else _listen(http)
    asyncio.run(_serve(workspace.resolve(), policy, options, listener, token_env))


async def _serve(
    workspace: Path,
    policy: Policy,
    options: Options,
    listener: socket.socket | None,
    token_env: str,
) -> None:
    import asyncio

    from openk2.agent.mcp.server import ToolServer
    from openk2.agent.models.echo import Echo
    from openk2.agent.outfit import Outfit

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with tempfile.TemporaryDirectory(prefix="openk2-mcp-") as folder:
        # No model works here; the agents are those that call.
        outfit = Outfit(Path(folder), workspace, Echo(), options)
        async with outfit:
            for sentence in outfit.missing:
                _say(sentence)
            server = ToolServer(outfit.tools, workspace, policy)
            serving = asyncio.ensure_future(_answer(server, listener, token_env))
            stopping = asyncio.ensure_future(stop.wait())
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if listener is not None:
                await asyncio.wait({serving}, timeout=2 * GOODBYE_SECONDS)
    if not serving.done():
        # A thread waits in a read of standard input, and nothing can interrupt that.
        sys.stderr.flush()
        os._exit(0)
    stopping.cancel()
    serving.result()


async def _answer(server: ToolServer, listener: socket.socket | None, token_env: str) -> None:
    if listener is None:
        await server.serve_stdio()
        return
    import secrets

    import uvicorn

    from openk2.agent.mcp.server import PATH

    token = os.environ.get(token_env, "").strip()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}{PATH}"
    if token:
        _say(f"tools at {url}, with the token in {token_env} (Ctrl-C stops it)")
    else:
        # Without one, every program on this machine could run code here.
        token = secrets.token_urlsafe(24)
        _say(f"tools at {url} (Ctrl-C stops it); every request needs this header:")
        _say(f"Authorization: Bearer {token}")
    config = uvicorn.Config(
        server.http_app(token), log_level="warning", timeout_graceful_shutdown=GOODBYE_SECONDS
    )
    await uvicorn.Server(config).serve(sockets=[listener])


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(128)  # whoever reads the address may come before the server is ready
    except OSError as error:
        fail(f"cannot listen on port {port} ({error.strerror}); choose another with --http.")
    return listener


def _say(line: str) -> None:
    # Never on standard output: that carries the protocol.
    typer.echo(f"openk2: {line}", err=True)
