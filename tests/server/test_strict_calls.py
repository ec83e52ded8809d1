"""Every tool call is one that was declared: real SDKs, concurrent, two models, any schema."""

from __future__ import annotations

import copy
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import anthropic
import jsonschema
import openai
import pytest
import torch

from openk2.engine.engine import Engine
from openk2.engine.runner import TorchRunner
from openk2.engine.thread import EngineThread
from openk2.model import weights
from openk2.server.app import create_app
from openk2.server.heavy import HeavyBackend
from openk2.server.local.backend import LocalBackend
from tests.server.strict_cases import (
    Case,
    chat_body,
    draw_case,
    messages_body,
    responses_body,
)

NANO = Path(__file__).parents[2] / "openk2" / "assets" / "nano"
ROUNDS = int(os.environ.get("OPENK2_STRICT_REQUESTS", "1000"))
"""Requests of each slow test; there are two."""
CLIENTS = 16
SECTION_BEGIN = "<|tool_calls_section_begin|>"
FORMATS = jsonschema.FormatChecker(("date", "uuid", "email", "ipv4"))
"""With the two below all that are enforced; others only say what a text is for."""
ANSWER = ("stop", "end_turn", "stop_sequence", "completed")
CALLED = ("tool_calls", "tool_use", "completed")
CUT = ("length", "max_tokens", "incomplete")


# Answers ----------------------------------------------------------------------------------------


@dataclass
class Reply:
    """An answer, in no dialect any more."""

    text: str = ""
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    """Id, name, arguments."""
    finish: str = ""
    tokens: int = 0
    warning: str = ""

    def without_ids(self) -> tuple[Any, ...]:
        return self.text, [call[1:] for call in self.calls], self.finish, self.tokens


