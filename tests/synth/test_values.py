"""Whatever value is drawn satisfies its schema, and big pools make it new."""

from __future__ import annotations

import re
from random import Random
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.synth.meanings import examples_in, meaning_of, words_of
from openk2.synth.pattern import TooHard, matching
from openk2.synth.values import Drawer, Undrawable

NAMES = st.sampled_from(
    ("city", "start_date", "email", "id", "limit", "query", "userName", "x", "文件路径", "amount")
)


def limits(
    low: str, high: str, values: st.SearchStrategy[Any]
) -> st.SearchStrategy[dict[str, Any]]:
    pair = st.tuples(values, values).map(sorted)
    return st.one_of(
        st.just({}), pair.map(lambda two: {low: two[0], high: two[1]}),
        values.map(lambda one: {low: one}), values.map(lambda one: {high: one}),
    )  # fmt: skip


FORMATS = st.sampled_from(
    [
        "date",
        "date-time",
        "uri",
        "uuid",
        "email",
        "ipv4",
        "ipv6",
        "time",
        "duration",
        "hostname",
        "regex",
        "json-pointer",
    ]
)
small = st.integers(0, 6)
leaf = st.one_of(
    limits("minLength", "maxLength", small).map(lambda more: {"type": "string", **more}),
    limits("minimum", "maximum", st.integers(-900, 900)).map(lambda m: {"type": "integer", **m}),
    limits("minimum", "maximum", small).map(lambda m: {"type": ["number", "null"], **m}),
    st.lists(st.text(max_size=5), min_size=1, max_size=4).map(lambda members: {"enum": members}),
    FORMATS.map(lambda form: {"type": "string", "format": form}),
    st.sampled_from(("^[A-Z]{2}-\\d{3}$", "(red|blue)+", "[^ ]{2,4}x?")).map(
        lambda pattern: {"type": "string", "pattern": pattern}),
    st.just({"type": "boolean"}),
    st.just({"const": 3}),
)  # fmt: skip


def wider(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    objects = st.dictionaries(NAMES, inner, max_size=3).flatmap(
        lambda properties: st.sets(
            st.sampled_from(sorted(properties)) if properties else st.nothing()
        ).map(lambda need: {"type": "object", "properties": properties, "required": sorted(need)})
    )
    lists = st.tuples(inner, limits("minItems", "maxItems", small)).map(
        lambda two: {"type": "array", "items": two[0], **two[1]}
    )
    choices = st.lists(inner, min_size=1, max_size=3).map(lambda some: {"anyOf": some})
    return st.one_of(objects, lists, choices)


@settings(max_examples=60, deadline=None)
@given(schema=st.recursive(leaf, wider, max_leaves=6), name=NAMES, seed=st.integers(0, 9))
def test_every_value_satisfies_its_schema(schema: dict[str, Any], name: str, seed: int) -> None:
    drawer = Drawer(name, schema)
    value = drawer.draw(Random(seed))
    jsonschema_rs.validator_for(schema, validate_formats=True).validate(value)
    assert drawer.draw(Random(seed)) == value


PIECES = st.sampled_from(
    (
        "a",
        "\\d",
        "\\w{2}",
        "[a-f]+",
        "(?:x|yz)",
        "[^0-9]?",
        "\\.",
        "(ab)*",
        "q{2,3}",
        "-",
        "[\\w-]{4}",
    )
)


@settings(max_examples=40, deadline=None)
@given(pieces=st.lists(PIECES, min_size=1, max_size=6), seed=st.integers(0, 9))
def test_texts_match_their_patterns(pieces: list[str], seed: int) -> None:
    pattern = "".join(pieces)
    assert re.fullmatch(pattern, matching(pattern, Random(seed)))


@pytest.mark.parametrize("pattern", ["(?=a)b", "(a)\\1", "[", "a{", "(", "*", "((a{99}){99}){99}"])
def test_hard_patterns_are_refused_and_never_guessed(pattern: str) -> None:
    with pytest.raises(TooHard):
        for seed in range(3):
            matching(pattern, Random(seed))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": 3, "maximum": 2},
        {"type": "string", "minLength": 10**9},
        {"type": "array", "minItems": 10**9},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
        {"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#/nowhere"}}},
        {"type": "wrong"},
    ],
)
def test_schemas_without_values_are_said_to_have_none(schema: dict[str, Any]) -> None:
    with pytest.raises(Undrawable):
        Drawer("x", schema).draw(Random(0))


@pytest.mark.parametrize("name", ["city", "title", "query", "user_id", "email", "name", "message"])
def test_values_are_too_many_to_be_memorised(name: str) -> None:
    drawer = Drawer(name, {"type": "string"})
    drawn = {drawer.draw(Random(seed)) for seed in range(400)}
    assert len(drawn) > (120 if name == "city" else 320)


def test_names_and_descriptions_tell_what_fits() -> None:
    assert words_of("getHTTPStatus_v2") == ["get", "http", "status", "v2"]
    names = ("toEmail", "start_date", "cityName", "orderId")
    assert [meaning_of(name) for name in names] == ["email", "day", "city", "id"]
    assert meaning_of("目的城市") == "city"
    assert meaning_of("zzz", "The day, as YYYY-MM-DD") == "day"
    assert examples_in("Kind of call (e.g., voice, video)") == ("voice", "video")
    assert examples_in("类型，可选值：红色、蓝色或绿色") == ("红色", "蓝色", "绿色")
    assert examples_in("The name of the thing") == ()
