"""Streams of other servers, as bytes: any cut gives the same events, any oddity is understood."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.server.errors import ApiError
from openk2.server.merge import merge_pieces
from openk2.server.upstream.choice import CallRules, ChoiceReader, ToolCallStats
from openk2.server.upstream.stream import (
    MAX_EVENT,
    SseReader,
    StreamDecoder,
    read_usage,
)
from openk2.server.upstream.validation import ToolValidator
from openk2.server.wire_json import read_slowly, read_wire, write_wire
from openk2.types import (
    Event,
    Logprobs,
    PromptRead,
    ReasoningDelta,
    Sampling,
    TextDelta,
    TokenLogprob,
    ToolCallArguments,
    ToolCallStart,
    ToolSpec,
    Usage,
)
from tests.server.upstream.fake import USAGE, call, delta, frame

WEATHER = ToolSpec("weather", "", {"type": "object", "properties": {"n": {"type": "integer"}}})
DONE = frame(b"[DONE]")


def reader(constrained: bool = False, most: int | None = None, **sampling: Any) -> ChoiceReader:
    tools = [WEATHER, ToolSpec("now")]
    rules = CallRules(ToolValidator(tools), 5, most, constrained)
    return ChoiceReader(rules, ToolCallStats(), Sampling(**sampling))


def read(data: bytes, cuts: Sequence[int] = (), **options: Any) -> tuple[list[Event], ChoiceReader]:
    choice = reader(**options)
    decoder = StreamDecoder([choice])
    edges = [0, *sorted(cuts), len(data)]
    items = [item for start, end in pairwise(edges) for item in decoder.feed(data[start:end])]
    items += decoder.close()
    items += [(0, event) for event in choice.finish()]
    return [event for _, event in merge_pieces(items)], choice


def says(*chunks: Any, **options: Any) -> list[Event]:
    return read(b"".join(map(frame, chunks)) + DONE, **options)[0][1:]


RECORDED = b"".join(
    [
        b"\xef\xbb\xbf" + frame(delta(reasoning_content="So. ")),
        b": welcome\r\n\r\n",
        frame(delta(role="assistant", content="")).replace(b"\n", b"\r\n"),
        frame(delta(reasoning_content="Hm. ")),
        b"event: chunk\nid: 7\n" + frame(delta(reasoning_content="Ok.")),
        frame(delta(content="Grüße, 世界 🌍 ")).replace(b"\n", b"\r"),
        b": keep-alive\n\n",
        frame(json.dumps(delta(content="x"), indent=1).encode().replace(b"\n", b"\ndata: ")),
        frame(delta(tool_calls=[call("weather", '{"n"', index=0, id="a")])),
        frame(delta(tool_calls=[call(None, ": 1}", index=0)])),
        frame(delta(tool_calls=[call("now", "", index=1, id="b")])),
        frame(delta("tool_calls")),
        frame(USAGE),
        DONE,
    ]
)
EXPECTED = [
    PromptRead(0),
    ReasoningDelta("So. Hm. Ok."),
    TextDelta("Grüße, 世界 🌍 x"),
    ToolCallStart(0, "functions.weather:5", "weather"),
    ToolCallArguments(0, '{"n": 1}'),
    ToolCallStart(1, "functions.now:6", "now"),
    ToolCallArguments(1, "{}"),
]


@given(st.lists(st.integers(0, len(RECORDED)), max_size=40))
def test_any_cut_gives_the_same_events(cuts):
    events, choice = read(RECORDED, cuts)
    assert events == EXPECTED
    assert choice.reason == "tool_calls"


def test_one_byte_at_a_time_gives_the_same_events():
    assert read(RECORDED, list(range(len(RECORDED))))[0] == EXPECTED


@given(st.lists(st.integers(0, 2000), max_size=30), st.booleans())
def test_any_cut_of_streamed_calls_gives_the_same_events(cuts, merged):
    data = b"".join(
        [
            *(frame(delta(content=word)) for word in ("a ", "b")),
            frame(delta(tool_calls=[call("weather", None, index=0, id="a")])),
            *(
                frame(delta(tool_calls=[call(None, piece, index=0)]))
                for piece in ('{"n', '": ', "12", "}")
            ),
            frame(delta("stop")),
            DONE,
        ]
    )
    events, _ = read(data, [cut % len(data) for cut in cuts], constrained=True)
    assert events[1:] == [
        TextDelta("a b"),
        ToolCallStart(0, "functions.weather:5", "weather"),
        ToolCallArguments(0, '{"n": 12}'),
    ]


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data):
    try:
        read(data)
    except ApiError as error:
        assert error.status in (400, 413, 502)


def a(n: int, index: int = 0) -> list[Event]:
    return [
        ToolCallStart(index, f"functions.weather:{5 + index}", "weather"),
        ToolCallArguments(index, f'{{"n": {n}}}'),
    ]


ONE, TWO = '{"n": 1}', '{"n": 2}'


@pytest.mark.parametrize("constrained", [False, True])
@pytest.mark.parametrize(
    "deltas",
    [
        [[call("weather", ONE, index=0, id="a")], [call("weather", TWO, index=1, id="b")]],
        [[call("weather", ONE, index=0, id="a"), call("weather", TWO, index=1, id="b")]],
        [[call("weather", ONE, id="a")], [call("weather", TWO, id="b")]],
        [[call("weather", ONE), call("weather", TWO)]],
        [[call("weather", ONE, index=0, id="a"), call("weather", TWO, index=0, id="b")]],
        [[call("weather", ONE, index=0, id="x"), call("weather", TWO, index=1, id="x")]],
        [[call("weather", {"n": 1}, index=0), call("weather", {"n": 2}, index=1)]],
        [
            [call("weather", '{"n"', id="a", index=0)],
            [call("weather", ": 1}", id="a", index=0)],
            [call("weather", TWO, id="b", index=1)],
        ],
        [
            [call("wea", "", id="a", index=0)],
            [call("ther", None, index=0)],
            [call(None, ONE, index=0)],
            [call("weather", '{"n": ', id="b", index=1)],
            [call(None, "2}", index=1)],
        ],
        [
            [call("weather", "", id="a")],
            [call(None, '{"n": ')],
            [call(None, "1}", id="")],
            [call("weather", TWO, id="b")],
        ],
    ],
)
def test_calls_are_told_apart_however_they_come(deltas, constrained):
    chunks = [delta(tool_calls=entries) for entries in deltas]
    assert says(*chunks, delta("stop"), constrained=constrained) == [*a(1), *a(2, index=1)]


def test_the_deltas_of_two_calls_may_be_mixed():
    mixed = [
        call("weather", '{"n"', index=0, id="a"),
        call("weather", '{"n":', index=1, id="b"),
        call(None, ": 1}", index=0),
        call(None, " 2}", index=1),
    ]
    assert says(delta(tool_calls=mixed), delta("stop")) == [*a(1), *a(2, index=1)]


def test_a_call_that_is_whole_does_not_wait_for_the_end_of_the_answer():
    choice = reader()
    first = delta(tool_calls=[call("weather", ONE, index=0)])["choices"][0]
    second = delta(tool_calls=[call("now", "", index=1)])["choices"][0]
    assert choice.feed(first) == []
    assert choice.feed(second) == a(1)


def test_constrained_calls_stream_and_others_wait():
    begun = delta(tool_calls=[call("weather", '{"n"', index=0)])["choices"][0]
    assert reader().feed(begun) == []
    assert reader(constrained=True).feed(begun) == [
        ToolCallStart(0, "functions.weather:5", "weather"),
        ToolCallArguments(0, '{"n"'),
    ]


def test_a_streamed_call_is_checked_and_counted():
    events, choice = read(
        frame(delta("stop", tool_calls=[call("weather", '{"n": "x"}', index=0)])) + DONE,
        constrained=True,
    )
    assert choice.misformed == 1 and choice.failed == []
    assert isinstance(events[-1], ToolCallArguments)


def test_an_undeclared_call_never_streams():
    chunk = frame(delta("stop", tool_calls=[call("wether", "{}", index=0)])) + DONE
    events, choice = read(chunk, constrained=True)
    assert events == [PromptRead(0)]
    assert [failed.name for failed in choice.failed] == ["wether"]


def test_calls_beyond_the_most_are_dropped():
    entries = [call("weather", ONE, index=0), call("weather", TWO, index=1)]
    for constrained in (False, True):
        one = says(delta("stop", tool_calls=entries), most=1, constrained=constrained)
        assert one == a(1)
    assert says(delta("stop", tool_calls=entries), most=0) == []


def test_text_after_a_call_comes_last_and_white_space_not_at_all():
    first = delta(tool_calls=[call("weather", '{"n"', index=0)])
    rest = delta(tool_calls=[call(None, ": 1}", index=0)])
    said = says(first, delta(content="done"), rest, delta(content="\n"), delta("stop"))
    assert said == [*a(1), TextDelta("done\n")]
    assert says(first, delta(content="\n"), rest, delta("stop")) == a(1)


def test_a_call_that_the_limit_cut_is_passed_on_as_it_is():
    cut = delta("length", tool_calls=[call("weather", '{"n": [1', index=0)])
    events, choice = read(frame(cut) + DONE)
    assert events[1:] == [
        ToolCallStart(0, "functions.weather:5", "weather"),
        ToolCallArguments(0, '{"n": [1'),
    ]
    assert choice.reason == "length"


def test_an_invalid_call_is_kept_back():
    events, choice = read(frame(delta("stop", tool_calls=[call("weather", "?", index=0)])) + DONE)
    assert events == [PromptRead(0)] and len(choice.failed) == 1


def test_reasoning_has_two_names_and_is_read_once():
    assert says(delta(reasoning="a")) == [ReasoningDelta("a")]
    assert says(delta(reasoning="a", reasoning_content="a")) == [ReasoningDelta("a")]


def test_halves_of_a_surrogate_pair_are_joined_or_replaced():
    halves = [delta(content="\ud83c"), delta(content="\udf0d!"), delta(content="a\udf0d")]
    assert says(*halves) == [TextDelta("🌍!a\ufffd")]


@given(st.text(st.characters(codec=None), max_size=5), st.sampled_from(["stop", "length"]))
def test_whatever_a_call_says_can_be_sent_on(text, reason):
    entries = [call(f"weather{text}", f'{{"n": {text}', index=0), call("now", text, index=1)]
    for constrained in (False, True):
        chunk = frame(delta(reason, tool_calls=entries)) + DONE
        events, choice = read(chunk, constrained=constrained)
        assert repr(events).encode() and write_wire(str(events))
        for event in events:
            if isinstance(event, ToolCallStart):
                assert event.name.encode() and event.id.encode()
            elif isinstance(event, ToolCallArguments):
                assert event.text.encode()
        assert all(failed.problem.encode() for failed in choice.failed)


def test_a_whole_answer_in_place_of_a_stream_is_understood():
    message = {"role": "assistant", "content": "Hi", "tool_calls": [call("weather", ONE, id="a")]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    body = json.dumps({"choices": [choice], "usage": USAGE["usage"]}, indent=1).encode()
    events, said = read(b"\n" + body, [1, 2, 30])
    assert events == [PromptRead(7), TextDelta("Hi"), *a(1)]
    assert said.reason == "tool_calls"


@pytest.mark.parametrize(
    ("reason", "ours"),
    [("stop", "stop"), ("length", "length"), ("tool_calls", "stop"), ("content_filter", "stop")],
)
def test_finish_reasons(reason, ours):
    assert read(frame(delta(reason, content="x")) + DONE)[1].reason == ours


def test_a_stop_string_is_known_by_its_name():
    for field in ("stop_reason", "matched_stop"):
        chunk = delta("stop", content="x")
        chunk["choices"][0][field] = "END"
        assert read(frame(chunk) + DONE, stop=("END",))[1].stop_sequence == "END"
        assert read(frame(chunk) + DONE)[1].stop_sequence is None


def test_logprobs_come_before_their_text():
    chunk = delta(content="é")
    chunk["choices"][0]["logprobs"] = {
        "content": [
            {"token": "?", "bytes": [195], "logprob": -1.5, "top_logprobs": []},
            {"token": "?", "bytes": [999], "logprob": -2, "top_logprobs": [{"token": 3}]},
            {"token": "é", "logprob": -0.5, "top_logprobs": [{"token": "e", "logprob": -3.0}]},
        ]
    }
    tokens = (
        TokenLogprob(b"\xc3", -1.5),
        TokenLogprob(b"?", -2.0),
        TokenLogprob("é".encode(), -0.5, ((b"e", -3.0),)),
    )
    assert says(chunk, logprobs=True) == [Logprobs(tokens), TextDelta("é")]
    assert says(chunk) == [TextDelta("é")]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        DONE,
        frame(delta(content="Hi")),
        frame(delta(content="Hi"))[:-3],
        b": nothing\n\n",
        b'{"choices": [',
        frame(delta("abort")) + DONE,
        b"<html>" * 3,
    ],
)
def test_an_answer_without_an_end_is_an_error(data):
    with pytest.raises(ApiError) as caught:
        read(data)
    assert caught.value.status == 502


@pytest.mark.parametrize("end", [b"", b"data: [DONE]", b"data: [DONE]\n"])
def test_the_last_line_may_be_missing(end):
    assert read(frame(delta("stop", content="Hi")) + end)[0][1:] == [TextDelta("Hi")]


chunks = st.fixed_dictionaries(
    {"content": st.text(st.sampled_from("aé\ud83c\udf0d"), max_size=3)},
    optional={"tool_calls": st.just([call("now", "", index=0)])},
)


class Slow(StreamDecoder):
    """Takes no short way."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._sse._whole_events = lambda data: None

    def _plain_text(self, chunk: Any) -> tuple[int, None]:
        return 0, None


