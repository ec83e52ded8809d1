"""Real servers behind `--upstream`, another openk2 and llama.cpp's, and real clients in front."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib.util import find_spec
from typing import Any

import httpx
import openai
import pytest
from anthropic import Anthropic
from openai import OpenAI

from openk2.cli import SHIPPED_MODEL
from openk2.engine.engine import Engine
from openk2.engine.thread import EngineThread
from openk2.export.gguf import export_gguf
from openk2.server.app import create_app
from openk2.server.upstream.backend import UpstreamBackend
from tests.server.test_process import finish, serving, start, url_in
from tests.server.upstream.fake import (
    ABORT,
    HANG,
    SSE_HEAD,
    USAGE,
    FakeUpstream,
    call,
    chunked,
    delta,
    frame,
    sse,
    upstream,
)

HI: list[Any] = [{"role": "user", "content": "hi"}]
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
]
SAID = [SSE_HEAD, chunked(frame(delta(content="Hel")))]


@contextmanager
def gateway(listen: Any, url: str, **options: Any) -> Iterator[OpenAI]:
    backend = UpstreamBackend(url, **options)
    with (
        listen(create_app(backend, running=backend.running())) as front,
        OpenAI(base_url=front, api_key="none", max_retries=0, timeout=60) as client,
    ):
        yield client


def test_what_is_found_out_while_reading_is_a_warning_of_a_whole_response(listen):
    called = sse(delta("stop", tool_calls=[call("get_weather", '{"city": "Rome",}')]))
    body = {"messages": [{"role": "user", "content": "hi"}], "tools": TOOLS}
    with upstream(called) as fake, gateway(listen, fake.url, kind="openai") as client:
        url = f"{client.base_url}chat/completions"
        answer = httpx.post(url, json=body, timeout=30, verify=False)
    assert answer.json()["choices"][0]["message"]["tool_calls"]
    assert "1 tool calls were repaired" in answer.headers["x-openk2-warning"]


# Another openk2 ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chained(
    engine: Engine, connect: Callable[..., AbstractContextManager[OpenAI]], listen: Any
) -> Iterator[tuple[OpenAI, OpenAI]]:
    """A client of a server, and a client of a gateway in front of it."""
    with ExitStack() as stack:
        source = stack.enter_context(EngineThread(engine))
        direct = stack.enter_context(connect(source))
        yield direct, stack.enter_context(gateway(listen, str(direct.base_url)))


def ask(client: OpenAI, **body: Any) -> Any:
    body = {"temperature": 0, "max_tokens": 12, **body}
    return client.chat.completions.create(model="nano", messages=HI, **body)


def test_a_gateway_says_what_the_server_behind_it_says(chained):
    direct, through = (ask(client) for client in chained)
    assert through.choices[0].message.content == direct.choices[0].message.content != ""
    assert through.choices[0].finish_reason == "length"
    assert through.usage.completion_tokens == direct.usage.completion_tokens == 12
    assert through.usage.prompt_tokens == direct.usage.prompt_tokens


def test_a_stream_through_a_gateway_says_the_same(chained):
    direct, through = chained
    text = "".join(chunk.choices[0].delta.content or "" for chunk in ask(through, stream=True))
    assert text == ask(direct).choices[0].message.content


def test_a_gateway_has_the_models_of_the_server_behind_it(chained):
    direct, through = ([model.id for model in client.models.list()] for client in chained)
    assert direct == through == ["nano"]


def test_a_refusal_keeps_its_field_and_its_code(chained):
    for client in chained:
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model="nano", messages=HI, max_tokens=10**6)
        assert caught.value.code == "context_length_exceeded"
        assert caught.value.param == "max_tokens"
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="other", messages=HI, max_tokens=1)


def test_several_choices_and_logprobs_come_through(chained):
    _, through = chained
    answer = ask(through, temperature=1, n=2, logprobs=True, top_logprobs=1)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.usage.completion_tokens == 24
    assert answer.choices[0].logprobs is not None
    assert len(answer.choices[0].logprobs.content or ()) == 12


def test_clients_that_leave_make_room_behind_the_gateway(chained):
    _, through = chained
    for _ in range(9):  # there are eight slots, and each answer would go on for 32,000 tokens
        stream = through.chat.completions.create(model="nano", messages=HI, stream=True)
        next(iter(stream))
        stream.close()
    assert ask(through).choices


def test_a_tool_loop_keeps_the_ids_that_the_client_knows(listen):
    first = sse(delta("stop", tool_calls=[call("get_weather", '{"city": "Oslo"}', id="abc")]))
    then = sse(delta("stop", content="Cold."), USAGE)
    with (
        upstream(
            lambda asked: then if asked.body["messages"][-1]["role"] == "tool" else first
        ) as fake,
        gateway(listen, fake.url) as client,
    ):
        asked = client.chat.completions.create(model="m", messages=HI, tools=TOOLS)
        (made,) = asked.choices[0].message.tool_calls or ()
        assert made.id == "functions.get_weather:0"
        history = [
            *HI,
            asked.choices[0].message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": made.id, "content": "-3"},
        ]
        answer = client.chat.completions.create(model="m", messages=history, tools=TOOLS)
        assert answer.choices[0].message.content == "Cold."
        assert fake.chats[1].body["messages"][2]["tool_call_id"] == made.id


# Errors in every dialect ------------------------------------------------------------------------


@contextmanager
def dying(listen: Any, steps: list[Any]) -> Iterator[tuple[FakeUpstream, OpenAI]]:
    with upstream([*SAID, 0.1, *steps]) as fake, gateway(listen, fake.url) as client:
        yield fake, client


def test_a_server_that_dies_ends_a_chat_stream_with_an_error_event(listen):
    with dying(listen, [ABORT]) as (_, client):
        stream = client.chat.completions.create(model="m", messages=HI, stream=True)
        seen: list[str] = []
        with pytest.raises(openai.APIError, match="went away before its answer ended"):
            seen.extend(chunk.choices[0].delta.content or "" for chunk in stream)
        with pytest.raises(openai.APIStatusError) as caught:
            client.chat.completions.create(model="m", messages=HI)
        assert caught.value.status_code == 502


def test_a_server_that_dies_ends_a_messages_stream_with_its_error_event(listen):
    body = {"model": "claude-x", "max_tokens": 9, "messages": HI, "stream": True}
    with dying(listen, [ABORT]) as (_, client):
        answer = httpx.post(f"{client.base_url}messages", json=body)
        if answer.status_code == 404:
            pytest.skip("the Messages dialect is not served yet")
    events = [line for line in answer.text.splitlines() if line.startswith("event: ")]
    assert events[0] == "event: message_start" and events[-1] == "event: error"
    assert "event: message_stop" not in events


def test_an_anthropic_client_streams_a_call_through_the_gateway(listen):
    answer = sse(
        delta(content="Let me see."),
        delta("tool_calls", tool_calls=[call("get_weather", '{"city": "Oslo",}', index=0)]),
        USAGE,
    )
    tool = {"name": "get_weather", "input_schema": TOOLS[0]["function"]["parameters"]}
    with upstream(answer) as fake, gateway(listen, fake.url) as client:
        url = str(client.base_url).removesuffix("/v1/")
        anthropic = Anthropic(base_url=url, api_key="none", max_retries=0)
        with anthropic.messages.stream(
            model="claude-x", max_tokens=99, messages=HI, tools=[tool]
        ) as stream:  # fmt: skip
            message = stream.get_final_message()
    assert [block.type for block in message.content] == ["text", "tool_use"]
    assert message.content[1].input == {"city": "Oslo"}
    assert (message.stop_reason, message.usage.output_tokens) == ("tool_use", 3)


def test_a_client_that_leaves_closes_the_request_behind(listen):
    with dying(listen, [HANG]) as (fake, client):
        stream = client.chat.completions.create(model="m", messages=HI, stream=True)
        next(iter(stream))
        stream.close()
        assert fake.left.wait(10)


# The command ------------------------------------------------------------------------------------


def test_the_command_passes_requests_on_with_the_key_of_a_variable(monkeypatch):
    monkeypatch.setenv("OTHER_KEY", "sk-secret")
    answer = sse(delta("stop", content="Hello"), USAGE)
    with upstream(answer, {"data": [{"id": "big"}, {"id": "small"}]}) as fake:
        options = ("--upstream-model", "small", "--upstream-key-env", "OTHER_KEY")
        with serving("--upstream", fake.url, *options) as (process, welcome):
            with OpenAI(base_url=url_in(welcome), api_key="none", max_retries=0) as client:
                said = client.chat.completions.create(model="gpt-x", messages=HI)
                models = [model.id for model in client.models.list()]
            process.terminate()
            assert "secret" not in welcome + process.stderr.read()
    assert (said.choices[0].message.content, said.model) == ("Hello", "small")
    assert models == ["small"] and '"model": "small"' in welcome
    assert fake.chats[0].headers["authorization"] == "Bearer sk-secret"


def test_the_command_starts_though_nobody_is_there_and_says_so():
    with upstream([]) as fake:
        pass
    with serving("--upstream", fake.url) as (process, welcome):
        with httpx.Client(base_url=url_in(welcome)) as client:
            answer = client.post("/chat/completions", json={"messages": HI})
        process.terminate()
        said = process.stderr.read()
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "upstream_unreachable"
    assert said.startswith("openk2: The server behind this one cannot be reached")


def test_a_signing_key_in_a_file_lets_sessions_go_on_after_a_restart(tmp_path):
    path = tmp_path / "key"
    answer = sse(delta(reasoning_content="Hm."), delta("stop", content="Hello"), USAGE)
    turn: Any = {"role": "user", "content": "hi"}
    with upstream(answer, {"data": [{"id": "m"}]}) as fake:

        def ask(messages: list[Any], *options: object) -> Any:
            with serving("--upstream", fake.url, *options) as (_, welcome):
                body = {"messages": messages, "max_tokens": 9}
                sent = httpx.post(f"{url_in(welcome)}/messages", json=body, timeout=30)
            return [turn, {"role": "assistant", "content": sent.json()["content"]}, turn]

        again = ask([turn], "--signing-key-file", path)
        assert path.stat().st_mode & 0o777 == 0o600
        for options, kept in ((("--signing-key-file", path), True), ((), False)):
            ask(again, *options)
            assert ("reasoning_content" in fake.chats[-1].body["messages"][1]) == kept


@pytest.mark.parametrize("there", [True, False])
def test_an_alias_of_a_model_that_nobody_has_is_said(there):
    models = {"data": [{"id": "big"}]} if there else None
    options = ("--model-alias", "gpt-4o=small", "--model-alias", "gpt-4=big")
    with (
        upstream(sse(delta("stop", content="Hello"), USAGE), models) as fake,
        serving("--upstream", fake.url, *options) as (process, _),
    ):
        process.terminate()
        said = process.stderr.read()
    sentence = "gpt-4o=small: there is no model small, but big." if there else "nobody knows yet"
    assert sentence in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--upstream", "localhost:1"), "--upstream: 'localhost:1' is no URL"),
        (
            ("--upstream", "http://h", "--upstream-key-env", "NOT_SET_ANYWHERE"),
            "--upstream-key-env: the environment variable NOT_SET_ANYWHERE is not set",
        ),
        (("--signing-key-file", "/dev/null"), "--signing-key-file: /dev/null "),
        (("--signing-key-file", "/no/such/folder/key"), "--signing-key-file: /no/such/folder/key"),
        (("--model-alias", "gpt-4o=other"), "--model-alias gpt-4o=other: there is no model other"),
    ],
)
def test_a_mistake_is_one_sentence(options, said):
    out, error = finish(start("serve", "--port", 0, *options))
    assert out == "" and error.startswith(f"openk2: {said}") and error.count("\n") == 1


# llama.cpp --------------------------------------------------------------------------------------

LLAMA = ("llama_cpp", "sse_starlette", "starlette_context", "pydantic_settings")


def needs_llama(test: Any) -> Any:
    absent = pytest.mark.skipif(
        not all(map(find_spec, LLAMA)),
        reason="llama.cpp's server is not installed: pip install 'llama-cpp-python[server]'",
    )
    return pytest.mark.slow(pytest.mark.timeout(300)(absent(test)))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The shipped model in llama.cpp's server; gives the URL of its `/v1`."""
    gguf = tmp_path_factory.mktemp("gguf") / "nano.gguf"
    export_gguf(SHIPPED_MODEL, gguf, format="f16")
    port = _free_port()
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(gguf), "--n_ctx", "2048"]
    with subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port), "--n_threads", "1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        try:
            url = f"http://127.0.0.1:{port}/v1"
            _wait(f"{url}/models", process)
            yield url
        finally:
            process.kill()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def _wait(url: str, process: Any) -> None:
    while process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("llama.cpp's server ended")


