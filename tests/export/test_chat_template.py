"""The packaged Jinja template, rendered by transformers, against `render_text`."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

import openk2
from openk2.export.tokenizer import TEMPLATE_FILE
from openk2.text.template import render, render_text
from openk2.text.tokenizer import Tokenizer
from openk2.types import Message
from tests.export.test_tokenizer import write_tokenizer
from tests.text.test_template import CLOCK, CONVERSATIONS, GOLDEN, PARIS, WEATHER, conversations

NANO = Path(openk2.__file__).parent / "assets" / "nano"


@pytest.fixture(scope="module")
def peer(tmp_path_factory):
    directory = tmp_path_factory.mktemp("exported")
    write_tokenizer(NANO, directory)
    return PreTrainedTokenizerFast.from_pretrained(directory)


def openai(message: Message) -> dict:
    """Write a message as OpenAI's API has it: what is absent is left out."""
    calls = [
        {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
        for c in message.tool_calls
    ]
    optional = {
        "reasoning_content": message.reasoning or None,
        "tool_calls": calls or None,
        "tool_call_id": message.tool_call_id,
        "name": message.name,
    }
    kept = {key: value for key, value in optional.items() if value is not None}
    return {"role": message.role, "content": message.content} | kept


def declared(tool, **rest) -> dict:
    function = {"parameters": dict(tool.parameters), "description": tool.description} | rest
    return {"function": function | {"name": tool.name}, "type": "function"}


def rendered(peer, messages, tools=(), **options):
    dicts = [openai(message) if isinstance(message, Message) else message for message in messages]
    schemas = [tool if isinstance(tool, dict) else declared(tool) for tool in tools]
    return peer.apply_chat_template(dicts, tools=schemas or None, tokenize=False, **options)


@pytest.mark.parity(
    format="chat template",
    direction="out",
    peer="transformers",
    claim="every golden conversation, Instruct and Thinking: the same text",
)
@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize("thinking", [False, True], ids=["instruct", "thinking"])
def test_goldens(peer, name, thinking):
    messages, tools, recorded = CONVERSATIONS[name]
    text = rendered(peer, messages, tools, add_generation_prompt=True, thinking=thinking)
    assert text == render_text(messages, tools, thinking=thinking)
    if thinking == recorded:
        golden = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
        assert text == golden["text"]


@given(conversations(), st.booleans(), st.booleans(), st.booleans())
@settings(max_examples=200)
def test_any_conversation_renders_alike(peer, messages, declare, thinking, prompt):
    tools = [WEATHER, CLOCK] if declare else []
    text = rendered(peer, messages, tools, add_generation_prompt=prompt, thinking=thinking)
    assert text == render_text(messages, tools, thinking=thinking, generation_prompt=prompt)


@pytest.mark.parity(
    format="chat template",
    direction="out",
    peer="transformers",
    claim="every golden conversation, hostile text included: the same token ids",
)
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_template_and_the_tokenizer_together_give_our_ids(peer, name):
    messages, tools, thinking = CONVERSATIONS[name]
    ids = peer.apply_chat_template(
        [openai(message) for message in messages],
        tools=[declared(tool) for tool in tools] or None,
        add_generation_prompt=True,
        thinking=thinking,
        sanitize_control_tokens=True,
    )["input_ids"]
    assert ids == render(messages, tools, Tokenizer.load(NANO), thinking=thinking)


def test_thinking_is_off_unless_asked_for(peer):
    messages, tools, _ = CONVERSATIONS["thinking"]
    assert rendered(peer, messages, tools) == render_text(messages, tools, generation_prompt=False)


def test_content_may_be_null_or_parts(peer):
    parts = [{"type": "text", "text": "\n Hel"}, {"type": "text", "text": "lo\n"}]
    rain = [{"type": "text", "text": "rain"}]
    calls = openai(Message("assistant", tool_calls=(PARIS,)))["tool_calls"]
    text = rendered(
        peer,
        [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": parts, "name": None},
            {"role": "assistant", "content": None, "tool_calls": calls, "reasoning_content": None},
            {
                "role": "tool",
                "content": rain,
                "tool_call_id": PARIS.id,
            },
            {"role": "assistant", "content": "Rain.", "tool_calls": []},
        ],
    )
    ours = [
        Message("system", "Be brief."),
        Message("user", "\n Hello\n"),
        Message("assistant", tool_calls=(PARIS,)),
        Message("tool", "rain", tool_call_id=PARIS.id),
        Message("assistant", "Rain."),
    ]
    assert text == render_text(ours, [], generation_prompt=False)


def test_what_is_not_text_is_refused(peer):
    image = [{"type": "image_url", "image_url": {"url": "file:///x.png"}}]
    with pytest.raises(Exception, match="only text parts"):
        rendered(peer, [{"role": "user", "content": image}])


def test_arguments_may_be_an_object(peer):
    call = {"id": "1", "function": {"name": "f", "arguments": {"city": "巴黎", "b": [1, True]}}}
    messages = [{"role": "assistant", "tool_calls": [call]}]
    text = rendered(peer, messages)
    assert '<|tool_call_argument_begin|>{"city": "巴黎", "b": [1, true]}<|tool_call_end|>' in text
    call["function"]["arguments"] = {}
    assert "argument_begin|>{}<|tool" in rendered(
        peer, [{"role": "assistant", "tool_calls": [call]}]
    )


def test_a_declaration_may_be_short_or_have_more_than_ours(peer):
    bare = {"type": "function", "function": {"name": "clock"}}
    strict = declared(WEATHER, strict=True)
    text = rendered(peer, [Message("user", "Hi")], [bare, strict])
    assert text == render_text([Message("user", "Hi")], [CLOCK, WEATHER], generation_prompt=False)
    empty = {
        "type": "function",
        "function": {"name": "clock", "description": None, "parameters": {}},
    }
    again = rendered(peer, [Message("user", "Hi")], [empty, WEATHER])
    assert again == text


def test_the_template_travels_with_the_package():
    packaged = Path(openk2.__file__).parent / "export" / TEMPLATE_FILE
    assert packaged.read_text(encoding="utf-8").startswith("{#- Kimi K2's conversation format")
