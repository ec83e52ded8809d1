from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import LengthFinishReasonError, OpenAI
from openai.types.chat import ChatCompletion
from openai.types.model import Model as ListedModel

from openk2.server.dialects.openai import ChatOptions
from openk2.server.dialects.openai_events import (
    LEAST_LOGPROB,
    ChunkEncoder,
    Head,
    encode_error,
    encode_model,
    encode_response,
)
from openk2.server.errors import ApiError
from openk2.server.request import Model
from openk2.server.sse import data_frame
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

HEAD = Head(id="chatcmpl-1", created=7, model="nano", fingerprint="fp_1")
Pairs = list[tuple[int, Event]]

CALL = ToolCallStart(0, "functions.search:0", "search")
EVENTS: list[Event] = [
    PromptRead(10, 4),
    ReasoningDelta("hm"),
    TextDelta("Let me "),
    TextDelta("look."),
    CALL,
    ToolCallArguments(0, '{"q":'),
    ToolCallArguments(0, '"k2"}'),
    ToolCallStart(1, "functions.now:1", "now"),
    Finish("tool_calls"),
    Usage(10, 5, cached_tokens=4, reasoning_tokens=1),
]


def whole(events: Iterable[Event]) -> dict[str, Any]:
    return encode_response(HEAD, [(0, event) for event in events])


def chunks(pairs: Pairs, n: int = 1, *, include_usage: bool = False) -> list[dict[str, Any]]:
    encoder = ChunkEncoder(HEAD, ChatOptions(stream=True, include_usage=include_usage, n=n))
    return [chunk for choice, event in pairs for chunk in encoder.encode(choice, event)]


def streamed(events: Iterable[Event], *, include_usage: bool = False) -> list[dict[str, Any]]:
    return chunks([(0, event) for event in events], include_usage=include_usage)


def deltas(events: Iterable[Event]) -> list[dict[str, Any]]:
    return [chunk["choices"][0]["delta"] for chunk in streamed(events)]


# One response -----------------------------------------------------------------------------------


