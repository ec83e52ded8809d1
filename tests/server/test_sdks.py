"""The vendors' own packages against the application over a real socket."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anthropic
import jsonschema
import openai
import pytest

from openk2.engine.thread import EngineThread

HI: list[Any] = [{"role": "user", "content": "hi"}]
SEARCH_SCHEMA = {
    "type": "object",
    "properties": {"q": {"type": "string"}, "n": {"type": "integer"}},
    "required": ["q"],
}
CHAT_TOOL: Any = {"type": "function", "function": {"name": "search", "parameters": SEARCH_SCHEMA}}
MESSAGES_TOOL: Any = {"name": "search", "input_schema": SEARCH_SCHEMA}
RESPONSES_TOOL: Any = {"type": "function", "name": "search", "parameters": SEARCH_SCHEMA}
CALL = (
    "<think>Which tool?</think>Let me look."
    "<|tool_calls_section_begin|>"
    '<|tool_call_begin|>functions.search:0<|tool_call_argument_begin|>{"q": "K2 模型"}'
    "<|tool_call_end|><|tool_calls_section_end|>"
)


def claude(client: openai.OpenAI, path: str = "", **options: Any) -> anthropic.Anthropic:
    """Return Anthropic's client of the server that `client` talks to."""
    base = str(client.base_url).removesuffix("/v1/") + path
    return anthropic.Anthropic(base_url=base, api_key="none", max_retries=0, timeout=60, **options)


# Models and counts ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "/anthropic"])
def test_both_packages_list_the_same_models(connect, script, path):
    with connect(script("ok")) as client, claude(client, path) as messages:
        (theirs,) = client.models.list().data
        (ours,) = messages.models.list().data
        assert theirs.id == ours.id == ours.display_name == "nano"
        assert messages.models.retrieve("nano") == ours
        assert messages.models.retrieve("claude-sonnet-4-5").id == "nano"
        with pytest.raises(anthropic.NotFoundError, match="nano"):
            messages.models.retrieve("k9")


@pytest.mark.parametrize("path", ["", "/anthropic"])
def test_tokens_are_counted_before_they_are_read(connect, script, path):
    with connect(script("ok")) as client, claude(client, path) as messages:
        body: Any = {"model": "claude-any", "messages": HI, "tools": [MESSAGES_TOOL]}
        count = messages.messages.count_tokens(**body)
        answer = messages.messages.create(max_tokens=5, **body)
        estimate = client.post(
            "/tokenizers/estimate-token-count",
            body={"model": "nano", "messages": HI, "tools": [CHAT_TOOL]},
            cast_to=dict[str, Any],
        )
    assert count.input_tokens == answer.usage.input_tokens == estimate["data"]["total_tokens"] > 10


# Messages ---------------------------------------------------------------------------------------


def test_a_message_streamed_is_the_message_whole(connect, script):
    with connect(script(CALL)) as client, claude(client) as messages:
        body: Any = {"model": "nano", "max_tokens": 100, "messages": HI, "tools": [MESSAGES_TOOL]}
        whole = messages.messages.create(**body)
        with messages.messages.stream(**body) as stream:
            kinds = [event.type for event in stream]
            streamed = stream.get_final_message()
    assert [block.type for block in whole.content] == ["thinking", "text", "tool_use"]
    assert whole.content[2].input == {"q": "K2 模型"}
    assert whole.stop_reason == streamed.stop_reason == "tool_use"
    assert kinds[0] == "message_start" and kinds[-1] == "message_stop"
    for one, other in zip(whole.content, streamed.content, strict=True):
        assert one.model_dump(exclude={"id"}) == other.model_dump(exclude={"id"})


def test_a_tool_loop_goes_on_with_its_thinking(connect, script, tokenizer):
    model = script(CALL)
    with connect(model) as client, claude(client) as messages:
        body: Any = {"model": "nano", "max_tokens": 100, "tools": [MESSAGES_TOOL]}
        first = messages.messages.create(messages=HI, **body)
        result = {"type": "tool_result", "tool_use_id": first.content[2].id, "content": "42 pages"}
        turns = [*HI, {"role": "assistant", "content": first.content}]
        second = messages.messages.create(
            messages=[*turns, {"role": "user", "content": [result]}], **body
        )
    seen = tokenizer.decode(model.prompts[-1])
    assert "functions.search:0" in seen and "## Return of functions.search:0\n42 pages" in seen
    assert second.content[2].id != first.content[2].id


