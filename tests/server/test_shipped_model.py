"""The model that ships, asked by the real `openai` package."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from openk2.engine.engine import Engine
from openk2.engine.runner import TorchRunner
from openk2.engine.thread import EngineThread
from openk2.model import weights

NANO = Path(__file__).parents[2] / "openk2" / "assets" / "nano"

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city on a day",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "date": {"type": "string"}},
            "required": ["city"],
        },
    },
}


@pytest.fixture(scope="module")
def client(connect, tokenizer):
    model = weights.load(NANO)
    engine = Engine(
        TorchRunner(model), max_batch=8, max_len=1024, stop_ids=frozenset((tokenizer.im_end,))
    )
    with EngineThread(engine) as source, connect(source) as client:
        yield client


def ask(client, question: str, **body):
    messages = [{"role": "user", "content": question}]
    return client.chat.completions.create(
        model="nano", messages=messages, temperature=0, max_tokens=100, **body
    )


@pytest.mark.parametrize("question", ["Who are you?", "你是谁？"])
def test_it_answers_in_characters_and_streams_the_same(client, question):
    whole = ask(client, question).choices[0]
    stream = ask(client, question, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == (
        whole.message.content
    )
    assert whole.message.content.strip() and "\ufffd" not in whole.message.content
    assert whole.finish_reason == "stop"


def test_the_readmes_conversation_comes_back_as_a_tool_call(client):
    choice = ask(client, "What is the weather in Berlin on Friday?", tools=[WEATHER]).choices[0]
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert (call.id, call.function.name) == ("functions.get_weather:0", "get_weather")
    assert isinstance(json.loads(call.function.arguments), dict)


def test_eight_clients_get_what_each_would_get_alone(client):
    questions = [f"Tell me a story about {number} cats." for number in range(1, 9)]

    def answer(question: str) -> str:
        return ask(client, question).choices[0].message.content

    alone = [answer(question) for question in questions]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(answer, questions)) == alone
