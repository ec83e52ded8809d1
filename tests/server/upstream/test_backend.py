"""Another server as a backend, over real sockets: what it is asked, and what it may do wrong."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from openk2.server.errors import ApiError
from openk2.server.request import ChatRequest
from openk2.server.upstream.address import TimeLimits
from openk2.server.upstream.backend import UNKNOWN_CONTEXT, UpstreamBackend, read_models
from openk2.server.upstream.http import MAX_DOCUMENT
from openk2.types import (
    Finish,
    Message,
    PromptRead,
    Sampling,
    TextDelta,
    ToolCall,
    ToolCallArguments,
    ToolCallStart,
    ToolSpec,
    Usage,
)
from tests.server.upstream.fake import (
    ABORT,
    END,
    HANG,
    SSE_HEAD,
    USAGE,
    call,
    chunked,
    delta,
    document,
    frame,
    sse,
    upstream,
)

pytestmark = pytest.mark.usefixtures("carrier")

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
COUNT = ToolSpec("count", "Counts.", SCHEMA)
HI = ChatRequest((Message("user", "Hi"),), Sampling())
TOOLED = replace(HI, tools=(COUNT,))
ANSWER = sse(delta(role="assistant", content=""), delta(content="Hello"), delta("stop"), USAGE)
MODELS = {"data": [{"id": "m1", "owned_by": "vllm", "max_model_len": 999}, {"id": "m2"}]}


def ask(url: str, request: ChatRequest = HI, times: int = 1, **options: Any) -> tuple[Any, ...]:
    """Return the events, the warnings and the backend."""
    limits = options.pop("limits", TimeLimits(connect=5, idle=20))

    async def run() -> tuple[Any, ...]:
        backend = UpstreamBackend(url, limits=limits, **options)
        events, warnings = [], []
        async with backend.running():
            for _ in range(times):
                generation = await backend.prepare(request)
                events = [item async for item in generation.events()]
                warnings = list(generation.warnings)
        return events, warnings, backend

    return asyncio.run(run())


def refused(url: str, request: ChatRequest = HI, **options: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        ask(url, request, **options)
    return caught.value


# What is asked ----------------------------------------------------------------------------------


def test_a_request_goes_out_and_its_answer_comes_back_as_events():
    with upstream(ANSWER, MODELS) as fake:
        events, warnings, backend = ask(fake.url, key="sk-secret")
    assert events == [
        (0, PromptRead(0)),
        (0, TextDelta("Hello")),
        (0, Finish("stop")),
        (0, Usage(7, 3)),
    ]
    assert warnings == [] and [model.id for model in backend.models] == ["m1", "m2"]
    asked = fake.chats[0]
    assert (asked.method, asked.path) == ("POST", "/v1/chat/completions")
    assert asked.headers["authorization"] == "Bearer sk-secret"
    assert asked.body["stream"] is True and asked.body["model"] == "m1"
    assert asked.body["stream_options"]["include_usage"] is True


def test_ids_of_the_history_become_those_that_k2_was_trained_on():
    calls = (ToolCall("toolu_1", "count", '{"n": 1}'), ToolCall("call_x", "count", "{}"))
    history = (
        Message("user", "Hi"),
        Message("assistant", "", "Hm.", tool_calls=calls),
        Message("tool", "2", tool_call_id="call_x"),
        Message("tool", "1", tool_call_id="toolu_1"),
        Message("assistant", "", tool_calls=(ToolCall("toolu_1", "count", "{}"),)),
        Message("tool", "3", tool_call_id="toolu_1"),
    )
    again = sse(delta("stop", tool_calls=[call("count", '{"n": 4}', index=0, id="zzz")]))
    with upstream(again) as fake:
        events, _, _ = ask(fake.url, replace(TOOLED, messages=history))
    sent = fake.chats[0].body["messages"]
    assert [entry["id"] for entry in sent[1]["tool_calls"]] == [
        "functions.count:0",
        "functions.count:1",
    ]
    assert sent[1]["reasoning_content"] == "Hm."
    assert [turn.get("tool_call_id") for turn in sent[2:]] == [
        "functions.count:1",
        "functions.count:0",
        None,
        "functions.count:2",
    ]
    assert events[1] == (0, ToolCallStart(0, "functions.count:3", "count"))


def test_the_model_is_the_operators_choice_or_else_the_clients():
    with upstream(ANSWER, MODELS) as fake:
        ask(fake.url, replace(HI, model="m2"))
        _, _, backend = ask(fake.url, replace(HI, model="m1"), model="m2")
        ask(fake.url, replace(HI, model="default"))
    assert [asked.body["model"] for asked in fake.chats] == ["m2", "m2", "m1"]
    assert [model.id for model in backend.models] == ["m2"]


def test_a_server_without_a_list_of_models_may_still_answer():
    with upstream(ANSWER) as fake:
        events, _, backend = ask(fake.url)
        assert "model" not in fake.chats[0].body
        ask(fake.url, model="mine")
        assert fake.chats[1].body["model"] == "mine"
    assert events[1] == (0, TextDelta("Hello"))
    assert backend.failure.code == "upstream_no_such_address"
    assert [(m.id, m.context_length) for m in backend.models] == [("default", UNKNOWN_CONTEXT)]


def test_a_limit_of_no_tokens_reads_the_prompt_only():
    with upstream(ANSWER) as fake:
        events, _, _ = ask(fake.url, replace(HI, sampling=Sampling(max_tokens=0)))
    assert fake.chats[0].body["max_tokens"] == 1
    assert events == [(0, PromptRead(0)), (0, Finish("length")), (0, Usage(7, 0))]


def test_a_models_window_and_whether_it_thinks_are_read_where_each_server_says_them():
    listed = [
        {"id": "a", "context_length": 1, "supports_reasoning": True, "created": 5},
        {"id": "Kimi-K2-Thinking", "max_model_len": 2},
        {"id": "c", "meta": {"n_ctx_train": 3}},
        {"id": "d", "context_length": "?", "meta": 4},
        {"id": 5},
        {"id": "\ud800"},
        "e",
    ]
    models = read_models({"data": listed})
    assert [(model.id, model.context_length, model.reasoning) for model in models] == [
        ("a", 1, True),
        ("Kimi-K2-Thinking", 2, True),
        ("c", 3, False),
        ("d", UNKNOWN_CONTEXT, False),
    ]
    assert models[0].created == 5
    assert read_models(None) == read_models({"data": {}}) == ()


# Tool calls -------------------------------------------------------------------------------------


def test_a_call_is_repaired_and_counted():
    with upstream(sse(delta("stop", tool_calls=[call("Count", '{"n": "1",}')]), USAGE)) as fake:
        events, warnings, backend = ask(fake.url, TOOLED, times=2)
    assert [event for _, event in events[1:]] == [
        ToolCallStart(0, "functions.count:0", "count"),
        ToolCallArguments(0, '{"n": 1}'),
        Finish("tool_calls"),
        Usage(7, 3),
    ]
    assert (backend.stats.validated, backend.stats.repaired, backend.stats.failed) == (2, 2, 0)
    assert warnings == ["1 tool calls were repaired"]


def second_time(first: list[Any], second: list[Any]) -> Any:
    """Answer `first` to a request whose history holds no error, else `second`."""
    return lambda asked: second if asked.body["messages"][-1]["role"] == "tool" else first


def test_a_call_that_cannot_be_repaired_is_asked_for_again():
    bad = sse(
        delta(content="Let me see."),
        delta("stop", tool_calls=[call("count", '{"n": 1}', index=0), call("add", "{}", index=1)]),
        USAGE,
    )
    good = sse(
        delta(content="Sorry!"), delta("stop", tool_calls=[call("count", '{"n": 2}')]), USAGE
    )
    with upstream(second_time(bad, good)) as fake:
        events, warnings, backend = ask(fake.url, TOOLED)
    assert [event for _, event in events] == [
        PromptRead(0),
        TextDelta("Let me see."),
        ToolCallStart(0, "functions.count:0", "count"),
        ToolCallArguments(0, '{"n": 1}'),
        ToolCallStart(1, "functions.count:1", "count"),
        ToolCallArguments(1, '{"n": 2}'),
        Finish("tool_calls"),
        Usage(14, 6),
    ]
    shown = fake.chats[1].body["messages"]
    assert shown[1]["content"] == "Let me see."
    assert shown[1]["tool_calls"][0]["function"] == {"name": "add", "arguments": "{}"}
    assert "there is no tool 'add'; the tools are count" in shown[2]["content"]
    assert shown[2]["tool_call_id"] == shown[1]["tool_calls"][0]["id"]
    stats = backend.stats
    assert (stats.validated, stats.repaired, stats.re_asked, stats.failed) == (3, 0, 1, 0)
    assert warnings == ["1 invalid tool calls were asked for again"]


def test_the_second_answer_may_be_text():
    bad = sse(delta("stop", tool_calls=[call("count", "?")]))
    with upstream(second_time(bad, ANSWER)) as fake:
        events, _, _ = ask(fake.url, TOOLED)
    assert [event for _, event in events[1:3]] == [TextDelta("Hello"), Finish("stop")]


def test_a_call_that_is_wrong_twice_is_an_error():
    with upstream(sse(delta("stop", tool_calls=[call("count", '{"n": []}')]))) as fake:
        error = refused(fake.url, TOOLED)
    assert (error.status, error.code) == (502, "invalid_tool_call")
    assert 'arguments["n"]: [] is not of type "integer"' in error.message
    assert len(fake.chats) == 2


def test_calls_that_nobody_asked_for_are_dropped():
    answer = sse(delta("tool_calls", content="Hi", tool_calls=[call("count", "{}")]))
    with upstream(answer) as fake:
        for request in (HI, replace(TOOLED, tool_choice="none")):
            events, _, _ = ask(fake.url, request)
            assert [event for _, event in events[1:3]] == [TextDelta("Hi"), Finish("stop")]


def test_calls_stream_where_the_server_holds_them_to_their_schemas():
    pieces = sse(
        delta(tool_calls=[call("count", '{"n"', index=0)]),
        delta(tool_calls=[call(None, ': "x"}', index=0)]),
        delta("stop"),
    )
    forced = replace(TOOLED, tool_choice="required")
    with upstream(pieces) as fake:
        for kind, request in (("moonshot", TOOLED), ("vllm", forced)):
            events, warnings, backend = ask(fake.url, request, kind=kind)
            assert (0, ToolCallStart(0, "functions.count:0", "count")) in events
            assert backend.stats.failed == 1 and len(fake.chats) == 1
            assert "1 tool calls do not hold to their schema" in warnings
            fake.asked.clear()
        assert refused(fake.url, TOOLED, kind="vllm").code == "invalid_tool_call"


# Several choices, and counts --------------------------------------------------------------------


def test_several_choices_are_told_apart():
    answer = sse(delta("stop", 1, content="b"), delta("length", 0, content="a"), USAGE)
    with upstream(answer) as fake:
        events, _, _ = ask(fake.url, replace(HI, n=2))
    assert fake.chats[0].body["n"] == 2
    assert [event for choice, event in events if choice == 1] == [
        PromptRead(0),
        TextDelta("b"),
        Finish("stop"),
        Usage(7, 0),
    ]
    assert [event for choice, event in events if choice == 0][2:] == [Finish("length"), Usage(7, 3)]


def test_tokens_that_the_server_did_not_count_are_counted_or_said_to_be_unknown():
    silent = sse(delta("stop", content="Hello"))

    def answer(asked: Any) -> Any:
        if asked.path == "/tokenize":
            return document({"count": 2 if "prompt" in asked.body else 11})
        return silent

    with upstream(answer) as fake:
        events, warnings, _ = ask(fake.url, kind="vllm")
        assert (events[-1], warnings) == ((0, Usage(11, 2)), [])
        events, warnings, _ = ask(fake.url)
    assert events[-1] == (0, Usage(0, 0))
    assert warnings == ["the server behind this one did not count its tokens"]


def count(url: str, kind: str) -> int:
    async def run() -> int:
        backend = UpstreamBackend(url, kind=kind, model="m")
        async with backend.running():
            return await backend.count_tokens(TOOLED)

    return asyncio.run(run())


def test_each_server_counts_in_its_own_way():
    def answer(asked: Any) -> Any:
        return {
            "/tokenize": document({"count": 5, "tokens": [1, 2, 3]}),
            "/apply-template": document({"prompt": "<Hi>"}),
            "/v1/tokenizers/estimate-token-count": document({"data": {"total_tokens": 9}}),
        }[asked.path]

    with upstream(answer) as fake:
        assert [count(fake.url, kind) for kind in ("vllm", "moonshot", "llama.cpp")] == [5, 9, 3]
        asked = [asked for asked in fake.asked if asked.method == "POST"]
    assert asked[0].body["tools"] and asked[0].body["model"] == "m"
    assert asked[3].body["content"] == "<Hi>"


@pytest.mark.parametrize("kind", ["openai", "vllm", "moonshot"])
def test_a_server_that_cannot_count_is_said_to(kind):
    with (
        upstream(document({"detail": "Not Found"}, 404)) as fake,
        pytest.raises(ApiError) as caught,
    ):
        count(fake.url, kind)
    assert caught.value.status == 501


# What goes wrong --------------------------------------------------------------------------------


def test_nobody_there_is_one_sentence_and_ends_when_somebody_comes():
    with upstream(ANSWER) as fake:
        pass
    error = refused(fake.url)
    assert (error.status, error.code) == (502, "upstream_unreachable")
    assert "it refuses connections" in error.message


@pytest.mark.parametrize(
    ("status", "said", "ours", "code"),
    [
        (401, {"error": {"message": "Incorrect API key: sk-secret"}}, 502, "upstream_key_refused"),
        (403, b"no", 502, "upstream_key_refused"),
        (400, {"error": {"message": "n is too large", "param": "n"}}, 400, None),
        (422, {"detail": [{"loc": ["n"]}]}, 400, None),
        (
            400,
            {"error": {"message": "This model's maximum context length is 9 tokens", "code": 400}},
            400,
            "context_length_exceeded",
        ),
        (413, b"", 413, None),
        (404, {"error": {"message": "The model `x` does not exist."}}, 404, "model_not_found"),
        (404, {"detail": "Not Found"}, 502, "upstream_no_such_address"),
        (402, b"pay", 502, "upstream_error"),
        (500, b"<html>oops sk-secret</html>", 502, "upstream_error"),
        (503, {"error": "busy"}, 502, "upstream_error"),
        (302, b"", 502, "upstream_error"),
        (418, b"\xff\xfe", 502, "upstream_error"),
    ],
)
def test_a_refusal_says_whose_fault_it_is(status, said, ours, code):
    with upstream(document(said, status, Location="http://127.0.0.1:9/")) as fake:
        error = refused(fake.url, key="sk-secret")
        assert len(fake.chats) == 1
    assert (error.status, error.code) == (ours, code)
    assert error.message and "secret" not in error.message
    if status == 400:
        assert error.message == said["error"]["message"]
        assert error.param == said["error"].get("param")


def test_too_many_requests_say_when_to_come_back():
    with upstream(document({"error": {"message": "slow down"}}, 429, Retry_After="7")) as fake:
        error = refused(fake.url)
    assert (error.status, error.message) == (429, "slow down")
    assert error.headers == {"Retry-After": "7"}


def test_a_server_that_dies_before_it_answers_is_asked_once_more_and_no_more():
    with upstream([ABORT]) as fake:
        error = refused(fake.url)
        assert len(fake.chats) == 2
    assert error.status == 502 and "went away" in error.message
    steps = iter([[ABORT], ANSWER])
    with upstream(lambda _: next(steps)) as fake:
        assert ask(fake.url)[0][1] == (0, TextDelta("Hello"))


@pytest.mark.parametrize(
    "ending",
    [[ABORT], [END], [END, ABORT], [chunked(b"data: {"), ABORT], [b"zzz\r\n", ABORT]],
)
def test_a_server_that_dies_in_its_answer_ends_it_with_an_error(ending):
    begun = [SSE_HEAD, chunked(frame(delta(content="Hel")))]
    seen: list[Any] = []

    async def run(url: str) -> None:
        backend = UpstreamBackend(url)
        async with backend.running():
            async for item in (await backend.prepare(HI)).events():
                seen.append(item)  # noqa: PERF401 - what came before the error is looked at

    with upstream([*begun, 0.05, *ending]) as fake, pytest.raises(ApiError) as caught:
        asyncio.run(run(fake.url))
    assert seen == [(0, PromptRead(0)), (0, TextDelta("Hel"))]
    assert caught.value.status == 502


@pytest.mark.parametrize(
    "junk",
    [
        [SSE_HEAD, chunked(b"data: nonsense\n\n"), END],
        [SSE_HEAD, chunked(b"data: 3\n\n"), END],
        document({"hello": "there"}),
        document(b"<html>"),
        [b"SSH-2.0-OpenSSH\r\n\r\n", ABORT],
        [b"HTTP/1.1 200 OK\r\nContent-Length: nonsense\r\n\r\n", ABORT],
    ],
)
def test_what_is_no_answer_is_an_error(junk):
    with upstream(junk) as fake:
        assert refused(fake.url).status == 502


def test_silence_ends_after_a_while():
    limits = TimeLimits(connect=5, idle=0.2, document=0.2)
    for steps in ([HANG], [SSE_HEAD, chunked(frame(delta(content="Hel"))), HANG]):
        with upstream(steps) as fake:
            error = refused(fake.url, limits=limits)
        assert (error.status, error.code) == (504, "upstream_timeout")
    with upstream(lambda asked: [HANG], models=None) as fake:
        fake.models = {"data": []}
        assert refused(fake.url, limits=limits).status == 504


def test_a_list_of_models_has_a_largest_size():
    with upstream(ANSWER, {"data": ["x" * MAX_DOCUMENT]}) as fake:
        events, _, backend = ask(fake.url)
    assert backend.failure.status == 502 and events[1] == (0, TextDelta("Hello"))


def test_a_connection_is_used_again():
    with upstream(ANSWER, MODELS) as fake:
        ask(fake.url, times=5)
        assert len(fake.chats) == 5 and fake.connections == 1


def test_a_client_that_leaves_ends_the_request_behind_at_once():
    async def run(url: str) -> None:
        backend = UpstreamBackend(url)
        async with backend.running(), aclosing((await backend.prepare(HI)).events()) as events:
            assert await anext(events) == (0, PromptRead(0))
            await events.aclose()
            assert await asyncio.to_thread(fake.left.wait, 10)

    with upstream([SSE_HEAD, chunked(frame(delta(content="Hel"))), HANG]) as fake:
        asyncio.run(run(fake.url))


def test_a_server_that_stops_says_so_to_its_clients():
    async def run(url: str) -> None:
        backend = UpstreamBackend(url)
        async with backend.running(), aclosing((await backend.prepare(HI)).events()) as events:
            await anext(events)
            await anext(events)
            backend.stop()
            await anext(events)

    with (
        upstream([SSE_HEAD, chunked(frame(delta(content="Hel"))), HANG]) as fake,
        pytest.raises(ApiError, match="shutting down"),
    ):
        asyncio.run(run(fake.url))


def test_the_key_is_nowhere_but_in_its_header(caplog):
    with upstream(ANSWER, MODELS) as fake:
        events, warnings, backend = ask(fake.url, key="sk-secret")
    everything = [repr(backend), repr(backend._http), repr(events), repr(warnings), caplog.text]
    assert "secret" not in json.dumps(everything)
    assert "secret" not in json.dumps([asked.body for asked in fake.asked])
