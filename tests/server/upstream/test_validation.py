"""Calls of other servers: valid ones are never changed, others only where that leaves no choice."""

from __future__ import annotations

import json

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.server.upstream.lenient_json import read_json, read_lenient
from openk2.server.upstream.validation import MAX_ARGUMENTS, ToolValidator, compile_schema
from openk2.types import ToolSpec

SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer", "minimum": 1},
        "scale": {"type": "number"},
        "metric": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "place": {"type": "object", "properties": {"lat": {"type": "number"}}},
    },
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS = [ToolSpec("get_weather", "", SCHEMA), ToolSpec("now")]

names = st.text(st.sampled_from("ab-_XY7"), min_size=1, max_size=8)
values = st.fixed_dictionaries(
    {"city": st.text()},
    optional={
        "days": st.integers(1, 10**6),
        "scale": st.floats(allow_nan=False, allow_infinity=False),
        "metric": st.booleans(),
        "tags": st.lists(st.text(), max_size=3),
        "place": st.fixed_dictionaries({"lat": st.floats(-90, 90)}),
    },
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def check(name: str, arguments: str):
    return ToolValidator(TOOLS).check(name, arguments)


@given(values, st.booleans(), st.sampled_from([None, 1]))
def test_a_valid_call_is_never_changed(value, ascii_only, indent):
    arguments = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    checked = check("get_weather", arguments)
    assert (checked.outcome, checked.arguments) == ("valid", arguments)


@given(json_values | values, st.sampled_from(["get_weather", "now", "Get_Weather", "other"]))
def test_what_is_passed_on_holds_to_its_schema(value, name):
    checked = check(name, json.dumps(value))
    if checked.outcome == "failed":
        assert checked.problem
    else:
        assert checked.name in ("get_weather", "now")
        schema = SCHEMA if checked.name == "get_weather" else TOOLS[1].parameters
        jsonschema.Draft202012Validator(schema).validate(json.loads(checked.arguments))


@given(st.text(max_size=60) | json_values.map(json.dumps).flatmap(
    lambda text: st.integers(0, len(text)).map(lambda end: text[:end])
))  # fmt: skip
def test_any_text_is_valid_or_repaired_or_failed(text):
    checked = check("get_weather", text)
    if checked.outcome != "failed":
        assert isinstance(json.loads(checked.arguments), dict)


@pytest.mark.parametrize(
    ("written", "repaired"),
    [
        ('{"city": "Rome",}', '{"city": "Rome"}'),
        ('{"city": "Rome", "tags": ["a", "b",]}', '{"city": "Rome", "tags": ["a", "b"]}'),
        ('{"city": "Rome"', '{"city": "Rome"}'),
        ('{"city": "Rome", "tags": ["a"', '{"city": "Rome", "tags": ["a"]}'),
        ('{"city": "Rome", "metric": True}', '{"city": "Rome", "metric": true}'),
        ("{'city': 'O\\'Hare'}", '{"city": "O\'Hare"}'),
        ('{"city": "a\nb"}', '{"city": "a\\nb"}'),
        ('{"city": "Rome", "days": "3"}', '{"city": "Rome", "days": 3}'),
        ('{"city": "Rome", "scale": "1.5"}', '{"city": "Rome", "scale": 1.5}'),
        ('{"city": "Rome", "metric": "false"}', '{"city": "Rome", "metric": false}'),
        ('{"city": "Rome", "tags": "[\\"a\\"]"}', '{"city": "Rome", "tags": ["a"]}'),
        (
            '{"city": "Rome", "place": "{\\"lat\\": \\"1\\"}"}',
            '{"city": "Rome", "place": {"lat": 1}}',
        ),
        ('"{\\"city\\": \\"Rome\\"}"', '{"city": "Rome"}'),
        ('```json\n{"city": "Rome"}\n```', '{"city": "Rome"}'),
    ],
)
def test_what_leaves_no_choice_is_repaired(written, repaired):
    checked = check("get_weather", written)
    assert (checked.outcome, checked.arguments) == ("repaired", repaired)


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ('{"city": "Ro', "not JSON"),
        ('{"city": "Rome",', "not JSON"),
        ('{"city": ', "not JSON"),
        ('{"city": "Rome"} {"city": "Oslo"}', "not JSON"),
        ('{"city": "Rome" "days": 3}', "not JSON"),
        ("{city: 'Rome'}", "not JSON"),
        ('{"city": "Rome", "scale": NaN}', "not JSON"),
        ('{"city": "Rome", "scale": 1e999}', "not JSON"),
        ('{"city": "Rome", "city": ""}'[:-1], "not JSON"),
        ('["Rome"]', "must be a JSON object"),
        ("", '"city" is a required property'),
        ('{"city": 3}', '["city"]: 3 is not of type "string"'),
        ('{"city": "Rome", "days": "soon"}', '"soon" is not of type "integer"'),
        ('{"city": "Rome", "days": "3.5"}', '"3.5" is not of type "integer"'),
        ('{"city": "Rome", "days": 0}', "0 is less than the minimum of 1"),
        ('{"city": "Rome", "town": "Rome"}', "Additional properties"),
        ('{"a":' * 5000, "not JSON"),
        ('{"city": "' + "x" * MAX_ARGUMENTS + '"}', "too long"),
    ],
)
def test_what_could_mean_several_things_fails_with_a_reason(written, problem):
    checked = check("get_weather", written)
    assert checked.outcome == "failed" and problem in checked.problem
    assert checked.arguments == written
    assert len(checked.problem) <= 300


