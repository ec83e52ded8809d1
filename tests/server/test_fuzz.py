"""Broken bodies to every route: no 5xx, every refusal names a field, every answer is readable."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, get_args

import httpx
import pytest
from anthropic.types import Message, MessageTokensCount, RawMessageStreamEvent
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from openk2.engine.engine import Engine
from openk2.engine.runner import TorchRunner
from openk2.engine.thread import EngineThread
from tests.server.fuzz_bodies import BODIES
from tests.server.mutations import NUMBERS, mutated

SHARE = int(os.environ.get("OPENK2_FUZZ_SHARE", "1"))
"""Multiplies the number of requests of the slow tests."""

QUIET = {"suppress_health_check": list(HealthCheck), "database": None, "deadline": None}
THEIRS = re.compile(r"(/anthropic)?/v1/messages")


@pytest.fixture(scope="module")
def http(connect, script) -> Iterator[httpx.Client]:
    """A server whose model always says the same, in no time."""
    with connect(script("<think>hm</think>Hello, 世界 🙂")) as client:
        yield from _client(client)


@pytest.fixture(scope="module")
def computing(connect, random_model, tokenizer) -> Iterator[httpx.Client]:
    """A server with an engine, whose answers are short because its window is."""
    stops = frozenset((tokenizer.im_end,))
    engine = Engine(TorchRunner(random_model), max_batch=8, max_len=1536, stop_ids=stops)
    with EngineThread(engine) as source, connect(source) as client:
        yield from _client(client)


def _client(client: Any) -> Iterator[httpx.Client]:
    root = str(client.base_url).removesuffix("/v1/")
    with httpx.Client(base_url=root, timeout=60, trust_env=False) as http:
        yield http
        # Whatever was sent before, the next client is served.
        for url, body in BODIES:
            assert http.post(url, json=body | {"stream": False}).status_code == 200, url


# What a response has to be ----------------------------------------------------------------------

WHOLE: dict[str, TypeAdapter[Any]] = {
    "/v1/chat/completions": TypeAdapter(ChatCompletion),
    "/v1/responses": TypeAdapter(Response),
    "/v1/completions": TypeAdapter(Completion),
    "/v1/messages": TypeAdapter(Message),
    "/v1/messages/count_tokens": TypeAdapter(MessageTokensCount),
    "/v1/tokenizers/estimate-token-count": TypeAdapter(dict[str, dict[str, int]]),
}
PIECES: dict[str, TypeAdapter[Any]] = {
    "/v1/chat/completions": TypeAdapter(ChatCompletionChunk),
    "/v1/completions": TypeAdapter(Completion),
}
EVENTS: dict[str, dict[str, TypeAdapter[Any]]] = {
    path: {get_args(kind.model_fields["type"].annotation)[0]: TypeAdapter(kind) for kind in kinds}
    for path, kinds in (
        ("/v1/responses", get_args(get_args(ResponseStreamEvent)[0])),
        ("/v1/messages", get_args(get_args(RawMessageStreamEvent)[0])),
    )
}
STREAMS = {*PIECES, *EVENTS}
LAST = {"/v1/responses": r'{"type":"response\.\w+"', "/v1/messages": r'{"type":"message_stop"}'}


def check(url: str, body: Any, response: httpx.Response) -> None:
    """Fail if a client could not read this response."""
    path = url.partition("?")[0].removeprefix("/anthropic")
    assert response.status_code == 200 or 400 <= response.status_code < 500, response.text
    assert response.headers["x-request-id"] == response.headers["request-id"]
    if response.status_code != 200:
        check_refusal(url, body, response)
    elif response.headers["content-type"].startswith("text/event-stream"):
        check_stream(path, response.text)
    else:
        assert not (isinstance(body, dict) and body.get("stream") is True and path in STREAMS)
        WHOLE[path].validate_python(response.json())


def check_stream(path: str, text: str) -> None:
    frames = [frame for frame in text.split("\n\n") if frame and not frame.startswith(":")]
    for frame in frames:
        *names, data = frame.split("\n")
        body = data.removeprefix("data: ")
        if body == "[DONE]":
            continue
        piece = json.loads(body)
        assert "error" not in piece and piece.get("type") not in ("error", "response.failed"), body
        assert names in ([], [f"event: {piece.get('type')}"])
        if path == "/v1/completions":
            # The SDK's type lacks the null that OpenAI's own chunks have until the last one.
            for choice in piece["choices"]:
                choice["finish_reason"] = choice["finish_reason"] or "stop"
        if piece.get("type") != "ping":
            reader = PIECES[path] if path in PIECES else EVENTS[path][piece["type"]]
            reader.validate_python(piece)
    last = frames[-1].split("\n")[-1].removeprefix("data: ").replace('": ', '":')
    assert re.match(LAST.get(path, r"\[DONE\]"), last), last


def check_refusal(url: str, body: Any, response: httpx.Response) -> None:
    error = response.json()
    if THEIRS.match(url):
        assert error["type"] == "error" and error["request_id"] == response.headers["request-id"]
        assert error["error"]["type"].endswith("_error")
        message = error["error"]["message"]
        found = re.search(r"(?:^|[:;] )([a-z_]\w*(?:\[\d+\]|\.[^:\s]+)*): ", message)
        field = found and found[1]
    else:
        assert set(error["error"]) == {"message", "type", "param", "code"}
        message, field = error["error"]["message"], error["error"]["param"]
    assert message.strip() and message.endswith((".", "?")) and "\n" not in message[:100], message
    if field is None:
        assert "body" in message, error
    else:
        assert leads_somewhere(body, field), f"{field}: {message}"


def leads_somewhere(body: Any, field: str) -> bool:
    """Tell whether a path of a refusal is one of the body, or would be with one more step."""
    steps = re.findall(r"\[(\d+)\]|\.?([^.\[\]]+)", field[:200])
    value = body
    for count, (index, name) in enumerate(steps, start=1):
        last = count == len(steps)
        if index and isinstance(value, list):
            if int(index) >= len(value):
                return last
            value = value[int(index)]
        elif name and isinstance(value, dict):
            if name not in value:
                return last
            value = value[name]
        else:
            return last  # what should be an object or a list is none
    return True


def ask(http: httpx.Client, url: str, body: Any) -> int:
    text = json.dumps(body)
    for marker, number in NUMBERS.items():
        text = text.replace(f'"{marker}"', number)
    note(f"POST {url}\n{text[:50_000]}")
    response = http.post(url, content=text.encode())
    check(url, body, response)
    return response.status_code


# Mutations --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("url", "body"), BODIES)
def test_what_is_broken_later_is_answered_as_it_is(http, url, body):
    assert http.post(url, json=body).status_code == 200


def run_mutations(http: httpx.Client, requests: int) -> None:
    seen: Counter[int] = Counter()

    @settings(max_examples=requests, **QUIET)
    @given(mutated())
    def mutate(request: tuple[str, Any]) -> None:
        seen[ask(http, *request)] += 1

    mutate()
    # Bodies that are all refused, or none, test nothing.
    assert seen[200] > requests // 20 and seen[400] > requests // 10, seen


def test_broken_bodies_are_refused_by_name(http):
    run_mutations(http, 150)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_three_thousand_broken_bodies_are_refused_by_name(http):
    run_mutations(http, 3000 * SHARE)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_an_engine_survives_broken_bodies_too(computing):
    run_mutations(computing, 700 * SHARE)


# Bytes ------------------------------------------------------------------------------------------


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, bytes, dict[str, str]]:
    """Draw a valid body whose bytes, not whose parts, are changed, and odd headers."""
    url, body = draw(st.sampled_from(BODIES))
    data = bytearray(json.dumps(body, ensure_ascii=draw(st.booleans())).encode())
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(("cut", "flip", "insert", "drop"))):
            case "cut":
                del data[place:]
            case "flip" if place < len(data):
                data[place] ^= 1 << draw(st.integers(0, 7))
            case "drop":
                del data[place : place + draw(st.integers(1, 40))]
            case _:
                pieces = (b"NaN", b"-Infinity", b'"\\ud800"', b"\xff", b"\xef\xbb\xbf", b"[" * 5000)
                junk = st.sampled_from((*pieces, b"1e999", b'"a":1,', b"\x00", b",,", b"9" * 5000))
                data[place:place] = draw(junk)
    kinds = ("application/json", "text/plain", "multipart/form-data", "", "application/json; x")
    names = ("x-request-id", "anthropic-version", "authorization", "x-claude-code-session-id")
    values = st.sampled_from(("", "a", "é".encode().decode("latin-1"), "x" * 900, "1, 2"))
    headers = {name: draw(values) for name in draw(st.sets(st.sampled_from(names)))}
    return url, bytes(data), headers | {"content-type": draw(st.sampled_from(kinds))}


def run_damage(http: httpx.Client, requests: int) -> None:
    @settings(max_examples=requests, **QUIET)
    @given(damaged())
    def damage(request: tuple[str, bytes, dict[str, str]]) -> None:
        url, data, headers = request
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        response = http.post(url, content=data, headers=raw)
        if "anthropic-version" in headers and response.status_code != 200:
            url = "/v1/messages"
        try:
            body = json.loads(data)
        except (ValueError, RecursionError):
            body = None
        check(url, body, response)

    damage()


def test_damaged_bytes_are_refused(http):
    run_damage(http, 60)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_thousand_damaged_bodies_are_refused(http):
    run_damage(http, 1000 * SHARE)


def chat(**more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5} | more


def with_tool(**schema: Any) -> list[dict[str, Any]]:
    parameters = {"type": "object", "properties": {"a": schema}}
    return [{"type": "function", "name": "f", "parameters": parameters}]


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity", "9" * 5000, "9" * 400])
@pytest.mark.parametrize("keyword", ["default", "minimum", "multipleOf", "const"])
def test_a_number_that_is_none_is_never_repeated(http, number, keyword):
    for stream in (False, True):
        body = {"input": "hi", "stream": stream, "tools": with_tool(type="number", **{keyword: 77})}
        response = http.post("/v1/responses", content=json.dumps(body).replace("77", number))
        assert response.status_code < 500, response.text
        assert "Infinity" not in response.text and "NaN" not in response.text
        if "e999" in number:
            assert response.status_code == 400
            path = f"tools[0].parameters.properties.a.{keyword}"
            assert response.json()["error"]["param"] == path


@pytest.mark.parametrize("character", ["\x00", "\x01", "\x7f", "\r\nX: y", "é", "\u2028", "🙂"])
def test_a_warning_can_be_sent_whatever_it_quotes(http, character):
    schema = {"type": "object", "properties": {f"a{character}b": {"type": "integer", "not": {}}}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    response = http.post("/v1/chat/completions", json=chat(tools=tools))
    warning = response.headers["x-openk2-warning"]
    assert response.status_code == 200 and "not is not enforced" in warning
    assert warning.isprintable() and warning.isascii()


# The served document ----------------------------------------------------------------------------


def run_document(http: httpx.Client, requests: int) -> None:
    """Send what the document allows and what it forbids to every route that it has."""
    schemathesis = pytest.importorskip("schemathesis")
    schema = schemathesis.openapi.from_dict(http.get("/openapi.json").json())
    asked: Counter[str] = Counter()
    operations = [operation.ok() for operation in schema.get_all_operations()]
    for operation in operations:
        for mode in schemathesis.GenerationMode:
            if mode.is_negative and operation.method.upper() != "POST":
                continue
            share = requests // len(operations) // 2

            @settings(max_examples=share, **QUIET)
            @given(operation.as_strategy(generation_mode=mode))
            def send(case: Any) -> None:
                asked[case.method] += 1
                sent = case.as_transport_kwargs(base_url=str(http.base_url).rstrip("/"))
                body = sent.get("json")
                response = http.request(
                    sent["method"],
                    sent["url"],
                    params=sent.get("params"),
                    content=None if body is None else json.dumps(body).encode(),
                )
                path = httpx.URL(sent["url"]).path
                if case.method == "POST":
                    check(path, body, response)
                else:
                    assert response.status_code in (200, 404, 405), response.text

            send()
    assert asked["POST"] > requests // 4 and asked["GET"], asked


def test_what_the_document_allows_and_forbids_is_answered(http):
    run_document(http, 60)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_thousands_of_requests_made_from_the_document_are_answered(http):
    run_document(http, 2000 * SHARE)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "POST", "GET", "HEAD"])
def test_no_method_of_any_route_breaks_the_server(http, method):
    paths = http.get("/openapi.json").json()["paths"]
    for path in [*paths, "/v1/nothing", "/anthropic/v1/nothing", "/v1//messages", "/%00", "/v1/"]:
        response = http.request(method, path.replace("{model_id}", "a%2Fb%00é"))
        assert response.status_code < 500, (path, response.text)
        if method not in ("HEAD",) and response.status_code != 200:
            theirs = THEIRS.match(path) or path.startswith("/anthropic")
            assert ("request_id" in response.json()) == bool(theirs), path
