"""Both carriers, on real sockets: whatever a server sends, they say the same about it."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.server.upstream import own_connections
from openk2.server.upstream.address import Address, TimeLimits
from openk2.server.upstream.aiohttp_connections import AiohttpConnections
from openk2.server.upstream.connections import Connections
from openk2.server.upstream.own_connections import OwnConnections

HEADERS = {"Content-Type": "application/json", "Authorization": "Bearer sk-secret"}
LIMITS = TimeLimits(connect=5, idle=5)
OK = b"HTTP/1.1 200 OK\r\n"
WHOLE = OK + b"Content-Length: 5\r\n\r\nHello"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nHe\r\n3;x=1\r\nllo\r\n0\r\n\r\n"
TO_THE_END = OK + b"\r\nHello"


def carriers(url: str, limits: TimeLimits = LIMITS) -> list[Connections]:
    return [OwnConnections(Address(url), HEADERS, limits), AiohttpConnections(HEADERS, limits)]


@asynccontextmanager
async def server(answer: Callable[[int], Sequence[bytes]], **options: Any) -> AsyncIterator[Any]:
    """Answer request number n of all with pieces, then leave if the last one is empty."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                asked.append(head + await reader.readexactly(int(length or 0)))
                for piece in answer(len(asked)):
                    if not piece:
                        return
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, **options)
    port = listening.sockets[0].getsockname()[1]
    try:
        yield f"{'https' if options else 'http'}://127.0.0.1:{port}/v1", asked
    finally:
        listening.close()


def kind(error: Exception) -> str:
    return "TimeoutError" if isinstance(error, TimeoutError) else type(error).__name__


async def ask(connections: Connections, url: str, data: bytes | None = b"{}") -> Any:
    """Return status and body, or what kind of error there is."""
    try:
        reply = await connections.send("GET" if data is None else "POST", f"{url}/x", data)
    except Exception as error:  # noqa: BLE001 - both are compared
        return kind(error)
    body = b""
    try:
        while piece := await reply.read():
            body += piece
    except Exception as error:  # noqa: BLE001
        return reply.status, kind(error)
    finally:
        reply.close()
    return reply.status, body


def outcomes(pieces: Sequence[bytes], times: int = 1, limits: TimeLimits = LIMITS) -> list[Any]:
    """Ask with either carrier: the outcomes, and how many requests came."""

    async def run() -> list[Any]:
        said = []
        for which in range(2):
            async with server(lambda _: pieces) as (url, asked):
                connections = carriers(url, limits)[which]
                answers = [await ask(connections, url) for _ in range(times)]
                await connections.close()
                said.append((answers, len(asked)))
        return said

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([WHOLE], (200, b"Hello")),
        ([CHUNKED], (200, b"Hello")),
        ([TO_THE_END, b""], (200, b"Hello")),
        ([b"HTTP/1.0 200 OK\r\n\r\nHello", b""], (200, b"Hello")),
        ([b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", WHOLE], (200, b"Hello")),
        (
            [b"HTTP/1.1 429 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno", b""],
            (429, b"no"),
        ),
        ([OK + b"Content-Length: 9\r\n\r\nHello", b""], (200, "BrokenReplyError")),
        ([CHUNKED[:-4], b""], (200, "BrokenReplyError")),
        ([b""], "HungUpError"),
        ([b"SSH-2.0-OpenSSH\r\n\r\n", b""], "NoConnectionError"),
        ([OK + b"Content-Length: x\r\n\r\n", b""], "NoConnectionError"),
    ],
)
def test_both_carriers_say_the_same(pieces, expected):
    own, other = outcomes(pieces)
    assert own == other == ([expected], 1)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([WHOLE, CHUNKED, TO_THE_END]), st.lists(st.integers(1, 90), max_size=6))
def test_any_cut_of_a_reply_is_read(reply, cuts):
    places = [0, *sorted({cut for cut in cuts if cut < len(reply)}), len(reply)]
    pieces = [reply[a:b] for a, b in pairwise(places)]
    own, other = outcomes([*pieces, b""])
    assert own == other == ([(200, b"Hello")], 1)


def test_a_connection_that_is_kept_is_used_again_and_one_that_ended_is_not():
    async def run() -> None:
        for which in range(2):
            async with server(lambda n: [WHOLE, b""] if n == 2 else [WHOLE]) as (url, asked):
                connections = carriers(url)[which]
                for _ in range(4):
                    assert await ask(connections, url) == (200, b"Hello")
                    await asyncio.sleep(0.02)
                await connections.close()
                assert len(asked) == 4

    asyncio.run(run())


