"""What is sent is what this project's server reads: every valid conversation, by either dialect."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from openk2.agent.model import ModelRequest
from openk2.agent.models.wire.chat_request import ChatStyle, encode_chat
from openk2.agent.models.wire.messages_request import MessagesStyle, encode_request, wire_id
from openk2.server.dialects import anthropic, openai
from openk2.server.dialects.signer import Signer
from openk2.types import Message, Sampling, ToolCall, ToolSpec, validate_history

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
WORDS = TEXT.map(lambda text: f"{text}.")
NAME = st.from_regex(r"[a-z][a-z_-]{0,8}", fullmatch=True)
ARGUMENTS = st.dictionaries(TEXT, TEXT | st.integers() | st.none(), max_size=2).map(json.dumps)
TOOL = st.builds(ToolSpec, NAME, WORDS, st.just({"type": "object", "properties": {}}))


@st.composite
def histories(draw: st.DrawFn) -> tuple[Message, ...]:
    messages = [Message("system", draw(WORDS))] if draw(st.booleans()) else []
    messages.append(Message("user", draw(WORDS)))
    for turn in range(draw(st.integers(0, 4))):
        names = draw(st.lists(NAME, max_size=3))
        calls = tuple(
            ToolCall(f"functions.{name}:{turn}.{i}", name, draw(ARGUMENTS))
            for i, name in enumerate(names)
        )
        reasoning = draw(WORDS) if draw(st.booleans()) else ""
        content = draw(WORDS) if not calls or draw(st.booleans()) else ""
        messages.append(Message("assistant", content, reasoning=reasoning, tool_calls=calls))
        results = draw(st.permutations(calls))
        messages += [Message("tool", draw(WORDS), tool_call_id=call.id) for call in results]
        messages += [Message("user", draw(WORDS))] if not calls or draw(st.booleans()) else []
    validate_history(messages)
    return tuple(messages)


def sign(text: bytes) -> bytes:
    return hmac.digest(b"key", text, hashlib.sha256)


SIGNER = Signer(sign)


def over_the_wire(body: Any) -> Any:
    return json.loads(json.dumps(body, ensure_ascii=False).encode())


@given(histories(), st.lists(TOOL, max_size=2, unique_by=lambda tool: tool.name))
def test_a_chat_body_is_read_back_as_it_was(history: tuple[Message, ...], tools: list[ToolSpec]):
    sampling = Sampling(0.5, top_p=0.5, seed=3, max_tokens=7, stop=("x",), top_k=4, min_p=0.1)
    choice = "required" if tools else "auto"
    request = ModelRequest(history, tuple(tools), choice, sampling)
    read, _ = openai.decode_request(over_the_wire(encode_chat(request, "nano", ChatStyle())))
    assert read.messages == history
    assert read.tools == request.tools and read.tool_choice == choice
    assert read.sampling == sampling and read.model == "nano"


def rewritten(arguments: str) -> str:
    return json.dumps(json.loads(arguments), ensure_ascii=False)


def in_dialect(history: tuple[Message, ...], signed: bool) -> tuple[Message, ...]:
    """Say what the other dialect can say: its ids, no thinking that nobody signed, joint turns."""
    said: list[Message] = []
    for message in history:
        calls = tuple(
            ToolCall(wire_id(call.id), call.name, rewritten(call.arguments))
            for call in message.tool_calls
        )
        own = replace(
            message,
            tool_calls=calls,
            tool_call_id=message.tool_call_id and wire_id(message.tool_call_id),
            reasoning=message.reasoning if signed else "",
        )
        if said and said[-1].role == own.role == "user":
            own = replace(own, content=f"{said.pop().content}\n\n{own.content}")
        elif said and said[-1].role == own.role == "assistant":
            last = said.pop()
            own = Message(
                "assistant", last.content + own.content, reasoning=last.reasoning + own.reasoning,
                tool_calls=last.tool_calls + own.tool_calls,
            )  # fmt: skip
        said.append(own)
    return tuple(said)


@given(histories(), st.lists(TOOL, max_size=2, unique_by=lambda tool: tool.name), st.booleans())
def test_a_messages_body_is_read_back_as_far_as_the_dialect_can_say_it(
    history: tuple[Message, ...], tools: list[ToolSpec], signed: bool
):
    def thinking(message: Message) -> Any:
        if not signed or not message.reasoning:
            return ()
        text = message.reasoning
        return ({"type": "thinking", "thinking": text, "signature": SIGNER.sign(text)},)

    if history[-1].role == "assistant":  # another meaning there: the answer's beginning
        history = (*history, Message("user", "go on"))
    choice = "required" if tools else "auto"
    sampling = Sampling(0.3, top_p=0.5, max_tokens=7, stop=("x",), top_k=4)
    request = ModelRequest(history, tuple(tools), choice, sampling)
    style = MessagesStyle(temperature_scale=0.6)
    body = over_the_wire(encode_request(request, "nano", style, thinking))
    roles = [turn["role"] for turn in body["messages"]]
    assert all(one != other for one, other in itertools.pairwise(roles))
    read, options = anthropic.decode_request(body, signer=SIGNER, temperature_scale=0.6)
    assert read.messages == in_dialect(history, signed)
    assert read.tools == request.tools and read.tool_choice == choice
    assert read.sampling == sampling and options.warnings == ()
