"""Send email: recipients, a text and files of the workspace in; one message handed to a server.

In: a mail server and whom it may write to, from the run's settings. Out: a tool.
Must not know: who answers for the message, or what it is about.

Any agent that reads strangers' pages can be talked into writing to strangers. So the recipients are
a list that a person wrote, and approval sees the server and every recipient's domain as egress.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import email.policy
import email.utils
import fnmatch
import hashlib
import mimetypes
import os
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Literal

from openk2.agent.tool import Access, Call, Tool, ToolError, ToolResult
from openk2.agent.tools.confined import absolute, missing, reach
from openk2.types import ToolSpec


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where messages are handed in, from whom, and to whom they may go."""

    host: str
    port: int = 587
    """587 is for handing mail in (RFC 6409); 25 is between servers."""
    sender: str = "agent@localhost"
    """Address in From."""
    recipients: tuple[str, ...] = ()
    """Addresses that may be written to; `*@example.org` is a whole domain. Empty: nobody."""
    security: Literal["none", "starttls", "tls"] = "starttls"
    """none is for a server on this machine."""
    username: str = ""
    """Empty: no login."""
    password: str = field(default="", repr=False)
    """Never logged."""
    most_bytes: int = 10 << 20
    """Largest message; servers commonly refuse more than 10 to 25 MB."""


PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "to": {
            "type": "array",
            "items": {"type": "string"},
            "minItems": 1,
            "maxItems": 50,
            "description": "Addresses, such as ada@example.org, without names.",
        },
        "subject": {"type": "string", "minLength": 1, "description": "One line."},
        "text": {"type": "string", "minLength": 1, "description": "The message as plain text."},
        "html": {
            "type": "string",
            "description": "The same message as HTML, for readers that show it.",
        },
        "attachments": {
            "type": "array",
            "items": {"type": "string"},
            "maxItems": 20,
            "description": "Workspace paths of files to attach.",
        },
    },
    "required": ["to", "subject", "text"],
    "additionalProperties": False,
}

DESCRIPTION = (
    "Send one email, with files of the workspace attached. It cannot be called back: check text "
    "and attachments first. Returns to whom it was handed in, or why nothing was sent."
)

ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,255}")
"""What RFC 5321 calls a Mailbox, without quoted local parts."""


def send_email(server: MailServer) -> Tool:
    """Make the tool that writes to the allowed recipients through this server."""

    async def run(arguments: Mapping[str, Any], call: Call) -> ToolResult:
        recipients = list(dict.fromkeys(arguments["to"]))
        _check_recipients(recipients, server)
        files = [
            (name, _read(call.workspace, name, server.most_bytes))
            for name in arguments.get("attachments", ())
        ]
        data = _message(server, recipients, arguments, files, call)
        if len(data) > server.most_bytes:
            raise ToolError(
                f"the message has {len(data)} bytes; at most {server.most_bytes} are sent: attach "
                "less, or smaller files",
                "bad_arguments",
            )
        await _hand_in(server, recipients, data)
        names = ", ".join(name for name, _ in files) or "nothing"
        return ToolResult(
            f"Sent to {', '.join(recipients)}: {arguments['subject']!r}, {names} attached, "
            f"{len(data)} bytes.",
            details={"to": recipients, "bytes": len(data), "attachments": [n for n, _ in files]},
        )

    def access(arguments: Mapping[str, Any], workspace: Path) -> Access:
        domains = {str(address).rpartition("@")[2].lower() for address in arguments["to"]}
        names = arguments.get("attachments", ())
        reads = tuple(path for name in names for path in absolute(workspace, str(name)))
        return Access(reads=reads, hosts=(server.host, *sorted(domains)))

    spec = ToolSpec("send_email", DESCRIPTION, PARAMETERS)
    return Tool(spec=spec, run=run, capability="mail", timeout=60.0, access=access)


def _read(workspace: Path, name: str, most: int) -> bytes:
    with reach(workspace, name) as place:
        status = place.status()
        if status is None:
            raise ToolError(missing(name, place.folder, place.shown.rpartition("/")[0], place.name))
        if status.st_size > most:
            raise ToolError(f"`{name}` has {status.st_size} bytes; at most {most} are sent")
        with os.fdopen(place.open_file(), "rb") as file:
            return file.read(most + 1)


def _check_recipients(recipients: Sequence[str], server: MailServer) -> None:
    for address in recipients:
        if not ADDRESS.fullmatch(address):
            raise ToolError(
                f"{address!r} is no plain address such as ada@example.org; nothing was sent",
                "bad_arguments",
            )
        if not any(fnmatch.fnmatchcase(address.lower(), one.lower()) for one in server.recipients):
            allowed = ", ".join(server.recipients) or "nobody"
            raise ToolError(
                f"{address} may not be written to; this run may write to: {allowed}. "
                "Nothing was sent.",
                "refused",
            )


