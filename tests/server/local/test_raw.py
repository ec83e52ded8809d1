"""Prompts continued as they are, asked by the real `openai` package."""

from __future__ import annotations

import asyncio

import openai
import pytest

from openk2.engine.thread import EngineThread
from openk2.server.dialects.completions import decode_request
from openk2.server.local.backend import LocalBackend
from openk2.server.local.raw import RawBackend

CALL = "<|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{}<|tool_call_end|>"


def test_a_prompt_may_spell_special_tokens_and_the_answer_does(connect, script, tokenizer):
    model = script(f"好<think>x</think>{CALL}")
    prompt = "<|im_user|>user<|im_middle|>hi<|im_end|>"
    with connect(model) as client:
        answer = client.completions.create(model="nano", prompt=prompt, max_tokens=200)
        stream = client.completions.create(model="nano", prompt=prompt, max_tokens=200, stream=True)
        pieces = [chunk.choices[0].text for chunk in stream]
    assert answer.choices[0].text == "".join(pieces) == f"好<think>x</think>{CALL}"
    assert answer.choices[0].finish_reason == "stop"
    names = [tokenizer.specials[name] for name in ("<|im_user|>", "<|im_middle|>", "<|im_end|>")]
    user, hi = tokenizer.encode("user"), tokenizer.encode("hi")
    assert model.prompts[-1] == (names[0], *user, names[1], *hi, names[2])


def test_prompts_may_be_ids_and_several(connect, script):
    model = script("ok")
    with connect(model) as client:
        answer = client.completions.create(model="nano", prompt=[[1, 2], [3]], n=2)
    assert [choice.text for choice in answer.choices] == ["ok"] * 4
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert model.prompts[-4:] == [(1, 2), (1, 2), (3,), (3,)]
    assert answer.usage.prompt_tokens == 3


def test_equal_prompts_get_different_answers(connect, engine):
    with EngineThread(engine) as source, connect(source) as client:
        body = {"model": "nano", "prompt": ["a", "a"], "seed": 1, "max_tokens": 10}
        first, again = (client.completions.create(**body, temperature=1) for _ in range(2))
    texts = [choice.text for choice in first.choices]
    assert texts[0] != texts[1]
    assert texts == [choice.text for choice in again.choices]


def test_log_probabilities_and_echo(connect, script):
    with connect(script("one two")) as client:
        weighed = client.completions.create(model="nano", prompt="a", logprobs=1).choices[0]
        echoed = client.completions.create(model="nano", prompt="a b", echo=True).choices[0]
    assert "".join(weighed.logprobs.tokens) == weighed.text == "one two"
    assert echoed.text == "a bone two"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": [5, 999_999]}, "prompt[1]"),
        ({"prompt": [[1], [999_999]]}, "prompt[1][0]"),
        ({"prompt": "word " * 90_000}, "prompt"),
        ({"prompt": ["a", "word " * 6000]}, "prompt[1]"),
        ({"prompt": "a", "max_tokens": 5000}, "max_tokens"),
        ({"prompt": "a", "model": "k9"}, "model"),
    ],
)
def test_what_cannot_be_continued_is_refused_by_name(connect, script, body, param):
    with connect(script("ok")) as client, pytest.raises(openai.APIStatusError) as caught:
        client.completions.create(**{"model": "nano"} | body)
    assert caught.value.param == param
    assert caught.value.status_code == (404 if param == "model" else 400)


@pytest.mark.parametrize(("thinking", "default"), [(False, 0.6), (True, 1.0)])
def test_the_temperature_is_the_models_own_unless_a_client_chooses(
    script, tokenizer, thinking, default
):
    model = script("ok")
    raw = RawBackend(LocalBackend(model, tokenizer, "nano", thinking=thinking))
    for chosen, expected in ((None, default), (0.0, 0.0), (0.6, 0.6)):
        body = {"prompt": "a"} | ({} if chosen is None else {"temperature": chosen})

        async def run(body: dict[str, object] = body) -> None:
            generation = await raw.prepare(decode_request(body))
            async for _ in generation.events():
                pass

        asyncio.run(run())
        assert model.samplings[-1].temperature == expected