@needs_llama
def test_llama_cpp_answers_through_the_gateway(llama, listen):
    with gateway(listen, llama) as client, OpenAI(base_url=llama, api_key="x") as direct:
        name = client.models.list().data[0].id
        both = [
            one.chat.completions.create(
                model=name, messages=HI, temperature=0, top_p=1, max_tokens=12
            )
            for one in (client, direct)
        ]
    through, plain = both
    assert through.choices[0].message.content == plain.choices[0].message.content
    assert through.choices[0].finish_reason == plain.choices[0].finish_reason


@needs_llama
def test_llama_cpp_holds_an_answer_to_its_schema(llama, listen):
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}, "ok": {"type": "boolean"}},
        "required": ["n", "ok"],
    }
    form: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    with gateway(listen, llama) as client:
        name = client.models.list().data[0].id
        answer = client.chat.completions.create(
            model=name, messages=HI, response_format=form, max_tokens=200
        )
    if answer.choices[0].finish_reason == "stop":
        assert set(json.loads(answer.choices[0].message.content or "")) == {"n", "ok"}


@needs_llama
def test_llama_cpp_writes_a_named_call(llama, listen):
    choice: Any = {"type": "function", "function": {"name": "get_weather"}}
    with gateway(listen, llama) as client:
        name = client.models.list().data[0].id
        answer = client.chat.completions.create(
            model=name, messages=HI, tools=TOOLS, tool_choice=choice, max_tokens=300
        )
    (made,) = answer.choices[0].message.tool_calls or ()
    assert made.function.name == "get_weather"
    if answer.choices[0].finish_reason == "tool_calls":
        assert isinstance(json.loads(made.function.arguments)["city"], str)


@needs_llama
def test_llama_cpp_answers_several_clients(llama, listen):
    texts: list[str] = []
    with gateway(listen, llama) as client:
        name = client.models.list().data[0].id

        def one() -> None:
            answer = client.chat.completions.create(
                model=name, messages=HI, temperature=0, max_tokens=8
            )
            texts.append(answer.choices[0].message.content or "")

        threads = [threading.Thread(target=one) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(texts) == 4
