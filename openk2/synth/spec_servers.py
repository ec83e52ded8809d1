"""Running MCP servers asked for their tools.

In: a configuration of servers. Out: their tools as `specs` checks them, under the names that
`openk2 agent` calls them by. Must not know: what the tools are for.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openk2.agent.mcp.config import McpConfigError, McpSettings, parse_servers
from openk2.agent.mcp.tools import McpMissing, connect_servers
from openk2.synth.spec_check import Found, SpecError

_EVERYTHING = 10**9
"""Tokens of descriptions that may be shown: a search instead of the tools is no use here."""


def server_tools(
    entries: Any, folder: Path, environment: Mapping[str, str]
) -> tuple[list[Found], list[str]]:
    """Start every server, ask for its tools, and end it.

    Args:
        entries: The object `mcpServers` of a configuration.
        folder: Where a relative `cwd` starts.
        environment: What `${NAME}` stands for; processes get PATH, HOME and LANG of it.

    Returns:
        The tools, and a sentence for each server or tool that is left out.

    Raises:
        SpecError: The configuration cannot be used, or the protocol's package is missing.
    """
    try:
        config = parse_servers(entries, folder, environment)
        return asyncio.run(_asked(config, environment))
    except (McpConfigError, McpMissing) as error:
        raise SpecError(str(error)) from error


async def _asked(config: Any, environment: Mapping[str, str]) -> tuple[list[Found], list[str]]:
    settings = McpSettings(shown_tokens=_EVERYTHING, tools_per_server=10_000)
    with tempfile.TemporaryDirectory(prefix="openk2-") as logs:
        servers = connect_servers(
            config, environment=environment, logs=Path(logs), settings=settings
        )
        try:
            await servers.settle(settings.connect_seconds)
            tools = servers.tools()
            problems = [*servers.problems]
            for state in servers.states():
                if state.status != "ready":
                    problems.append(f"MCP server {state.name!r} told no tools: {state.sentence}")
                problems += [f"MCP server {state.name!r}: {text}" for text in state.warnings]
        finally:
            await servers.close()
    found = [
        Found(f"mcp {at}", tool.spec.name, tool.spec.description, dict(tool.spec.parameters))
        for at, tool in enumerate(tools)
    ]
    return found, problems