@pytest.mark.parametrize("name", ["functions.now", "functions.now:12", "Now", "NOW:3", " now"])
def test_a_name_is_understood_if_one_tool_alone_fits(name):
    checked = check(name, "{}")
    assert (checked.name, checked.outcome) == ("now", "repaired")


def test_a_name_that_fits_two_tools_or_none_fails():
    two = ToolValidator([ToolSpec("Run"), ToolSpec("RUN")])
    assert two.check("run", "{}").outcome == "failed"
    assert two.check("RUN", "{}").outcome == "valid"
    assert "there is no tool 'later'; the tools are get_weather, now" in check("later", "").problem


def test_no_arguments_are_an_empty_object():
    assert check("now", "").arguments == check("now", " \n").arguments == "{}"


@given(json_values)
def test_the_lenient_reader_reads_json_as_the_strict_one_does(value):
    text = json.dumps(value)
    assert json.dumps(read_lenient(text)) == json.dumps(read_json(text)) == text


@given(st.text("{}[]\"',:\\ 1eE-+.tTrueNonfals`\n", max_size=40))
def test_the_lenient_reader_agrees_with_the_strict_one_or_refuses(text):
    try:
        strict = read_json(text)
    except ValueError:
        strict = None
    try:
        lenient = read_lenient(text)
    except ValueError:
        lenient = None
    if strict is not None and lenient is not None:
        assert json.dumps(strict) == json.dumps(lenient)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:9/x"}}},
        {"type": "object", "properties": {"a": {"$ref": "file:///etc/hostname"}}},
        {"type": "object", "properties": {"a": {"pattern": "(?<=a)b"}}},
        {"type": "nonsense"},
    ],
)
def test_a_schema_that_cannot_be_compiled_leaves_name_and_json_to_be_checked(schema):
    validator = ToolValidator([ToolSpec("f", "", schema)])
    assert validator.check("f", '{"a": 1}').outcome == "valid"
    assert validator.check("f", "[1]").outcome == "failed"
    assert validator.unusable == ["f"]


def test_a_pattern_that_backtracks_takes_no_time():
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}}
    assert compile_schema(schema) is not None
    checked = ToolValidator([ToolSpec("f", "", schema)]).check("f", '{"a": "%sb"}' % ("a" * 50_000))
    assert checked.outcome == "failed"


def test_a_schema_in_another_draft_is_read_in_that_draft():
    draft = "http://json-schema.org/draft-07/schema#"
    pair = {"type": "array", "items": [{"type": "integer"}, {"type": "string"}]}
    schema = {"$schema": draft, "type": "object", "properties": {"a": pair}}
    validator = ToolValidator([ToolSpec("f", "", schema)])
    assert validator.check("f", '{"a": [1, "x"]}').outcome == "valid"
    assert validator.check("f", '{"a": ["x", 1]}').outcome == "failed"
