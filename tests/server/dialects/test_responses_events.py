from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.server.dialects.responses import ResponsesOptions, decode_request
from openk2.server.dialects.responses_events import ResponseEncoder, encode_response
from openk2.server.errors import ApiError
from openk2.server.sse import data_frame
from openk2.text.parse import StreamParser, assemble
from openk2.text.tokenizer import Tokenizer
from openk2.types import (
    Event,
    Finish,
    Logprobs,
    PromptRead,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    ToolCallArguments,
    ToolCallStart,
    Usage,
)
from tests.server.dialects.responses_items import (
    EVENTS,
    GOLDEN,
    HEAD,
    messages,
    output,
    sign,
    tool,
    user,
)

# Answers ----------------------------------------------------------------------------------------

ASKED = {
    "input": "hi",
    "instructions": "Be brief.",
    "metadata": {"a": "b"},
    "tools": [tool(parameters={"type": "object", "properties": {"q": {"type": "string"}}})],
    "text": {"verbosity": "low"},
    "prompt_cache_key": "k",
}


def options(**fields: object) -> ResponsesOptions:
    return decode_request(ASKED | fields, sign)[1]


def frames(events: list[Event], asked: ResponsesOptions | None = None) -> list[dict[str, Any]]:
    encoder = ResponseEncoder(HEAD, asked or options())
    told = [frame for event in events for frame in encoder.encode(event)]
    assert all(name == body["type"] for name, body in told)
    return [body for _, body in told]


def transcript(bodies: list[dict[str, Any]]) -> bytes:
    return b"".join(f"event: {body['type']}\n".encode() + data_frame(body) for body in bodies)


def test_a_response_folds_the_events():
    response = encode_response(HEAD, options(), EVENTS)
    assert response["output"] == [
        {
            "id": "rs_1_0",
            "type": "reasoning",
            "status": "completed",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "hm"}],
        },
        {
            "id": "msg_1_1",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [
                {"type": "output_text", "text": "Let me look.", "annotations": [], "logprobs": []}
            ],
        },
        {
            "id": "fc_1_2",
            "type": "function_call",
            "status": "completed",
            "call_id": "call_1_0",
            "name": "search",
            "arguments": '{"q":"k2"}',
        },
        {
            "id": "fc_1_3",
            "type": "function_call",
            "status": "completed",
            "call_id": "call_1_1",
            "name": "now",
            "arguments": "{}",
        },
    ]
    assert response["usage"] == {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 15,
    }
    assert (response["id"], response["object"], response["status"]) == (
        "resp_1",
        "response",
        "completed",
    )
    assert (response["store"], response["metadata"]) == (False, {"a": "b"})
    assert response["instructions"] == "Be brief."
    assert response["tools"][0]["name"] == "search"
    assert response["text"] == {"format": {"type": "text"}, "verbosity": "low"}


def test_the_transcript_of_a_stream_is_golden():
    asked = options(include=["reasoning.encrypted_content"], reasoning={"summary": "auto"})
    logprob = Logprobs((TokenLogprob(b"Hi", -0.5, ((b"Hi", -0.5), (b"\xe5", -2.0))),))
    events = [*EVENTS[:3], logprob, TextDelta("Hi"), TextDelta(" 好"), *EVENTS[5:]]
    assert transcript(frames(events, asked)).decode() == GOLDEN.read_text(encoding="utf-8")


def test_without_a_summary_reasoning_is_told_as_it_is():
    names = [body["type"].removeprefix("response.") for body in frames(EVENTS)]
    assert names[:9] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
    ]


def test_an_answer_that_ran_out_of_tokens_is_incomplete():
    *_, item, last = frames([TextDelta("Let"), Finish("length"), Usage(1, 1)])
    assert item["item"]["status"] == "incomplete"
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


def test_a_call_that_is_cut_off_is_not_made_whole():
    response = encode_response(
        HEAD, options(), [ToolCallStart(0, "i", "f"), Finish("length"), Usage(1, 1)]
    )
    assert (response["output"][0]["arguments"], response["output"][0]["status"]) == (
        "",
        "incomplete",
    )


