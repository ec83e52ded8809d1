"""A conversation in the terminal, with a model in this process or behind a URL.

In: lines from standard input. Out: answers on standard output, as they are written.
Must not know: how a model is loaded, or what the command-line options are called.
"""

from __future__ import annotations

import asyncio
import http.client
import importlib
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from typing import Any, cast

from openk2.server.errors import ApiError
from openk2.server.request import Backend, ChatRequest
from openk2.types import Event, Message, ReasoningDelta, Sampling, TextDelta

Sink = Callable[[Event], None]
Answerer = Callable[[Sequence[Message], Sink], None]
"""Answers a conversation event by event, or raises `NoAnswerError`."""

GREETING = "Ctrl-C stops an answer, /clear forgets the conversation, /exit leaves."
DIM, PLAIN = "\x1b[2m", "\x1b[0m"

# What a model writes must not move the cursor or retitle the window.
_CONTROLS = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)])


class NoAnswerError(Exception):
    """The model cannot answer; the message is for the user."""


def talk(answer: Answerer, system: str | None) -> None:
    """Read lines and print answers until `/exit` or the end of the input."""
    opening = [Message("system", system)] if system else []
    history = list(opening)
    if sys.stdin.isatty():
        # Importing it is what gives `input` line editing and recall.
        importlib.import_module("readline")
        print(GREETING)
    for line in _lines():
        if line == "/exit":
            return
        if line == "/clear":
            history = list(opening)
        elif line:
            _take_turn(answer, history, line)


def _lines() -> Iterator[str]:
    prompt = "> " if sys.stdin.isatty() else ""
    while True:
        try:
            yield input(prompt).strip()
        except EOFError:
            return
        except KeyboardInterrupt:
            print("\n(/exit leaves)")


def _take_turn(answer: Answerer, history: list[Message], line: str) -> None:
    """Print one answer and add both sides to `history`, or neither if nothing was said."""
    printer = _Printer()
    failure: NoAnswerError | None = None
    history.append(Message("user", line))
    try:
        answer(history, printer.show)
    except KeyboardInterrupt:
        pass  # what was said so far stays in the conversation
    except NoAnswerError as error:
        failure = error
    printer.end()
    if failure is not None:
        print(failure, file=sys.stderr)
    if printer.text:
        history.append(Message("assistant", printer.text))
    else:
        history.pop()


class _Printer:
    """Prints events and remembers the visible text."""

    def __init__(self) -> None:
        self.text = ""
        self._thinking = False

    def show(self, event: Event) -> None:
        match event:
            case TextDelta(piece):
                self._think(False)
                self.text += piece
                _write(piece)
            case ReasoningDelta(piece) if sys.stdout.isatty():
                self._think(True)
                _write(piece)
            case _:
                pass

    def end(self) -> None:
        self._think(False)
        print(flush=True)

    def _think(self, thinking: bool) -> None:
        if thinking != self._thinking:
            print(DIM if thinking else f"{PLAIN}\n", end="")
        self._thinking = thinking


def _write(piece: str) -> None:
    print(piece.translate(_CONTROLS), end="", flush=True)


# Where answers come from ------------------------------------------------------------------------


def local_answerer(backend: Backend, sampling: Sampling) -> Answerer:
    """Answer with a model in this process."""
    from openk2.engine.request import EngineError  # brings torch: only needed here

    async def run(messages: Sequence[Message], sink: Sink) -> None:
        generation = await backend.prepare(ChatRequest(tuple(messages), sampling))
        async with aclosing(generation.events()) as events:
            async for _, event in events:
                sink(event)

    def answer(messages: Sequence[Message], sink: Sink) -> None:
        try:
            # Ctrl-C cancels the coroutine, which cancels the request; the engine goes on.
            asyncio.run(run(messages, sink))
        except ApiError as error:
            again = error.code == "context_length_exceeded"
            advice = "; /clear starts again" if again else ""
            raise NoAnswerError(f"{error.message.rstrip('.')}{advice}") from None
        except EngineError as error:
            raise NoAnswerError(str(error)) from None

    return answer


def remote_answerer(base_url: str, model: str | None, sampling: Sampling, api_key: str) -> Answerer:
    """Answer with any OpenAI-compatible server."""
    url = f"{base_url.rstrip('/')}/chat/completions"

    def answer(messages: Sequence[Message], sink: Sink) -> None:
        body: dict[str, Any] = {
            "messages": [{"role": turn.role, "content": turn.content} for turn in messages],
            "temperature": sampling.temperature,
            "stream": True,
        }
        if model is not None:
            body["model"] = model
        if sampling.max_tokens is not None:
            body["max_tokens"] = sampling.max_tokens
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {api_key}"}
        for choice in _choices(url, json.dumps(body).encode(), headers):
            delta = _object(choice.get("delta"))
            if isinstance(piece := delta.get("reasoning_content"), str):
                sink(ReasoningDelta(piece))
            if isinstance(piece := delta.get("content"), str):
                sink(TextDelta(piece))

    return answer


def _choices(url: str, body: bytes, headers: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Yield the choices of a stream; what is no object is passed over.

    Raises:
        NoAnswerError: The server cannot be read, reports an error, or goes before its answer ends.
    """
    try:
        request = urllib.request.Request(url, body, headers)
        with _opener(url).open(request) as response:
            for line in response:
                if not line.startswith(b"data:"):
                    continue
                if line.strip() == b"data: [DONE]":
                    return
                chunk = _object(json.loads(line.removeprefix(b"data:")))
                if chunk.get("error"):
                    raise NoAnswerError(_reason(chunk))
                choices = chunk.get("choices")
                listed = cast("list[object]", choices) if isinstance(choices, list) else []
                for choice in map(_object, listed):
                    yield choice
                    if choice.get("finish_reason"):
                        return
    except urllib.error.HTTPError as error:
        raise NoAnswerError(f"HTTP {error.code}: {_reason_in(error)}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        problem = " ".join(str(error).split()) or type(error).__name__
        raise NoAnswerError(f"{url} cannot be read: {problem}") from None
    raise NoAnswerError(f"{url} went away before its answer ended; ask again")


def _opener(url: str) -> urllib.request.OpenerDirector:
    # A proxy cannot reach what listens on this machine only.
    host = urllib.parse.urlsplit(url).hostname or ""
    local = host in ("localhost", "::1") or host.startswith("127.")
    return urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if local else []))


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _reason_in(error: urllib.error.HTTPError) -> str:
    try:
        body = error.read()
    except (OSError, http.client.HTTPException):
        return error.reason
    try:
        return _reason(json.loads(body))
    except ValueError:
        return body[:200].decode(errors="replace")


def _reason(body: Any) -> str:
    """Find the sentence in an error envelope; a stranger's server may send any JSON."""
    try:
        return str(body["error"]["message"])
    except (LookupError, TypeError):
        return json.dumps(body, ensure_ascii=False)[:200]
