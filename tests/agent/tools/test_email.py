"""Mail goes to whom a person allowed, whole, once; everything else is a sentence to the model."""

from __future__ import annotations

import asyncio
import email
import email.policy
import shutil
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiosmtpd", reason="aiosmtpd is the server; pip install 'openk2[examples]'")

from examples.sink import mail_sink
from openk2.agent.tool import Call, ToolError, ToolResult
from openk2.agent.tools.email import MailServer, send_email

LOCAL = MailServer(
    "127.0.0.1", sender="agent@runs.example", recipients=("ada@example.org", "*@team.example"),
    security="none",
)  # fmt: skip
LETTER = {"to": ["ada@example.org"], "subject": "Hello", "text": "A line.\n.\n..dots\nEnd."}


def send(tmp_path: Path, arguments: dict[str, Any], server: MailServer = LOCAL) -> ToolResult:
    async def run() -> ToolResult:
        async with mail_sink(tmp_path / "mail") as port:
            try:
                return await send_email(replace(server, port=port)).run(arguments, call(tmp_path))
            finally:
                await others_end()

    return asyncio.run(run())


async def others_end() -> None:
    """Wait until the server's side of every conversation is over."""
    await asyncio.sleep(0)
    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others, timeout=5)


def call(workspace: Path) -> Call:
    return Call("functions.send_email:0", workspace, 30)


def kept(tmp_path: Path) -> list[EmailMessage]:
    return [
        email.message_from_bytes(path.read_bytes(), policy=email.policy.default)  # type: ignore
        for path in sorted((tmp_path / "mail").glob("*.eml"))
    ]


def test_a_letter_arrives_word_for_word_even_with_lines_of_dots(tmp_path: Path):
    result = send(tmp_path, LETTER)
    (letter,) = kept(tmp_path)
    assert letter["From"] == "agent@runs.example" and letter["To"] == "ada@example.org"
    assert letter.get_content().replace("\r\n", "\n") == LETTER["text"] + "\n"
    assert letter["Date"] and letter["Message-ID"].endswith("@runs.example>")
    assert "ada@example.org" in result.content


def test_chinese_html_and_attachments_survive(tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "日程.ics").write_text("BEGIN:VCALENDAR\nEND:VCALENDAR\n", "utf-8")
    (tmp_path / "data.bin").write_bytes(bytes(range(256)) * 40)
    send(
        tmp_path,
        {
            "to": ["ada@example.org", "bo@team.example", "ada@example.org"],
            "subject": "行程",
            "text": "您好",
            "html": "<p>您好</p>",
            "attachments": ["out/日程.ics", "data.bin"],
        },
    )
    (letter,) = kept(tmp_path)
    assert letter["Subject"] == "行程"
    assert letter.get_all("X-Envelope-To") == ["ada@example.org", "bo@team.example"]
    body = letter.get_body(("html",))
    assert body is not None and body.get_content().strip() == "<p>您好</p>"
    parts = {part.get_filename(): part.get_content() for part in letter.iter_attachments()}
    assert parts["data.bin"] == bytes(range(256)) * 40
    assert "BEGIN:VCALENDAR" in parts["日程.ics"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"to": ["eve@evil.example"]}, "this run may write to: ada@example.org"),
        ({"to": ["ada@example.org", "eve@evil.example"]}, "may not be written to"),
        ({"to": ["Ada <ada@example.org>"]}, "no plain address"),
        ({"to": ["ada@example.org\r\nRCPT TO:<eve@evil.example>"]}, "no plain address"),
        ({"to": ["ada@example.org>,<eve@evil.example"]}, "no plain address"),
        ({"subject": "Hi\r\nBcc: eve@evil.example"}, "one line"),
        ({"attachments": ["missing.pdf"]}, "no `missing.pdf`"),
        ({"attachments": ["../secret"]}, "leads out of the workspace"),
        ({"attachments": ["/etc/passwd"]}, "leads out of the workspace"),
        ({"attachments": ["link"]}, "leads out"),
    ],
)
def test_what_may_not_go_out_does_not(tmp_path: Path, change: dict[str, Any], says: str):
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(ToolError, match=says):
        send(tmp_path, LETTER | change)
    assert kept(tmp_path) == []


def test_nobody_is_allowed_unless_named(tmp_path: Path):
    with pytest.raises(ToolError, match="this run may write to: nobody") as caught:
        send(tmp_path, LETTER, replace(LOCAL, recipients=()))
    assert caught.value.kind == "refused"


