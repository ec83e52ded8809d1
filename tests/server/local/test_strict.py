"""What a model with random weights writes when the request is a grammar."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import jsonschema
import pytest

from openk2.engine.thread import EngineThread
from openk2.server.errors import ApiError
from openk2.server.local.backend import LocalBackend
from openk2.server.request import ChatRequest, JsonAnswer, NamedTool, Thinking
from openk2.text.parse import assemble
from openk2.types import Finish, Message, ReasoningDelta, Sampling, TextDelta, ToolSpec, Usage

SEARCH = ToolSpec(
    "search",
    parameters={
        "type": "object",
        "properties": {
            "q": {"type": "string", "maxLength": 12},
            "kind": {"enum": ["web", "图片"]},
            "pages": {"type": "array", "items": {"type": "integer"}, "maxItems": 3},
        },
        "required": ["q", "kind"],
        "additionalProperties": False,
    },
)
NOW = ToolSpec("now")
NONE = ToolSpec("none")
ASK = ChatRequest(
    (Message("user", "hi"),),
    Sampling(temperature=1, seed=0, max_tokens=200),
    tools=(SEARCH, NOW),
)


@pytest.fixture(scope="module")
def source(ending_engine):
    with EngineThread(ending_engine) as thread:
        yield thread


def answers(source, tokenizer, request, **settings):
    async def collect():
        generation = await LocalBackend(source, tokenizer, "nano", **settings).prepare(request)
        choices = [[] for _ in range(request.n)]
        async for choice, event in generation.events():
            choices[choice].append(event)
        return choices, generation.warnings

    return asyncio.run(collect())


def answer(source, tokenizer, request, **settings):
    (events,), _ = answers(source, tokenizer, request, **settings)
    return events


def check_calls(events, *names: str) -> list[str]:
    message = assemble(events)
    schemas = {tool.name: tool.parameters for tool in (SEARCH, NOW, NONE)}
    for index, call in enumerate(message.tool_calls):
        assert call.name in names
        assert call.id == f"functions.{call.name}:{index}"
        jsonschema.validate(json.loads(call.arguments), schemas[call.name])
    return [call.name for call in message.tool_calls]


def test_required_calls_are_valid_and_end_within_the_limit(source, tokenizer):
    request = replace(ASK, tool_choice="required", n=6)
    choices, _ = answers(source, tokenizer, request)
    for events in choices:
        assert check_calls(events, "search", "now")
        assert not assemble(events).content
        assert events[-2] == Finish("tool_calls")
        assert events[-1].completion_tokens <= 200


def test_a_named_tool_is_called_once(source, tokenizer):
    request = replace(ASK, tool_choice=NamedTool("search"), n=4)
    for events in answers(source, tokenizer, request)[0]:
        assert check_calls(events, "search") == ["search"]


def test_a_tool_may_have_the_name_of_a_choice(source, tokenizer):
    request = replace(ASK, tools=(NOW, NONE), tool_choice=NamedTool("none"))
    assert check_calls(answer(source, tokenizer, request), "none") == ["none"]


@pytest.mark.parametrize("parallel", [True, False])
def test_one_call_at_most_where_calls_are_not_parallel(source, tokenizer, parallel):
    request = replace(ASK, tool_choice="required", parallel_tool_calls=parallel, n=6)
    counts = [len(check_calls(e, "search", "now")) for e in answers(source, tokenizer, request)[0]]
    assert (max(counts) == 1) is not parallel


@pytest.mark.parametrize("choice", ["auto", "none"])
def test_text_is_still_possible(source, tokenizer, choice):
    request = replace(ASK, tool_choice=choice, sampling=Sampling(1.0, seed=1, max_tokens=20))
    events = answer(source, tokenizer, request)
    assert assemble(events).content
    assert not assemble(events).tool_calls


def test_a_json_answer_obeys_its_schema(source, tokenizer):
    request = replace(ASK, tools=(), answer_format=JsonAnswer(SEARCH.parameters), n=4)
    for events in answers(source, tokenizer, request)[0]:
        jsonschema.validate(json.loads(assemble(events).content), SEARCH.parameters)
        assert events[-2] == Finish("stop")


@pytest.mark.parametrize("schema", [None, {}])
def test_json_without_a_schema_is_any_object(source, tokenizer, schema):
    request = replace(ASK, tools=(), answer_format=JsonAnswer(schema))
    assert isinstance(json.loads(assemble(answer(source, tokenizer, request)).content), dict)


def test_thinking_is_closed_when_its_budget_is_spent(source, tokenizer):
    request = replace(ASK, tools=(), thinking=Thinking(enabled=True, budget=10))
    events = answer(source, tokenizer, request, thinking=True)
    message = assemble(events)
    assert message.reasoning and message.content
    usage = events[-1]
    assert isinstance(usage, Usage)
    assert usage.reasoning_tokens == 11  # ten of thinking and its end
    kinds = [type(event) for event in events if isinstance(event, ReasoningDelta | TextDelta)]
    assert kinds.index(TextDelta) == kinds.count(ReasoningDelta)


def test_a_budget_means_nothing_where_nobody_thinks(source, tokenizer):
    request = replace(ASK, tools=(), thinking=Thinking(enabled=True, budget=10))
    events = answer(source, tokenizer, replace(request, sampling=Sampling(max_tokens=5)))
    assert not assemble(events).reasoning and events[-1].reasoning_tokens == 0


def test_a_simplified_schema_is_a_warning(source, tokenizer):
    odd = ToolSpec("odd", parameters={"type": "object", "properties": {"u": {"not": {}}}})
    request = replace(ASK, tools=(odd,), sampling=Sampling(max_tokens=2))
    _, warnings = answers(source, tokenizer, request)
    assert any("not" in warning for warning in warnings)


def test_a_schema_that_is_none_is_refused_by_name(source, tokenizer):
    broken = {"type": "object", "properties": {"x": {"type": "nothing"}}}
    with pytest.raises(ApiError, match=r"parameters of 'bad'.*nothing") as caught:
        answer(source, tokenizer, replace(ASK, tools=(SEARCH, ToolSpec("bad", "", broken))))
    assert (caught.value.status, caught.value.param) == (400, "tools")
    with pytest.raises(ApiError) as caught:
        answer(source, tokenizer, replace(ASK, tools=(), answer_format=JsonAnswer(broken)))
    assert (caught.value.status, caught.value.param) == (400, "response_format")


def test_a_limit_that_holds_no_call_is_refused(source, tokenizer):
    short = Sampling(max_tokens=5)
    with pytest.raises(ApiError, match="allow at least") as caught:
        answer(source, tokenizer, replace(ASK, tool_choice="required", sampling=short))
    assert (caught.value.status, caught.value.param) == (400, "max_tokens")
