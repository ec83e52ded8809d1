from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.server.sse import WATCH_AFTER_SECONDS, EventStream, data_frame, while_connected


class Wire:
    """The ASGI side of a response: what was sent, and when the client leaves."""

    def __init__(self) -> None:
        self.sent: list[dict] = []
        self.gone = asyncio.Event()

    async def send(self, message) -> None:
        self.sent.append(dict(message))

    async def receive(self):
        await self.gone.wait()
        return {"type": "http.disconnect"}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


def error_frame(error: Exception) -> bytes:
    return data_frame({"error": str(error)})


def serve(frames, wire: Wire, keep_alive: float = 15.0):
    response = EventStream(frames, error_frame, keep_alive=keep_alive)
    return response({"type": "http"}, wire.receive, wire.send)


@given(st.text())
def test_a_frame_is_one_line_that_gives_the_value_back(text):
    frame = data_frame({"t": text}).decode()
    (line, empty) = frame.split("\n\n")
    assert line.splitlines() == [line] and empty == ""
    assert json.loads(line.removeprefix("data: ")) == {"t": text}


def test_frames_follow_the_headers_in_order():
    async def run():
        async def frames() -> AsyncGenerator[bytes, None]:
            yield b"one"
            yield b"two"

        wire = Wire()
        await serve(frames(), wire)
        return wire

    wire = asyncio.run(run())
    start, *_, end = wire.sent
    headers = dict(start["headers"])
    assert start["status"] == 200
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert headers[b"cache-control"] == b"no-cache"
    assert b"content-length" not in headers
    assert wire.body == b"onetwo"
    assert end == {"type": "http.response.body", "body": b"", "more_body": False}


def test_an_error_before_the_first_frame_is_raised_with_nothing_sent():
    async def run():
        async def frames() -> AsyncGenerator[bytes, None]:
            raise KeyError("queue full")
            yield b""

        wire = Wire()
        with pytest.raises(KeyError):
            await serve(frames(), wire)
        assert wire.sent == []

    asyncio.run(run())


def test_an_error_after_it_becomes_a_frame_and_ends_the_stream():
    async def run():
        async def frames() -> AsyncGenerator[bytes, None]:
            yield b"one"
            raise RuntimeError("broken")

        wire = Wire()
        await serve(frames(), wire)
        return wire

    wire = asyncio.run(run())
    assert wire.body == b'onedata: {"error":"broken"}\n\n'
    assert wire.sent[-1]["more_body"] is False


def test_a_client_that_leaves_closes_the_frames():
    async def run(leave_while_sending: bool):
        closed = asyncio.Event()

        async def frames() -> AsyncGenerator[bytes, None]:
            try:
                yield b"one"
                if leave_while_sending:
                    while True:
                        yield b"more"
                await asyncio.Event().wait()
            finally:
                closed.set()

        class SlowWire(Wire):
            async def send(self, message) -> None:
                await super().send(message)
                if message.get("body") == b"more":
                    await asyncio.Event().wait()

        wire = SlowWire()
        response = asyncio.ensure_future(serve(frames(), wire))
        while len(wire.sent) < 2:
            await asyncio.sleep(0)
        assert not closed.is_set()
        wire.gone.set()
        await response
        assert closed.is_set()

    asyncio.run(run(leave_while_sending=False))
    asyncio.run(run(leave_while_sending=True))


def test_silence_is_filled_with_comments_that_readers_skip():
    async def run():
        wire = Wire()

        async def frames() -> AsyncGenerator[bytes, None]:
            while b"keep-alive" not in wire.body:
                await asyncio.sleep(0)
            yield b"data: 1\n\n"

        await serve(frames(), wire, keep_alive=0.001)
        return wire

    body = asyncio.run(run()).body
    assert body.startswith(b": keep-alive\n\n") and body.endswith(b"data: 1\n\n")


def test_work_is_cancelled_and_cleaned_up_before_the_caller_goes_on():
    async def run():
        cleaned = []

        async def work() -> int:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                cleaned.append(True)
            return 1

        wire = Wire()
        wire.gone.set()
        assert await while_connected(wire.receive, work()) is None
        assert cleaned == [True]

    asyncio.run(run())


def test_a_dialect_may_fill_silence_in_its_own_way():
    async def run():
        wire = Wire()

        async def frames() -> AsyncGenerator[bytes, None]:
            while b"ping" not in wire.body:
                await asyncio.sleep(0)
            yield b"data: 1\n\n"

        filler = data_frame({"type": "ping"}, "ping")
        headers = {"x-openk2-warning": "simplified"}
        response = EventStream(
            frames(), error_frame, headers=headers, filler=filler, keep_alive=0.001
        )
        await response({"type": "http"}, wire.receive, wire.send)
        return wire

    wire = asyncio.run(run())
    assert wire.body.startswith(b'event: ping\ndata: {"type":"ping"}\n\n')
    assert dict(wire.sent[0]["headers"])[b"x-openk2-warning"] == b"simplified"
    assert [message["type"] for message in wire.sent].count("http.response.start") == 1


def test_a_cancellation_from_elsewhere_is_not_taken_for_a_client_that_left():
    async def run():
        cleaned = []

        async def work() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                cleaned.append(True)

        wire = Wire()
        task = asyncio.ensure_future(while_connected(wire.receive, work()))
        await asyncio.sleep(2 * WATCH_AFTER_SECONDS)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert cleaned == [True]

    asyncio.run(run())


def test_a_finished_answer_leaves_nobody_who_watches():
    async def run():
        async def work(seconds: float) -> int:
            await asyncio.sleep(seconds)
            return 7

        wire = Wire()
        for seconds in (0, 2 * WATCH_AFTER_SECONDS):
            assert await while_connected(wire.receive, work(seconds)) == 7
            await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}
        wire.gone.set()
        await asyncio.sleep(2 * WATCH_AFTER_SECONDS)  # is not cancelled any more

    asyncio.run(run())


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.integers()
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_frames_hold_what_the_standard_library_reads(value):
    name, data, *rest = data_frame(value, "said").split(b"\n")
    assert (name, rest) == (b"event: said", [b"", b""])
    assert json.loads(data.removeprefix(b"data: ")) == value