@dataclass(frozen=True)
class Server:
    """Both vendors' clients of one server."""

    openai: openai.OpenAI
    anthropic: anthropic.Anthropic
    begin: int
    """Id of the token that begins a tool section."""

    def ask(self, case: Case, *, stream: bool) -> Reply:
        match case.dialect, stream:
            case "chat", False:
                return self._chat(case)
            case "chat", True:
                return self._chat_stream(case)
            case "messages", False:
                return self._message(case)
            case "messages", True:
                return self._message_stream(case)
            case _, False:
                return self._response(case)
            case _:
                return self._response_stream(case)

    def leave(self, case: Case) -> None:
        """Go away in the middle of an answer."""
        with self.openai.chat.completions.create(
            stream=True, **chat_body(case, self.begin)
        ) as stream:
            next(iter(stream))

    def _chat(self, case: Case) -> Reply:
        body = chat_body(case, self.begin)
        raw = self.openai.chat.completions.with_raw_response.create(**body)
        answer = raw.parse()
        (choice,) = answer.choices
        calls = choice.message.tool_calls or []
        return Reply(
            choice.message.content or "",
            [(c.id, c.function.name, c.function.arguments) for c in calls],
            choice.finish_reason,
            answer.usage.completion_tokens,
            raw.headers.get("x-openk2-warning", ""),
        )

    def _chat_stream(self, case: Case) -> Reply:
        body = chat_body(case, self.begin) | {"stream_options": {"include_usage": True}}
        raw = self.openai.chat.completions.with_raw_response.create(stream=True, **body)
        reply = Reply(warning=raw.headers.get("x-openk2-warning", ""))
        for chunk in raw.parse():
            if not chunk.choices:
                reply.tokens = chunk.usage.completion_tokens
                continue
            choice = chunk.choices[0]
            assert not (reply.finish and choice.delta.tool_calls)
            reply.finish = choice.finish_reason or reply.finish
            reply.text += choice.delta.content or ""
            for delta in choice.delta.tool_calls or []:
                if delta.index == len(reply.calls):
                    assert delta.id and delta.function.name and delta.type == "function"
                    reply.calls.append((delta.id, delta.function.name, ""))
                # Nobody has to look back: one call at a time.
                assert delta.index == len(reply.calls) - 1
                call_id, name, arguments = reply.calls[-1]
                written = arguments + (delta.function.arguments or "")
                reply.calls[-1] = (call_id, name, written)
        return reply

    def _message(self, case: Case) -> Reply:
        raw = self.anthropic.messages.with_raw_response.create(**messages_body(case))
        return self._of_message(raw.parse(), raw.headers.get("x-openk2-warning", ""))

    def _message_stream(self, case: Case) -> Reply:
        with self.anthropic.messages.stream(**messages_body(case)) as stream:
            warning = stream.response.headers.get("x-openk2-warning", "")
            pieces: dict[int, str] = {}
            order: list[int] = []
            for event in stream:
                if event.type == "content_block_start":
                    order.append(event.index)
                    if event.content_block.type == "tool_use":
                        assert event.content_block.input == {}
                        pieces[event.index] = ""
                elif event.type == "content_block_delta" and event.index in pieces:
                    assert event.index == order[-1]
                    pieces[event.index] += event.delta.partial_json
            assert order == list(range(len(order)))
            reply = self._of_message(stream.get_final_message(), warning)
        for written, (_, _, folded) in zip(pieces.values(), reply.calls, strict=True):
            assert parsed(written or "{}") == json.loads(folded)
        return reply

    def _of_message(self, message: Any, warning: str) -> Reply:
        uses = [block for block in message.content if block.type == "tool_use"]
        return Reply(
            "".join(block.text for block in message.content if block.type == "text"),
            [(use.id, use.name, json.dumps(use.input)) for use in uses],
            message.stop_reason,
            message.usage.output_tokens,
            warning,
        )

    def _response(self, case: Case) -> Reply:
        raw = self.openai.responses.with_raw_response.create(**responses_body(case))
        return self._of_response(raw.parse(), raw.headers.get("x-openk2-warning", ""))

    def _response_stream(self, case: Case) -> Reply:
        raw = self.openai.responses.with_raw_response.create(stream=True, **responses_body(case))
        pieces: dict[str, str] = {}
        numbers: list[int] = []
        final = None
        for event in raw.parse():
            numbers.append(event.sequence_number)
            if event.type == "response.function_call_arguments.delta":
                pieces[event.item_id] = pieces.get(event.item_id, "") + event.delta
            elif event.type == "response.function_call_arguments.done":
                assert pieces[event.item_id] == event.arguments
            elif event.type in ("response.completed", "response.incomplete"):
                final = event.response
        assert numbers == list(range(len(numbers))) and final is not None
        reply = self._of_response(final, raw.headers.get("x-openk2-warning", ""))
        assert list(pieces.values()) == [arguments for _, _, arguments in reply.calls]
        return reply

    def _of_response(self, response: Any, warning: str) -> Reply:
        calls = [item for item in response.output if item.type == "function_call"]
        assert all(call.status == "completed" for call in calls)
        return Reply(
            response.output_text,
            [(call.call_id, call.name, call.arguments) for call in calls],
            response.status,
            response.usage.output_tokens,
            warning,
        )


# What has to hold -------------------------------------------------------------------------------


def twins_of(text: str) -> set[str]:
    """Return the keys that some object of a JSON text has more than once."""
    found: set[str] = set()

    def read(pairs: list[tuple[str, Any]]) -> None:
        counted = Counter(key for key, _ in pairs)
        found.update(key for key, count in counted.items() if count > 1)

    json.loads(text, object_pairs_hook=read)
    return found


def declared(schema: Any) -> set[str]:
    """Return the name of every property that a schema declares at any depth."""
    if isinstance(schema, list):
        return set().union(*map(declared, schema))
    if not isinstance(schema, dict):
        return set()
    names = schema.get("properties")
    own = set(names) if isinstance(names, dict) else set[str]()
    return own.union(*map(declared, schema.values()))


@FORMATS.checks("time", ValueError)
def is_time(value: Any) -> bool:
    return not isinstance(value, str) or is_moment(f"2020-01-01T{value}")


@FORMATS.checks("date-time", ValueError)
def is_moment(value: Any) -> bool:
    """Tell whether a text is a date, a time and its zone, as RFC 3339 has them."""
    if not isinstance(value, str):
        return True  # a format says nothing about anything else
    shape = r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)"
    return bool(re.fullmatch(shape, value)) and bool(datetime.fromisoformat(value.upper()))


def finite(value: str) -> float:
    assert math.isfinite(float(value)), value
    return float(value)


def parsed(text: str) -> Any:
    return json.loads(text, parse_float=finite, parse_constant=lambda _: 1 / 0)


