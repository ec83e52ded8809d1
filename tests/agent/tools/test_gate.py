"""The browser's way out connects to what it checked, and survives whatever is sent to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.agent.tools.addresses import Reach
from openk2.agent.tools.gate import Gate

HELLO = b"\x05\x01\x00"


def request(host: str, port: int, command: int = 1) -> bytes:
    name = host.encode()
    head = bytes((5, command, 0, 3, len(name)))
    return head + name + port.to_bytes(2, "big")


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say everything back in capitals, once the other side has ended its part."""
    writer.write((await reader.read()).upper())
    writer.close()


def run(
    work: Callable[[Gate, int, int], Awaitable[None]],
    names: dict[str, str] | None = None,
    grant: bool = True,
) -> None:
    """Let `work` use a gate (its port comes first) in front of an echo server (its port)."""
    asked: list[str] = []

    async def lookup(host: str, port: int) -> list[str]:
        asked.append(host)
        return [(names or {}).get(host, host)]

    async def main() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        grants = tuple(f"{host}:{port}" for host in ("echo.test", "127.0.0.1") if grant)
        gate = Gate(Reach(allow_private=grants, lookup=lookup), connect_seconds=1.0)
        try:
            await work(gate, await gate.start(), port)
        finally:
            await gate.close()
            server.close()
            await server.wait_closed()
        assert len(asked) == len(set(asked)), "a name was looked up twice"

    asyncio.run(main())


async def say(port: int, *parts: bytes) -> bytes:
    """Send parts, end our side, read to the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
        await writer.drain()
        writer.write_eof()
        return await asyncio.wait_for(reader.read(), 5)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


def test_bytes_pass_both_ways_and_each_side_may_end_first():
    async def work(gate: Gate, port: int, site: int) -> None:
        answer = await say(port, HELLO, request("echo.test", site), b"hello " * 50_000)
        assert answer == b"\x05\x00" + b"\x05\x00\x00\x01" + bytes(6) + b"HELLO " * 50_000

    run(work, {"echo.test": "127.0.0.1"})


@pytest.mark.parametrize("host", ["127.0.0.1", "inner.test", "::1", "metadata.test"])
def test_what_is_not_public_is_refused_and_remembered(host: str):
    async def work(gate: Gate, port: int, site: int) -> None:
        assert (await say(port, HELLO, request(host, site)))[2:4] == b"\x05\x02"
        (problem,) = gate.problems.values()
        assert problem.kind == "refused" and "not on the public internet" in str(problem)

    names = {"inner.test": "127.0.0.1", "metadata.test": "169.254.169.254"}
    run(work, names, grant=False)


def test_what_does_not_answer_is_told_apart_from_what_is_refused():
    async def work(gate: Gate, port: int, site: int) -> None:
        gate.reach = Reach(allow_private=("127.0.0.1:1",))
        assert (await say(port, HELLO, request("127.0.0.1", 1)))[2:4] == b"\x05\x04"
        assert gate.problems["127.0.0.1:1"].kind == "failed"

    run(work)


def test_a_shut_gate_ends_what_is_open_and_lets_nothing_through():
    async def work(gate: Gate, port: int, site: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HELLO + request("echo.test", site) + b"never ended")
        assert len(await reader.readexactly(12)) == 12
        gate.shut(True)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        assert (await say(port, HELLO, request("127.0.0.1", site)))[2:4] == b"\x05\x02"
        assert "pages of the workspace have no network" in str(gate.problems[f"127.0.0.1:{site}"])
        gate.shut(False)
        assert b"AGAIN" in await say(port, HELLO, request("127.0.0.1", site), b"again")

    run(work, {"echo.test": "127.0.0.1"})


@pytest.mark.parametrize("command", [2, 3])
def test_nothing_but_a_connection_is_made(command: int):
    async def work(gate: Gate, port: int, site: int) -> None:
        assert (await say(port, HELLO, request("127.0.0.1", site, command)))[2:4] == b"\x05\x07"

    run(work)


def test_a_client_that_says_nothing_is_let_go():
    async def work(gate: Gate, port: int, site: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()

    run(work)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=5), st.booleans())
def test_no_bytes_break_it(parts: list[bytes], greeted: bool):
    async def work(gate: Gate, port: int, site: int) -> None:
        await say(port, *([HELLO] if greeted else []), *parts)
        assert b"STILL" in await say(port, HELLO, request("127.0.0.1", site), b"still")

    run(work)