odd = st.sampled_from([None, 0, 1, True, 1.0, "x", [], {}])
entries = st.fixed_dictionaries(
    {"delta": st.one_of(chunks, odd)},
    optional={
        "index": st.sampled_from([0, 1, 2, -1, None, True, "0"]),
        "finish_reason": st.sampled_from([None, "", "stop"]),
        "usage": odd,
        "logprobs": odd,
    },
)
frames = st.fixed_dictionaries(
    {}, optional={"choices": st.one_of(st.lists(entries, max_size=2), odd), "usage": odd}
).map(frame)
glue = st.sampled_from([b"", b"", b"\n", b": c\n\n", b"\r", b"event: x\n", b"data: {}\ndata:\n\n"])


@given(st.lists(st.tuples(glue, frames), max_size=6), st.integers(0, 900), st.booleans())
def test_the_short_ways_say_what_the_long_ones_say(pieces, cut, logprobs):
    data = b"".join(part for pair in pieces for part in pair) + DONE
    said = []
    for kind in (StreamDecoder, Slow):
        readers = [reader(logprobs=logprobs), reader(logprobs=logprobs)]
        decoder = kind(readers)
        events: list[Any] = []
        try:
            for part in (data[:cut], data[cut:]):
                events += decoder.feed(part)
            events += decoder.close()
        except ApiError as error:
            events.append(str(error))
        said.append((events, decoder.usage, [choice.text for choice in readers]))
    assert said[0] == said[1]


