"""The real `openai` package against the application over a real socket."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest

from openk2 import __version__
from openk2.engine.engine import Engine
from openk2.engine.request import (
    EngineBrokenError,
    EngineClosedError,
    GenerationFailedError,
    QueueFullError,
)
from openk2.engine.runner import TorchRunner
from openk2.engine.thread import EngineThread
from openk2.server.http import body_limit
from openk2.text.tokenizer import Tokenizer

GOLDEN = Path(__file__).parents[1] / "golden" / "chat_completions.sse"
HI = [{"role": "user", "content": "hi"}]
SEARCH = {"type": "function", "function": {"name": "search", "description": "Find pages."}}
TOOL_ANSWER = (
    "<think>Which tool?</think>Let me look."
    "<|tool_calls_section_begin|>"
    '<|tool_call_begin|>functions.search:0<|tool_call_argument_begin|>{"q": "K2 模型"}'
    "<|tool_call_end|>"
    "<|tool_call_begin|>functions.now:1<|tool_call_argument_begin|>{}<|tool_call_end|>"
    "<|tool_calls_section_end|>"
)


@pytest.fixture(scope="module")
def client(connect, engine):
    """A client of a real engine with random weights."""
    with EngineThread(engine) as source, connect(source) as client:
        yield client


def ask(client, **body):
    return client.chat.completions.create(model="nano", messages=HI, **body)


def post(client, **request) -> httpx.Response:
    url = f"{client.base_url}chat/completions"
    return httpx.post(url, **request)


# Answers ----------------------------------------------------------------------------------------


def test_models_are_listed_and_found(client):
    (model,) = client.models.list().data
    assert (model.id, model.object, model.owned_by) == ("nano", "model", "openk2")
    assert client.models.retrieve("nano") == model


def test_a_stream_says_what_the_whole_response_says(client):
    settings = {"temperature": 0, "max_tokens": 40}
    ask(client, **settings)  # what follows then finds the same prefix in the cache
    whole = ask(client, **settings)
    stream = list(
        ask(client, stream=True, stream_options={"include_usage": True}, **settings),
    )
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    assert "".join(pieces) == whole.choices[0].message.content != ""
    assert len(pieces) > 10
    assert stream[-2].choices[0].finish_reason == whole.choices[0].finish_reason == "length"
    assert stream[-1].usage == whole.usage
    assert whole.usage.completion_tokens == 40
    cached = (whole.usage.prompt_tokens - 1) // 16 * 16
    assert whole.usage.prompt_tokens_details.cached_tokens == whole.usage.cached_tokens == cached
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in stream}) == 1


def test_the_same_seed_gives_the_same_answer_and_another_another(client):
    texts = [
        ask(client, temperature=1, seed=seed, max_tokens=20).choices[0].message.content
        for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_eight_parallel_clients_get_what_each_would_get_alone(client):
    def answer(number: int) -> str:
        messages = [{"role": "user", "content": f"question {number} " * number}]
        stream = client.chat.completions.create(
            model="nano", messages=messages, temperature=0, max_tokens=30, stream=True
        )
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    alone = [answer(number) for number in range(1, 9)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(answer, range(1, 9)))
    assert together == alone
    assert len(set(alone)) == 8


def test_leaving_a_stream_frees_the_engine(client, engine: Engine):
    # Without a cancel this answer would go on for 32,000 tokens.
    stream = ask(client, stream=True, temperature=1)
    for _, _ in zip(range(3), stream, strict=False):
        assert engine.running == 1
    stream.close()
    wait_until_idle(engine)


def test_leaving_a_request_without_a_stream_frees_the_engine(client, engine: Engine):
    with pytest.raises(openai.APITimeoutError):
        ask(client.with_options(timeout=0.5), temperature=1)
    wait_until_idle(engine)


def wait_until_idle(engine: Engine) -> None:
    deadline = time.monotonic() + 20
    while engine.busy:
        assert time.monotonic() < deadline, "the engine still works for a client that left"
        time.sleep(0.01)


def test_a_tool_call_arrives_whole_and_in_pieces(connect, script):
    model = script(TOOL_ANSWER)
    with connect(model) as client:
        whole = ask(client, tools=[SEARCH])
        stream = list(ask(client, tools=[SEARCH], stream=True))
    message = whole.choices[0].message
    assert whole.choices[0].finish_reason == "tool_calls"
    assert message.content == "Let me look."
    assert message.reasoning_content == "Which tool?"
    calls = [(call.id, call.function.name, call.function.arguments) for call in message.tool_calls]
    assert calls == [
        ("functions.search:0", "search", '{"q": "K2 模型"}'),
        ("functions.now:1", "now", "{}"),
    ]
    assert gathered_calls(stream) == calls
    assert stream[-1].choices[0].finish_reason == "tool_calls"


def gathered_calls(stream) -> list[tuple[str, ...]]:
    calls: dict[int, list[str]] = {}
    for chunk in stream:
        for delta in chunk.choices[0].delta.tool_calls or ():
            if delta.id is not None:
                assert delta.index == len(calls) and delta.function.arguments == ""
                calls[delta.index] = [delta.id, delta.function.name, ""]
            else:
                assert delta.function.name is None
                calls[delta.index][2] += delta.function.arguments
    return [tuple(call) for call in calls.values()]


def test_the_answer_to_a_tool_call_goes_back_in(connect, script, tokenizer):
    model = script("Found it.")
    with connect(model) as client:
        first = [*HI, {"role": "assistant", "tool_calls": [call("my-id", "search")]}]
        answer = client.chat.completions.create(
            model="nano",
            messages=[*first, {"role": "tool", "tool_call_id": "my-id", "content": "42 pages"}],
            tools=[SEARCH],
        )
    assert answer.choices[0].message.content == "Found it."
    seen = tokenizer.decode(model.prompts[-1])
    assert "## Return of functions.search:0\n42 pages" in seen
    assert "Find pages." in seen


def call(call_id: str, name: str) -> dict[str, object]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": "{}"}}


def test_tool_choice_none_hides_the_tools_and_a_call_all_the_same(connect, script, tokenizer):
    model = script(TOOL_ANSWER)
    with connect(model) as client:
        (choice,) = ask(client, tools=[SEARCH], tool_choice="none").choices
    assert "Find pages." not in tokenizer.decode(model.prompts[-1])
    assert (choice.message.tool_calls, choice.finish_reason) == (None, "stop")
    assert choice.message.content == "Let me look."


def test_without_parallel_calls_the_answer_ends_after_the_first(connect, script):
    model = script(TOOL_ANSWER)
    with connect(model) as client:
        one = ask(client, tools=[SEARCH], parallel_tool_calls=False)
        two = ask(client, tools=[SEARCH], parallel_tool_calls=True)
    names = [[c.function.name for c in a.choices[0].message.tool_calls] for a in (one, two)]
    assert names == [["search"], ["search", "now"]]
    assert one.choices[0].finish_reason == "tool_calls"
    assert one.usage.completion_tokens < two.usage.completion_tokens


def test_any_character_survives_the_way_through(connect, script):
    text = '你好 🙂 é "quoted" \\ back\u2028line\x85end\ttab\nnew'
    with connect(script(text)) as client:
        assert ask(client).choices[0].message.content == text
        stream = ask(client, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == text


def test_a_stop_string_is_not_part_of_the_answer(connect, script):
    with connect(script("one two three")) as client:
        answer = ask(client, stop=["two", "never"])
    assert answer.choices[0].message.content == "one "
    assert answer.choices[0].finish_reason == "stop"


def test_unknown_fields_are_ignored_and_the_model_may_be_left_out(client):
    body = {"messages": HI, "max_tokens": 1, "enable_test_time_scaling": True}
    response = post(client, json=body, headers={"Authorization": "Bearer any"})
    assert response.status_code == 200
    assert response.json()["model"] == "nano"


def test_the_transcript_of_a_stream_is_golden(connect, script, update_golden):
    # One token per byte, so that the transcript does not depend on a trained vocabulary.
    spelling = Tokenizer.from_ranks({bytes((byte,)): byte for byte in range(256)}, 32)
    call = "<|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{}<|tool_call_end|>"
    answer = f"<think>?</think>Hi 好<|tool_calls_section_begin|>{call}<|tool_calls_section_end|>"
    with connect(script(answer, spelling), spelling) as client:
        options = {"stream": True, "stream_options": {"include_usage": True}, "tools": [SEARCH]}
        response = post(client, json={"messages": HI} | options)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    transcript = re.sub(r'"id":"chatcmpl-\w+"', '"id":"chatcmpl-0"', response.text)
    transcript = re.sub(r'"created":\d+', '"created":0', transcript)
    transcript = transcript.replace(f'"fp_openk2_{__version__}"', '"fp_openk2_0"')
    if update_golden:
        GOLDEN.write_text(transcript, encoding="utf-8")
    assert transcript == GOLDEN.read_text(encoding="utf-8")


# Refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"temperature": 3}, "temperature"),
        ({"messages": [{"role": "user", "content": "word " * 40000}]}, "messages"),
        ({"max_tokens": 40000}, "max_tokens"),
        ({"max_completion_tokens": 40000}, "max_completion_tokens"),
        ({"tools": ["search"]}, "tools[0]"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_bad_request_is_a_400_that_names_the_field(client, body, param, stream):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{"model": "nano", "messages": HI, "stream": stream} | body)
    assert caught.value.param == param
    assert param in caught.value.message
    overflow = param in ("messages", "max_tokens", "max_completion_tokens")
    assert caught.value.code == ("context_length_exceeded" if overflow else None)


def test_an_unknown_model_is_a_404_that_names_the_known_one(client):
    with pytest.raises(openai.NotFoundError, match="nano") as caught:
        client.chat.completions.create(model="kimi-k9", messages=HI)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError, match="nano"):
        client.models.retrieve("kimi/k9")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "chat/completions", 405),
        ("POST", "models", 405),
        ("POST", "chat/completion", 404),
        ("GET", "models/", 404),
        ("GET", "../nothing", 404),
    ],
)
def test_a_wrong_path_or_method_gets_the_envelope(client, method, path, status):
    response = httpx.request(method, f"{client.base_url}{path}")
    assert response.status_code == status
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    assert ("allow" in response.headers) == (status == 405)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"messages": "\\ud800"}', b"[1]", b"null"],
)
def test_a_body_that_is_no_json_object_is_a_400(client, content):
    response = post(client, content=content)
    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith("The request body")


def test_a_huge_body_is_refused_however_it_is_sent(connect, script):
    model = script("ok")
    model.max_len = 64
    with connect(model) as client:
        for content in (b"x" * 2**21, iter([b"x" * 2**20, b"x" * 2**20])):
            response = post(client, content=content)
            assert response.status_code == 413
            assert "larger than 1 MiB" in response.json()["error"]["message"]


def test_the_limit_on_a_body_follows_the_context_window():
    assert body_limit(64, 100) == 2**20
    assert body_limit(4000, 100) == 8 * 4000 * 100
    assert body_limit(262_144, 100) == 32 * 2**20


def test_a_text_that_cannot_fit_is_refused_without_tokenizing_it(connect, script, tokenizer):
    class Untouchable(Tokenizer):
        def encode(self, text):
            assert len(text) < 1000, "a long text was tokenized"
            return super().encode(text)

    untouchable = object.__new__(Untouchable)
    untouchable.__dict__.update(tokenizer.__dict__)
    model = script("ok")
    model.max_len = 64
    tool = {"type": "function", "function": {"name": "f", "description": "x" * 100_000}}
    with connect(model, untouchable) as client:
        for body in ({"messages": [{"role": "user", "content": "x" * 100_000}]}, {"tools": [tool]}):
            with pytest.raises(openai.BadRequestError, match="at least") as caught:
                client.chat.completions.create(**{"model": "nano", "messages": HI} | body)
            assert caught.value.code == "context_length_exceeded"
            assert caught.value.param == "messages"


def test_too_many_messages_are_refused(client):
    with pytest.raises(openai.BadRequestError, match="at most 4096") as caught:
        client.chat.completions.create(model="nano", messages=HI * 4097)
    assert caught.value.param == "messages"


class Refusing:
    """A source that takes no requests after the warm-up."""

    max_len = 4096
    alive = True

    def __init__(self, warm, error: Exception) -> None:
        self.warm = warm
        self.error = error
        self.calls = 0

    def generate(self, prompt_ids, sampling, mask=None):
        self.calls += 1
        if self.calls > 1:
            raise self.error
        return self.warm.generate(prompt_ids, sampling)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (QueueFullError(64), 429, "engine_overloaded_error"),
        (EngineClosedError(), 503, "server_unavailable"),
        (EngineBrokenError(), 503, "server_unavailable"),
        (GenerationFailedError(1, ValueError("secret")), 500, "server_error"),
        (ZeroDivisionError("secret"), 500, "server_error"),
    ],
)
def test_what_goes_wrong_before_the_first_token_has_its_status(
    connect, script, error, status, kind, stream
):
    with connect(Refusing(script("ok"), error)) as client:
        response = post(client, json={"messages": HI, "stream": stream})
    assert response.status_code == status
    assert response.json()["error"]["type"] == kind
    assert "secret" not in response.text and "Traceback" not in response.text
    assert response.headers.get("retry-after") == ("1" if status == 429 else None)


def test_what_goes_wrong_in_a_stream_is_its_last_frame(connect, script, caplog):
    model = script("one two three four")
    with connect(model) as client:
        model.failure = GenerationFailedError(1, ValueError("secret"))
        response = post(client, json={"messages": HI, "stream": True})
        with pytest.raises(openai.APIError, match="failed while answering"):
            list(ask(client, stream=True))
    *_, last = response.text.split("\n\n")[:-1]
    assert json.loads(last.removeprefix("data: "))["error"]["type"] == "server_error"
    assert "secret" not in response.text and "[DONE]" not in response.text
    assert "secret" in caplog.text


def test_the_server_says_that_it_is_well(client):
    response = httpx.get(f"{client.base_url}../healthz")
    assert response.json() == {"status": "ok"}
    assert "access-control-allow-origin" not in response.headers


def test_a_server_whose_engine_stopped_says_so(connect, random_model, tokenizer):
    class Breaking(Engine):
        broken = False

        def step(self):
            if self.broken:
                raise LookupError("secret")
            return super().step()

    engine = Breaking(TorchRunner(random_model), max_batch=1, max_len=4096, stop_ids=frozenset())
    with EngineThread(engine) as source, connect(source) as client:
        engine.broken = True
        for _ in range(2):
            response = post(client, json={"messages": HI})
            assert response.status_code == 503
            assert "engine has stopped" in response.json()["error"]["message"]
        health = httpx.get(f"{client.base_url}../healthz")
    assert health.status_code == 503
    assert "secret" not in response.text + health.text
