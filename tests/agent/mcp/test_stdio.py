"""Lines of any length out of pieces of any size, and logs that keep secrets."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from openk2.agent.mcp.stdio import Lines, TooLong

LIMIT = 20


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces: list[bytes] = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]


@given(
    st.lists(st.binary(max_size=60).map(lambda line: line.replace(b"\n", b"")), max_size=8),
    st.lists(st.integers(0, 50), max_size=12),
)
def test_lines_are_those_that_were_sent(sent: list[bytes], sizes: list[int]):
    lines = Lines(LIMIT)
    found = [
        line
        for piece in cut(b"".join(line + b"\n" for line in sent), sizes)
        for line in lines.feed(piece)
    ]
    assert len(found) == len(sent)
    for line, original in zip(found, sent, strict=True):
        if isinstance(line, TooLong):
            assert len(original) > LIMIT and line.size == len(original)
            assert original.startswith(line.head) and original.endswith(line.tail)
        else:
            assert line == original and len(original) <= LIMIT


def test_what_is_kept_of_a_long_line_is_bounded():
    lines = Lines(LIMIT)
    for _ in range(1000):
        assert list(lines.feed(b"x" * 1000)) == []
    (found,) = lines.feed(b"\n")
    assert isinstance(found, TooLong)
    assert found.size == 1_000_000 and len(found.head) <= 256 and len(found.tail) <= 256


@given(st.integers(0, 10**12), st.text(), st.booleans())
def test_a_long_answer_tells_which_request_it_answers(number: int, words: str, last: bool):
    body = {"result": {"content": [{"type": "text", "text": words * 100 + "x" * 600}]}}
    head = {"jsonrpc": "2.0", "id": number}
    message = {**body, "jsonrpc": "2.0", "id": number} if last else {**head, **body}
    for separators in ((",", ":"), (", ", ": ")):
        (found,) = Lines(LIMIT).feed(json.dumps(message, separators=separators).encode() + b"\n")
        assert isinstance(found, TooLong) and found.answers == number


def test_an_answer_cannot_speak_for_another():
    inner = {"x": "y" * 600, "jsonrpc": "2.0", "id": 7}
    text = json.dumps({"result": {"structuredContent": inner}, "id": "mine", "jsonrpc": "2.0"})
    (found,) = Lines(LIMIT).feed(text.encode() + b"\n")
    assert isinstance(found, TooLong) and found.answers is None
    quoted = json.dumps({"id": "mine", "result": {"text": "x" * 600 + '"id":7}'}})
    (found,) = Lines(LIMIT).feed(quoted.encode() + b"\n")
    assert isinstance(found, TooLong) and found.answers is None