def test_without_a_finish_reason_the_last_line_is_an_end():
    events, choice = read(frame(delta(content="Hi")) + DONE)
    assert events[1:] == [TextDelta("Hi")] and choice.reason == "stop"


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        ({"message": "the key sk-1 is bad"}, 502, "broke its answer off: the key *** is bad"),
        ({"message": "context length is 10", "code": 400}, 400, "context length is 10"),
        ("no", 502, "broke its answer off: no"),
        ([1], 502, "broke its answer off"),
    ],
)
def test_an_error_in_the_stream_ends_it(error, status, said):
    decoder = StreamDecoder([reader()], key="sk-1")
    decoder.feed(frame(delta(content="Hi")))
    with pytest.raises(ApiError) as caught:
        decoder.feed(frame({"error": error}))
    assert caught.value.status == status and said in caught.value.message


def test_events_and_answers_have_a_largest_size():
    for start in (b"data: ", b"{", b": "):
        decoder = StreamDecoder([reader()])
        with pytest.raises(ApiError, match="8 MiB"):
            for _ in range(MAX_EVENT // 2**16 + 1):
                decoder.feed(start + b"x" * 2**16)
    sse = SseReader()
    for _ in range(MAX_EVENT // 2**16 + 2):  # many small ones are no large one
        assert sse.feed(b"data: " + b"x" * 2**16 + b"\n\n")


@pytest.mark.parametrize(
    "usage",
    [
        {"cached_tokens": 4},
        {"prompt_tokens_details": {"cached_tokens": 4}},
        {"cached_tokens": 4, "prompt_tokens_details": None},
    ],
)
def test_usage_is_read_wherever_it_stands(usage):
    usage = {"prompt_tokens": 9, "completion_tokens": 3, **usage}
    assert read_usage(usage) == Usage(9, 3, 4)
    choice = reader()
    decoder = StreamDecoder([choice])
    last = delta("stop")
    last["choices"][0]["usage"] = usage
    decoder.feed(frame(last) + frame({"choices": [], "usage": None}) + DONE)
    assert decoder.usage_of(0) == Usage(9, 3, 4)


def test_usage_that_is_none_is_not_zero():
    assert read_usage(None) is read_usage([]) is None
    assert read_usage({"prompt_tokens": "7", "completion_tokens": -3}) == Usage(0, 0)


def test_choices_share_a_count_that_the_server_gave_for_all():
    decoder = StreamDecoder([reader(), reader()])
    items = decoder.feed(
        b"".join(map(frame, (delta("stop", 1, content="b"), delta("stop", content="a"), USAGE)))
    )
    assert items == [
        (0, PromptRead(0)),
        (1, PromptRead(0)),
        (1, TextDelta("b")),
        (0, TextDelta("a")),
    ]
    assert [decoder.usage_of(0), decoder.usage_of(1)] == [Usage(7, 3), Usage(7, 0)]
    assert decoder.feed(frame(delta(index=9, content="?"))) == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
    | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(json_values.filter(lambda value: "Infinity" not in json.dumps(value)))
def test_the_fast_reader_and_writer_do_what_the_slow_ones_do(value):
    data = json.dumps(value).encode()
    assert repr(read_wire(data)) == repr(read_slowly(data)) == repr(value)
    assert repr(read_slowly(write_wire(value))) == repr(value)


@given(st.binary(max_size=30))
def test_the_fast_reader_refuses_what_the_slow_one_refuses(data):
    try:
        value = read_wire(data)
    except ValueError:
        value = ValueError
    try:
        slow = read_slowly(data)
    except ValueError:
        slow = ValueError
    assert repr(value) == repr(slow) or isinstance(value, float)