def test_a_response_folds_the_events():
    response = whole(EVENTS)
    assert response["choices"] == [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "Let me look.",
                "reasoning_content": "hm",
                "tool_calls": [
                    {
                        "id": "functions.search:0",
                        "type": "function",
                        "function": {"name": "search", "arguments": '{"q":"k2"}'},
                    },
                    {
                        "id": "functions.now:1",
                        "type": "function",
                        "function": {"name": "now", "arguments": ""},
                    },
                ],
            },
            "logprobs": None,
            "finish_reason": "tool_calls",
        }
    ]
    assert response["usage"] == {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "cached_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }
    assert (response["id"], response["object"]) == ("chatcmpl-1", "chat.completion")
    assert response["system_fingerprint"] == "fp_1"


def test_content_is_null_only_beside_tool_calls():
    call_alone = [CALL, Finish("tool_calls"), Usage(1, 1)]
    assert whole(call_alone)["choices"][0]["message"]["content"] is None
    empty = [Finish("stop"), Usage(1, 1)]
    assert whole(empty)["choices"][0]["message"]["content"] == ""


def test_choices_have_their_index_and_pay_for_one_prompt():
    pairs: Pairs = [
        (1, PromptRead(10, 10)),
        (1, TextDelta("b")),
        (0, TextDelta("a")),
        (1, Finish("length")),
        (1, Usage(10, 4, cached_tokens=10, reasoning_tokens=1)),
        (0, Finish("stop")),
        (0, Usage(10, 3, cached_tokens=2, reasoning_tokens=2)),
    ]
    response = encode_response(HEAD, pairs)
    told = [(c["index"], c["message"]["content"], c["finish_reason"]) for c in response["choices"]]
    assert told == [(0, "a", "stop"), (1, "b", "length")]
    usage = response["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (10, 7)
    # The second choice found in the cache what the first had just put there.
    assert usage["cached_tokens"] == usage["prompt_tokens_details"]["cached_tokens"] == 2
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 3


@pytest.mark.parametrize("reason", ["stop", "length", "tool_calls"])
def test_reasons_are_told_as_they_are(reason):
    events = [Finish(reason), Usage(1, 1)]
    assert whole(events)["choices"][0]["finish_reason"] == reason
    assert streamed(events)[-1]["choices"][0]["finish_reason"] == reason


def test_an_answer_that_was_broken_off_is_cut_short():
    events = [TextDelta("a"), Finish("cancelled"), Usage(1, 1)]
    assert whole(events)["choices"][0]["finish_reason"] == "length"
    assert streamed(events)[-1]["choices"][0]["finish_reason"] == "length"


# Chunks -----------------------------------------------------------------------------------------


def test_the_role_comes_as_soon_as_the_prompt_is_read():
    assert deltas([PromptRead(9)]) == [{"role": "assistant", "content": ""}]


def test_reasoning_comes_before_content():
    kinds = [key for delta in deltas(EVENTS) for key in delta if key.endswith("content")]
    assert kinds == ["content", "reasoning_content", "content", "content"]


def test_every_tool_call_delta_has_its_index_and_only_the_first_its_name():
    assert [delta["tool_calls"] for delta in deltas(EVENTS) if "tool_calls" in delta] == [
        [
            {
                "index": 0,
                "id": "functions.search:0",
                "type": "function",
                "function": {"name": "search", "arguments": ""},
            }
        ],
        [{"index": 0, "function": {"arguments": '{"q":'}}],
        [{"index": 0, "function": {"arguments": '"k2"}'}}],
        [
            {
                "index": 1,
                "id": "functions.now:1",
                "type": "function",
                "function": {"name": "now", "arguments": ""},
            }
        ],
    ]


def test_no_content_comes_after_a_tool_call_has_begun():
    said = Logprobs((TokenLogprob(b"\n", -1.0),))
    events = [CALL, said, TextDelta("\nAnd"), Finish("tool_calls"), Usage(1, 1)]
    assert [list(delta) for delta in deltas(events)] == [["role", "content"], ["tool_calls"], []]
    assert {str(c["choices"][0]["logprobs"]) for c in streamed(events)} == {"None"}
    (choice,) = whole(events)["choices"]
    assert (choice["message"]["content"], choice["logprobs"]) == (None, None)


def test_only_the_last_chunk_has_a_finish_reason_and_no_delta():
    *others, last = [c["choices"][0] for c in streamed(EVENTS)]
    assert {choice["finish_reason"] for choice in others} == {None}
    assert (last["delta"], last["finish_reason"]) == ({}, "tool_calls")


def test_usage_comes_alone_at_the_end_and_only_if_asked_for():
    *others, last = streamed(EVENTS, include_usage=True)
    assert last["choices"] == [] and last["usage"] == whole(EVENTS)["usage"]
    assert all(chunk["usage"] is None for chunk in others)
    assert all("usage" not in chunk for chunk in streamed(EVENTS))


def test_usage_also_stands_in_the_last_choice_as_kimi_has_it():
    for asked in (False, True):
        *others, last = [c for c in streamed(EVENTS, include_usage=asked) if c["choices"]]
        assert last["choices"][0]["usage"] == whole(EVENTS)["usage"]
        assert all("usage" not in chunk["choices"][0] for chunk in others)


def test_every_chunk_repeats_the_head():
    heads = [
        {key: chunk[key] for key in ("id", "object", "created", "model", "system_fingerprint")}
        for chunk in streamed(EVENTS, include_usage=True)
    ]
    assert heads[0] == {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 7,
        "model": "nano",
        "system_fingerprint": "fp_1",
    }
    assert all(head == heads[0] for head in heads)


def test_choices_begin_in_order_whoever_speaks_first():
    # openai-python appends a choice that it has not seen, whatever its index.
    pairs: Pairs = [(2, TextDelta("c")), (0, TextDelta("a"))]
    told = [(c["choices"][0]["index"], c["choices"][0]["delta"]) for c in chunks(pairs, n=3)]
    role = {"role": "assistant", "content": ""}
    assert told == [(0, role), (1, role), (2, role), (2, {"content": "c"}), (0, {"content": "a"})]


def test_the_usage_of_all_choices_waits_for_the_last_one():
    pairs: Pairs = []
    for choice in (1, 0):
        pairs += [(choice, Finish("stop")), (choice, Usage(10, choice + 1))]
    *others, last = chunks(pairs, n=2, include_usage=True)
    assert all(chunk["usage"] is None for chunk in others)
    assert last["usage"]["completion_tokens"] == 3 and last["usage"]["prompt_tokens"] == 10
    own = [c["choices"][0]["usage"]["completion_tokens"] for c in others[-2:]]
    assert own == [2, 1]


# Log-probabilities ------------------------------------------------------------------------------

HI_LOGPROBS = Logprobs(
    (
        TokenLogprob(b"H", -0.5, ((b"H", -0.5), (b"\xe5", -1.5))),
        TokenLogprob(b"\xe5\xa5", float("-inf")),
        TokenLogprob(b"\xbd", float("nan")),
    )
)


def test_a_token_tells_its_text_its_bytes_and_its_rivals():
    (choice,) = whole([HI_LOGPROBS, TextDelta("H好"), Finish("stop"), Usage(1, 3)])["choices"]
    first, second, third = choice["logprobs"]["content"]
    assert first == {
        "token": "H",
        "logprob": -0.5,
        "bytes": [72],
        "top_logprobs": [
            {"token": "H", "logprob": -0.5, "bytes": [72]},
            {"token": "\ufffd", "logprob": -1.5, "bytes": [0xE5]},
        ],
    }
    assert bytes(second["bytes"] + third["bytes"]).decode() == "好"
    # JSON has neither infinity nor NaN.
    assert second["logprob"] == third["logprob"] == LEAST_LOGPROB
    json.dumps(choice, allow_nan=False)


def test_logprobs_come_with_the_text_that_their_tokens_make():
    late = Logprobs((TokenLogprob(b"!", -1.0),))
    events = [HI_LOGPROBS, late, TextDelta("H好!"), Finish("stop"), Usage(1, 4)]
    role, text, last = [c["choices"][0] for c in streamed(events)]
    assert text["delta"] == {"content": "H好!"}
    assert [bytes(entry["bytes"]) for entry in text["logprobs"]["content"]] == [
        b"H",
        b"\xe5\xa5",
        b"\xbd",
        b"!",
    ]
    assert role["logprobs"] is last["logprobs"] is None


def test_logprobs_of_text_that_never_comes_are_told_at_the_end():
    events = [HI_LOGPROBS, Finish("length"), Usage(1, 3)]
    assert len(streamed(events)[-1]["choices"][0]["logprobs"]["content"]) == 3
    assert len(whole(events)["choices"][0]["logprobs"]["content"]) == 3


# What a real client makes of it -----------------------------------------------------------------

text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4)
token = st.builds(
    TokenLogprob,
    st.binary(min_size=1, max_size=3),
    st.floats(-20, 0),
    st.lists(st.tuples(st.binary(max_size=2), st.floats(-20, 0)), max_size=2).map(tuple),
)
logprobs = st.builds(Logprobs, st.lists(token, min_size=1, max_size=2).map(tuple))
speech = st.lists(st.builds(TextDelta, text) | logprobs, max_size=4)


@st.composite
def answers(draw: st.DrawFn, prompt_tokens: int) -> list[Event]:
    events: list[Event] = [PromptRead(prompt_tokens)]
    events += draw(st.lists(st.builds(ReasoningDelta, text), max_size=2))
    events += draw(speech)
    for index in range(draw(st.integers(0, 2))):
        name = draw(st.sampled_from(["search", "now"]))
        events.append(ToolCallStart(index, f"functions.{name}:{index + 3}", name))
        events += [ToolCallArguments(index, piece) for piece in draw(st.lists(text, max_size=3))]
    events += draw(speech)
    reason = draw(st.sampled_from(["stop", "length", "tool_calls", "cancelled"]))
    usage = st.builds(Usage, st.just(prompt_tokens), *[st.integers(0, 9)] * 3)
    return [*events, Finish(reason), draw(usage)]


@st.composite
def generations(draw: st.DrawFn) -> tuple[int, Pairs]:
    """Draw n answers to one prompt, interleaved in any way."""
    n = draw(st.integers(1, 4))
    waiting = [draw(answers(10)) for _ in range(n)]
    order = draw(st.permutations([i for i, events in enumerate(waiting) for _ in events]))
    queues = [iter(events) for events in waiting]
    return n, [(choice, next(queues[choice])) for choice in order]


class Replay(httpx.BaseTransport):
    """Answers every request with the same stream."""

    body = b""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=httpx.ByteStream(self.body))