def test_the_temperature_of_the_messages_dialect_is_scaled(connect, script):
    model = script("ok")
    with connect(model) as client, claude(client) as messages:
        messages.messages.create(model="nano", max_tokens=5, messages=HI)
        messages.messages.create(
            model="nano", max_tokens=5, messages=HI, extra_body={"temperature": 0.5}
        )
        client.chat.completions.create(model="nano", messages=HI, temperature=0.5)
    assert [s.temperature for s in model.samplings[-3:]] == [0.6, 0.3, 0.5]


def test_errors_are_in_each_dialect(connect, script):
    with connect(script("ok")) as client, claude(client) as messages:
        with pytest.raises(anthropic.BadRequestError) as caught:
            messages.messages.create(model="nano", max_tokens=5, messages=[])
        assert caught.value.body["type"] == "error"
        assert caught.value.request_id == caught.value.body["request_id"]
        with pytest.raises(openai.BadRequestError) as theirs:
            client.responses.create(model="nano", input=[{"role": "robot", "content": "hi"}])
        assert theirs.value.param == "input[0].role"
        assert theirs.value.request_id


def test_the_asynchronous_packages_stream_too(connect, script):
    async def run(base: str) -> tuple[str, str]:
        async with openai.AsyncOpenAI(base_url=base, api_key="none") as client:
            chunks = await client.chat.completions.create(model="nano", messages=HI, stream=True)
            said = "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])
        root = base.removesuffix("/v1/")
        async with (
            anthropic.AsyncAnthropic(base_url=root, api_key="none") as messages,
            messages.messages.stream(model="nano", max_tokens=99, messages=HI) as stream,
        ):
            return said, "".join([text async for text in stream.text_stream])

    with connect(script("Hello 世界")) as client:
        assert asyncio.run(run(str(client.base_url))) == ("Hello 世界", "Hello 世界")


# Responses --------------------------------------------------------------------------------------


def test_a_response_streamed_is_the_response_whole(connect, script):
    with connect(script(CALL)) as client:
        whole = client.responses.create(model="nano", input="hi", tools=[RESPONSES_TOOL])
        with client.responses.stream(model="nano", input="hi", tools=[RESPONSES_TOOL]) as stream:
            numbers = [event.sequence_number for event in stream]
            streamed = stream.get_final_response()
    assert [item.type for item in whole.output] == ["reasoning", "message", "function_call"]
    assert [item.type for item in streamed.output] == [item.type for item in whole.output]
    assert whole.output_text == streamed.output_text == "Let me look."
    assert json.loads(whole.output[2].arguments) == {"q": "K2 模型"}
    assert numbers == list(range(len(numbers)))
    assert whole.usage == streamed.usage


def test_a_responses_tool_loop_keeps_its_reasoning(connect, script, tokenizer):
    model = script(CALL)
    with connect(model) as client:
        body: Any = {
            "model": "nano",
            "tools": [RESPONSES_TOOL],
            "include": ["reasoning.encrypted_content"],
        }
        first = client.responses.create(input="hi", **body)
        call = first.output[2]
        output = {"type": "function_call_output", "call_id": call.call_id, "output": "42 pages"}
        items = [{"role": "user", "content": "hi"}, *first.output, output]
        client.responses.create(input=items, **body)
    assert "## Return of functions.search:0\n42 pages" in tokenizer.decode(model.prompts[-1])


def test_a_responses_body_on_the_chat_endpoint_is_answered_in_chunks(connect, script):
    with connect(script("Hello")) as client:
        body = {"model": "nano", "input": "hi", "stream": False}
        answer = client.post("/chat/completions", body=body, cast_to=dict[str, Any])
    assert answer["choices"][0]["message"]["content"] == "Hello"


# Random weights under a grammar -----------------------------------------------------------------

