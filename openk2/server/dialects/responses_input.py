"""The conversation of a Responses request: its items in, our messages out.

In: `instructions` and `input` of a body, and the function that knows our own sealed reasoning.
Out: messages in which every tool call is answered.
Must not know: any other field of the body, the engine, sockets, or another dialect.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from pydantic import Field

from openk2.server.dialects.body import bad, is_object, read, shown, without_images
from openk2.server.dialects.openai_body import CalledFunction, Shape
from openk2.server.dialects.responses_tools import flat_name
from openk2.server.dialects.sealed import Sign, unseal
from openk2.types import Message, Role, ToolCall

MAX_ITEMS = 16384
"""Items of a conversation; an agent's step takes three or four of them."""

MAX_PARTS = 4096
"""Parts of one item."""

_TEXT_PARTS = ("input_text", "output_text", "text", "summary_text", "reasoning_text")


class _Message(Shape):
    role: Literal["user", "assistant", "system", "developer"]
    content: Any


class _Call(CalledFunction):
    call_id: str = Field(min_length=1)
    namespace: str | None = None


class _CustomCall(Shape):
    call_id: str = Field(min_length=1)
    name: str = Field(min_length=1)
    input: str


class _Output(Shape):
    call_id: str = Field(min_length=1)
    output: Any


class _Reasoning(Shape):
    summary: Any = ""
    content: Any = ""
    encrypted_content: str = ""


def read_conversation(
    instructions: str | None, value: object, sign: Sign | None, warnings: list[str]
) -> tuple[Message, ...]:
    """Return the messages that `instructions` and the field `input` stand for.

    What cannot be read and is not worth a refusal is added to `warnings`.

    Raises:
        ApiError: 400, naming the item that is wrong.
    """
    conversation = _Conversation(sign, warnings)
    if instructions:
        conversation.messages.append(Message("system", instructions))
    if isinstance(value, str):
        conversation.say("input", "user", value)
    elif isinstance(value, list):
        items = cast("list[object]", value)
        if not 0 < len(items) <= MAX_ITEMS:
            raise bad("input", f"must have 1 to {MAX_ITEMS} items, not {len(items)}")
        for index, item in enumerate(items):
            conversation.add(f"input[{index}]", item)
    else:
        raise bad("input", "must be a text or a list of items" if value else "is required")
    conversation.end()
    return tuple(conversation.messages)


@dataclass(slots=True)
class _Turn:
    """The assistant's turn that is being read: dialects that have items spread it over many."""

    reasoning: list[str] = field(default_factory=lambda: [])
    content: list[str] = field(default_factory=lambda: [])
    calls: list[ToolCall] = field(default_factory=lambda: [])
    asked_at: dict[str, str] = field(default_factory=lambda: {})
    """The path of each call."""