def _message(
    server: MailServer,
    recipients: Sequence[str],
    arguments: Mapping[str, Any],
    files: Sequence[tuple[str, bytes]],
    call: Call,
) -> bytes:
    message = EmailMessage(policy=email.policy.SMTP)
    try:
        message["From"] = server.sender
        message["To"] = ", ".join(recipients)
        message["Subject"] = arguments["subject"]
    except ValueError as error:
        raise ToolError(
            f"the subject or an address cannot stand in a header ({error}); use one line",
            "bad_arguments",
        ) from error
    message["Date"] = email.utils.formatdate()
    message.set_content(arguments["text"])
    if html := arguments.get("html"):
        message.add_alternative(html, subtype="html")
    for name, data in files:
        _attach(message, Path(name).name, data)
    # The same call of the same run has the same id: a server can drop the second copy of a message
    # whose first one was taken just before the run was interrupted.
    seed = f"{call.workspace}\n{call.id}\n{arguments['subject']}".encode()
    domain = server.sender.rpartition("@")[2]
    message["Message-ID"] = f"<{hashlib.sha256(seed).hexdigest()[:32]}@{domain}>"
    return message.as_bytes()


def _attach(message: EmailMessage, name: str, data: bytes) -> None:
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    main, _, sub = kind.partition("/")
    parameters: dict[str, str] = {}
    if main == "text":
        try:
            data.decode("utf-8")
            parameters["charset"] = "utf-8"
        except UnicodeDecodeError:
            main, sub = "application", "octet-stream"
    message.add_attachment(data, maintype=main, subtype=sub, filename=name, params=parameters)


async def _hand_in(server: MailServer, recipients: Sequence[str], data: bytes) -> None:
    """Speak SMTP (RFC 5321) until the server has taken the message."""
    tls = ssl.create_default_context() if server.security != "none" else None
    where = f"the mail server {server.host}:{server.port}"
    handed_over = False
    writer = None
    try:
        reader, writer = await asyncio.open_connection(
            server.host, server.port, ssl=tls if server.security == "tls" else None
        )
        talk = _Dialogue(reader, writer)
        await talk.expect(220)
        await talk.say("EHLO localhost", 250)
        if server.security == "starttls":
            await talk.say("STARTTLS", 220)
            await writer.start_tls(tls or ssl.create_default_context(), server_hostname=server.host)
            await talk.say("EHLO localhost", 250)
        if server.username:
            token = base64.b64encode(f"\0{server.username}\0{server.password}".encode()).decode()
            await talk.say(f"AUTH PLAIN {token}", 235)
        await talk.say(f"MAIL FROM:<{server.sender}>", 250)
        for address in recipients:
            await talk.say(f"RCPT TO:<{address}>", 250, 251)
        await talk.say("DATA", 354)
        # A line with a dot alone would end the message.
        handed_over = True
        await talk.say(re.sub(rb"(?m)^\.", b"..", data).rstrip(b"\r\n") + b"\r\n.", 250)
        with contextlib.suppress(_Refused, OSError, asyncio.IncompleteReadError):
            await talk.say("QUIT", 221)  # the message is theirs already
    except _Refused as error:
        advice = "try again later" if 400 <= error.code < 500 else "nothing was sent"
        raise ToolError(f"{where} answered {error}; {advice}") from error
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
        sent = "it may have taken the message" if handed_over else "nothing was sent"
        raise ToolError(
            f"{where} cannot be used ({type(error).__name__}: {error}); {sent}", "unavailable"
        ) from error
    finally:
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(2):
                    await writer.wait_closed()


class _Refused(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code} {text}")
        self.code = code


@dataclass(frozen=True, slots=True)
class _Dialogue:
    """One side speaks, the other answers with a number."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, line: str | bytes, *expected: int) -> None:
        self.writer.write((line.encode("ascii") if isinstance(line, str) else line) + b"\r\n")
        await self.writer.drain()
        await self.expect(*expected)

    async def expect(self, *codes: int) -> None:
        lines: list[str] = []
        for _ in range(100):
            line = (await self.reader.readuntil(b"\n")).decode("utf-8", "replace").rstrip()
            lines.append(line[4:])
            if line[3:4] != "-":
                code = int(line[:3]) if line[:3].isdigit() else 0
                if code not in codes:
                    raise _Refused(code, " ".join(lines)[:300])
                return
        raise _Refused(0, "with a hundred lines and no end")
