from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import Completion

from openk2.server.dialects.completions import (
    CompletionEncoder,
    CompletionRequest,
    decode_request,
    encode_response,
)
from openk2.server.dialects.openai_events import Head, encode_error
from openk2.server.errors import ApiError
from openk2.server.sse import data_frame
from openk2.types import (
    Event,
    Finish,
    Logprobs,
    PromptRead,
    Sampling,
    TextDelta,
    TokenLogprob,
    Usage,
)

HEAD = Head(id="cmpl-1", created=7, model="nano")
HI = {"prompt": "hi"}

# Requests ---------------------------------------------------------------------------------------

BAD = [
    ([], None),
    ({}, "prompt"),
    ({"prompt": None}, "prompt"),
    ({"prompt": 5}, "prompt"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": [[]]}, "prompt[0]"),
    ({"prompt": ["a", ""]}, "prompt[1]"),
    ({"prompt": ["a", 5]}, "prompt[1]"),
    ({"prompt": [5, "a"]}, "prompt[1]"),
    ({"prompt": [5, -1]}, "prompt[1]"),
    ({"prompt": [5, 2**31]}, "prompt[1]"),
    ({"prompt": [True]}, "prompt[0]"),
    ({"prompt": [[5], [5, None]]}, "prompt[1][1]"),
    ({"prompt": ["a"] * 129}, "prompt"),
    ({"prompt": ["a"] * 65, "n": 2}, "n"),
    (HI | {"n": 0}, "n"),
    (HI | {"best_of": 2}, "best_of"),
    (HI | {"max_tokens": 0}, "max_tokens"),
    (HI | {"logprobs": 6}, "logprobs"),
    (HI | {"logprobs": True}, "logprobs"),
    (HI | {"echo": 1}, "echo"),
    (HI | {"echo": True, "logprobs": 1}, "echo"),
    ({"prompt": [5], "echo": True}, "echo"),
    (HI | {"suffix": "end"}, "suffix"),
    (HI | {"guided_regex": "a+"}, "guided_regex"),
    (HI | {"response_format": {"type": "json_object"}}, "response_format"),
    (HI | {"stop": ["x"] * 6}, "stop"),
    (HI | {"logit_bias": {"x": 1}}, "logit_bias"),
    (HI | {"presence_penalty": 3}, "presence_penalty"),
    (HI | {"temperature": "hot"}, "temperature"),
    (HI | {"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
]


@pytest.mark.parametrize(("body", "param"), BAD)
def test_a_bad_body_is_a_400_that_names_the_field(body, param):
    with pytest.raises(ApiError) as caught:
        decode_request(body)
    error = encode_error(caught.value)["error"]
    assert (caught.value.status, error["param"]) == (400, param)
    assert error["message"].startswith(f"{param}: " if param else "The request body")


def test_the_least_body_gets_the_defaults():
    expected = CompletionRequest(("hi",), Sampling(max_tokens=16), default_temperature=True)
    assert decode_request(HI) == expected


def test_null_is_a_field_left_out():
    names = ["model", "n", "best_of", "max_tokens", "logprobs", "echo", "suffix", "stop", "seed"]
    assert decode_request(HI | dict.fromkeys(names) | {"user": "u"}) == decode_request(HI)


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("a", ("a",)),
        (["a", "b"], ("a", "b")),
        ([1, 2], ((1, 2),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
        (["a", [3]], ("a", (3,))),
    ],
)
def test_every_form_of_prompt(prompt, prompts):
    assert decode_request({"prompt": prompt}).prompts == prompts


def test_every_setting_arrives():
    request = decode_request(
        {
            "model": "nano",
            "prompt": ["a", "b"],
            "n": 2,
            "best_of": 2,
            "max_tokens": 9,
            "temperature": 0,
            "top_p": 0.5,
            "seed": 3,
            "stop": "END",
            "logprobs": 5,
            "logit_bias": {"7": -100},
            "presence_penalty": 1,
            "frequency_penalty": -1,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )
    assert request.sampling == Sampling(
        0.0,
        0.5,
        3,
        9,
        ("END",),
        presence_penalty=1.0,
        frequency_penalty=-1.0,
        logit_bias=((7, -100.0),),
        logprobs=True,
        top_logprobs=5,
    )
    assert (request.model, request.n, request.prompts) == ("nano", 2, ("a", "b"))
    assert request.stream and request.include_usage and not request.echo


def test_no_rivals_are_still_logprobs():
    sampling = decode_request(HI | {"logprobs": 0}).sampling
    assert (sampling.logprobs, sampling.top_logprobs) == (True, 0)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
fields = st.sampled_from(["prompt", "n", "logprobs", "echo", "stop", "logit_bias", "best_of"])


@settings(deadline=None)
@given(st.dictionaries(fields, junk) | junk, st.booleans())
def test_no_json_raises_anything_but_an_api_error(body, with_prompt):
    if with_prompt and isinstance(body, dict):
        body = HI | body
    try:
        request = decode_request(body)
    except ApiError as error:
        assert error.status == 400
        assert error.param or not isinstance(body, dict)
    else:
        assert request.prompts and all(request.prompts)


# Answers ----------------------------------------------------------------------------------------


def answer(choice: int, *events: Event, prompt: int = 3) -> list[tuple[int, Event]]:
    written = [PromptRead(prompt), *events, Usage(prompt, len(events), 1)]
    return [(choice, event) for event in written]


def chunks(request: CompletionRequest, events: list[tuple[int, Event]]) -> list[dict[str, Any]]:
    encoder = CompletionEncoder(HEAD, request)
    return [chunk for choice, event in events for chunk in encoder.encode(choice, event)]


def test_a_response_folds_the_events():
    request = decode_request({"prompt": ["a", "bc"], "n": 2})
    events = [
        *answer(2, TextDelta("see"), Finish("length"), prompt=4),
        *answer(0, TextDelta("x"), TextDelta("y"), Finish("stop")),
        *answer(3, Finish("stop"), prompt=4),
        *answer(1, TextDelta("z"), Finish("tool_calls")),
    ]
    response = encode_response(HEAD, request, events)
    told = [(c["index"], c["text"], c["finish_reason"]) for c in response["choices"]]
    assert told == [(0, "xy", "stop"), (1, "z", "stop"), (2, "see", "length"), (3, "", "stop")]
    usage = response["usage"]
    # Each prompt is read once, however many answers it gets.
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["cached_tokens"]) == (7, 8, 2)
    assert (response["id"], response["object"]) == ("cmpl-1", "text_completion")


def test_logprobs_have_the_places_of_their_tokens_in_the_text():
    request = decode_request(HI | {"logprobs": 1})
    tokens = [
        TokenLogprob(b"a", -1.0, ((b"b", -0.5),)),
        TokenLogprob("好".encode()[:2], float("-inf")),
        TokenLogprob("好".encode()[2:], -2.0),
        TokenLogprob(b"!", 0.0),
    ]
    events = answer(
        0,
        Logprobs((tokens[0],)),
        TextDelta("a"),
        Logprobs((tokens[1],)),
        Logprobs((tokens[2], tokens[3])),
        TextDelta("好!"),
        Logprobs((tokens[0],)),  # of a stop string: not in the text
        Finish("stop"),
    )
    expected = {
        "tokens": ["a", "bytes:\\xe5\\xa5", "bytes:\\xbd", "!"],
        "token_logprobs": [-1.0, -9999.0, -2.0, 0.0],
        "top_logprobs": [
            {"b": -0.5, "a": -1.0},
            {"bytes:\\xe5\\xa5": -9999.0},
            {"bytes:\\xbd": -2.0},
            {"!": 0.0},
        ],
        "text_offset": [0, 1, 1, 2],
    }
    assert encode_response(HEAD, request, events)["choices"][0]["logprobs"] == expected
    streamed = [c["choices"][0]["logprobs"] for c in chunks(request, events)]
    assert streamed[-1] is None
    joined = {name: [x for s in streamed[:-1] for x in s[name]] for name in expected}
    assert joined == expected


def test_an_echo_comes_before_even_an_empty_answer():
    request = decode_request({"prompt": ["one ", "two "], "n": 2, "echo": True})
    events = [*answer(1, Finish("stop")), *answer(0, TextDelta("more"), Finish("stop"))]
    events += [*answer(2, Finish("stop")), *answer(3, TextDelta("less"), Finish("stop"))]
    response = encode_response(HEAD, request, events)
    texts = ["one more", "one ", "two ", "two less"]
    assert [choice["text"] for choice in response["choices"]] == texts


# The SDK ----------------------------------------------------------------------------------------


class Replay:
    """A server that always answers the same."""

    body, content_type = b"", ""

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


texts = st.lists(st.text(min_size=1, max_size=4), max_size=3)


@st.composite
def answers(draw: st.DrawFn) -> tuple[dict[str, Any], list[tuple[int, Event]]]:
    """A request, and the events of its choices in any order that keeps each choice's own."""
    n_prompts, n = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    logprobs = draw(st.sampled_from([None, 0, 2]))
    asked = {"prompt": ["p"] * n_prompts, "n": n, "logprobs": logprobs}
    asked["echo"] = logprobs is None and draw(st.booleans())
    asked["stream_options"] = {"include_usage": draw(st.booleans())}
    left = []
    for choice in range(n_prompts * n):
        events: list[Event] = []
        for text in draw(texts):
            if logprobs is not None:
                events.append(Logprobs((TokenLogprob(text.encode(), -1.0, ((b"a", -2.0),)),)))
            events.append(TextDelta(text))
        left.append(answer(choice, *events, Finish(draw(st.sampled_from(["stop", "length"])))))
    mixed = []
    while left:
        stream = draw(st.sampled_from(left))
        mixed.append(stream.pop(0))
        left = [stream for stream in left if stream]
    return asked, mixed


@settings(max_examples=60, deadline=None)
@given(answers())
def test_any_stream_folds_to_the_same_response(client, replay, answered):
    body, events = answered
    request = decode_request(body)
    told, expected = chunks(request, events), encode_response(HEAD, request, events)
    replay.body = b"".join(map(data_frame, told)) + b"data: [DONE]\n\n"
    replay.content_type = "text/event-stream"
    with client.completions.create(model="nano", prompt="hi", stream=True) as stream:
        received = list(stream)
    assert [chunk.to_dict() for chunk in received] == told
    if request.include_usage:
        assert told[-1] == expected | {"choices": []}
        received.pop()
    texts = [""] * len(expected["choices"])
    reasons: dict[int, str] = {}
    for chunk in received:
        (piece,) = chunk.choices
        assert piece.index not in reasons
        texts[piece.index] += piece.text
        if piece.finish_reason:
            reasons[piece.index] = piece.finish_reason
    assert texts == [choice["text"] for choice in expected["choices"]]
    assert reasons == {c["index"]: c["finish_reason"] for c in expected["choices"]}

    replay.body, replay.content_type = json.dumps(expected).encode(), "application/json"
    assert client.completions.create(model="nano", prompt="hi").to_dict() == expected
    Completion.model_validate(expected)
