"""Chat Completions over real sockets: what endpoints do instead of answering."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from openk2.agent.model import ModelError, Reply, ask
from openk2.agent.models.openai import OpenAIChat
from openk2.agent.models.retry import Patience, ask_with_patience
from openk2.agent.models.wire import endpoint
from openk2.agent.models.wire.endpoint import TimeLimits
from openk2.types import Message, ReasoningDelta, Usage
from tests.agent.models.chat_server import HI, KEY, answer, chunk, failure, said
from tests.agent.models.fault_server import (
    HANG,
    RESET,
    Step,
    chunked,
    response,
    serving,
    sse_head,
    stream,
)

# Faults -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error", "fault", "words"),
    [
        (429, {"type": "rate_limit_reached_error", "message": "RPM 3"}, "busy", "RPM 3"),
        (429, {"type": "exceeded_current_quota_error", "message": "balance"}, "refused", "balance"),
        (500, {"message": "oops"}, "server", "oops"),
        (503, {"message": ""}, "server", "HTTP 503"),
        (529, {"message": "overloaded"}, "server", "overloaded"),
        (400, {"message": "bad", "code": "context_length_exceeded"}, "too_long", "shorter"),
        (400, {"message": "Your request exceeded model token limit : 8192"}, "too_long", "8192"),
        (400, {"message": "Input token length too long"}, "too_long", "too long"),
        (400, {"message": "This model's maximum context length is 10"}, "too_long", "maximum"),
        (413, {"message": ""}, "too_long", "413"),
        (400, {"message": f"no such field {KEY}"}, "refused", "no such field ***"),
        (401, {"message": f"Incorrect API key {KEY}"}, "refused", "check the API key"),
        (404, {"message": "no model"}, "refused", "model's name"),
        (405, {"message": ""}, "refused", "base URL"),
        (408, {"message": ""}, "server", "408"),
        (409, {"message": ""}, "server", "409"),
        (425, {"message": ""}, "server", "425"),
        (302, {}, "refused", "elsewhere"),
        (500, {"message": "red\x1b[31m\nalert\u202e"}, "server", "red [31m alert"),
        (500, {"message": "x" * 5000}, "server", "xxx…; try again"),
        (500, {"message": {"a": ["b"]}}, "server", '{"a": ["b"]}'),
    ],
)
def test_a_status_is_a_fault(status: int, error: Any, fault: str, words: str):
    found = failure(response(status, {"error": error}))
    assert found.fault == fault
    assert words in str(found) and "kimi at 127.0.0.1" in str(found)


@pytest.mark.parametrize(
    "body",
    [b"<html><h1>502 Bad Gateway</h1></html>", b"", b"[]", b'"no"', b'{"detail": "no"}', b"\xff"],
)
def test_an_error_in_any_shape_is_a_fault(body: bytes):
    assert failure(response(502, body)).fault == "server"


def test_what_not_to_try_again_is_refused():
    found = failure(response(429, {}, {"x-should-retry": "false", "Retry-After": "5"}))
    assert (found.fault, found.retryable) == ("refused", False)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "Retry-After": "1"}, 0.25),
        (
            {
                "Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT",
                "Date": "Wed, 21 Oct 2026 07:28:00 GMT",
            },
            30.0,
        ),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-3"}, None),
        ({}, None),
    ],
)
def test_when_to_come_back_is_read_from_seconds_and_dates(headers: Any, seconds: float | None):
    assert failure(response(429, {"error": {}}, headers)).retry_after == seconds


def test_a_date_alone_is_compared_with_this_clock():
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    found = failure(response(429, {}, {"Retry-After": until})).retry_after
    assert found is not None and 90 < found < 101


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        (stream(chunk({"content": "half"}), done=False, end=False), "before the answer did"),
        (stream(chunk({"content": "half"}), done=False), "before the answer did"),
        (stream(done=False), "before the answer did"),
        ([sse_head(), chunked(b"data: {oops\n\n"), b"0\r\n\r\n"], "not JSON"),
        ([sse_head(), chunked(b"data: 5\n\n"), b"0\r\n\r\n"], "no JSON object"),
        ([sse_head(), 0.1, b"zzz\r\n"], "before the answer did"),
        (response(200, b""), "before the answer did"),
        (stream(chunk({"content": "half"}, "error")), "gave up"),
    ],
)
def test_half_an_answer_is_a_broken_stream(steps: list[Step], words: str):
    found = failure(steps)
    assert (found.fault, found.retryable) == ("broken_stream", True)
    assert words in str(found)


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        ({"message": f"it broke {KEY}", "type": "server_error"}, "server"),
        ({"message": "slow down", "type": "rate_limit_reached_error"}, "busy"),
        ({"message": "the maximum context length is 5", "code": 400}, "too_long"),
        ({"message": "no", "code": 429}, "busy"),
        ("just words", "server"),
    ],
)
def test_an_error_within_a_stream_is_a_fault(error: Any, fault: str):
    assert failure(stream(chunk({"content": "half"}), {"error": error})).fault == fault


def test_a_withheld_answer_is_refused():
    assert failure(stream(chunk({"content": "x"}, "content_filter"))).fault == "refused"


@pytest.mark.parametrize(
    ("limits", "steps", "words"),
    [
        (TimeLimits(silence=0.2), [HANG], "said nothing for 0.2"),
        (TimeLimits(silence=0.2), [sse_head(), HANG], "said nothing for 0.2"),
        (
            TimeLimits(total=0.3),
            [sse_head(), *[chunked(b": ping\n\n"), 0.1] * 10],
            "in 0.3 seconds",
        ),
    ],
)
def test_silence_and_slowness_end(limits: TimeLimits, steps: list[Step], words: str):
    begun = time.monotonic()
    found = failure(steps, limits=limits)
    assert found.fault == "network" and words in str(found)
    assert time.monotonic() - begun < 10


def test_pings_are_no_silence():
    steps = [sse_head(), *[chunked(b": ping\n\n"), 0.4] * 3, *said()[1:]]
    assert answer(steps, limits=TimeLimits(silence=1.0))[0].message.content == "hello"


def test_no_connection_is_a_network_fault():
    assert failure([RESET]).fault == "network"

    async def nobody() -> None:
        async with serving([RESET]) as (_, url):
            pass
        model = OpenAIChat(url, "kimi", api_key=KEY)
        try:
            await ask(model, HI)
        finally:
            await model.close()

    with pytest.raises(ModelError, match="refuses connections") as caught:
        asyncio.run(nobody())
    assert caught.value.fault == "network"


def test_who_stops_listening_closes_the_connection():
    async def run() -> None:
        async with serving([sse_head(), chunked(b"data: {}\n\n"), HANG]) as (server, url):
            model = OpenAIChat(url, "kimi")
            asking = asyncio.create_task(ask(model, HI))
            while not server.asked:
                await asyncio.sleep(0.01)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await asyncio.wait_for(server.left.wait(), 5)
            await model.close()

    asyncio.run(run())


def test_the_key_is_in_no_repr():
    model = OpenAIChat("http://x/v1", "m", api_key=KEY)
    assert KEY not in repr(vars(model))


def test_429_then_500_then_half_a_stream_then_an_answer():
    waits: list[tuple[str, float, int]] = []
    seen: list[Any] = []
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def run() -> Reply:
        async with serving(
            response(429, {"error": {"message": "busy"}}, {"Retry-After": "2"}),
            response(500, {"error": {"message": "oops"}}),
            stream(
                chunk({"reasoning_content": "wrong"}),
                chunk({"content": "half"}),
                end=False,
                done=False,
            ),
            said("whole"),
        ) as (server, url):
            model = OpenAIChat(url, "kimi")
            try:
                reply = await ask_with_patience(
                    model,
                    HI,
                    patience=Patience(attempts=4),
                    sleep=sleep,
                    on_event=seen.append,
                    on_retry=lambda fault, seconds, attempt: waits.append(
                        (fault, seconds, attempt)
                    ),
                )
            finally:
                await model.close()
            assert len(server.asked) == 4
            assert all(asked.body == server.asked[0].body for asked in server.asked)
            return reply

    reply = asyncio.run(run())
    assert reply == Reply(Message("assistant", "whole"), "stop", Usage(9, 4, 3))
    assert [(fault, attempt) for fault, _, attempt in waits] == [
        ("busy", 2), ("server", 3), ("broken_stream", 4),
    ]  # fmt: skip
    assert slept == [seconds for _, seconds, _ in waits] and 2.0 <= slept[0] <= 3.0
    assert ReasoningDelta("wrong") in seen


def test_an_answer_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(endpoint, "MAX_ANSWER", 2**20)
    more = chunked(f"data: {json.dumps(chunk({'content': 'x' * 10_000}))}\n\n".encode())
    found = failure([sse_head(), *[more] * 300, HANG])
    assert (found.fault, found.retryable) == ("refused", False)
    assert "more than 1 MiB" in str(found)