LOOKUP = {
    "type": "object",
    "properties": {
        "q": {"type": "string", "maxLength": 10},
        "where": {"enum": ["web", "图片"]},
        "range": {
            "type": "object",
            "properties": {"from": {"type": "integer"}, "to": {"type": ["integer", "null"]}},
            "required": ["from"],
            "additionalProperties": False,
        },
    },
    "required": ["q", "where"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def random_client(connect, ending_engine):
    with EngineThread(ending_engine) as source, connect(source) as client:
        yield client


def check(arguments: str) -> None:
    jsonschema.validate(json.loads(arguments), LOOKUP)


def test_a_chat_tool_loop_with_random_weights_is_valid(random_client):
    tool: Any = {"type": "function", "function": {"name": "look-up", "parameters": LOOKUP}}
    body: Any = {"model": "nano", "tools": [tool], "tool_choice": "required", "temperature": 1}
    history = list(HI)
    counted = 0
    for seed in range(3):
        answer = random_client.chat.completions.create(
            messages=history, seed=seed, max_completion_tokens=150, **body
        )
        message = answer.choices[0].message
        assert answer.choices[0].finish_reason == "tool_calls"
        history.append(message)
        for call in message.tool_calls:
            assert call.id == f"functions.look-up:{counted}"
            counted += 1
            check(call.function.arguments)
            history.append({"role": "tool", "tool_call_id": call.id, "content": "ok"})


def test_a_chat_stream_with_random_weights_is_valid(random_client):
    tool: Any = {"type": "function", "function": {"name": "look-up", "parameters": LOOKUP}}
    named: Any = {"type": "function", "function": {"name": "look-up"}}
    with random_client.chat.completions.stream(
        model="nano", messages=HI, tools=[tool], tool_choice=named, temperature=1, max_tokens=120
    ) as stream:
        final = stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls
    check(call.function.arguments)


def test_a_claude_tool_loop_with_random_weights_is_valid(random_client):
    tool: Any = {"name": "look-up", "input_schema": LOOKUP}
    with claude(random_client) as messages:
        history = list(HI)
        for _ in range(2):
            with messages.messages.stream(
                model="claude-any",
                max_tokens=150,
                messages=history,
                tools=[tool],
                tool_choice={"type": "any", "disable_parallel_tool_use": True},
            ) as stream:
                message = stream.get_final_message()
            assert message.stop_reason == "tool_use"
            (call,) = message.content
            jsonschema.validate(call.input, LOOKUP)
            result = {"type": "tool_result", "tool_use_id": call.id, "content": "ok"}
            history += [
                {"role": "assistant", "content": message.content},
                {"role": "user", "content": [result]},
            ]


def test_a_response_with_random_weights_is_valid(random_client):
    tool: Any = {"type": "function", "name": "look-up", "parameters": LOOKUP, "strict": True}
    body: Any = {"model": "nano", "input": "hi", "tools": [tool], "tool_choice": "required"}
    whole = random_client.responses.create(max_output_tokens=150, **body)
    with random_client.responses.stream(max_output_tokens=150, **body) as stream:
        streamed = stream.get_final_response()
    for response in (whole, streamed):
        calls = [item for item in response.output if item.type == "function_call"]
        assert calls
        for call in calls:
            check(call.arguments)


def test_json_answers_with_random_weights_are_valid(random_client):
    shape: Any = {"name": "lookup", "schema": LOOKUP, "strict": True}
    chat = random_client.chat.completions.create(
        model="nano",
        messages=HI,
        response_format={"type": "json_schema", "json_schema": shape},
        max_tokens=120,
        n=3,
        temperature=1,
    )
    for choice in chat.choices:
        check(choice.message.content)
    response = random_client.responses.create(
        model="nano",
        input="hi",
        text={"format": {"type": "json_schema", **shape}},
        max_output_tokens=120,
    )
    check(response.output_text)


def test_bad_schemas_and_limits_are_refused_in_the_clients_words(random_client):
    broken = {"type": "object", "properties": {"x": {"type": "nothing"}}}
    with pytest.raises(openai.BadRequestError) as caught:
        random_client.responses.create(
            model="nano",
            input="hi",
            text={"format": {"type": "json_schema", "name": "x", "schema": broken}},
        )
    assert caught.value.param == "text.format"
    with pytest.raises(openai.BadRequestError) as caught:
        random_client.responses.create(
            model="nano",
            input="hi",
            tools=[{"type": "function", "name": "f", "parameters": LOOKUP}],
            tool_choice="required",
            max_output_tokens=5,
        )
    assert caught.value.param == "max_output_tokens"