@pytest.fixture(scope="module")
def replay() -> Replay:
    return Replay()


@pytest.fixture(scope="module")
def client(replay: Replay) -> Iterator[OpenAI]:
    with httpx.Client(transport=replay) as http:
        yield OpenAI(base_url="http://test", api_key="none", max_retries=0, http_client=http)


def told(completion: ChatCompletion) -> dict[str, Any]:
    """Return what both forms of an answer must agree on."""
    return {
        "head": (completion.id, completion.created, completion.model),
        "fingerprint": completion.system_fingerprint,
        "usage": completion.usage and completion.usage.to_dict(),
        "choices": [
            {
                "index": choice.index,
                "role": choice.message.role,
                "content": choice.message.content or None,
                "reasoning": getattr(choice.message, "reasoning_content", None),
                "calls": [
                    (call.id, call.type, call.function.name, call.function.arguments)
                    for call in choice.message.tool_calls or ()
                ],
                "logprobs": choice.logprobs
                and [entry.to_dict() for entry in choice.logprobs.content],
                "finish_reason": choice.finish_reason,
            }
            for choice in completion.choices
        ],
    }


@given(generation=generations())
def test_a_stream_folds_into_what_the_whole_response_says(replay, client, generation):
    n, pairs = generation
    frames = [data_frame(chunk) for chunk in chunks(pairs, n, include_usage=True)]
    replay.body = b"".join([*frames, b"data: [DONE]\n\n"])
    with client.chat.completions.stream(
        model="nano", messages=[{"role": "user", "content": "hi"}], n=n
    ) as stream:
        try:
            folded = stream.get_final_completion()
        except LengthFinishReasonError as cut:
            folded = cut.completion
    expected = encode_response(HEAD, pairs)
    assert told(folded) == told(ChatCompletion.model_validate(expected))
    assert [choice["index"] for choice in expected["choices"]] == list(range(n))