class _Conversation:
    def __init__(self, sign: Sign | None, warnings: list[str]) -> None:
        self.messages: list[Message] = []
        self._sign = sign
        self._warnings = warnings
        self._turn = _Turn()
        self._open: dict[str, str] = {}
        """The calls that wait for their outputs, and the paths of their items."""

    def add(self, path: str, item: object) -> None:
        if not is_object(item):
            raise bad(path, f"must be an item, not {json.dumps(item)[:40]}")
        kind = item.get("type") or ("message" if "role" in item else None)
        if kind is None:
            raise bad(f"{path}.type", "is required")
        match kind:
            case "message":
                message = read(_Message, item, path)
                role = "system" if message.role == "developer" else message.role
                self.say(path, role, _text(message.content, f"{path}.content"))
            case "function_call":
                call = read(_Call, item, path)
                name = flat_name(call.namespace, call.name)
                self._call(path, ToolCall(call.call_id, name, call.arguments))
            case "custom_tool_call":
                custom = read(_CustomCall, item, path)
                arguments = json.dumps({"input": custom.input}, ensure_ascii=False)
                self._call(path, ToolCall(custom.call_id, custom.name, arguments))
            case "function_call_output" | "custom_tool_call_output":
                output = read(_Output, item, path)
                self._answer(path, output.call_id, self._output(output, f"{path}.output"))
            case "reasoning":
                self._think(_reasoning(read(_Reasoning, item, path), path, self._sign))
            case "item_reference":
                problem = (
                    "refers to a stored item, but nothing is stored here; send the item itself, "
                    'as clients do that are told "store": false'
                )
                raise bad(path, problem, code="unsupported_value")
            case "compaction" | "compaction_summary" | "compaction_trigger":
                problem = (
                    "conversations are not compacted here, and what another server has made of "
                    "one cannot be read; send the items themselves"
                )
                raise bad(path, problem, code="unsupported_value")
            case str():
                pass  # what a tool that this server does not run once did
            case _:
                raise bad(f"{path}.type", "must be a string")

    def _output(self, item: _Output, path: str) -> str:
        output: object = item.output
        if isinstance(output, list):
            parts = cast("list[object]", output)
            return _text(without_images(parts, path, self._warnings), path)
        return _text(output, path)

    def say(self, path: str, role: Role, text: str) -> None:
        if role == "system" and not text:
            return
        if role != "assistant":
            if not text:
                raise bad(path if path == "input" else f"{path}.content", "is empty")
            self._end_turn()
            self._check_answered()
            self.messages.append(Message(role, text))
            return
        self._continue_turn()
        self._turn.content.append(text)

    def end(self) -> None:
        self._end_turn()
        self._check_answered()
        if not self.messages:
            raise bad("input", "has no item that the model can read")

    def _think(self, text: str) -> None:
        if text:
            self._continue_turn()
            self._turn.reasoning.append(text)

    def _call(self, path: str, call: ToolCall) -> None:
        turn = self._turn
        if call.id in turn.asked_at:
            raise bad(f"{path}.call_id", f"{shown(call.id)} is the id of an earlier call")
        turn.calls.append(call)
        turn.asked_at[call.id] = path

    def _answer(self, path: str, call_id: str, output: str) -> None:
        self._end_turn()
        if call_id not in self._open:
            raise bad(f"{path}.call_id", f"{shown(call_id)} answers no open call before it")
        del self._open[call_id]
        self.messages.append(Message("tool", output, tool_call_id=call_id))

    def _continue_turn(self) -> None:
        # Two answers in a row are two turns, unless calls still wait for their outputs.
        if self._turn.content and not self._turn.calls:
            self._end_turn()

    def _end_turn(self) -> None:
        turn, self._turn = self._turn, _Turn()
        if not turn.content and not turn.calls:
            return  # a thought that led to nothing is not worth a turn
        self._check_answered()
        content, reasoning = "".join(turn.content), "".join(turn.reasoning)
        self.messages.append(Message("assistant", content, reasoning, tuple(turn.calls)))
        self._open = turn.asked_at

    def _check_answered(self) -> None:
        for call_id, path in self._open.items():
            problem = f"{shown(call_id)} has no output; answer each call before the next turn"
            raise bad(f"{path}.call_id", problem)


def _reasoning(item: _Reasoning, path: str, sign: Sign | None) -> str:
    """Return the thought of an item, or nothing if another model had it."""
    if item.encrypted_content:
        return (sign and unseal(item.encrypted_content, sign)) or ""
    return _text(item.content, f"{path}.content") or _text(item.summary, f"{path}.summary")


def _text(value: object, path: str) -> str:
    """Join the text parts of a content.

    Raises:
        ApiError: A part is not text.
    """
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise bad(path, "must be a text or a list of parts" if value else "is required")
    parts = cast("Sequence[object]", value)
    if len(parts) > MAX_PARTS:
        raise bad(path, f"has more than {MAX_PARTS} parts")
    return "".join(_part(part, f"{path}[{index}]") for index, part in enumerate(parts))


def _part(part: object, path: str) -> str:
    if isinstance(part, str):
        return part
    if not is_object(part):
        raise bad(path, "must be a part with a type")
    kind = part.get("type")
    if kind not in (*_TEXT_PARTS, "refusal"):
        kind = kind if isinstance(kind, str) else json.dumps(kind)[:40]
        problem = f"is of the type {shown(kind)}; the model can only read text"
        raise bad(path, problem, code="unsupported_value")
    name = "refusal" if kind == "refusal" else "text"
    text = part.get(name)
    if not isinstance(text, str):
        raise bad(f"{path}.{name}", "must be a text")
    return text
