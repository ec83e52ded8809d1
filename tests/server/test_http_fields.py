"""Every field of a request body becomes what docs/reference/http_fields.toml says of it."""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from docs.reference.http_page import (
    DIALECTS,
    FIELDS,
    STATUSES,
    Dialect,
    described,
    field_rows,
    find_schema,
)
from openk2.server.dialects import anthropic, completions, openai, openai_body, responses
from openk2.server.errors import ApiError
from tests.server import chat_fields
from tests.server.dialects.messages_bodies import HI, OURS
from tests.server.field_case import Case
from tests.server.field_cases import HONOURED, REFUSED, TYPED, WHOLE
from tests.server.responses_fields import ASK, FUNCTIONS, sign
from tests.server.vendor_fields import VENDOR_FIELDS

Json = dict[str, Any]
Decode = Callable[[Any], tuple[Any, Any]]

DECODE: dict[str, Decode] = {
    "chat": openai.decode_request,
    "responses": lambda body: responses.decode_request(body, sign),
    "messages": lambda body: anthropic.decode_request(body, signer=OURS),
    "completions": lambda body: (completions.decode_request(body), None),
}
BODIES: dict[str, type[BaseModel]] = {
    "chat": openai_body.Body,
    "responses": responses.Body,
    "messages": anthropic.Body,
    "completions": completions.Body,
}
CHECKED_TOGETHER = {
    "chat": openai_body.REFUSED,
    "responses": {},
    "messages": anthropic.REFUSED,
    "completions": completions.REFUSED,
}
"""Fields that a decoder refuses before it looks at the shape."""

JUNK = [None, 0, -1, 1.5, True, "", "odd", [], [{}], {}, {"type": "odd"}, {"a": {"b": [1]}}]


def rows(status: str) -> list[Any]:
    return [
        pytest.param(dialect.name, path, id=f"{dialect.name}:{path}")
        for dialect in DIALECTS
        for path, row in field_rows(dialect.name).items()
        if row.status == status
    ]


# Paths ------------------------------------------------------------------------------------------


def steps(path: str) -> list[tuple[str, str | None]]:
    """Split `content[tool_use].id` into names and kinds; `""` is a list of any kind."""
    found = [re.fullmatch(r"(\w+)(?:\[(\w*)\])?", step) for step in path.split(".")]
    return [(step[1], step[2]) for step in found if step]


def parents(body: Any, path: str) -> Iterator[Json]:
    """Yield every object of a body in which the last field of `path` can stand."""
    places = [body]
    for name, kind in steps(path)[:-1]:
        places = [place[name] for place in places if name in place]
        if kind is not None:
            places = [entry for place in places if isinstance(place, list) for entry in place]
            places = [entry for entry in places if not kind or entry.get("type") == kind]
    yield from (place for place in places if isinstance(place, dict))


def with_value(body: Json, path: str, value: object) -> Json:
    body = copy.deepcopy(body)
    name, kind = steps(path)[-1]
    found = [place for place in parents(body, path) if kind is None or name in place]
    assert found, "this body has no place for it"
    for place in found:
        if kind is None:
            place[name] = value
        elif isinstance(place[name], list):
            place[name].append({"type": kind, "data": value})
    return body


def without(body: Json, path: str) -> Any:
    """Remove a field, and whatever is empty then."""
    body = copy.deepcopy(body)
    name, kind = steps(path)[-1]
    for place in parents(body, path):
        if kind and isinstance(place.get(name), list):
            place[name] = [entry for entry in place[name] if entry.get("type") != kind]
        else:
            place.pop(name, None)
    return filled(body)


def filled(value: Any) -> Any:
    if isinstance(value, dict):
        left = {name: filled(item) for name, item in value.items()}
        return {name: item for name, item in left.items() if item is not None} or None
    if isinstance(value, list):
        return [filled(item) for item in value] or None
    return value


def follow(found: tuple[Any, Any], where: str) -> Any:
    value: Any = found[0]
    for step in where.split("."):
        if step == "options":
            value = found[1]
        elif isinstance(value, list | tuple):
            value = value[int(step)] if int(step) < len(value) else None
        elif isinstance(value, dict):
            value = value.get(step)
        else:
            value = getattr(value, step, None)
    return value


def plain(path: str) -> str:
    return re.sub(r"\[\w*\]", "[]", path)


# What the table says is so ----------------------------------------------------------------------


def honoured_cases(dialect: str, path: str) -> list[tuple[str, Case]]:
    """Return the case of a field; an object is honoured if a field in it is."""
    found = HONOURED[dialect]
    inner = [name for name in found if re.match(rf"{re.escape(path)}[.\[]", name)]
    return [(path, found[path])] if path in found else [(name, found[name]) for name in inner]


@pytest.mark.parametrize(("dialect", "path"), rows("honoured"))
def test_an_honoured_field_changes_what_is_asked(dialect: str, path: str):
    cases = honoured_cases(dialect, path)
    assert cases, "tests/server/*_fields.py have no body with it"
    for name, case in cases:
        assert without(case.body, name) == without(case.other, name), "more than it differs"
        assert case.body != case.other
        if case.where == "refused":
            DECODE[dialect](case.other)
            with pytest.raises(ApiError) as refused:
                DECODE[dialect](case.body)
            assert (refused.value.status, refused.value.param) == (400, case.expected)
        else:
            assert follow(DECODE[dialect](case.body), case.where) == case.expected
            assert asked_of(dialect, case.other, case.where) != case.expected


