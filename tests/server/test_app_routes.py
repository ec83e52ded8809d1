"""What every route has in common: names of requests, limits, errors in the client's dialect."""

from __future__ import annotations

import itertools
import re
from datetime import datetime
from typing import Any

import httpx
import pytest

from openk2.engine.request import GenerationFailedError, QueueFullError
from openk2.engine.thread import EngineThread
from openk2.server.app import create_app
from openk2.server.heavy import HeavyBackend
from openk2.server.local.backend import LocalBackend
from openk2.server.routing import ContextFamily, RoutedBackend

HI = [{"role": "user", "content": "hi"}]
CHAT = ("/v1/chat/completions", {"messages": HI})
RESPONSES = ("/v1/responses", {"input": "hi"})
MESSAGES = ("/v1/messages", {"messages": HI, "max_tokens": 50})
HOSTED = ("/anthropic/v1/messages", {"messages": HI, "max_tokens": 50})
PLAIN = ("/v1/completions", {"prompt": "hi"})
ALL = (CHAT, RESPONSES, MESSAGES, HOSTED, PLAIN)


def reach(client, method: str, path: str, **request: Any) -> httpx.Response:
    root = str(client.base_url).removesuffix("/v1/")
    # Without certificates to load, which takes longer than any answer.
    return httpx.request(method, f"{root}{path}", timeout=30, verify=False, **request)


def kind_of(response: httpx.Response) -> str:
    body = response.json()
    if body.get("type") == "error":
        assert set(body) == {"type", "error", "request_id"}
        assert body["request_id"] == response.headers["request-id"]
        return "anthropic"
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    return "openai"


@pytest.fixture(scope="module")
def ask(connect, script):
    """Reach any path of a server whose model says "Hello"."""
    with connect(script("Hello")) as client:
        yield lambda method, path, **request: reach(client, method, path, **request)


@pytest.fixture
def serve(connect, script):
    """Serve a scripted answer; gives a function that reaches any path."""
    opened = []

    def serving(text: str = "Hello", model: Any = None):
        context = connect(model or script(text))
        client = context.__enter__()
        opened.append(context)
        return lambda method, path, **request: reach(client, method, path, **request)

    yield serving
    for context in opened:
        context.__exit__(None, None, None)


# Names and limits of requests -------------------------------------------------------------------


def test_every_answer_names_its_request_and_has_no_limits(ask):
    answers = [
        ask("GET", "/healthz"),
        ask("GET", "/v1/models"),
        ask("GET", "/nothing"),
        ask("DELETE", "/v1/models"),
        *(ask("POST", path, json=body) for path, body in ALL),
        *(ask("POST", path, json={**body, "stream": True}) for path, body in ALL),
        *(ask("POST", path, content=b"{") for path, _ in ALL),
    ]
    names = [answer.headers["x-request-id"] for answer in answers]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"req_[0-9a-f]{32}", name) for name in names)
    for answer in answers:
        headers = answer.headers
        assert headers["request-id"] == headers["x-request-id"]
        assert int(headers["x-ratelimit-remaining-tokens"]) > 10**6
        assert headers["x-ratelimit-reset-requests"] == "0s"
        assert int(headers["anthropic-ratelimit-output-tokens-limit"]) > 10**6
        assert datetime.fromisoformat(headers["anthropic-ratelimit-requests-reset"])


@pytest.mark.parametrize(
    ("theirs", "kept"),
    [("abc-123", True), ("x" * 128, True), ("x" * 129, False), ("a b", False), ("", False)],
)
def test_a_clients_own_name_for_a_request_is_kept_if_it_is_one(ask, theirs, kept):
    answer = ask("GET", "/healthz", headers={"x-request-id": theirs})
    assert (answer.headers["x-request-id"] == theirs) is kept


# Errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "body"), ALL)
@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"[" * 10_000, b'{"stream": 5}'])
def test_a_bad_body_is_a_400_in_the_dialect_of_its_path(ask, path, body, content):
    answer = ask("POST", path, content=content)
    assert answer.status_code == 400
    assert kind_of(answer) == ("anthropic" if "messages" in path else "openai")


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "kind"),
    [
        ("GET", "/v1/nothing", {}, 404, "openai"),
        ("GET", "/v1/nothing", {"anthropic-version": "2023-06-01"}, 404, "anthropic"),
        ("GET", "/anthropic/v1/nothing", {}, 404, "anthropic"),
        ("GET", "/v1/messages", {}, 405, "anthropic"),
        ("GET", "/v1/responses", {}, 405, "openai"),
        ("GET", "/v1/models/k9", {}, 404, "openai"),
        ("GET", "/v1/models/k9", {"anthropic-version": "2023-06-01"}, 404, "anthropic"),
        ("GET", "/anthropic/v1/models/k9", {}, 404, "anthropic"),
    ],
)
def test_a_wrong_path_or_method_is_told_in_the_clients_dialect(
    ask, method, path, headers, status, kind
):
    answer = ask(method, path, headers=headers)
    assert answer.status_code == status
    assert kind_of(answer) == kind
    assert ("allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize(
    ("error", "status"), [(QueueFullError(1), 429), (ZeroDivisionError("secret"), 500)]
)
def test_a_failure_before_the_first_word_has_its_status(serve, script, error, status):
    model = script("ok")
    ask = serve(model=model)

    def fail(*_):
        raise error

    model.generate = fail
    for (path, body), stream in itertools.product(ALL, (False, True)):
        answer = ask("POST", path, json={**body, "stream": stream})
        messages = "messages" in path
        assert answer.status_code == (529 if messages and status == 429 else status)
        assert kind_of(answer) == ("anthropic" if messages else "openai")
        assert "secret" not in answer.text
        assert ("retry-after" in answer.headers) == (status == 429)
        assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("asked", "last"),
    [
        (CHAT, 'data: {"error":'),
        (PLAIN, 'data: {"error":'),
        (RESPONSES, "event: response.failed\n"),
        (MESSAGES, "event: error\n"),
    ],
)
def test_a_stream_that_breaks_ends_in_the_dialects_error(serve, script, asked, last, caplog):
    model = script("one two three four")
    ask = serve(model=model)
    model.failure = GenerationFailedError(1, ValueError("secret"))
    path, body = asked
    answer = ask("POST", path, json={**body, "stream": True})
    assert answer.status_code == 200
    assert answer.text.split("\n\n")[-2].startswith(last)
    assert "secret" not in answer.text and "[DONE]" not in answer.text
    assert "secret" in caplog.text


def test_a_setting_that_only_the_engine_can_judge_is_named(connect, engine):
    with EngineThread(engine) as source, connect(source) as client:
        for path, body in (CHAT, PLAIN):
            sent = {**body, "logit_bias": {"99999": 1}}
            answer = reach(client, "POST", path, json=sent)
            assert answer.status_code == 400
            assert answer.json()["error"]["param"] == "logit_bias"


def test_a_huge_body_is_refused_in_each_dialect(serve, script):
    model = script("ok")
    model.max_len = 64
    ask = serve(model=model)
    for path, _ in ALL:
        answer = ask("POST", path, content=b"x" * 2**21)
        assert answer.status_code == 413
        assert kind_of(answer) == ("anthropic" if "messages" in path else "openai")


@pytest.mark.parametrize(
    ("asked", "field"),
    [(CHAT, "messages"), (RESPONSES, "input"), (MESSAGES, "messages"), (PLAIN, "prompt")],
)
def test_what_is_too_long_is_named_as_the_client_named_it(ask, asked, field):
    path, body = asked
    long = "word " * 9000
    sent = [{"role": "user", "content": long}] if field == "messages" else long
    answer = ask("POST", path, json={**body, field: sent})
    assert answer.status_code == 400
    assert field in answer.json()["error"]["message"]
    assert answer.json()["error"].get("param", field) == field


