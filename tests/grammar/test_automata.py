"""Automata of strings and numbers read what Python's own readers read."""

from __future__ import annotations

import json
import random
import re
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.grammar import numbers
from openk2.grammar.dfa import FAR, Dfa, TooManyStatesError
from openk2.grammar.formats import FORMATS
from openk2.grammar.regex import UnsupportedPatternError, compile_pattern
from openk2.grammar.strings import UNESCAPED, any_body, counted_body, with_length, without

BODY = any_body()


def sample(dfa: Dfa, rng: random.Random, length: int = 60) -> bytes:
    """Read at random, and after some bytes the shortest way to the end."""
    state, found = 0, bytearray()
    while dfa.nexts(state) and len(found) < length:
        if state in dfa.finals and rng.random() < 0.3:
            return bytes(found)
        byte = rng.choice(dfa.nexts(state))
        found.append(byte)
        state = dfa.next(state, byte)
    return bytes(found) + dfa.shortest(state)


@given(st.text())
def test_any_string_is_read_however_python_writes_it(text: str):
    assert BODY.matches(json.dumps(text)[1:].encode())
    assert BODY.matches(json.dumps(text, ensure_ascii=False)[1:].encode())


@given(st.binary(max_size=6) | st.text(st.sampled_from('\\ud8Dc9f0"/nb')).map(str.encode))
def test_a_body_is_read_if_python_reads_it_without_lone_surrogates(data: bytes):
    try:
        text = json.loads(b'"' + data + b'"')
        text.encode()
        valid = True
    except ValueError:
        valid = False
    assert BODY.matches(data + b'"') == valid


PATTERNS = (
    *(r"^[a-z]{1,80}$", r"^[a-z][a-z0-9_-]{0,62}$", "foo", "^foo", "bar$", r"^(a|b)+c?$", r"^$"),
    *(r"^\d{3}-\d{4}$", r"^\S+$", r'^[^\s"]+$', r"^(\d+\.)?\w+$", r"^.*\.py$", "", "a|^b|c$"),
    *(r"^https?://[^/]+(/.*)?$", r"^[\u4e00-\u9fff]+$", r"^#?([a-f0-9]{6}|[a-f0-9]{3})$"),
    *(r"^[^\d]{2}$", r'^[^\\/:*?"<>|]+$', r"^(?:[A-Z]{2}\d{2})?$", r"^\W\D\s$", r"^[\w.+-]+$"),
    *(r"^(?<year>\d{4})$", r"^\x41\t\n\/\.$", r"^[^\S ]$", r"^[^\W]$", r"^x{0}y{2,}$", r"^a{b}$"),
)


@pytest.mark.parametrize("pattern", [*PATTERNS, *FORMATS.values()])
def test_what_a_pattern_writes_python_finds(pattern: str):
    dfa, fewest, most = compile_pattern(pattern)
    if fewest or most < FAR:
        dfa = with_length(dfa, fewest, most, 10_000)
    rng = random.Random(pattern)
    for _ in range(60):
        text = json.loads(b'"' + sample(dfa, rng))
        python = pattern.replace("(?<", "(?P<")
        assert re.search(python, text), text


@pytest.mark.parametrize(
    ("pattern", "found", "not_found"),
    [
        ("^[a-c]+$", ["a", "abc"], ["", "d", "ab d"]),
        ("foo", ["foo", "a foo\n", '"foo\\'], ["fo", "f oo"]),
        ("^(a|bc){2,3}$", ["aa", "abc", "bcbcbc"], ["a", "aaaa", "ab"]),
        ("^.é?$", ["x", "名é", '"'], ["", "\n", "éé x"]),
        (r"^\d+(\.\d+)?$", ["1", "12.5"], ["1.", ".5", "a"]),
    ],
)
def test_a_pattern_reads_what_it_should(pattern: str, found: list[str], not_found: list[str]):
    dfa, fewest, most = compile_pattern(pattern)
    dfa = with_length(dfa, fewest, most, 10_000)

    def matches(text: str) -> bool:
        return dfa.matches(json.dumps(text, ensure_ascii=False)[1:].encode())

    assert [text for text in (*found, *not_found) if matches(text)] == found


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            r"(?=a)",
            r"(?!a)",
            r"(?<=a)b",
            r"(a)\1",
            r"\bword\b",
            r"a^b",
            "(",
            "a)",
            "[a",
            "*a",
            "a**",
        ),
        *(r"[z-a]", r"\p{L}", r"\uD800", "x{5000}", "(" * 60 + ")" * 60, "a" * 3000, "\\"),
        *("(((a{99}){99}){99})", "(a|b)*a(a|b){12}$"),
    ],
)
def test_what_is_not_regular_or_too_big_is_refused(pattern: str):
    with pytest.raises((UnsupportedPatternError, TooManyStatesError)):
        compile_pattern(pattern)


def test_some_words_are_left_out():
    dfa = without(counted_body(UNESCAPED), [b'ab"', b'abc"', '名"'.encode()], 100)
    words = ["", "a", "ab", "abc", "abcd", "名", "名前", "x"]
    read = [word for word in words if dfa.matches(f'{word}"'.encode())]
    assert read == ["", "a", "abcd", "名前", "x"]


@settings(max_examples=150, deadline=None)
@given(
    st.none() | st.decimals(-3000, 3000, places=3) | st.integers(-(10**17), 10**17),
    st.none() | st.decimals(-3000, 3000, places=2) | st.integers(-(10**17), 10**17),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.integers(0, 1 << 30),
)
def test_numbers_between_bounds(low, high, from_low, to_high, whole, seed):
    low, high = (None if bound is None else Decimal(bound) for bound in (low, high))
    dfa = numbers.between(low, high, (from_low, to_high), whole)
    rng = random.Random(seed)

    def within(number) -> bool:
        as_read = type(number)  # a validator has the bounds as floats, too
        least, most = (None if bound is None else as_read(bound) for bound in (low, high))
        if as_read is int:
            least, most = low, high
        above = least is None or number > least or (from_low and number == least)
        return above and (most is None or number < most or (to_high and number == most))

    for _ in range(0 if dfa.empty else 20):
        number = json.loads(sample(dfa, rng))
        assert within(number) and (not whole or isinstance(number, int))
    near = [int(bound) + d for bound in (low, high, 0) if bound is not None for d in (-1, 0, 1)]
    for number in near:
        if abs(number) < 10**numbers.DIGITS:
            assert dfa.matches(str(number).encode()) == within(number)


@pytest.mark.parametrize("dfa", [numbers.number(), numbers.integer(), numbers.multiples(7)])
def test_numbers_are_read_by_python_and_finite(dfa: Dfa):
    rng = random.Random(0)
    for _ in range(300):
        text = sample(dfa, rng)
        assert abs(float(json.loads(text))) < float("inf")


@given(
    st.floats(allow_nan=False, allow_infinity=False).filter(
        lambda x: x == 0 or 1e-190 < abs(x) < 1e190
    )
)
def test_floats_are_read_as_python_writes_them(x: float):
    assert (
        numbers.number().matches(json.dumps(x).encode())
        or len(str(int(x))) > numbers.DIGITS
        or abs(x) < 1e-190
    )


@given(st.integers(-(10**18) + 1, 10**18 - 1))
def test_integers_are_read_as_python_writes_them(n: int):
    assert numbers.integer().matches(str(n).encode())
    assert abs(n) >= 10**15 or numbers.multiples(3).matches(str(n).encode()) == (n % 3 == 0)
