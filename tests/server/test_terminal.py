from __future__ import annotations

import io
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from openk2.server.local.backend import LocalBackend
from openk2.server.terminal import NoAnswerError, local_answerer, remote_answerer, talk
from openk2.types import Finish, Message, ReasoningDelta, Sampling, TextDelta, Usage


class Echo:
    """Answers with the number of messages it was shown, and remembers them."""

    def __init__(self) -> None:
        self.seen: list[list[Message]] = []

    def __call__(self, messages, sink) -> None:
        self.seen.append(list(messages))
        if messages[-1].content == "fail":
            raise NoAnswerError("the engine is busy")
        sink(ReasoningDelta("secret thought"))
        sink(TextDelta(f"answer {len(messages)}"))
        if messages[-1].content == "interrupt":
            raise KeyboardInterrupt
        sink(TextDelta("."))
        sink(Finish("stop"))
        sink(Usage(1, 1))


@pytest.fixture
def converse(monkeypatch, capsys):
    def run(answer, text: str, system: str | None = None) -> list[str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))
        talk(answer, system)
        return capsys.readouterr().out.splitlines()

    return run


def test_the_history_grows_until_it_is_cleared(converse):
    echo = Echo()
    out = converse(echo, "one\ntwo\n/clear\n\nthree\n/exit\nnever\n", system="Be brief.")
    assert out == ["answer 2.", "answer 4.", "answer 2."]
    assert echo.seen[1] == [
        Message("system", "Be brief."),
        Message("user", "one"),
        Message("assistant", "answer 2."),
        Message("user", "two"),
    ]
    assert echo.seen[2] == [Message("system", "Be brief."), Message("user", "three")]


def test_the_end_of_the_input_ends_the_conversation(converse):
    assert converse(Echo(), "one\n") == ["answer 1."]
    assert converse(Echo(), "") == []


def test_an_interrupted_answer_stays_as_far_as_it_got(converse):
    echo = Echo()
    assert converse(echo, "interrupt\nmore\n") == ["answer 1", "answer 3."]
    assert echo.seen[1][1] == Message("assistant", "answer 1")


def test_a_question_without_an_answer_is_forgotten(converse):
    echo = Echo()
    converse(echo, "fail\nmore\n")
    assert echo.seen[1] == [Message("user", "more")]


def test_what_a_model_writes_cannot_steer_the_terminal(converse):
    def answer(messages, sink) -> None:
        sink(TextDelta("a\x1b]0;title\x07\x9b2Jb\tc\n好\r"))

    assert converse(answer, "hi\n") == ["a]0;title2Jb\tc", "好"]


def test_a_model_in_this_process_answers(converse, script, tokenizer):
    model = script("Hello 世界")
    sampling = Sampling(temperature=0)
    assert converse(local_answerer(LocalBackend(model, tokenizer, "nano"), sampling), "hi\n") == [
        "Hello 世界"
    ]
    assert [replace(seen, logit_bias=()) for seen in model.samplings] == [sampling]


def test_a_conversation_that_is_too_long_says_what_to_do(script, tokenizer):
    model = script("ok")
    model.max_len = 40
    answer = local_answerer(LocalBackend(model, tokenizer, "nano"), Sampling())
    messages = [Message("user", "word " * 50)]
    with pytest.raises(NoAnswerError, match=r"context window holds 40 tokens.*/clear"):
        answer(messages, print)


def test_a_model_behind_a_url_answers(converse, connect, script):
    model = script("<think>hm</think>Hello 世界")
    with connect(model) as client:
        answer = remote_answerer(str(client.base_url), "nano", Sampling(0.0, max_tokens=99), "k")
        assert converse(answer, "hi\nagain\n") == ["Hello 世界"] * 2
    assert replace(model.samplings[-1], logit_bias=()) == Sampling(0.0, max_tokens=99)
    assert len(model.prompts[-1]) > len(model.prompts[-2])


@pytest.mark.parametrize("stream_breaks", [False, True])
def test_what_a_server_refuses_is_told_in_its_words(connect, script, stream_breaks):
    model = script("one two")
    with connect(model) as client:
        model.failure = RuntimeError("broken") if stream_breaks else None
        name, reason = ("nano", "failed while answering") if stream_breaks else ("x", "HTTP 404.*x")
        answer = remote_answerer(str(client.base_url), name, Sampling(), "k")
        with pytest.raises(NoAnswerError, match=reason):
            answer([Message("user", "hi")], lambda event: None)


def test_a_server_that_is_not_there_is_one_sentence():
    answer = remote_answerer("http://127.0.0.1:9/v1", None, Sampling(), "k")
    with pytest.raises(NoAnswerError, match=r"127\.0\.0\.1:9/v1/chat/completions cannot be read"):
        answer([Message("user", "hi")], print)


@contextmanager
def raw_server(reply: bytes) -> Iterator[str]:
    """Answer one request with these bytes, whatever it asks."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            while b"}]" not in connection.recv(65536):  # the end of the messages
                pass
            connection.sendall(reply)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        thread.join()


OK = b"HTTP/1.1 200 OK\r\n\r\n"
END = b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'


def ask_raw(reply: bytes) -> str:
    said: list[str] = []
    with raw_server(reply) as url:
        answer = remote_answerer(url, None, Sampling(), "k")
        answer([Message("user", "hi")], lambda event: said.append(event.text))
    return "".join(said)


@pytest.mark.parametrize(
    "odd",
    [
        b"[]",
        b"null",
        b'{"choices": null}',
        b'{"choices": [null]}',
        b'{"choices": [{"delta": null}]}',
        b'{"choices": [{"delta": {"content": 5, "reasoning_content": []}}]}',
    ],
)
def test_odd_chunks_are_passed_over(odd):
    text = b'data: {"choices": [{"delta": {"content": "yes"}}]}\n\n'
    assert ask_raw(OK + b"data: " + odd + b"\n\n" + text + END) == "yes"
    assert ask_raw(OK + text + b"data: [DONE]\n\n") == "yes"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"garbage\r\n\r\n", "cannot be read: garbage"),
        (b"", "cannot be read: Remote end closed"),
        (OK + b"data: {\n\n", "cannot be read"),
        (OK + b'data: {"choices": [{"delta": {"content": "ye"}}]}\n\n', "went away before"),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 50\r\n\r\nshort", "HTTP 500: Oops"),
    ],
)
def test_a_server_that_breaks_is_one_sentence(reply, reason):
    with pytest.raises(NoAnswerError, match=reason) as caught:
        ask_raw(reply)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["no-scheme/v1", "http://127.0.0.1:x/v1", "http://a b/v1", ""])
def test_an_address_that_is_none_is_one_sentence(url):
    with pytest.raises(NoAnswerError, match="cannot be read"):
        remote_answerer(url, None, Sampling(), "k")([Message("user", "hi")], print)


def test_a_proxy_is_not_asked_for_this_machine(monkeypatch):
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert ask_raw(OK + END) == ""
