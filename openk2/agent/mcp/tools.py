"""All servers together, as the tools that a model is shown.

In: server descriptions, limits. Out: the current list of tools; more of them as servers come up,
and only a search where all of them would fill the context.
Must not know: the protocol, the loop, or the model.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any, cast

from openk2.agent.mcp.cache import ToolCache
from openk2.agent.mcp.config import McpServers, McpSettings, slug
from openk2.agent.mcp.connection import Connection, ServerState
from openk2.agent.mcp.process import starter
from openk2.agent.mcp.schema import RemoteTool, legal_name
from openk2.agent.sandbox.isolation import Sandbox
from openk2.agent.tool import Access, Call, Tool, ToolResult
from openk2.types import ToolSpec

FIND_TOOLS = "find_tools"
SHOWN = "mcp-tools.json"
"""File, beside the logs, of what searches found: a run that is resumed goes on with it."""

_NAMES_LISTED = 60
_WORD = re.compile(r"[a-z]+|[0-9]+|[\u3400-\u9fff]")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class McpMissing(RuntimeError):
    """The protocol's package is not installed; the message says how it comes."""


def connect_servers(
    config: McpServers,
    *,
    environment: Mapping[str, str],
    logs: Path,
    cache: Path | None = None,
    sandbox: Sandbox | None = None,
    workspace: Path | None = None,
    settings: McpSettings | None = None,
    clock: Callable[[], float] = time.time,
) -> McpTools:
    """Begin to connect every server, in the background; call it inside a running event loop.

    Args:
        config: The servers.
        environment: Ours; a process gets PATH, HOME and LANG of it.
        logs: The run's folder, for the error output of processes and what searches found.
        cache: A folder where tools are kept between runs.
        sandbox: What isolates servers whose entry wants it; without, they are left out.
        workspace: The run's folder, where isolated servers work that have no `cwd`.
        settings: Limits.
        clock: Seconds since 1970, for the age of what is kept.

    Raises:
        McpMissing: There are servers, and the package `mcp` is not installed.
    """
    settings = settings or McpSettings()
    if config.servers:
        if importlib.util.find_spec("mcp") is None:
            raise McpMissing("MCP servers need a package more: pip install 'openk2[agent]'")
        # The package reports what strangers send as errors of its own, with tracebacks.
        for name in ("mcp", "client"):
            logging.getLogger(name).addHandler(logging.NullHandler())
    known = ToolCache(cache, settings, clock)
    tools = McpTools(config.problems, settings, logs / SHOWN)
    for server in config.servers:
        try:
            start = starter(server, environment, sandbox, workspace)
        except ValueError as error:
            tools.problems += (f"MCP server {server.name!r} is left out: {error}.",)
            continue
        file = logs / f"mcp-{slug(server.name)}.log"
        tools.add(Connection(server, settings, start, file, known, tools.forget))
    return tools


