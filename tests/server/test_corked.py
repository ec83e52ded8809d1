"""What is written in one turn of the loop leaves in one piece, and nothing is lost."""

from __future__ import annotations

import asyncio

import pytest

from openk2.server.corked import MOST_HELD, CorkedTransport, corked


class Talker(asyncio.Protocol):
    """Says what it is told as soon as it is connected."""

    def __init__(self, said: list[bytes], end: str) -> None:
        self.said, self.end = said, end
        self.writes: list[int] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, CorkedTransport)
        below = transport._transport
        write = below.write
        below.write = lambda data: (self.writes.append(len(data)), write(data))
        for data in self.said:
            transport.write(data)
        waiting = sum(map(len, self.said)) - sum(self.writes)
        assert transport.get_write_buffer_size() >= waiting
        getattr(transport, self.end)()


def talk(said: list[bytes], end: str) -> tuple[bytes, list[int]]:
    async def run() -> tuple[bytes, list[int]]:
        loop = asyncio.get_running_loop()
        talkers: list[Talker] = []

        def made() -> Talker:
            talkers.append(corked(Talker)(said, end))
            return talkers[-1]

        server = await loop.create_server(made, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        data = await reader.read()
        writer.close()
        server.close()
        return data, talkers[0].writes

    return asyncio.run(run())


@pytest.mark.parametrize("end", ["close", "write_eof"])
@pytest.mark.parametrize(
    "said", [[], [b"a"], [b"head", b"body", b""], [b"x" * 40_000] * 9, [b"y" * MOST_HELD * 5, b"z"]]
)
def test_all_that_was_written_arrives(said, end):
    data, writes = talk(said, end)
    assert data == b"".join(said)
    assert len(writes) <= 1 + sum(map(len, said)) // MOST_HELD


def test_nothing_follows_an_abort():
    assert talk([b"a", b"b"], "abort") == (b"", [])
