"""`openk2 mcp` as another agent starts it, with the real tools in the real sandbox."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from openk2.agent.sandbox.choose import choose_sandbox
from openk2.agent.sandbox.isolation import SandboxMissing
from tests.agent.mcp.harness import HERE, PATIENT, connected, names, state, status, use

ROOT = HERE.parents[2]
START = [sys.executable, "-m", "openk2.cli", "mcp"]


def command(workspace: Path, *options: str) -> dict[str, Any]:
    """Describe our command as a file of servers does."""
    words = [*START[1:], "--workspace", str(workspace), *options]
    return {"command": START[0], "args": words, "env": {"PYTHONPATH": str(ROOT)}}


def workspace_in(folder: Path) -> Path:
    workspace = folder / "workspace"
    workspace.mkdir()
    return workspace


def need_sandbox() -> None:
    try:
        choose_sandbox()
    except SandboxMissing as missing:
        pytest.skip(str(missing))


@pytest.mark.slow
def test_real_tools_over_stdio(tmp_path: Path):
    need_sandbox()

    async def run() -> None:
        workspace = workspace_in(tmp_path)
        async with connected(tmp_path, {"ours": command(workspace)}) as tools:
            assert {"ours__read_file", "ours__shell", "ours__code_interpreter"} <= set(names(tools))

            async def told(name: str, **arguments: Any) -> str:
                return (await use(tools, f"ours__{name}", arguments, tmp_path, 60.0)).content

            assert "exit status 0" in await told("shell", command="echo 6 > six")
            assert (workspace / "six").read_text() == "6\n"
            assert "42" in await told("code_interpreter", code="x = int(open('six').read()) * 7; x")
            assert "6" in await told("code_interpreter", code="x // 7")
            assert "6" in await told("read_file", path="six")
            refused = await told("write_file", path="../outside", content="x")
            assert "needs a person's consent" in refused and not (tmp_path / "outside").exists()
            assert "needs a person's consent" in await told("fetch", url="http://example.org/")
            assert "do not fit its schema" in await told("read_file", path="six", nonsense=1)

    asyncio.run(run())


@asynccontextmanager
async def started(
    workspace: Path, *options: str, **environment: str
) -> AsyncGenerator[tuple[asyncio.subprocess.Process, str]]:
    """Start our command, and give what it says until it is ready."""
    process = await asyncio.create_subprocess_exec(
        *START,
        "--workspace",
        str(workspace),
        *options,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    assert process.stderr and process.stdin
    said = ""
    try:
        async with asyncio.timeout(PATIENT):
            while "Bearer" not in said and "with the token in" not in said:
                line = (await process.stderr.readline()).decode()
                if not line:
                    break
                said += line
        yield process, said
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        said += (await process.stderr.read()).decode()
        await asyncio.wait_for(process.wait(), PATIENT)
        process.stdin.close()
        assert "Traceback" not in said


@pytest.mark.slow
def test_over_a_port_with_the_token_that_it_prints(tmp_path: Path):
    async def run() -> None:
        workspace = workspace_in(tmp_path)
        (workspace / "six").write_text("6\n")
        async with started(workspace, "--http", "0", OPENK2_MCP_TOKEN="") as (process, said):
            url = re.search(r"http://127\.0\.0\.1:\d+/mcp", said)
            header = re.search(r"Authorization: (Bearer \S{20,})", said)
            assert url and header
            entries = {
                "ours": {"url": url[0], "headers": {"Authorization": header[1]}},
                "stranger": {"url": url[0]},
            }
            async with connected(tmp_path, entries) as tools:
                assert state(tools, "ours").status == "ready", state(tools, "ours")
                assert (
                    "6" in (await use(tools, "ours__read_file", {"path": "six"}, tmp_path)).content
                )
                assert "HTTP 401" in state(tools, "stranger").sentence
            process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(process.wait(), PATIENT)
            assert process.returncode == 0

    asyncio.run(run())


@pytest.mark.slow
def test_the_token_of_the_environment_is_not_printed(tmp_path: Path):
    async def run() -> None:
        token = "sesame-1414213562"
        options = ("--http", "0", "--token-env", "MINE")
        async with started(workspace_in(tmp_path), *options, MINE=token) as (_, said):
            assert "with the token in MINE" in said and token not in said

    asyncio.run(run())


@pytest.mark.slow
def test_a_signal_ends_it_while_it_waits_for_input(tmp_path: Path):
    need_sandbox()

    async def run() -> None:
        workspace = workspace_in(tmp_path)
        entry = command(workspace)
        process = await asyncio.create_subprocess_exec(
            entry["command"],
            *entry["args"],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **entry["env"]},
        )
        assert process.stdin and process.stdout
        # A kernel is running when the signal comes; it must not stay.
        for number, (method, params) in enumerate(
            [
                (
                    "initialize",
                    '{"protocolVersion": "2025-06-18", "capabilities": {}, '
                    '"clientInfo": {"name": "t", "version": "0"}}',
                ),
                (
                    "tools/call",
                    '{"name": "code_interpreter", "arguments": '
                    "{\"code\": \"import os; open('pid', 'w').write(str(os.getpid()))\"}}",
                ),
            ]
        ):
            line = (
                f'{{"jsonrpc": "2.0", "id": {number}, "method": "{method}", "params": {params}}}\n'
            )
            process.stdin.write(line.encode())
            async with asyncio.timeout(60):
                assert await process.stdout.readline()
        assert (workspace / "pid").exists()
        kernels = _children(process.pid)
        assert kernels
        process.terminate()
        await asyncio.wait_for(process.wait(), PATIENT)
        assert process.returncode == 0
        assert [told for told in map(status, kernels) if "State:\tZ" not in told] == []
        process.stdin.close()
        await process.stdout.read()

    asyncio.run(run())


def _children(pid: int) -> list[int]:
    """Return a process's children and theirs."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *_children(int(child))]
    return found


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--workspace", "/no/such/folder"], "there is no folder /no/such/folder"),
        (["--rule", "permit everything"], "must begin with allow, ask or deny"),
    ],
)
def test_what_is_wrong_is_said(options: list[str], words: str):
    async def run() -> None:
        process = await asyncio.create_subprocess_exec(
            *START,
            *options,
            stderr=asyncio.subprocess.PIPE,
            stdin=asyncio.subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        _, said = await asyncio.wait_for(process.communicate(), PATIENT)
        assert process.returncode == 2 and words in said.decode()

    asyncio.run(run())