def test_an_answer_that_the_server_broke_off_failed():
    last = frames([TextDelta("Let"), Finish("cancelled"), Usage(1, 1)])[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["error"]["code"] == "server_error"


def test_a_failure_ends_a_stream_with_what_came_until_then():
    encoder = ResponseEncoder(HEAD, options())
    told = [body for event in EVENTS[:7] for _, body in encoder.encode(event)]
    name, last = encoder.encode_failure(ApiError(503, "Gone.", code=None))
    assert name == last["type"] == "response.failed"
    assert last["sequence_number"] == len(told)
    assert last["response"]["error"] == {"code": "server_error", "message": "Gone."}
    assert [item["status"] for item in last["response"]["output"]] == [
        "completed",
        "completed",
        "incomplete",
    ]


def test_a_failure_before_the_first_event_is_an_error_event():
    full = ApiError(429, "Full.", param="model")
    assert ResponseEncoder(HEAD, options()).encode_failure(full) == (
        "error",
        {
            "type": "error",
            "sequence_number": 0,
            "code": "rate_limit_exceeded",
            "message": "Full.",
            "param": "model",
        },
    )


def test_arguments_of_a_call_that_is_not_open_are_a_bug_and_not_an_answer():
    encoder = ResponseEncoder(HEAD, options())
    with pytest.raises(ValueError, match="call 0"):
        for event in [*EVENTS[:9], ToolCallArguments(0, "}")]:
            list(encoder.encode(event))


def test_logprobs_come_with_the_text_that_they_explain():
    half = Logprobs((TokenLogprob(b"\xe5\xa5", -1.0),))
    whole = Logprobs((TokenLogprob(b"\xbd", float("-inf"), ((b"x", -0.1),)),))
    unseen = Logprobs((TokenLogprob(b"unseen", -1.0),))
    events = [half, whole, TextDelta("好"), unseen, *EVENTS[5:9], TextDelta("!"), *EVENTS[9:]]
    response = encode_response(HEAD, options(), events)
    logprobs = response["output"][0]["content"][0]["logprobs"]
    assert [entry["bytes"] for entry in logprobs] == [[0xE5, 0xA5], [0xBD]]
    assert response["output"][-1]["content"][0]["logprobs"] == []
    assert logprobs[1]["logprob"] == -9999.0
    assert logprobs[1]["top_logprobs"] == [{"token": "x", "logprob": -0.1, "bytes": [120]}]


# Streams through the SDK ------------------------------------------------------------------------

texts = st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=3)
tokens = st.builds(
    TokenLogprob, st.binary(min_size=1, max_size=3), st.floats(-20, 0), st.just(((b"a", -1.0),))
)


def _calls(index: int, pieces: list[str]) -> list[Event]:
    start = ToolCallStart(index, f"functions.search:{index}", "search")
    return [start, *(ToolCallArguments(index, piece) for piece in pieces)]


@st.composite
def answers(draw: st.DrawFn) -> list[Event]:
    """Any legal order of events, whether or not a model would write it."""
    events: list[Event] = [PromptRead(3)]
    n_calls = 0
    for kind in draw(st.lists(st.sampled_from(["reasoning", "text", "call"]), max_size=5)):
        if kind == "call":
            events += _calls(n_calls, draw(st.just([]) | texts))
            n_calls += 1
            continue
        for piece in draw(texts):
            if kind == "text" and draw(st.booleans()):
                events.append(Logprobs((draw(tokens),)))
            events.append(TextDelta(piece) if kind == "text" else ReasoningDelta(piece))
    reason = draw(st.sampled_from(["stop", "length", "tool_calls"]))
    return [*events, Finish(reason), Usage(3, len(events), 1, 1)]


class Replay:
    """A server that always answers the same."""

    body = b""
    content_type = "text/event-stream"

    def __call__(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=self.body, headers={"content-type": self.content_type})


@pytest.fixture(scope="module")
def replay() -> Replay:
    return Replay()


@pytest.fixture(scope="module")
def client(replay: Replay) -> Iterator[openai.OpenAI]:
    transport = httpx.Client(transport=httpx.MockTransport(replay))
    with openai.OpenAI(base_url="http://k2/v1", api_key="k", http_client=transport) as client:
        yield client


