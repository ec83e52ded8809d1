"""A request as each kind of server is asked it, and how kinds and addresses are told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from openk2.server.errors import ApiError
from openk2.server.request import ChatRequest, JsonAnswer, NamedTool, Thinking
from openk2.server.upstream.address import Address
from openk2.server.upstream.backend import UpstreamBackend
from openk2.server.upstream.kinds import KINDS, detect_kind
from openk2.server.upstream.request import SHORT_ANSWER, encode_request
from openk2.types import Message, Sampling, ToolSpec

CLOSED_SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}
COUNT = ToolSpec("count", "Counts.", {**CLOSED_SCHEMA, "additionalProperties": True})
HI = ChatRequest((Message("user", "Hi"),), Sampling())
TOOLED = replace(HI, tools=(COUNT,))


def body(request: ChatRequest, kind: str = "openai") -> dict[str, Any]:
    return encode_request(request, KINDS[kind], "m")


def test_a_temperature_that_the_client_did_not_choose_is_not_sent():
    assert "temperature" in body(HI)
    assert "temperature" not in body(replace(HI, default_temperature=True))


def test_every_field_of_sampling_is_said():
    sampling = Sampling(
        temperature=0.1,
        top_p=0.9,
        seed=3,
        max_tokens=5,
        stop=("END",),
        top_k=4,
        min_p=0.2,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        repetition_penalty=1.1,
        logit_bias=((7, 1.5),),
        logprobs=True,
        top_logprobs=2,
        cache_key="session",
    )
    request = replace(HI, sampling=sampling, n=2, limit_field="max_completion_tokens")
    assert body(replace(request, whole=True)).items() >= {"stream": False, "seed": 3}.items()
    assert "stream_options" not in body(replace(request, whole=True))
    long = replace(sampling, max_tokens=SHORT_ANSWER + 1)
    assert body(replace(request, whole=True, sampling=long))["stream"] is True
    assert body(replace(HI, whole=True))["stream"] is True
    said = body(request)
    assert said == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.1,
        "top_p": 0.9,
        "seed": 3,
        "max_completion_tokens": 5,
        "stop": ["END"],
        "top_k": 4,
        "min_p": 0.2,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "repetition_penalty": 1.1,
        "logit_bias": {"7": 1.5},
        "logprobs": True,
        "top_logprobs": 2,
        "prompt_cache_key": "session",
        "n": 2,
    }
    llama = body(request, "llama.cpp")
    assert llama["max_tokens"] == 5 and llama["repeat_penalty"] == 1.1
    assert "prompt_cache_key" not in llama


def test_tools_are_declared_and_held_to_their_schemas_where_the_server_can():
    said = body(replace(TOOLED, tool_choice="required", parallel_tool_calls=False), "vllm")
    assert said["tools"][0]["function"] == {
        "name": "count",
        "description": "Counts.",
        "parameters": dict(COUNT.parameters),
        "strict": True,
    }
    assert said["tool_choice"] == "required" and said["parallel_tool_calls"] is False
    named = body(replace(TOOLED, tool_choice=NamedTool("count")))
    assert named["tool_choice"] == {"type": "function", "function": {"name": "count"}}
    assert "strict" not in named["tools"][0]["function"]  # OpenAI refuses open objects
    closed = body(replace(HI, tools=(ToolSpec("count", "", CLOSED_SCHEMA),)))
    assert closed["tools"][0]["function"]["strict"] is True
    assert "tool_choice" not in closed


def test_an_answers_schema_is_said_as_each_server_reads_it():
    request = replace(HI, answer_format=JsonAnswer(CLOSED_SCHEMA))
    named = {"name": "answer", "schema": CLOSED_SCHEMA, "strict": True}
    for kind in ("openai", "vllm", "sglang", "moonshot"):
        assert body(request, kind)["response_format"] == {
            "type": "json_schema",
            "json_schema": named,
        }
    plain = {"type": "json_object", "schema": CLOSED_SCHEMA}
    assert body(request, "llama.cpp")["response_format"] == plain
    any_object = body(replace(HI, answer_format=JsonAnswer()))
    assert any_object["response_format"] == {"type": "json_object"}


def test_an_answer_is_continued_as_each_server_does_it():
    messages = (*HI.messages, Message("assistant", "He", name="Bob"))
    request = replace(HI, messages=messages, partial=True)
    moonshot = body(request, "moonshot")["messages"][-1]
    assert moonshot == {"role": "assistant", "content": "He", "name": "Bob", "partial": True}
    vllm = body(request, "vllm")
    assert vllm["continue_final_message"] is True and vllm["add_generation_prompt"] is False
    assert body(request, "llama.cpp")["messages"][-1]["content"] == "He"
    with pytest.raises(ApiError) as caught:
        body(request, "openai")
    assert (caught.value.status, caught.value.param) == (400, "messages[1].partial")


@pytest.mark.parametrize(
    ("kind", "off", "on"),
    [
        ("moonshot", {"thinking": {"type": "disabled"}}, {"thinking": {"type": "enabled"}}),
        ("openai", {"reasoning_effort": "none"}, {"reasoning_effort": "low"}),
        (
            "vllm",
            {"chat_template_kwargs": {"thinking": False, "enable_thinking": False}},
            {"chat_template_kwargs": {"thinking": True, "enable_thinking": True}},
        ),
    ],
)
def test_thinking_is_said_as_each_server_reads_it(kind, off, on):
    plain = body(HI, kind)
    assert body(replace(HI, thinking=Thinking(False)), kind) == plain | off
    assert body(replace(HI, thinking=Thinking(True, 1024)), kind) == plain | on


def test_a_budget_of_thinking_is_said_to_those_who_keep_to_one():
    long, off = replace(HI, thinking=Thinking(True, 9)), replace(HI, thinking=Thinking(False, 9))
    assert body(long, "llama.cpp")["thinking_budget_tokens"] == 9
    assert "thinking_budget_tokens" not in body(off, "llama.cpp") | body(long, "vllm")
    openk2 = detect_kind("x", {"data": [{"owned_by": "openk2"}]})
    said = encode_request(long, openk2, "m")["thinking"]
    assert said == {"type": "enabled", "budget_tokens": 9}
    assert encode_request(off, openk2, "m")["thinking"] == {"type": "disabled"}


@pytest.mark.parametrize(
    ("owner", "host", "kind"),
    [
        ("vllm", "x", "vllm"),
        ("sglang", "x", "sglang"),
        ("llamacpp", "x", "llama.cpp"),
        ("me", "x", "llama-cpp-python"),
        ("openk2", "x", "moonshot"),
        ("somebody", "x", "openai"),
        (None, "api.moonshot.ai", "moonshot"),
        (None, "api.moonshot.cn.example.com", "openai"),
    ],
)
def test_a_servers_kind_is_told_by_its_models_or_its_host(owner, host, kind):
    assert detect_kind(host, {"data": [{"id": "m", "owned_by": owner}]}).name == kind
    assert detect_kind("x", None).name == detect_kind("x", {"data": [3]}).name == "openai"


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://h:1", "http://h:1/v1"),
        ("http://h:1/", "http://h:1/v1"),
        ("http://h:1/v1/", "http://h:1/v1"),
        ("https://h/api/v3", "https://h/api/v3"),
        ("https://h/v1/chat/completions", "https://h/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
    ],
)
def test_addresses(url, base):
    assert Address.parse(url).base == base


@pytest.mark.parametrize(
    "url",
    ["h:1", "ftp://h", "http://", "http://u:secret@h", "http://h?k=1", "http://h:0", "http://["],
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(ValueError) as caught:
        UpstreamBackend(url)
    assert "secret" not in str(caught.value)
