"""Our tools served to other agents: to our own client, and to the one of the protocol's package."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from openk2.agent.tool import ToolError
from tests.agent.mcp.harness import (
    HERE,
    PATIENT,
    connected,
    listening,
    names,
    ours,
    state,
    until,
    use,
)

TOKEN = "sesame-2718281828"


def test_the_round_trip_to_our_own_client(tmp_path: Path):
    async def run() -> None:
        async with connected(tmp_path, {"ours": ours(tmp_path)}) as tools:
            assert {"ours__add", "ours__draw"} <= set(names(tools))
            add, draw = tools.tool("ours__add"), tools.tool("ours__draw")
            assert add and draw and (add.writes, draw.writes) == (False, True)
            assert (await use(tools, "ours__add", {"a": 2, "b": 3}, tmp_path)).content == "5"
            drawn = await use(tools, "ours__draw", {}, tmp_path)
            assert drawn.artifacts[0].read_bytes() == (tmp_path / "drawing.png").read_bytes()
            assert (tmp_path / "drawing.png").as_uri() in drawn.content
            long = await use(tools, "ours__long", {"size": 20_000}, tmp_path)
            assert long.failed and long.content.endswith("az")
            assert "11,001 characters left out" in long.content
            assert (await use(tools, "ours__add", {"a": 2}, tmp_path)).failed
            told: list[str] = []
            slow = {"seconds": 0.5}
            await use(tools, "ours__slow", slow, tmp_path, progress=told.append)
            assert 1 < len(told) < 60 and "step" in told[-1]

    asyncio.run(run())


def test_what_goes_wrong_is_a_sentence(tmp_path: Path):
    async def run() -> None:
        async with connected(tmp_path, {"ours": ours(tmp_path)}) as tools:

            async def failure(name: str, arguments: dict[str, Any]) -> str:
                result = await use(tools, f"ours__{name}", arguments, tmp_path)
                assert result.failed
                return result.content

            assert "do not fit its schema: a: " in await failure("add", {"a": "x", "b": 1})
            assert "'c' was unexpected" in await failure("add", {"a": 1, "b": 1, "c": 1})
            assert "A rule forbids this call" in await failure("hopeless", {})
            assert "broken is broken here: RuntimeError: a defect" in await failure("broken", {})
            assert "took longer than 2 seconds" in await failure("slow", {"seconds": 60})
            assert "needs a person's consent" in await failure("upload", {})
            # Running code is allowed until words of strangers are in play.
            assert not (await use(tools, "ours__execute", {}, tmp_path)).failed
            await use(tools, "ours__page", {}, tmp_path)
            assert "runs with --yes" in await failure("execute", {})
        async with connected(tmp_path, {"ours": ours(tmp_path, "--yes")}) as tools:
            await use(tools, "ours__page", {}, tmp_path)
            assert not (await use(tools, "ours__execute", {}, tmp_path)).failed
            assert not (await use(tools, "ours__upload", {}, tmp_path)).failed
            assert "A rule forbids" in (await use(tools, "ours__hopeless", {}, tmp_path)).content

    asyncio.run(run())


def test_a_call_that_is_given_up_ends_here_and_comes_to_its_end(tmp_path: Path):
    async def run() -> None:
        async with connected(tmp_path, {"ours": ours(tmp_path)}) as tools:
            with pytest.raises(ToolError, match="did not answer"):
                await use(tools, "ours__slow", {"seconds": 60}, tmp_path, seconds=0.5)
            trace = tmp_path / "trace"
            await until(lambda: trace.exists() and trace.read_text() == "cancelled")
            assert (await use(tools, "ours__add", {"a": 1, "b": 1}, tmp_path)).content == "2"

    asyncio.run(run())


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_the_client_of_the_package(tmp_path: Path, mode: str):
    from mcp import Client, StdioServerParameters

    async def run() -> None:
        entry = ours(tmp_path)
        server = StdioServerParameters(**entry)
        async with Client(server, mode=mode) as client:
            listed = (await client.list_tools()).tools
            assert [tool.name for tool in listed][:2] == ["add", "weather"]
            assert listed[0].input_schema["additionalProperties"] is False
            assert client.server_info and client.server_info.name == "openk2"
            assert str(tmp_path) in (client.instructions or "")
            answer = await client.call_tool("add", {"a": 20, "b": 22})
            assert [block.type for block in answer.content] == ["text"]
            assert answer.content[0].text == "42" and not answer.is_error
            drawn = await client.call_tool("draw", {})
            assert [block.type for block in drawn.content] == ["text", "image", "resource_link"]
            nothing = await client.call_tool("no_such", {})
            assert nothing.is_error and "There is no tool" in nothing.content[0].text

    asyncio.run(run())


def test_over_http_with_a_token(tmp_path: Path):
    async def run() -> None:
        command = [sys.executable, str(HERE / "our_server.py"), str(tmp_path), "PORT", TOKEN]
        async with listening(command) as port:
            url = f"http://127.0.0.1:{port}/mcp"
            headers = {"Authorization": f"Bearer {TOKEN}"}
            entries = {
                "http": {"type": "http", "url": url, "headers": headers},
                "stranger": {"url": url, "headers": {"Authorization": "Bearer wrong-token"}},
            }
            async with connected(tmp_path, entries) as tools:
                added = await use(tools, "http__add", {"a": 2, "b": 3}, tmp_path)
                assert added.content == "5"
                told: list[str] = []
                slow = {"seconds": 0.5}
                await use(tools, "http__slow", slow, tmp_path, progress=told.append)
                assert told
                tool = tools.tool("http__add")
                assert tool and tool.access({}, tmp_path).hosts == ("127.0.0.1",)
                refused = state(tools, "stranger")
                assert "answered HTTP 401: set its token in headers" in refused.sentence
                with pytest.raises(ToolError, match="did not answer"):
                    await use(tools, "http__slow", {"seconds": 60}, tmp_path, seconds=0.5)
                trace = tmp_path / "trace"
                await until(lambda: trace.exists() and trace.read_text() == "cancelled")
            probe = asyncio.to_thread(statuses, url)
            assert await probe == {"no token": 401, "page": 403, "other name": 421, "fine": 200}

    asyncio.run(run())


def statuses(url: str) -> dict[str, int]:
    """Try to come in by what a web page could do."""
    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "x", "version": "1"},
        },
    }
    fine = {
        "Authorization": f"Bearer {TOKEN}",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
    }
    tries = {
        "no token": {**fine, "Authorization": ""},
        "page": {**fine, "Origin": "https://evil.example"},
        "other name": {**fine, "Host": "evil.example"},
        "fine": fine,
    }
    found: dict[str, int] = {}
    for name, headers in tries.items():
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENT) as response:
                found[name] = response.status
        except urllib.error.HTTPError as error:
            found[name] = error.code
            error.close()
    return found


def test_a_signal_ends_it_and_so_does_the_end_of_its_input(tmp_path: Path):
    entry = ours(tmp_path)
    for how in ("signal", "input"):
        process = subprocess.Popen(
            [entry["command"], *entry["args"]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **entry["env"]},
        )
        assert process.stdin and process.stdout
        with process:
            request = {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {}}
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            assert process.stdout.readline()
            if how == "signal":
                process.terminate()
            else:
                process.stdin.close()
            process.wait(PATIENT)