class McpTools:
    """The tools of all servers; ask before each step of a run, the answer changes."""

    def __init__(self, problems: Sequence[str], settings: McpSettings, shown: Path) -> None:
        """Begin without servers.

        Args:
            problems: What is wrong with the configuration.
            settings: Limits.
            shown: The file of what searches found.
        """
        self.problems = tuple(problems)
        self._settings = settings
        self._connections: list[Connection] = []
        self._all: dict[str, Tool] | None = None
        self._file = shown
        self._shown = dict.fromkeys(_names(shown))

    def add(self, connection: Connection) -> None:
        """Start a server and count its tools among these."""
        self._connections.append(connection)
        connection.start()

    def forget(self) -> None:
        """Make the list anew when it is asked for next."""
        self._all = None

    def tools(self) -> Sequence[Tool]:
        """Return what the model is shown now, in the order of the configuration."""
        everything = self._everything()
        if sum(map(_tokens, everything.values())) <= self._settings.shown_tokens:
            return tuple(everything.values())
        shown = [everything[name] for name in self._shown if name in everything]
        return (self._finder(everything), *shown)

    def tool(self, name: str) -> Tool | None:
        """Return a tool by its name, also one that is not shown."""
        everything = self._everything()
        return self._finder(everything) if name == FIND_TOOLS else everything.get(name)

    def show(self, names: Iterable[str]) -> None:
        """Show these tools from now on, the oldest ones no more where they are too many."""
        everything = self._everything()
        for name in names:
            self._shown.pop(name, None)
            self._shown[name] = None
        sizes = {name: _tokens(tool) for name, tool in everything.items() if name in self._shown}
        while sum(sizes.values()) > self._settings.shown_tokens and len(sizes) > 1:
            oldest = next(name for name in self._shown if name in sizes)
            del self._shown[oldest], sizes[oldest]
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(json.dumps([*self._shown]), encoding="utf-8")
        except OSError:
            return  # a resumed run searches once more

    def states(self) -> tuple[ServerState, ...]:
        """Tell how every server is."""
        return tuple(connection.state for connection in self._connections)

    async def settle(self, seconds: float) -> None:
        """Wait until every server has answered or failed once, but no longer than this.

        A run need not: tools appear when they are there. A first step has more of them after it.
        """
        waits = [asyncio.create_task(one.wait_settled()) for one in self._connections]
        if waits:
            _, late = await asyncio.wait(waits, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def close(self) -> None:
        """End every connection and every process."""
        await asyncio.gather(*(connection.close() for connection in self._connections))
        self.forget()

    def _everything(self) -> dict[str, Tool]:
        if self._all is None:
            found: dict[str, Tool] = {}
            for connection in self._connections:
                for remote in connection.tools:
                    tool = _tool(connection, remote, self._settings)
                    found.setdefault(tool.name, tool)
            self._all = found
        return self._all

    def _finder(self, everything: Mapping[str, Tool]) -> Tool:
        servers = [f"{state.name} ({state.tools})" for state in self.states() if state.tools]
        listed = ", ".join(list(everything)[:_NAMES_LISTED])
        more = ", …" if len(everything) > _NAMES_LISTED else ""
        spec = ToolSpec(
            FIND_TOOLS,
            f"Find tools by what they do; those found can be called from the next step on. "
            f"There are {len(everything)} tools of these servers: {', '.join(servers)}. "
            f"Their names: {listed}{more}",
            {
                "type": "object",
                "properties": {
                    "query": {
                        "type": "string",
                        "description": "A few words about the task, or a tool's name.",
                    }
                },
                "required": ["query"],
                "additionalProperties": False,
            },
        )
        return Tool(spec=spec, run=self._find, writes=False, timeout=10.0)

    async def _find(self, arguments: Mapping[str, Any], call: Call) -> ToolResult:
        everything = self._everything()
        ranked = rank(str(arguments["query"]), [tool.spec for tool in everything.values()])
        names = [spec.name for spec in ranked[: self._settings.found_tools]]
        if not names:
            return ToolResult(
                "No tool matches. Say what it should do in other or fewer words, in English.",
                details={"shown": []},
            )
        self.show(names)
        lines = [f"- {name}: {everything[name].spec.description}" for name in names]
        text = "These tools can be called from now on:\n" + "\n".join(lines)
        return ToolResult(text, untrusted=True, details={"shown": names})


def _names(file: Path) -> list[str]:
    try:
        found: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    names = cast("list[Any]", found) if isinstance(found, list) else []
    return [name for name in names if isinstance(name, str)]


def rank(query: str, specs: Sequence[ToolSpec]) -> list[ToolSpec]:
    """Order tools by how well they fit a query, the best first; those that do not fit are left out.

    A word counts the more the fewer tools have it, and three times in a name.

    Args:
        query: A few words.
        specs: The tools.
    """
    wanted = set(_words(query))
    bags = [Counter(_words(spec.name) * 3 + _words(spec.description)) for spec in specs]
    having = Counter(word for bag in bags for word in wanted if word in bag)
    scored: list[tuple[float, int]] = []
    for index, bag in enumerate(bags):
        score = 0.0
        for word in sorted(wanted & bag.keys()):
            rare = log(1 + len(specs) / having[word])
            score += rare * bag[word] / (bag[word] + 1.5)
        if score > 0:
            scored.append((-score, index))
    return [specs[index] for _, index in sorted(scored)]


def _words(text: str) -> list[str]:
    return [_stem(word) for word in _WORD.findall(_CAMEL.sub(" ", text).lower())]


def _stem(word: str) -> str:
    """Bring `issues` and `issue` together; more than that is not worth the mistakes."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _tokens(tool: Tool) -> int:
    """Estimate what a tool's description costs: a token per four letters or per other character."""
    text = json.dumps([tool.name, tool.spec.description, tool.spec.parameters], ensure_ascii=False)
    return sum(4 if ord(char) > 0x7F else 1 for char in text) // 4 + 8


@dataclass(frozen=True, slots=True)
class _Caller:
    """A tool's way to its server."""

    connection: Connection
    remote: RemoteTool
    shown: str

    async def __call__(self, arguments: Mapping[str, Any], call: Call) -> ToolResult:
        return await self.connection.call(self.remote, self.shown, arguments, call)


def _tool(connection: Connection, remote: RemoteTool, settings: McpSettings) -> Tool:
    config = connection.config
    name = legal_name(slug(config.name), remote.name)
    # Whom a process talks to, nobody here knows; rules can allow it by this name.
    hosts = (config.host or f"mcp:{slug(config.name)}",)
    if config.sandbox is not None and not config.sandbox.network:
        hosts = ()
    run: Callable[[Mapping[str, Any], Call], Awaitable[ToolResult]] = _Caller(
        connection, remote, name
    )
    return Tool(
        spec=ToolSpec(name, remote.description, remote.schema),
        run=run,
        writes=not remote.reads_only,
        timeout=config.timeout or settings.call_seconds,
        access=lambda arguments, workspace: Access(hosts=hosts),
    )