def test_a_message_that_is_too_large_stays_here(tmp_path: Path):
    (tmp_path / "big").write_bytes(b"x" * 5000)
    with pytest.raises(ToolError, match="at most 4000"):
        send(tmp_path, LETTER | {"attachments": ["big"]}, replace(LOCAL, most_bytes=4000))
    (tmp_path / "big").write_bytes(b"x" * 3500)
    with pytest.raises(ToolError, match="attach less"):
        send(tmp_path, LETTER | {"attachments": ["big"]}, replace(LOCAL, most_bytes=4000))


def test_approval_sees_the_server_the_domains_and_the_files(tmp_path: Path):
    arguments = LETTER | {"to": ["a@Team.example", "ada@example.org"], "attachments": ["x.txt"]}
    access = send_email(LOCAL).access(arguments, tmp_path)
    assert access.hosts == ("127.0.0.1", "example.org", "team.example")
    assert access.reads == (tmp_path / "x.txt",)


def test_the_same_call_has_the_same_message_id(tmp_path: Path):
    send(tmp_path, LETTER)
    send(tmp_path, LETTER)
    first, second = kept(tmp_path)
    assert first["Message-ID"] == second["Message-ID"]


def answering(*lines: bytes) -> Callable[..., Awaitable[None]]:
    """A server that answers one line to each line, then hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for line in lines:
            writer.write(line + b"\r\n")
            await reader.readline()
        writer.close()
        await writer.wait_closed()

    return serve


def send_to(serve: Callable[..., Awaitable[None]], **settings: Any) -> None:
    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            await send_email(replace(LOCAL, port=port, **settings)).run(LETTER, call(Path("/tmp")))
        finally:
            server.close()
            await others_end()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("lines", "kind", "says"),
    [
        ([b"220 hi", b"250 ok", b"250 ok", b"550 no such user"], "failed", "550 no such user"),
        ([b"220 hi", b"250-a\r\n250 b", b"451 busy"], "failed", "try again later"),
        ([b"220 hi"], "unavailable", "nothing was sent"),
        ([b"HTTP/1.1 400 Bad Request"], "failed", "nothing was sent"),
        ([b"220 hi", b"250 ok", b"250 ok", b"250 ok", b"354 go"], "unavailable", "may have taken"),
    ],
)
def test_a_server_that_refuses_or_breaks_off_is_told_apart(
    lines: list[bytes], kind: str, says: str
):
    with pytest.raises(ToolError, match=says) as caught:
        send_to(answering(*lines))
    assert caught.value.kind == kind


def test_no_server_at_all_is_unavailable():
    with pytest.raises(ToolError, match="nothing was sent") as caught:
        asyncio.run(send_email(replace(LOCAL, port=1)).run(LETTER, call(Path("/tmp"))))
    assert caught.value.kind == "unavailable"


def test_without_the_tls_it_was_told_to_use_nothing_is_said():
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in (b"220 hi\r\n", b"250 ok\r\n", b"502 not here\r\n"):
            writer.write(answer)
            heard.append(await reader.readline())
        writer.close()

    with pytest.raises(ToolError, match="502"):
        send_to(serve, security="starttls", username="ada", password="open sesame")
    assert heard[:2] == [b"EHLO localhost\r\n", b"STARTTLS\r\n"]
    assert b"AUTH" not in b"".join(heard)


def test_the_password_is_in_no_text():
    server = replace(LOCAL, username="ada", password="open sesame")
    assert "sesame" not in repr(server)


def test_cancelling_ends_the_conversation():
    async def run() -> None:
        gone = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 hi\r\n")
            await reader.readline()
            await reader.read()
            gone.set()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        tool = send_email(replace(LOCAL, port=port))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await tool.run(LETTER, call(Path("/tmp")))
        await asyncio.wait_for(gone.wait(), 2)
        server.close()

    asyncio.run(run())


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_a_certificate_nobody_signed_is_refused(tmp_path: Path):
    made = "req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=127.0.0.1 -keyout key -out cert"
    subprocess.run(["openssl", *made.split()], cwd=tmp_path, capture_output=True, check=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")

    async def run() -> None:
        server = await asyncio.start_server(answering(b"220 hi"), "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        try:
            await send_email(replace(LOCAL, port=port, security="tls")).run(LETTER, call(tmp_path))
        finally:
            server.close()
            await others_end()

    with pytest.raises(ToolError, match="certificate"):
        asyncio.run(run())
