"""Answers in the Messages dialect: the order of events, and what Anthropic's SDK makes of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic.types import ModelInfo
from hypothesis import given
from hypothesis import strategies as st

from openk2.server.dialects.anthropic_events import (
    Head,
    MessageEncoder,
    encode_count,
    encode_response,
    error_event,
    model_keys,
    read_input,
)
from openk2.server.errors import ApiError
from openk2.server.request import Model
from openk2.server.sse import data_frame
from openk2.text.parse import StreamParser, assemble
from openk2.text.tokenizer import Tokenizer
from openk2.types import (
    Event,
    Finish,
    Logprobs,
    Message,
    PromptRead,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallArguments,
    ToolCallStart,
    Usage,
)
from tests.server.dialects.messages_bodies import OURS, decode, result, talk, text, user

GOLDEN = Path(__file__).parents[2] / "golden" / "messages.sse"
HEAD = Head(id="msg_7f", model="kimi-k2")

EVENTS = [
    PromptRead(18844, cached_tokens=18432),
    ReasoningDelta("Need the "),
    ReasoningDelta("file list."),
    TextDelta("\n"),
    Logprobs((TokenLogprob(b"Let", -0.1),)),
    TextDelta("Let me look: "),
    TextDelta("文件"),
    ToolCallStart(0, "functions.Bash:3", "Bash"),
    ToolCallArguments(0, '{"command": "ls'),
    ToolCallArguments(0, ' -la"}'),
    ToolCallStart(1, "functions.now:4", "now"),
    Finish("tool_calls"),
    Usage(18844, 57, cached_tokens=18432, reasoning_tokens=9),
]


def frames(events: Iterable[Event], head: Head = HEAD) -> list[tuple[str, dict[str, Any]]]:
    encoder = MessageEncoder(head, OURS)
    return [frame for event in events for frame in encoder.encode(event)]


def stream(events: Iterable[Event]) -> bytes:
    return b"".join(data_frame(data, name) for name, data in frames(events))


def whole(events: Iterable[Event], head: Head = HEAD) -> dict[str, Any]:
    return encode_response(head, events, OURS)


def answer(*events: Event, reason: Any = "stop", matched: str | None = None) -> dict[str, Any]:
    return whole([PromptRead(3), *events, Finish(reason, matched), Usage(3, 5)])


# The stream -------------------------------------------------------------------------------------


def test_the_transcript_of_a_stream_is_golden():
    assert stream(EVENTS).decode() == GOLDEN.read_text(encoding="utf-8")


def test_a_response_folds_the_events():
    message = whole(EVENTS)
    ids = [block["id"] for block in message["content"] if block["type"] == "tool_use"]
    assert message == {
        "id": "msg_7f",
        "type": "message",
        "role": "assistant",
        "model": "kimi-k2",
        "content": [
            {
                "type": "thinking",
                "thinking": "Need the file list.",
                "signature": OURS.sign("Need the file list."),
            },
            {"type": "text", "text": "\nLet me look: 文件"},
            {"type": "tool_use", "id": ids[0], "name": "Bash", "input": {"command": "ls -la"}},
            {"type": "tool_use", "id": ids[1], "name": "now", "input": {}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 412,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 18432,
            "output_tokens": 57,
            "output_tokens_details": {"thinking_tokens": 9},
        },
    }


def test_every_event_says_its_name_in_its_data():
    assert all(name == data["type"] for name, data in frames(EVENTS))


def test_a_ping_follows_the_start_and_there_is_one_start():
    names = [name for name, _ in frames(EVENTS)]
    assert names[:2] == ["message_start", "ping"]
    assert names.count("message_start") == names.count("message_stop") == 1
    assert names[-2:] == ["message_delta", "message_stop"]


def test_the_start_counts_the_prompt_and_the_end_everything():
    (_, start), *_, (_, delta), _ = frames(EVENTS)
    assert start["message"]["usage"]["input_tokens"] == 412
    assert start["message"]["usage"]["output_tokens"] == 0
    assert delta["usage"]["output_tokens"] == 57


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_the_parts_of_the_prompt_add_up(new, cached):
    usage = whole([PromptRead(0), Finish("stop"), Usage(new + cached, 1, cached)])["usage"]
    parts = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    assert sum(usage[part] for part in parts) == new + cached


def test_thinking_is_signed_before_its_block_ends():
    deltas = [data for _, data in frames(EVENTS) if data.get("index") == 0]
    kinds = [data.get("delta", data)["type"] for data in deltas]
    assert kinds == [
        "content_block_start", "thinking_delta", "thinking_delta", "signature_delta",
        "content_block_stop",
    ]  # fmt: skip


def test_each_block_of_thinking_is_signed_for_itself():
    blocks = answer(ReasoningDelta("a"), TextDelta("x"), ReasoningDelta("b"))["content"]
    assert [block.get("signature") for block in blocks] == [OURS.sign("a"), None, OURS.sign("b")]


@pytest.mark.parametrize("space", ["", " ", "\n\n", "\u3000"])
def test_space_alone_is_no_block(space):
    assert answer(TextDelta(space))["content"] == []
    blocks = answer(ReasoningDelta("a"), TextDelta(space), ToolCallStart(0, "f:0", "f"))["content"]
    assert [block["type"] for block in blocks] == ["thinking", "tool_use"]


def test_space_before_a_text_is_part_of_it():
    blocks = answer(TextDelta(" "), TextDelta("\n"), TextDelta("a "), TextDelta(" "))["content"]
    assert blocks == [{"type": "text", "text": " \na  "}]


def test_an_answer_without_a_word_has_no_blocks():
    message = answer()
    assert (message["content"], message["stop_reason"]) == ([], "end_turn")


def test_reading_without_answering_is_a_message_that_was_cut_off_at_once():
    message = whole([PromptRead(9, 4), Finish("length"), Usage(9, 0, 4)])
    assert (message["content"], message["stop_reason"]) == ([], "max_tokens")
    assert message["usage"]["output_tokens"] == 0


def test_no_arguments_are_an_empty_object():
    for pieces in ([], [""], [" \n"], ["{}"], [" ", "{}"]):
        arguments = [ToolCallArguments(0, piece) for piece in pieces]
        events = [PromptRead(1), ToolCallStart(0, "f:0", "f"), *arguments, Finish("tool_calls")]
        sent = [data["delta"]["partial_json"] for _, data in frames(events) if "delta" in data]
        assert "".join(sent) == "{}"


def test_a_late_piece_of_a_call_is_an_error_and_not_lost():
    events = [ToolCallStart(0, "f:0", "f"), TextDelta("x"), ToolCallArguments(0, "{}")]
    with pytest.raises(ValueError, match="call 0 came after the call had ended"):
        frames(events)


@pytest.mark.parametrize(
    ("reason", "matched", "called", "expected"),
    [
        ("stop", None, False, ("end_turn", None)),
        ("stop", "END", False, ("stop_sequence", "END")),
        ("length", None, False, ("max_tokens", None)),
        ("length", None, True, ("max_tokens", None)),
        ("cancelled", None, False, ("max_tokens", None)),
        ("tool_calls", None, True, ("tool_use", None)),
        # A client that is told anything else never runs the tool.
        ("stop", None, True, ("tool_use", None)),
        ("stop", "END", True, ("tool_use", None)),
        # And one that is told of a tool waits for it.
        ("tool_calls", None, False, ("end_turn", None)),
    ],
)
def test_every_end_has_its_stop_reason(reason, matched, called, expected):
    calls = [ToolCallStart(0, "f:0", "f")] if called else []
    message = answer(TextDelta("x"), *calls, reason=reason, matched=matched)
    assert (message["stop_reason"], message["stop_sequence"]) == expected


# Ids of calls -----------------------------------------------------------------------------------


def call_ids(*starts: ToolCallStart, head: Head = HEAD) -> list[str]:
    content = whole([PromptRead(1), *starts, Finish("tool_calls"), Usage(1, 1)], head)["content"]
    return [block["id"] for block in content]


def test_ids_of_calls_have_the_form_that_clients_expect():
    strange = ["functions.f:12", "call_0", "", "模型:三", "f:²", "f:" + "9" * 99, "\ud800:1"]
    starts = [ToolCallStart(index, call_id, "f") for index, call_id in enumerate(strange)]
    ids = call_ids(*starts)
    assert all(re.fullmatch(r"toolu_[a-zA-Z0-9_-]{1,58}", each) for each in ids)
    assert ids[0].startswith("toolu_12_") and len(set(ids)) == len(ids)


def test_ids_of_calls_never_come_again():
    starts = [ToolCallStart(0, "functions.f:0", "f"), ToolCallStart(1, "functions.f:0", "f")]
    ids = call_ids(*starts) + call_ids(*starts, head=Head("msg_80", "kimi-k2"))
    assert len(set(ids)) == 4
    assert call_ids(*starts) == call_ids(*starts)


# Arguments --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"a": [1, {"b": "c', {"a": [1, {}]}),
        ('{"a": 1, "b', {"a": 1}),
        ("nonsense", {}),
        ("[1]", {}),
        ("null", {}),
        ('{"a":' * 10_000, {}),
        ('{"a": 1e999, "b": [-1e999, NaN]}', {"a": 1.7976931348623157e308,
                                              "b": [-1.7976931348623157e308, None]}),
        ('{"a": ' + "9" * 5000 + "}", {}),
        ('{"a": "\ud800"}', {"a": "?"}),
    ],
)  # fmt: skip
def test_any_arguments_become_an_object_that_can_be_sent(arguments, expected):
    assert read_input(arguments) == expected
    json.dumps(read_input(arguments), allow_nan=False)


# Any generation ---------------------------------------------------------------------------------

pieces = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), max_size=4)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=4)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)  # fmt: skip
objects = st.dictionaries(st.text(max_size=4), values, max_size=3)


@dataclass(frozen=True)
class Call:
    name: str
    arguments: tuple[str, ...]


@st.composite
def calls(draw: st.DrawFn) -> Call:
    spelled = json.dumps(draw(objects), ensure_ascii=draw(st.booleans()))
    spelled = draw(st.sampled_from([spelled, f" \n{spelled}"]))
    cuts = sorted(draw(st.lists(st.integers(0, len(spelled)), max_size=4)))
    bounds = zip([0, *cuts], [*cuts, len(spelled)], strict=True)
    return Call(draw(st.sampled_from(["f", "g-h"])), tuple(spelled[a:b] for a, b in bounds))


segments = st.tuples(st.just("think"), pieces) | st.tuples(st.just("say"), pieces) | calls()


@st.composite
def generations(draw: st.DrawFn) -> list[Event]:
    """Any answer that a backend may give; one that is cut off ends anywhere."""
    first, prompt = draw(st.integers(0, 5)), draw(st.integers(0, 99))
    cached = draw(st.integers(0, prompt))
    events: list[Event] = []
    count = 0
    for segment in draw(st.lists(segments, max_size=6)):
        if isinstance(segment, Call):
            call_id = f"functions.{segment.name}:{first + count}"
            events.append(ToolCallStart(count, call_id, segment.name))
            events += [ToolCallArguments(count, piece) for piece in segment.arguments]
            count += 1
        else:
            kind, texts = segment
            events += [ReasoningDelta(t) if kind == "think" else TextDelta(t) for t in texts]
    reason = draw(st.sampled_from(["stop", "length"]))
    if reason == "length":
        events = events[: draw(st.integers(0, len(events)))]
    called = any(isinstance(event, ToolCallStart) for event in events)
    finish = Finish("tool_calls" if called and reason == "stop" else reason)
    return [PromptRead(prompt, cached), *events, finish, Usage(prompt, len(events), cached)]


class Server:
    """Answers every request of a real client with the bytes it was given."""

    def __init__(self) -> None:
        self.body, self.kind = b"", ""
        transport = httpx2.MockTransport(self.respond)
        self.client = anthropic.Anthropic(
            api_key="k",
            base_url="http://127.0.0.1",
            http_client=httpx2.Client(transport=transport),
            max_retries=0,
        )

    def respond(self, request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": self.kind}, content=self.body)

    def ask(self, body: bytes | dict[str, Any]) -> anthropic.types.Message:
        turns: Any = [{"role": "user", "content": "hi"}]
        asked: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": turns}
        if isinstance(body, dict):
            self.body, self.kind = json.dumps(body).encode(), "application/json"
            return self.client.messages.create(**asked)
        self.body, self.kind = body, "text/event-stream"
        with self.client.messages.stream(**asked) as events:
            return events.get_final_message()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.client.close()


def plain(message: anthropic.types.Message) -> dict[str, Any]:
    told = message.to_dict(mode="json")
    return {key: value for key, value in told.items() if key != "stop_details"}


def test_the_sdk_reads_a_stream_and_a_response_as_the_same_message(server):
    assert plain(server.ask(stream(EVENTS))) == plain(server.ask(whole(EVENTS))) == whole(EVENTS)


@given(generations())
def test_the_sdk_makes_of_any_stream_what_the_response_says(server, events):
    assert plain(server.ask(stream(events))) == whole(events)


DELTAS = {
    "tool_use": ["input_json_delta"],
    "text": ["text_delta"],
    "thinking": ["thinking_delta", "signature_delta"],
}


@given(generations())
def test_blocks_never_interleave_and_are_never_empty(events):
    index, opened, written = -1, None, ""
    for name, data in frames(events):
        if name == "content_block_start":
            assert opened is None and data["index"] == index + 1
            index, opened, written = data["index"], data["content_block"]["type"], ""
        elif name == "content_block_delta":
            delta = data["delta"]
            assert data["index"] == index and delta["type"] in DELTAS[opened or ""]
            written += next(value for key, value in delta.items() if key != "type")
        elif name == "content_block_stop":
            assert data["index"] == index and written.strip()
            opened = None
        else:
            assert opened is None


@given(generations())
def test_any_answer_is_accepted_as_history(events):
    told = whole(events)
    results = [
        result(block["id"], "done") for block in told["content"] if block["type"] == "tool_use"
    ]
    turns = [user("hi"), {"role": "assistant", "content": told["content"]}]
    back = decode(talk(*turns, user(*results, text("go on")))).messages[1]
    meant = assemble(events)
    assert back.reasoning == meant.reasoning
    # What is nothing but space between other blocks is not sent.
    assert "".join(back.content.split()) == "".join(meant.content.split())
    assert [call.name for call in back.tool_calls] == [call.name for call in meant.tool_calls]
    if Finish("tool_calls") in events:
        assert [json.loads(call.arguments) for call in back.tool_calls] == [
            json.loads(call.arguments) for call in meant.tool_calls
        ]


def test_what_the_model_called_comes_back_as_it_wrote_it():
    told = whole(EVENTS)["content"]
    results = [result(block["id"]) for block in told if block["type"] == "tool_use"]
    turns = [user("hi"), {"role": "assistant", "content": told}, user(*results)]
    back = decode(talk(*turns)).messages[1]
    assert back == Message(
        "assistant",
        "\nLet me look: 文件",
        reasoning="Need the file list.",
        tool_calls=(
            ToolCall(results[0]["tool_use_id"], "Bash", '{"command": "ls -la"}'),
            ToolCall(results[1]["tool_use_id"], "now", "{}"),
        ),
    )


SPELLING = Tokenizer.from_ranks({bytes((byte,)): byte for byte in range(256)}, 32)


@given(
    st.lists(st.integers(0, 255) | st.sampled_from(list(SPELLING.specials.values())), max_size=60),
    st.sampled_from(["stop", "length"]),
)
def test_whatever_a_model_writes_is_a_message(ids, reason):
    parser = StreamParser(SPELLING)
    events = [PromptRead(1), *parser.feed(ids), *parser.finish(reason), Usage(1, 1)]
    json.dumps(whole(events), allow_nan=False)


# Errors, counts and models ----------------------------------------------------------------------


def test_the_sdk_raises_what_breaks_a_stream(server):
    broken = data_frame(*reversed(error_event(ApiError(500, "The model failed."), "req_1")))
    with pytest.raises(anthropic.APIStatusError) as caught:
        server.ask(stream(EVENTS[:5]) + broken)
    assert (caught.value.type, caught.value.api_message) == ("api_error", "The model failed.")


def test_a_count_is_one_number():
    assert encode_count(412) == {"input_tokens": 412}


def test_the_sdk_reads_a_model():
    keys = model_keys(Model("kimi-k2", context_length=131072, created=1_752_192_000))
    info = ModelInfo.model_validate({"id": "kimi-k2"} | keys)
    assert info.created_at.isoformat() == "2025-07-11T00:00:00+00:00"
    assert (info.display_name, info.max_input_tokens, info.max_tokens) == (
        "kimi-k2", 131072, 131072,
    )  # fmt: skip