def asked_of(dialect: str, body: Json, where: str) -> Any:
    try:
        return follow(DECODE[dialect](body), where)
    except ApiError as error:
        return error


@pytest.mark.parametrize(("dialect", "path"), rows("refused"))
def test_a_refused_field_is_named(dialect: str, path: str):
    assert path in REFUSED[dialect], "tests/server/*_fields.py have no body with it"
    with pytest.raises(ApiError) as refused:
        DECODE[dialect](REFUSED[dialect][path])
    assert refused.value.status == 400
    # An entry of a list is named by its place, parts of a message by the message.
    named = plain(refused.value.param or "")
    assert named in (plain(path), plain(path).removesuffix("[]"))


@pytest.fixture(scope="module")
def schemas() -> Json:
    return described()["components"]["schemas"]


@pytest.mark.parametrize(("dialect", "path"), rows("ignored"))
def test_an_ignored_field_may_hold_anything(schemas: Json, dialect: str, path: str):
    told = next(one for one in DIALECTS if one.name == dialect)
    typed = find_schema(told, schemas, path) is not None
    assert typed == (path in TYPED[dialect]), "a shape has it: which values does it take?"
    expected = settled(DECODE[dialect](WHOLE[dialect]))
    accepted = TYPED[dialect].get(path, JUNK)
    for value in accepted:
        assert settled(DECODE[dialect](with_value(WHOLE[dialect], path, value))) == expected
    for value in JUNK if typed else []:
        try:
            DECODE[dialect](with_value(WHOLE[dialect], path, value))
        except ApiError as error:
            assert (error.status, plain(error.param or "")) == (400, plain(path))


def settled(found: tuple[Any, Any]) -> tuple[Any, Any]:
    """Leave out what an answer says about a field that did not change it."""
    request, options = found
    if isinstance(options, anthropic.MessagesOptions):
        options = replace(options, warnings=())
    if isinstance(options, responses.ResponsesOptions):
        options = replace(options, echo={**options.echo, "text": None})
    return request, options


LEFT_OUT: list[tuple[str, Json, str]] = [
    ("chat", {"tools": [{"type": "web_search"}]}, "tools[0]"),
    ("responses", {"tools": [*FUNCTIONS["tools"], {"type": "web_search"}]}, "tools[2]"),
    ("messages", {"tools": [{"type": "web_search_20260318", "name": "w"}]}, "tools[0]"),
    ("messages", {"mcp_servers": [{"type": "url", "name": "x"}]}, "mcp_servers"),
]


@pytest.mark.parametrize(("dialect", "fields", "named"), LEFT_OUT)
def test_what_is_left_out_is_said(dialect: str, fields: Json, named: str):
    base = {"chat": chat_fields.HI, "responses": ASK, "messages": HI}[dialect]
    assert DECODE[dialect](base)[1].warnings == ()
    _, options = DECODE[dialect](base | fields)
    assert [warning.partition(": left out")[0] for warning in options.warnings] == [named]


@pytest.mark.parametrize("name", sorted(anthropic.REFUSED))
def test_tokens_are_counted_of_a_conversation_as_it_was_sent(name: str):
    body = HI | {name: {"type": "odd"}}
    request, _ = anthropic.decode_request(body, signer=OURS, count_only=True)
    assert request == anthropic.decode_request(HI, signer=OURS, count_only=True)[0]


# The table has every field ----------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_every_field_of_the_vendors_is_in_the_table(dialect: Dialect):
    told = field_rows(dialect.name)
    ours = {path for path, row in told.items() if row.ours}
    vendors = VENDOR_FIELDS[dialect.name]
    assert vendors - told.keys() == set(), "a vendor's field without a status"
    assert told.keys() - ours - vendors == set(), "neither a vendor's nor marked as ours"
    assert ours & vendors == set(), "marked as ours, but a vendor has it"


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_every_field_of_a_shape_is_in_the_table(dialect: Dialect):
    shapes = [
        ("", BODIES[dialect.name]),
        *((f"{at}.", model) for at, model in dialect.inner.items()),
    ]
    fields = {path for at, model in shapes for path in fields_of(model, at)}
    fields |= set(CHECKED_TOGETHER[dialect.name])
    assert fields - field_rows(dialect.name).keys() == set()