def folded(bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Fold the events of a stream into output items, by what the dialect says they mean."""
    items: list[dict[str, Any]] = []
    for body in bodies:
        kind = body["type"].removeprefix("response.")
        if kind == "output_item.added":
            assert body["output_index"] == len(items)
            items.append(json.loads(json.dumps(body["item"])))
            continue
        if "output_index" not in body:
            continue
        assert body["output_index"] == len(items) - 1
        item = items[-1]
        assert body.get("item_id", item["id"]) == item["id"]
        parts = item.get("summary" if "summary_index" in body else "content", [])
        match kind:
            case "content_part.added" | "reasoning_summary_part.added":
                parts.append(dict(body["part"]))
            case "output_text.delta":
                parts[-1]["text"] += body["delta"]
                parts[-1]["logprobs"] = parts[-1]["logprobs"] + body["logprobs"]
            case "reasoning_text.delta" | "reasoning_summary_text.delta":
                parts[-1]["text"] += body["delta"]
            case "output_text.done" | "reasoning_text.done" | "reasoning_summary_text.done":
                assert parts[-1]["text"] == body["text"]
            case "content_part.done" | "reasoning_summary_part.done":
                assert parts[-1] == body["part"]
            case "function_call_arguments.delta":
                item["arguments"] += body["delta"]
            case "function_call_arguments.done":
                assert item["arguments"] == body["arguments"]
            case "output_item.done":
                sealed = {"encrypted_content"} & body["item"].keys()
                item |= {key: body["item"][key] for key in ("status", *sealed)}
                assert item == body["item"]
            case _:
                raise AssertionError(f"an unknown event: {kind}")
    return items


@settings(max_examples=60, deadline=None)
@given(answers(), st.booleans(), st.booleans())
def test_any_stream_folds_to_the_same_response(client, replay, events, summarize, sealed):
    asked = options(
        reasoning={"summary": "auto" if summarize else None},
        include=["reasoning.encrypted_content"] if sealed else [],
    )
    bodies, expected = frames(events, asked), encode_response(HEAD, asked, events)
    assert [body["sequence_number"] for body in bodies] == list(range(len(bodies)))
    assert bodies[-1]["response"] == expected
    assert folded(bodies) == expected["output"]

    replay.body = transcript(bodies)
    with client.responses.create(model="nano", input="hi", stream=True) as raw:
        told = list(raw)
    assert [event.to_dict() for event in told] == bodies

    with client.responses.stream(model="nano", input="hi") as stream:
        seen = list(stream)
    assert [event.sequence_number for event in seen] == list(range(len(bodies)))
    final = seen[-1].response
    said = [e["content"][0]["text"] for e in expected["output"] if e["type"] == "message"]
    assert final.output_text == "".join(said)
    assert final.usage.total_tokens == expected["usage"]["total_tokens"]
    assert [item.type for item in final.output] == [item["type"] for item in expected["output"]]


def test_a_whole_response_is_what_the_sdk_expects(client, replay):
    response = encode_response(HEAD, options(reasoning={"effort": "low"}), EVENTS)
    replay.body, replay.content_type = json.dumps(response).encode(), "application/json"
    try:
        parsed = client.responses.create(model="nano", input="hi")
    finally:
        replay.content_type = "text/event-stream"
    # Constructing is lenient in the SDK; this is not.
    strict = type(parsed).model_validate(response)
    assert strict.output_text == parsed.output_text == "Let me look."
    assert parsed.to_dict() == response


@settings(max_examples=40, deadline=None)
@given(answers())
def test_every_event_is_what_the_sdk_expects(events):
    from openai.types.responses import ResponseStreamEvent
    from pydantic import TypeAdapter

    adapter: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    for body in frames(events):
        assert adapter.validate_python(body).type == body["type"]


def test_the_sdk_sees_a_failure(client, replay):
    encoder = ResponseEncoder(HEAD, options())
    bodies = [body for event in EVENTS[:5] for _, body in encoder.encode(event)]
    bodies.append(encoder.encode_failure(ApiError(500, "Broken."))[1])
    replay.body = transcript(bodies)
    with client.responses.stream(model="nano", input="hi") as stream:
        last = list(stream)[-1]
    assert (last.type, last.response.error.message) == ("response.failed", "Broken.")


# What goes out comes back in ---------------------------------------------------------------------

SPELLING = Tokenizer.from_ranks({bytes((byte,)): byte for byte in range(256)}, 32)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 255) | st.sampled_from(list(SPELLING.specials.values())), max_size=60),
    st.sampled_from(["stop", "length"]),
    st.booleans(),
)
def test_any_answer_is_accepted_as_history(ids, reason, sealed):
    parser = StreamParser(SPELLING)
    events = [*parser.feed(ids), *parser.finish(reason), Usage(1, 1)]
    asked = options(include=["reasoning.encrypted_content"] if sealed else [])
    told = encode_response(HEAD, asked, events)["output"]
    results = [output(item["call_id"]) for item in told if item["type"] == "function_call"]
    decoded = messages(user(), *told, *results, user("go on"))
    written = assemble(events)
    turns = [message for message in decoded if message.role == "assistant"]
    assert "".join(turn.content for turn in turns) == written.content
    calls = [call for turn in turns for call in turn.tool_calls]
    assert [call.name for call in calls] == [call.name for call in written.tool_calls]
    if reason == "stop":
        given = [call.arguments or "{}" for call in written.tool_calls]
        assert [call.arguments for call in calls] == given
    if len(turns) == 1 and told[-1]["type"] != "reasoning":
        assert turns[0].reasoning == written.reasoning


@pytest.mark.parametrize(
    ("said", "echoed"),
    [
        (None, "auto"),
        ("required", "required"),
        ({"type": "function", "function": {"name": "f"}}, {"type": "function", "name": "f"}),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [{"type": "function", "name": "f"}]},
            },
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "f"}],
            },
        ),
    ],
)
def test_a_choice_is_repeated_as_this_dialect_says_it(said, echoed):
    tools = [{"type": "function", "name": name} for name in ("f", "g")]
    _, options = decode_request({"input": "hi", "tools": tools, "tool_choice": said})
    assert options.echo["tool_choice"] == echoed