# What reaches the model -------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "body"), [CHAT, MESSAGES, RESPONSES])
def test_fields_betas_and_versions_that_nobody_knows_are_ignored(ask, path, body):
    headers = {"anthropic-beta": "never-heard-2031-01-01,b", "anthropic-version": "2031-01-01"}
    sent = {**body, "enable_test_time_scaling": True, "context_management": {"edits": []}}
    assert ask("POST", f"{path}?beta=true", json=sent, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("headers", "body", "key"),
    [
        ({"X-Claude-Code-Session-Id": "s1"}, {}, "s1"),
        ({"session-id": "s2"}, {}, "s2"),
        ({"session_id": "s3"}, {}, "s3"),
        ({"session-id": "s2"}, {"prompt_cache_key": "s4"}, "s4"),
        ({}, {}, None),
    ],
)
def test_a_session_is_a_part_of_the_cache_of_its_own(listen, script, tokenizer, headers, body, key):
    model = script("ok")
    backend = LocalBackend(model, tokenizer, "nano", isolate=True)
    with listen(create_app(backend)) as url:
        httpx.post(
            f"{url}/chat/completions", json={"messages": HI} | body, headers=headers, verify=False
        )
    assert model.samplings[-1].cache_key == key


def test_a_simplified_schema_is_a_warning_in_a_header(ask):
    tool = {"name": "f", "input_schema": {"type": "object", "properties": {"u": {"not": {}}}}}
    path, body = MESSAGES
    for stream in (False, True):
        answer = ask("POST", path, json={**body, "tools": [tool], "stream": stream})
        assert "not" in answer.headers["x-openk2-warning"]
    assert "x-openk2-warning" not in ask("POST", path, json=body).headers


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": HI}),
        ("/v1/chat/completions", {"input": "hi"}),
        ("/v1/responses", {"input": "hi"}),
    ],
)
def test_a_tool_that_is_left_out_is_a_warning_in_a_header(ask, path, body):
    answer = ask("POST", path, json={**body, "tools": [{"type": "web_search"}]})
    assert answer.headers["x-openk2-warning"].startswith("tools[0]: left out; 'web_search'")


def test_claude_code_finds_the_server(ask):
    for path in ("/", "/anthropic"):
        assert ask("HEAD", path).status_code == 200
        assert ask("GET", path).json()["name"] == "openk2"


# Names of models --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def family(listen, script, tokenizer):
    """A server with an alias and a family of windows; the model's own is 4,096 tokens."""
    backend = LocalBackend(script("ok"), tokenizer, "nano")
    routed = HeavyBackend(RoutedBackend(backend, [ContextFamily("moon", (1, 2, 8))]))
    with listen(create_app(routed, aliases={"best": None, "big": "moon-8k"})) as url:
        yield lambda path, body: httpx.post(f"{url}{path}", json=body, timeout=30, verify=False)


@pytest.mark.parametrize(
    ("path", "name", "model"),
    [
        ("/chat/completions", "best", "nano"),
        ("/chat/completions", "big", "moon-8k"),
        ("/chat/completions", "moon-auto", "moon-1k"),
        ("/chat/completions", "claude-any", None),
        ("/chat/completions", "nano[1m]", None),
        ("/messages", "claude-any", "nano"),
        ("/messages", "gpt-any[1m]", "nano"),
        ("/messages", "moon-auto", "moon-1k"),
        ("/messages", "moon-2k[1m]", "moon-2k"),
        ("/messages", "other", None),
    ],
)
def test_a_name_stands_for_a_model_and_the_answer_says_which(family, path, name, model):
    answer = family(path, {"model": name, "messages": HI, "max_tokens": 20})
    assert answer.status_code == (404 if model is None else 200)
    if model is not None:
        assert answer.json()["model"] == model


def test_a_family_chooses_by_prompt_and_answer(family):
    def ask(name: str, limit: int) -> httpx.Response:
        return family("/chat/completions", {"model": name, "messages": HI, "max_tokens": limit})

    assert ask("moon-auto", 1500).json()["model"] == "moon-2k"
    assert ask("moon-auto", 3000).json()["model"] == "moon-8k"
    for name, limit in (("moon-auto", 5000), ("moon-1k", 1500)):
        refused = ask(name, limit)
        assert refused.status_code == 400
        assert refused.json()["error"]["code"] == "context_length_exceeded"


def test_heavy_mode_is_asked_for_in_the_body(serve):
    body = {"messages": HI, "heavy": {"trajectories": 3}}
    answer = serve("Forty-two.")("POST", "/v1/chat/completions", json=body).json()
    message = answer["choices"][0]["message"]
    assert message["content"] == "Forty-two."
    assert "Attempt 3 of 3" in message["reasoning_content"]
    assert answer["usage"]["completion_tokens"] % 4 == 0
