"""`openk2 serve` and `openk2 chat` as real processes."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

ROOT = Path(__file__).parents[2]
HI: list[Any] = [{"role": "user", "content": "hi"}]


def start(*arguments: object) -> Any:
    return subprocess.Popen(
        [sys.executable, "-m", "openk2.cli", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"PYTHONUTF8": "1", "OMP_NUM_THREADS": "1", "TERM": "dumb"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def serving(*arguments: object) -> Iterator[tuple[Any, str]]:
    """Start a server; gives it and what it says once it is ready."""
    process = start("serve", "--port", 0, *arguments)
    with process:
        try:
            welcome = ""
            while "chat --base-url" not in welcome:
                line = process.stdout.readline()
                assert line, process.stderr.read()
                welcome += line
            yield process, welcome
        finally:
            process.kill()


def url_in(welcome: str) -> str:
    return re.findall(r"http://127\.0\.0\.1:\d+/v1", welcome)[0]


@pytest.fixture(scope="module")
def running(model_dir):
    with serving("--model", model_dir, "--max-batch", 2) as running:
        yield running


@pytest.fixture(scope="module")
def server(running):
    return running[1]


@pytest.fixture
def client(server):
    with OpenAI(base_url=url_in(server), api_key="none", max_retries=0, timeout=60) as client:
        yield client


def ask(client: OpenAI, **body: Any) -> Any:
    return client.chat.completions.create(model="random", messages=HI, **body)


def test_the_welcome_is_in_two_languages_and_its_python_runs(server):
    assert "Ctrl-C stops it" in server and "已就绪" in server
    assert f"curl {url_in(server)}/chat/completions" in server
    assert f"{sys.executable} -m openk2.cli chat --base-url {url_in(server)}" in server
    assert "pip install openai" in server
    snippet = server[server.index("  from openai") : server.index("or in another")]
    # A random model would talk until its window is full.
    code = re.sub("(?m)^  ", "", snippet).replace("stream=True", "stream=True, max_tokens=5")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_a_stream_says_what_the_whole_response_says(client):
    whole = ask(client, temperature=0, max_tokens=20)
    stream = ask(client, temperature=0, max_tokens=20, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert text == whole.choices[0].message.content != ""
    assert whole.usage.completion_tokens == 20


def test_eight_parallel_clients_share_two_slots(client):
    def answer(seed: int) -> str:
        return ask(client, seed=seed, max_tokens=12).choices[0].message.content

    alone = [answer(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(answer, range(8))) == alone


def test_clients_that_leave_make_room_for_others(client):
    # Each answer would go on for 65,000 tokens, and there are two slots for three of them.
    for _ in range(3):
        stream = ask(client, stream=True, temperature=1)
        next(iter(stream))
        stream.close()
    assert ask(client, max_tokens=1).choices[0].finish_reason == "length"


def test_bad_input_is_refused_and_the_server_goes_on(client):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, temperature=5)
    assert caught.value.param == "temperature"
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, max_tokens=70_000)
    assert (caught.value.param, caught.value.code) == ("max_tokens", "context_length_exceeded")
    assert ask(client, max_tokens=1).choices


def test_a_port_in_use_is_one_sentence(model_dir):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        out, error = finish(start("serve", "--model", model_dir, "--port", port))
    assert out == ""
    assert error.startswith(f"openk2: cannot listen on 127.0.0.1:{port}")
    assert "--port" in error and error.count("\n") == 1


@pytest.mark.parametrize("command", ["serve", "chat"])
def test_a_directory_without_a_model_is_one_sentence(command, tmp_path):
    port = ["--port", "0"] if command == "serve" else []
    out, error = finish(start(command, "--model", tmp_path, *port))
    assert out == ""
    assert error.startswith(f"openk2: cannot load the model in {tmp_path}")
    assert error.count("\n") == 1


def finish(process: Any) -> tuple[str, str]:
    out, error = process.communicate(timeout=60)
    assert process.returncode == 2, error
    return out, error


def test_chat_talks_to_the_server(server):
    process = start("chat", "--base-url", url_in(server), "--max-tokens", 8, "--temperature", 0)
    out, error = process.communicate("hi\nhi\n/exit\n", timeout=60)
    assert (process.returncode, error) == (0, "")
    assert len(out.splitlines()) >= 2


def test_an_interrupt_stops_an_answer_of_chat_and_not_chat(model_dir):
    with start("chat", "--model", model_dir, "--temperature", "1") as process:
        try:
            process.stdin.write("hi\n")  # the answer would go on for 65,000 tokens
            process.stdin.flush()
            assert process.stdout.read(20)
            process.send_signal(signal.SIGINT)
            out, error = process.communicate("/exit\n", timeout=60)
        finally:
            process.kill()
    assert (process.returncode, error) == (0, "")
    assert len(out) < 50_000


def test_an_interrupt_ends_open_streams_and_the_server_quietly(running, client):
    # The last test here: it ends the server of the others.
    process, _ = running
    stream = ask(client, stream=True, temperature=1)
    next(iter(stream))
    process.send_signal(signal.SIGINT)
    with pytest.raises(openai.APIError, match="shutting down"):
        list(stream)
    assert process.wait(20) == 0
    assert process.stderr.read() == ""