def check(case: Case, reply: Reply, seen: Counter[str]) -> None:
    """Fail if the answer is not what the request allows."""
    # Heavy mode counts all that was written on the way to the answer.
    assert reply.tokens <= case.limit or "heavy" in case.settings.get("extra_body", {})
    if case.choice == "json":
        (schema, *_) = case.tools.values()
        assert reply.finish in ANSWER and not reply.calls
        check_value(reply.text, schema, "schema", reply, seen)
        return
    names = list(case.tools)
    for place, (call_id, name, arguments) in enumerate(reply.calls):
        assert name in names
        assert case.named in (None, name)
        if case.dialect == "chat":
            assert call_id == f"functions.{name}:{case.earlier + place}"
        prefix = {"messages": r"toolu_[a-zA-Z0-9_-]+", "responses": r"call_\w+"}
        assert re.fullmatch(prefix.get(case.dialect, r"functions\..*"), call_id)
        path = f"tools[{names.index(name)}].parameters"
        assert arguments[0] == "{"
        check_value(arguments, case.tools[name], path, reply, seen)
    assert len({call_id for call_id, _, _ in reply.calls}) == len(reply.calls)
    if reply.calls:
        assert case.choice != "none" and reply.finish in CALLED, reply
        assert len(reply.calls) == 1 or (case.parallel and case.named is None)
    else:
        assert case.choice in ("auto", "none")
        # An answer without a call may end where it likes, or be cut like any text.
        assert reply.finish in (ANSWER if reply.tokens < case.limit else (*ANSWER, *CUT))
    seen["calls"] += len(reply.calls)


def check_value(text: str, schema: Any, path: str, reply: Reply, seen: Counter[str]) -> None:
    value, twins = parsed(text), twins_of(text)
    # Names that nobody declared may come again: no mask remembers what it has read.
    assert not twins & declared(schema), twins
    seen["twins"] += bool(twins)
    validator = jsonschema.Draft202012Validator(schema, format_checker=FORMATS)
    problem = next(validator.iter_errors(value), None)
    if problem is not None and f"{path}." in reply.warning:
        seen["warned"] += 1
    else:
        assert problem is None, problem
    seen["validated"] += 1


def one(server: Server, case: Case, seen: Counter[str]) -> None:
    """Ask in both forms; a budget that is too small says which one is enough."""
    try:
        whole = server.ask(case, stream=False)
    except (openai.BadRequestError, anthropic.BadRequestError) as error:
        least = re.search(r"allow at least (\d+)", str(error))
        assert least and int(least[1]) > case.limit, f"{case}: {error}"
        assert case.choice not in ("auto", "none")
        seen["refused"] += 1
        with pytest.raises((openai.BadRequestError, anthropic.BadRequestError)):
            server.ask(replace(case, limit=int(least[1]) - 1), stream=True)
        case = replace(case, limit=int(least[1]))
        whole = server.ask(case, stream=False)
    streamed = server.ask(case, stream=True)
    if case.dialect == "chat" and case.seed % 5 == 0:
        server.leave(case)
        seen["left"] += 1
    seen["requests"] += 2
    for reply in (whole, streamed):
        try:
            check(case, reply, seen)
        except Exception as error:
            raise AssertionError(f"{case}\n{reply}\n{error}") from error
    assert whole.warning == streamed.warning
    if case.dialect == "chat" or case.temperature == 0:
        # Equal seeds give equal answers, and there is nothing to draw at temperature 0.
        assert whole.without_ids() == streamed.without_ids(), f"{case}\n{whole}\n{streamed}"
        seen["compared"] += 1


def run(server: Server, seeds: range) -> Counter[str]:
    """Ask everything, many at a time, and fail with all that was wrong."""
    seen: Counter[str] = Counter()
    problems: list[str] = []

    def go(seed: int) -> None:
        try:
            one(server, draw_case(seed), seen)
        except Exception as error:  # noqa: BLE001 - all are shown together
            problems.append(f"{seed}: {type(error).__name__}: {error}"[:1500])

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(go, seeds))
    print(seen)
    assert not problems, f"{len(problems)} of {len(seeds)}\n\n" + "\n\n".join(problems[:20])
    return seen


CALL = ("functions.f:1", "f", '{"a": 1}')
CASE = Case(
    seed=0,
    dialect="chat",
    tools={"f": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}},
    choice="required",
    parallel=False,
    temperature=1,
    limit=9,
    earlier=1,
    eager=0,
    settings={},
)


