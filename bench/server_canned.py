"""A server of Chat Completions that answers at once, always the same: what is behind a gateway.

In: requests on a socket. Out: one of two canned answers, streamed or whole, as the request asks.
Must not know: what is measured.

    python -m bench.server_canned        # prints its port
"""

from __future__ import annotations

import asyncio
import json

WORDS = (
    "The",
    " gateway",
    " in",
    " the",
    " middle",
    " adds",
    " as",
    " little",
    " as",
    " it",
    " can",
)
USAGE = {"prompt_tokens": 12, "completion_tokens": len(WORDS), "total_tokens": 12 + len(WORDS)}
HEAD = {"id": "chatcmpl-canned", "created": 1760000000, "model": "canned"}


def whole() -> bytes:
    """Return a whole answer as an HTTP response."""
    message = {"role": "assistant", "content": "".join(WORDS)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = HEAD | {"object": "chat.completion", "choices": [choice], "usage": USAGE}
    return _response("application/json", json.dumps(body).encode())


def streamed() -> bytes:
    """Return the same answer as an HTTP response with server-sent events, a word in each."""
    deltas = [{"role": "assistant", "content": ""}, *({"content": word} for word in WORDS), {}]
    chunks: list[dict[str, object]] = [
        {"choices": [{"index": 0, "delta": delta, "finish_reason": None if delta else "stop"}]}
        for delta in deltas
    ]
    chunks.append({"choices": [], "usage": USAGE})
    frames = [HEAD | {"object": "chat.completion.chunk"} | chunk for chunk in chunks]
    lines = [*(f"data: {json.dumps(frame)}\n\n" for frame in frames), "data: [DONE]\n\n"]
    return _response("text/event-stream", "".join(lines).encode())


def models() -> bytes:
    """Return the list of one model."""
    entry = {"id": "canned", "object": "model", "owned_by": "bench"}
    return _response("application/json", json.dumps({"object": "list", "data": [entry]}).encode())


def _response(kind: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Canned(asyncio.Protocol):
    """Answers every request on one connection."""

    whole, streamed, models = whole(), streamed(), models()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin a connection."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        """Answer whatever requests are complete."""
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n")[0]) if at >= 0 else 0
            if len(self.buffer) < end + 4 + length:
                return
            body = self.buffer[end + 4 : end + 4 + length]
            self.buffer = self.buffer[end + 4 + length :]
            self.transport.write(self.answer(head, body))

    def answer(self, head: bytes, body: bytes) -> bytes:
        """Choose the answer to one request."""
        if head.startswith(b"get"):
            return self.models
        return self.streamed if json.loads(body).get("stream") else self.whole


async def main() -> None:
    """Serve until the process is ended."""
    server = await asyncio.get_running_loop().create_server(Canned, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
