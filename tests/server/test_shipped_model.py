"""The model that ships, asked by the real `openai` package."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from openk2.engine.engine import Engine
from openk2.engine.thread import EngineThread
from openk2.model import weights

NANO = Path(__file__).parents[2] / "openk2" / "assets" / "nano"


ALARM = {
    "type": "function",
    "function": {
        "name": "set_alarm",
        "description": "Set an alarm.",
        "parameters": {
            "type": "object",
            "properties": {"time": {"type": "string", "description": "When it rings."}},
            "required": ["time"],
        },
    },
}


@pytest.fixture(scope="module")
def client(connect, tokenizer):
    model = weights.load(NANO)
    engine = Engine(model, max_batch=8, max_len=1024, stop_ids=frozenset((tokenizer.im_end,)))
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


def test_it_calls_the_tool_that_it_is_given(client):
    choice = ask(client, "Please set an alarm for 7:30 am.", tools=[ALARM]).choices[0]
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert (call.id, call.function.name) == ("functions.set_alarm:0", "set_alarm")
    assert set(json.loads(call.function.arguments)) == {"time"}


def test_eight_clients_get_what_each_would_get_alone(client):
    questions = [f"Tell me a story about {number} cats." for number in range(1, 9)]

    def answer(question: str) -> str:
        return ask(client, question).choices[0].message.content

    alone = [answer(question) for question in questions]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(answer, questions)) == alone
