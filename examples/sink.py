"""A mail server on this machine that keeps what it takes as files and sends nothing on.

In: a folder. Out: a port, and one `.eml` file per message.
Must not know: who writes, or why.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiosmtpd.smtp import SMTP, Envelope, Session


class Keeper:
    """Writes each message to a file; what the client said in the dialogue goes into headers."""

    def __init__(self, folder: Path) -> None:
        """Keep messages in `folder`."""
        self.folder = folder

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Keep one message."""
        number = len(list(self.folder.glob("*.eml"))) + 1
        head = f"X-Envelope-From: {envelope.mail_from}\r\n" + "".join(
            f"X-Envelope-To: {address}\r\n" for address in envelope.rcpt_tos
        )
        content = envelope.content or b""
        data = content if isinstance(content, bytes) else content.encode()
        (self.folder / f"{number:03}.eml").write_bytes(head.encode() + data)
        return "250 kept"


@asynccontextmanager
async def mail_sink(folder: Path) -> AsyncIterator[int]:
    """Listen on a free port of this machine; yield the port.

    Args:
        folder: Where messages are kept; made if it is missing.
    """
    from aiosmtpd.smtp import SMTP

    folder.mkdir(parents=True, exist_ok=True)
    keeper = Keeper(folder)
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(keeper, data_size_limit=32 << 20, hostname="localhost"), "127.0.0.1", 0
    )
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