def fields_of(model: type[BaseModel], at: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        path = at + (field.alias or name)
        yield path
        if path != "messages[].tools":  # the same as `tools`
            for inner, many in models_in(field.annotation):
                yield from fields_of(inner, f"{path}{'[]' if many else ''}.")


def models_in(hint: Any, many: bool = False) -> Iterator[tuple[type[BaseModel], bool]]:
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        yield hint, many
    many = many or getattr(hint, "__origin__", None) is list
    for inner in get_args(hint):
        yield from models_in(inner, many)


@pytest.mark.parametrize("name", DECODE)
def test_a_field_is_told_of_once(name: str):
    told = tomllib.loads(FIELDS.read_text(encoding="utf-8"))[name]
    paths = [path for status in STATUSES for path in told[status]]
    assert len(paths) == len(set(paths))
    assert set(told["types"]) | set(told["ours"]) <= set(paths)
    proved = [*HONOURED[name], *REFUSED[name], *TYPED[name]]
    assert set(proved) - set(paths) == set(), "a body for a field that is in no row"


# The vendors' own clients know their fields -----------------------------------------------------

HEADERS = {"betas", "user_profile_id", "workspace_id"}
"""Arguments of Anthropic's client that it sends as headers."""

OPENAI: dict[str, dict[str, tuple[str, ...]]] = {
    "chat": {
        "": ("chat.completion_create_params.CompletionCreateParamsStreaming",),
        "messages[].": (
            "chat.ChatCompletionSystemMessageParam",
            "chat.ChatCompletionUserMessageParam",
            "chat.ChatCompletionAssistantMessageParam",
            "chat.ChatCompletionToolMessageParam",
        ),
        "messages[].content[text].": ("chat.ChatCompletionContentPartTextParam",),
        "messages[].tool_calls[].": ("chat.ChatCompletionMessageFunctionToolCallParam",),
        "tools[].": ("chat.ChatCompletionFunctionToolParam", "chat.ChatCompletionCustomToolParam"),
        "tools[].function.": ("shared_params.FunctionDefinition",),
        "stream_options.": ("chat.ChatCompletionStreamOptionsParam",),
        "response_format.": ("shared_params.ResponseFormatJSONSchema",),
    },
    "responses": {
        "": ("responses.response_create_params.ResponseCreateParamsStreaming",),
        "tools[].": ("responses.FunctionToolParam",),
        "text.": ("responses.ResponseTextConfigParam",),
        "text.format.": ("responses.ResponseFormatTextJSONSchemaConfigParam",),
        "reasoning.": ("shared_params.Reasoning",),
        "stream_options.": ("responses.response_create_params.StreamOptions",),
        "input[message].": ("responses.EasyInputMessageParam",),
        "input[reasoning].": ("responses.ResponseReasoningItemParam",),
        "input[function_call].": ("responses.ResponseFunctionToolCallParam",),
        "input[function_call_output].": ("responses.response_input_param.FunctionCallOutput",),
        "input[custom_tool_call].": ("responses.ResponseCustomToolCallParam",),
        "input[custom_tool_call_output].": ("responses.ResponseCustomToolCallOutputParam",),
    },
    "completions": {"": ("completion_create_params.CompletionCreateParamsStreaming",)},
}
ANTHROPIC: dict[str, dict[str, tuple[str, ...]]] = {
    "messages": {
        "": (
            "message_create_params.MessageCreateParamsStreaming",
            "beta.message_create_params.MessageCreateParamsStreaming",
        ),
        "messages[].": (
            "beta.BetaUserMessageParam",
            "beta.BetaAssistantMessageParam",
            "beta.BetaSystemMessageParam",
        ),
        "messages[].content[text].": ("beta.BetaTextBlockParam",),
        "messages[].content[tool_use].": ("beta.BetaToolUseBlockParam",),
        "messages[].content[tool_result].": ("beta.BetaToolResultBlockParam",),
        "messages[].content[thinking].": ("beta.BetaThinkingBlockParam",),
        "messages[].content[document].": ("beta.BetaRequestDocumentBlockParam",),
        "messages[].content[search_result].": ("beta.BetaSearchResultBlockParam",),
        "messages[].content[tool_reference].": ("beta.BetaToolReferenceBlockParam",),
        "tools[].": ("beta.BetaToolParam",),
        "tool_choice.": ("beta.BetaToolChoiceAnyParam", "beta.BetaToolChoiceToolParam"),
        "thinking.": (
            "beta.BetaThinkingConfigEnabledParam",
            "beta.BetaThinkingConfigAdaptiveParam",
        ),
        "output_config.": ("beta.BetaOutputConfigParam",),
        "output_config.format.": ("beta.BetaJSONOutputFormatParam",),
    }
}


@pytest.mark.parametrize(
    ("package", "dialect", "at", "name"),
    [
        pytest.param(package, dialect, at, name, id=f"{dialect}:{name.rpartition('.')[2]}")
        for package, known in (("openai", OPENAI), ("anthropic", ANTHROPIC))
        for dialect, places in known.items()
        for at, names in places.items()
        for name in names
    ],
)
def test_a_field_of_the_vendors_clients_is_a_vendors_field(
    package: str, dialect: str, at: str, name: str
):
    shape: Any = pytest.importorskip(f"{package}.types")
    for step in name.split("."):
        shape = getattr(shape, step)
    fields = {f"{at}{field}" for field in shape.__annotations__} - HEADERS
    # What a path names in brackets is the type.
    fields -= {f"{at}type"} if at.endswith("].") and not at.endswith("[].") else set()
    assert fields - VENDOR_FIELDS[dialect] == set(), "new in this version of the client"