def test_the_check_knows_a_good_call():
    check(CASE, Reply(calls=[CALL], finish="tool_calls", tokens=9), Counter())


@pytest.mark.parametrize(
    ("case", "reply"),
    [
        ({}, Reply("Hello", finish="stop")),
        ({}, Reply(calls=[CALL], finish="length")),
        ({}, Reply(calls=[CALL], finish="tool_calls", tokens=10)),
        ({}, Reply(calls=[CALL, ("functions.f:2", *CALL[1:])], finish="tool_calls")),
        ({"choice": "none"}, Reply(calls=[CALL], finish="tool_calls")),
        ({"choice": "named:g"}, Reply(calls=[CALL], finish="tool_calls")),
        ({"parallel": True}, Reply(calls=[CALL, CALL], finish="tool_calls")),
        ({"choice": "json"}, Reply('{"a": 1', finish="stop")),
        ({"choice": "json"}, Reply('{"a": 1}', finish="length")),
        *(
            ({}, Reply(calls=[call], finish="tool_calls"))
            for call in (
                ("functions.f:0", *CALL[1:]),
                ("functions.g:1", "g", "{}"),
                *((*CALL[:2], text) for text in ("", "{}", '{"a": "1"}', '{"a": 1', "[]", "1")),
                (*CALL[:2], '{"a": 1, "a": 1}'),
                (*CALL[:2], '{"a": 1, "b": NaN}'),
                (*CALL[:2], '{"a": 1, "b": 1e999}'),
            )
        ),
    ],
)
def test_the_check_sees_what_is_wrong(case, reply):
    with pytest.raises((AssertionError, ValueError, IndexError, ZeroDivisionError)):
        check(replace(CASE, **case), reply, Counter())


@pytest.fixture(scope="module")
def free_model(random_model, tokenizer):
    """Random weights that end a text or call a tool as likely as they say any word."""
    model = copy.deepcopy(random_model)
    with torch.no_grad():
        model.lm_head.weight[list(tokenizer.specials.values()), 0] = 0
    return model


@pytest.fixture(scope="module")
def untrained(listen, free_model, tokenizer) -> Iterator[Server]:
    yield from _serve(listen, free_model, tokenizer)


@pytest.fixture(scope="module")
def shipped(listen, tokenizer) -> Iterator[Server]:
    yield from _serve(listen, weights.load(NANO), tokenizer)


@pytest.fixture(scope="module")
def thinking(listen, free_model, tokenizer) -> Iterator[Server]:
    yield from _serve(listen, free_model, tokenizer, thinking=True)


def _serve(listen: Any, model: Any, tokenizer: Any, *, thinking: bool = False) -> Iterator[Server]:
    stops = frozenset((tokenizer.im_end,))
    engine = Engine(TorchRunner(model), max_batch=CLIENTS, max_len=4096, stop_ids=stops)
    slow: dict[str, Any] = {"api_key": "none", "max_retries": 0, "timeout": 600}
    with EngineThread(engine) as source:
        backend = LocalBackend(source, tokenizer, "nano", thinking=thinking)
        with (
            listen(create_app(HeavyBackend(backend), running=backend.running())) as url,
            openai.OpenAI(base_url=url, **slow) as theirs,
            anthropic.Anthropic(base_url=url.removesuffix("/v1"), **slow) as claude,
        ):
            yield Server(theirs, claude, tokenizer.specials[SECTION_BEGIN])


def test_calls_of_random_weights_are_strict(untrained):
    seen = run(untrained, range(20))
    assert seen["calls"] >= 12 and seen["validated"] >= 20, seen


def test_calls_after_thinking_are_strict(thinking):
    seen = run(thinking, range(100, 108))
    assert seen["validated"] >= 6, seen


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_calls_after_much_thinking_are_strict(thinking):
    seen = run(thinking, range(9000, 9000 + ROUNDS // 5))
    assert seen["validated"] >= ROUNDS // 5, seen


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_thousand_answers_of_random_weights_are_strict(untrained):
    seen = run(untrained, range(1000, 1000 + ROUNDS // 2))
    assert seen["calls"] >= ROUNDS // 2, seen


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_thousand_answers_of_the_shipped_model_are_strict(shipped):
    seen = run(shipped, range(5000, 5000 + ROUNDS // 2))
    assert seen["calls"] >= ROUNDS // 2, seen