# Errors and models ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, None, "invalid_request_error"),
        (400, "context_length_exceeded", "invalid_request_error"),
        (400, "content_filter", "content_filter"),
        (401, None, "invalid_authentication_error"),
        (401, "invalid_api_key", "incorrect_api_key_error"),
        (403, None, "permission_denied_error"),
        (404, "model_not_found", "resource_not_found_error"),
        (405, "method_not_allowed", "invalid_request_error"),
        (413, "request_too_large", "invalid_request_error"),
        (429, "engine_overloaded", "engine_overloaded_error"),
        (429, "rate_limit_exceeded", "rate_limit_reached_error"),
        (429, "insufficient_quota", "exceeded_current_quota_error"),
        (499, None, "client_closed_request"),
        (500, None, "server_error"),
        (502, None, "server_error"),
        (503, None, "server_unavailable"),
        (504, None, "server_error"),
    ],
)
def test_an_error_has_openais_envelope_and_kimis_type(status, code, kind):
    error = ApiError(status, "Too bad.", param="model", code=code)
    envelope = {"message": "Too bad.", "type": kind, "param": "model", "code": code}
    assert encode_error(error) == {"error": envelope}


def test_a_model_tells_both_sdks_and_kimis_clients_what_it_can():
    entry = encode_model(Model("nano", 4096, 7, reasoning=True))
    listed = ListedModel.model_validate(entry)
    assert (listed.id, listed.object, listed.created, listed.owned_by) == (
        "nano",
        "model",
        7,
        "openk2",
    )
    assert entry["context_length"] == 4096
    can = {key: value for key, value in entry.items() if key.startswith("supports_")}
    assert can == {
        "supports_image_in": False,
        "supports_video_in": False,
        "supports_reasoning": True,
    }