def test_what_is_sent_is_a_request():
    async def run() -> None:
        async with server(lambda _: [WHOLE]) as (url, asked):
            for connections in carriers(url):
                await ask(connections, url, b'{"a": 1}')
                await ask(connections, url, None)
                await connections.close()
        for request in asked:
            head, _, body = request.partition(b"\r\n\r\n")
            first, *lines = head.split(b"\r\n")
            names = {line.partition(b": ")[0].lower(): line.partition(b": ")[2] for line in lines}
            assert first in (b"POST /v1/x HTTP/1.1", b"GET /v1/x HTTP/1.1")
            assert names[b"host"] == url.encode()[7:-3]
            assert names[b"authorization"] == b"Bearer sk-secret"
            assert body == (b'{"a": 1}' if first.startswith(b"POST") else b"")

    asyncio.run(run())


def test_a_key_that_would_be_two_headers_is_never_sent():
    async def run() -> None:
        async with server(lambda _: [WHOLE]) as (url, asked):
            bad = {"Authorization": "Bearer x\r\nX-Other: y"}
            own = OwnConnections(Address(url), bad, LIMITS)
            for connections in (own, AiohttpConnections(bad, LIMITS)):
                assert await ask(connections, url) == "NoConnectionError"
                await connections.close()
            assert asked == []

    asyncio.run(run())


def test_a_head_has_a_largest_size():
    endless = [OK, *[b"X-Y: " + b"z" * 4000 + b"\r\n"] * 40]
    own, _ = outcomes(endless, limits=TimeLimits(idle=0.2))  # aiohttp has one for each line
    assert own == (["NoConnectionError"], 1)


def test_silence_ends_a_reply():
    limits = TimeLimits(connect=5, idle=0.2)
    own, other = outcomes([OK + b"Content-Length: 9\r\n\r\nHello"], limits=limits)
    assert own == other == ([(200, "TimeoutError")], 1)
    own, other = outcomes([], limits=limits)
    assert own == other == (["TimeoutError"], 1)


def test_a_server_that_sends_faster_than_it_is_read_has_to_wait():
    async def run() -> None:
        size = 40 * 2**20
        written = 0

        def pieces(_: int) -> Any:
            nonlocal written
            yield OK + b"Content-Length: %d\r\n\r\n" % size
            for _ in range(size // 2**16):
                yield b"x" * 2**16
                written += 2**16

        async with server(pieces) as (url, _):
            connections = OwnConnections(Address(url), HEADERS, LIMITS)
            reply = await connections.send("GET", f"{url}/x", None)
            await asyncio.sleep(0.3)
            assert written < size // 2
            got = 0
            while piece := await reply.read():
                got += len(piece)
            assert got == written == size
            reply.close()
            await connections.close()

    asyncio.run(run())


def test_idle_connections_are_closed(monkeypatch):
    monkeypatch.setattr(own_connections, "KEPT_SECONDS", 0.05)

    async def run() -> None:
        async with server(lambda _: [WHOLE]) as (url, asked):
            connections = OwnConnections(Address(url), HEADERS, TimeLimits(idle=0.4))
            assert await ask(connections, url) == (200, b"Hello")
            assert len(connections._all) == 1
            await asyncio.sleep(0.4)
            assert len(connections._all) == 0
            assert await ask(connections, url) == (200, b"Hello")
            await connections.close()
            assert len(asked) == 2

    asyncio.run(run())


# TLS --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the program openssl")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=here", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(path), "-out", str(path.with_name("cert.pem"))]
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text() + path.with_name("cert.pem").read_text())
    return path


def test_tls_is_spoken_and_certificates_are_checked(certificate, monkeypatch):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    async def run() -> None:
        async with server(lambda _: [CHUNKED], ssl=context) as (url, asked):
            connections = OwnConnections(Address(url), HEADERS, LIMITS)
            with pytest.raises(Exception, match="its certificate is not accepted"):
                await connections.send("POST", f"{url}/x", b"{}")
            assert asked == []
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
            connections = OwnConnections(Address(url), HEADERS, LIMITS)
            for _ in range(3):
                assert await ask(connections, url) == (200, b"Hello")
            assert len(connections._all) == 1
            await connections.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:9/v1", "it refuses connections"),
        ("http://localhost:9/v1", "it refuses connections"),
        ("http://no-such-host.invalid/v1", "its name is not known"),
        (f"http://{'a' * 300}.example/v1", "(its name is not known|the connection failed)"),
    ],
)
def test_why_there_is_no_connection(url, why):
    async def run() -> None:
        for connections in carriers(url):
            with pytest.raises(Exception, match=why):
                await connections.send("POST", f"{url}/x", b"{}")
            await connections.close()

    asyncio.run(run())
