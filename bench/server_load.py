"""Clients that ask a server as fast as it answers, each on a connection of its own.

In: a URL, how many clients, for how long. Out: one line of JSON with counts and latencies.
Must not know: which server it asks.

    python -m bench.server_load URL MODEL CLIENTS SECONDS [stream]
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from urllib.parse import urlsplit


class Client(asyncio.Protocol):
    """One connection: asks again whenever it was answered, until its time is over."""

    def __init__(self, request: bytes, until: float, whole: bytes) -> None:
        """Ask with `request` until `until`; an answer must contain `whole`."""
        self.request, self.until, self.must = request, until, whole
        self.times: list[float] = []
        self.errors = 0
        self.buffer = bytearray()
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the first time."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count an answer that never came."""
        if not self.done.done():
            self.errors += 1
            self.done.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Ask again once the answer is complete."""
        self.buffer += data
        if not self._complete():
            return
        now = time.perf_counter()
        self.times.append(now - self.began)
        if not self.buffer.startswith(b"HTTP/1.1 200") or self.must not in self.buffer:
            self.errors += 1
        self.buffer.clear()
        if now < self.until:
            self._ask()
        else:
            self.done.set_result(None)
            self.transport.close()

    def _ask(self) -> None:
        self.began = time.perf_counter()
        self.transport.write(self.request)

    def _complete(self) -> bool:
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self.buffer[:end]).lower()
        at = head.find(b"content-length:")
        if at < 0:
            return self.buffer.endswith(b"\r\n0\r\n\r\n")
        return len(self.buffer) >= end + 4 + int(head[at + 15 :].split(b"\r\n")[0])


async def load(
    url: str, model: str, clients: int, seconds: float, *, stream: bool
) -> dict[str, float]:
    """Run `clients` for `seconds`."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    body: dict[str, object] = {
        "model": model,
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "What does a gateway add?"},
        ],
        "temperature": 0.6,
        "max_tokens": 64,
        "stream": stream,
    }
    data = json.dumps(body).encode()
    head = (
        f"POST {parts.path}/chat/completions HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        "Authorization: Bearer sk-bench\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    made = [
        await loop.create_connection(
            lambda: Client(head.encode() + data, began + seconds, b"gateway"),
            parts.hostname,
            parts.port,
        )
        for _ in range(clients)
    ]
    await asyncio.gather(*(client.done for _, client in made))
    times = sorted(t for _, client in made for t in client.times)
    took = time.perf_counter() - began
    errors = sum(client.errors for _, client in made)
    return {
        "requests": len(times),
        "errors": errors,
        "requests_per_s": len(times) / took,
        "p50_ms": statistics.median(times) * 1000,
        "p99_ms": times[int(len(times) * 0.99)] * 1000,
    }


if __name__ == "__main__":
    _, where, name, n, duration, *rest = sys.argv
    print(json.dumps(asyncio.run(load(where, name, int(n), float(duration), stream=bool(rest)))))
