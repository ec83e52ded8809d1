"""Events come out of bytes whole, wherever the bytes were cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.agent.models.wire import sse
from openk2.agent.models.wire.sse import ServerEvent, SseError, SseReader

LINE = st.text(st.characters(exclude_characters="\r\n", exclude_categories=("Cs",)), max_size=8)
EVENT = st.tuples(st.lists(LINE, min_size=1, max_size=3), st.just("") | LINE)
NEWLINE = st.sampled_from(("\n", "\r\n", "\r"))


def read(data: bytes, cuts: list[int]) -> list[ServerEvent]:
    reader = SseReader()
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    events = [
        event for start, end in itertools.pairwise(edges) for event in reader.feed(data[start:end])
    ]
    return events + reader.close()


@given(st.lists(EVENT, max_size=4), NEWLINE, st.booleans(), st.booleans(), st.booleans(), st.data())
def test_any_events_cut_anywhere_come_back(
    events: list[tuple[list[str], str]],
    newline: str,
    spaced: bool,
    marked: bool,
    ended: bool,
    data: st.DataObject,
):
    space = " " if spaced else ""
    lines = [": a comment", "", "id: 7", "retry: 5"]
    for texts, name in events:
        # Without the space, text that begins with one would lose it.
        texts = texts if spaced else [text.lstrip(" ") for text in texts]
        lines += [f"event:{space}{name}"] if name else []
        lines += [": in between", *(f"data:{space}{text}" for text in texts), "", ""]
    raw = (newline.join(lines)).encode()
    raw = (b"\xef\xbb\xbf" if marked else b"") + raw + (newline.encode() * 2 if ended else b"")
    expected = [
        ServerEvent(
            "\n".join(t if spaced else t.lstrip(" ") for t in texts).encode(),
            name if spaced else name.removeprefix(" "),
        )
        for texts, name in events
    ]
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=12))
    assert read(raw, cuts) == expected
    assert read(raw, list(range(len(raw)))) == expected


def test_the_last_event_needs_no_blank_line():
    assert read(b"data: a\n\ndata: b", []) == [ServerEvent(b"a"), ServerEvent(b"b")]
    assert read(b"data: a\n\nevent: x", []) == [ServerEvent(b"a")]


def test_an_event_without_end_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sse, "MAX_EVENT", 100)
    reader = SseReader()
    for _ in range(50):  # many small ones are none
        reader.feed(b"data: 0123456789\n\n")
    with pytest.raises(SseError):
        for _ in range(50):
            reader.feed(b"data: 0123456789\n")
