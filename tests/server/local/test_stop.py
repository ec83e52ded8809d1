from __future__ import annotations

import itertools

from hypothesis import example, given
from hypothesis import strategies as st

from openk2.server.local.stop import StopMatcher

letters = st.text(alphabet="ab好", max_size=30)
stops = st.lists(st.text(alphabet="ab好", min_size=1, max_size=5), max_size=4)


def cut(text: str, stops: list[str]) -> tuple[str, str | None]:
    """The slow twin: look at every prefix of the whole text."""
    for end in range(len(text) + 1):
        matches = [stop for stop in stops if text[:end].endswith(stop)]
        if matches:
            longest = max(matches, key=len)
            return text[: end - len(longest)], longest
    return text, None


def pieces(text: str, borders: list[int]) -> list[str]:
    places = [0, *sorted(border % (len(text) + 1) for border in borders), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(places)]


@given(letters, st.lists(st.integers(0, 100), max_size=10), stops)
@example("aab", [1, 2], ["ab"])
@example("xab", [2], ["ab", "b"])
@example("aaab", [1, 2, 3], ["aab", "aaaa"])
def test_any_chunking_gives_what_the_whole_text_gives(text, borders, stops):
    matcher = StopMatcher(stops)
    out = "".join(matcher.feed(piece) for piece in pieces(text, borders))
    assert (out + matcher.flush(), matcher.match) == cut(text, stops)


@given(letters, stops)
def test_nothing_is_held_back_that_cannot_become_a_match(text, stops):
    matcher = StopMatcher(stops)
    out = ""
    for end, letter in enumerate(text, start=1):
        out += matcher.feed(letter)
        if matcher.match is not None:
            return
        held = text[len(out) : end]
        assert out + held == text[:end]
        assert not held or any(stop.startswith(held) for stop in stops)


def test_text_after_a_match_is_dropped():
    matcher = StopMatcher(["END"])
    assert matcher.feed("one EN") == "one "
    assert matcher.feed("D two") == ""
    assert matcher.match == "END"
    assert matcher.feed("three") == "" and matcher.flush() == ""


def test_without_stop_strings_everything_passes_at_once():
    matcher = StopMatcher([])
    assert [matcher.feed(piece) for piece in ("a", "", "b")] == ["a", "", "b"]
    assert matcher.match is None
