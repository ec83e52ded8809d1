"""YAML is read as JSON, and what JSON cannot say is refused with its line."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.synth.yaml_json import YamlError, parse_yaml

WORDS = st.sampled_from(
    ["a", "it's: here", "# no", "- x", "a\nb\n", "  lead", "", "yes", "long " * 20, "x #y", "12",
     "~", "p\n\n  q\nend", 'quote"s', "你好：世界", "true", "a: b", "[x]", "{y}", "tab\there",
     "\\n", "'", "&a", "*b", "!c", "|", "? b", "end\n\n\n"]
)  # fmt: skip
KEYS = st.sampled_from(["a", "b c", "200", "x-y", "$ref", "/p/{id}", "k'q", "ä"])
VALUES = st.recursive(
    st.one_of(WORDS, st.integers(-99, 99), st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(VALUES, st.sampled_from((None, True, False)), st.sampled_from((None, "|", ">", "'")))
def test_what_pyyaml_writes_is_read(value: Any, flow: bool | None, style: str | None) -> None:
    style = style if isinstance(value, dict | list) else None
    text = yaml.safe_dump(value, default_flow_style=flow, default_style=style, width=30)
    if "!!" not in text:
        assert parse_yaml(text) == value


def test_words_are_typed_as_yaml_1_2_has_it() -> None:
    text = "a: yes\nb: 2026-01-05\nc: 010\nd: 1e3\ne: .5\nf: ~\ng: TRUE\nh: '1'\ni: 0x10"
    assert parse_yaml(text) == {
        "a": "yes", "b": "2026-01-05", "c": 10, "d": 1000.0, "e": 0.5, "f": None, "g": True,
        "h": "1", "i": "0x10",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: &x 1", 1),
        ("a: 1\nb: *x", 2),
        ("a:\n  <<: {b: 1}", 2),
        ("a: !!python/object:os.system x", 1),
        ("a: 1\na: 2", 2),
        ("a: 1\n\tb: 2", 2),
        ('a: "x', 1),
        ("a: [1, 2", 2),
        ("a: {b: 1}}", 1),
        ('a: "\\q"', 1),
        ("---\na: 1\n---\nb: 2", 3),
        ("- " * 200 + "a", 1),
        ("a: " + "[" * 5000, 1),
    ],
)
def test_what_is_not_read_is_refused_with_the_line(text: str, line: int) -> None:
    with pytest.raises(YamlError, match=f"line {line}:"):
        parse_yaml(text)
