"""A model that plays a script: demonstrations, tests, and tools that are tried without a model.

In: turns, or a file of them; requests. Out: the turns' events, in order.
Must not know: tools, the loop, or what a script is for.

A file is JSON Lines, one turn a line, or JSON: a list of turns, or an object with `turns` and the
settings of `Scripted` beside it. A turn has any of

    {"content": "...", "reasoning": "...", "calls": [{"name": "shell", "arguments": {...}}],
     "expect": {"role": "tool", "matches": "regex", "tools": ["shell"]}}

or `{"fault": "busy", "message": "...", "retry_after": 1}` in place of an answer. Arguments that are
a string are written as they are, valid or not.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from openk2.agent.canonical import CodecError, from_json, to_json
from openk2.agent.model import ModelError, ModelFault, ModelRequest, Price, Reply
from openk2.agent.models.estimate import estimate
from openk2.agent.models.wire.replies import call_ids, reply_events, reply_of
from openk2.types import Event, Message, ToolCall

Json = dict[str, Any]

Answer = Message | Reply | ModelError
"""What a turn says, or how it fails. A call without an id gets one as K2 would write it."""


class ScriptError(ValueError):
    """A script cannot be read; the message says which turn and why."""


@dataclass(frozen=True, slots=True)
class Expect:
    """What a request must look like for a turn to be played."""

    role: str | None = None
    """Of the last message."""
    matches: str | None = None
    """Regular expression that is found in the last message."""
    tools: tuple[str, ...] = ()
    """Names that are among the tools."""

    def problem(self, request: ModelRequest) -> str:
        """Say what is otherwise; empty if nothing is."""
        last = request.messages[-1] if request.messages else Message("user")
        if self.role is not None and last.role != self.role:
            return f"the last message is the {last.role}'s, not the {self.role}'s"
        if self.matches is not None and not re.search(self.matches, last.content):
            return f"the last message has no {self.matches!r}: {last.content[:200]!r}"
        offered = {tool.name for tool in request.tools}
        missing = [name for name in self.tools if name not in offered]
        return f"there is no tool {missing[0]!r} among {sorted(offered)}" if missing else ""


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer of a script."""

    say: Answer | Callable[[ModelRequest], Answer]
    """A function sees the request, and so the results of the tools."""
    expect: Expect = Expect()


class Scripted:
    """Plays turns; `ChatModel`."""

    def __init__(
        self,
        turns: Sequence[Turn | Answer | Callable[[ModelRequest], Answer]],
        *,
        name: str = "scripted",
        context_window: int = 131_072,
        price: Price | None = None,
        by_history: bool = False,
        start: int = 0,
    ) -> None:
        """Play `turns`.

        Args:
            turns: What is answered.
            name: The model's name.
            context_window: Most tokens of prompt and answer together.
            price: What its estimated tokens cost; None is nothing.
            by_history: The turn is that with the number of the assistant's turns in the request, so
                that a run which is resumed in another process goes on where it was. Otherwise each
                request gets the next turn.
            start: The first turn that is played.
        """
        self._turns = [turn if isinstance(turn, Turn) else Turn(turn) for turn in turns]
        self._name = name
        self._window = context_window
        self._price = price or Price()
        self._by_history = by_history
        self._start = start
        self._played = 0

    @classmethod
    def from_file(cls, path: Path) -> Scripted:
        """Read a script.

        Raises:
            ScriptError: The file cannot be read, or a turn is none; the message says which.
        """
        try:
            text = path.read_text("utf-8")
            if path.suffix == ".jsonl":
                whole: Any = [json.loads(line) for line in text.splitlines() if line.strip()]
            else:
                whole = json.loads(text)
        except (OSError, ValueError) as error:
            raise ScriptError(f"cannot read the script {path}: {error}") from error
        settings = cast(Json, whole if isinstance(whole, dict) else {"turns": whole})
        turns = settings.get("turns")
        if not isinstance(turns, list):
            raise ScriptError(f"{path} is neither a list of turns nor an object with `turns`")
        known = {"turns", "name", "context_window", "price", "by_history"}
        if unknown := sorted(set(settings) - known):
            raise ScriptError(f"{path}: {unknown[0]!r} is unknown; known are {sorted(known)}")
        try:
            return cls(
                [_read_turn(i, turn) for i, turn in enumerate(cast(list[object], turns), start=1)],
                name=str(settings.get("name", path.stem)),
                context_window=int(settings.get("context_window", 131_072)),
                price=from_json(Price, settings.get("price", {})),
                by_history=settings.get("by_history") is True,
            )
        except (TypeError, ValueError) as error:
            raise ScriptError(f"{path}: {error}") from error

    @property
    def name(self) -> str:
        """The model's name."""
        return self._name

    @property
    def context_window(self) -> int:
        """Most tokens of prompt and answer together."""
        return self._window

    @property
    def price(self) -> Price:
        """What its tokens cost."""
        return self._price

    @property
    def left(self) -> int:
        """How many turns were not played, if they are played one after the other."""
        return max(0, len(self._turns) - self._start - self._played)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Event, None]:
        """Play the next turn.

        Raises:
            ModelError: The script is over, expects another request, or says so.
        """
        number = self._start + self._played
        if self._by_history:
            number = sum(message.role == "assistant" for message in request.messages)
        self._played += 1
        if number >= len(self._turns):
            raise ModelError(
                f"the script {self._name} is over: it has {len(self._turns)} turns, and this is "
                f"request {number + 1}; the last message is {_shown(request)}",
                "refused",
            )
        turn = self._turns[number]
        if problem := turn.expect.problem(request):
            raise ModelError(
                f"turn {number + 1} of the script {self._name} expects another request: {problem}",
                "refused",
            )
        said = turn.say(request) if callable(turn.say) else turn.say
        if isinstance(said, ModelError):
            raise said
        reply = said if isinstance(said, Reply) else reply_of(request, _named(request, said))
        for event in reply_events(reply):
            yield event

    async def count_tokens(self, request: ModelRequest) -> int:
        """Estimate the prompt's tokens."""
        return estimate(request)

    async def close(self) -> None:
        """Do nothing: there are no connections."""


def _read_turn(number: int, value: object) -> Turn:
    if not isinstance(value, dict):
        raise ScriptError(f"turn {number} is no object")
    turn = cast(Json, value)
    known = {"content", "reasoning", "calls", "expect", "finish", "usage"}
    known |= {"fault", "message", "retry_after"}
    if unknown := sorted(set(turn) - known):
        raise ScriptError(f"turn {number}: {unknown[0]!r} is unknown; known are {sorted(known)}")
    try:
        expect = from_json(Expect, turn.get("expect", {}), "expect")
        re.compile(expect.matches or "")
        return Turn(_read_fault(turn) if "fault" in turn else _read_answer(turn), expect)
    except (CodecError, re.error, TypeError, AttributeError) as error:
        raise ScriptError(f"turn {number}: {error}") from error


def _read_answer(turn: Json) -> Message | Reply:
    calls = tuple(_read_call(call) for call in turn.get("calls", ()))
    content, reasoning = str(turn.get("content", "")), str(turn.get("reasoning", ""))
    message = Message("assistant", content, reasoning=reasoning, tool_calls=calls)
    if "finish" not in turn and "usage" not in turn:
        return message
    default = reply_of(ModelRequest(()), message)
    written = {
        "message": to_json(message),
        "finish": turn.get("finish", default.finish),
        "usage": turn.get("usage", to_json(default.usage)),
    }
    return from_json(Reply, written, "turn")


def _read_fault(turn: Mapping[str, Any]) -> ModelError:
    if turn["fault"] not in get_args(ModelFault):
        raise CodecError(f"fault {turn['fault']!r} is not one of {get_args(ModelFault)}")
    message = str(turn.get("message", f"the script says {turn['fault']}"))
    return ModelError(message, turn["fault"], retry_after=turn.get("retry_after"))


def _read_call(value: object) -> ToolCall:
    if not isinstance(value, dict) or not isinstance(cast(Json, value).get("name"), str):
        raise CodecError(f"the call {value!r} has no name")
    call = cast(Json, value)
    arguments = call.get("arguments", {})
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return ToolCall(str(call.get("id", "")), call["name"], arguments)


def _named(request: ModelRequest, message: Message) -> Message:
    """Give every call without an id the one that K2 would."""
    indexes = call_ids(request)
    calls = tuple(
        ToolCall(call.id or f"functions.{call.name}:{index}", call.name, call.arguments)
        for call, index in zip(message.tool_calls, indexes, strict=False)
    )
    return Message("assistant", message.content, reasoning=message.reasoning, tool_calls=calls)


def _shown(request: ModelRequest) -> str:
    if not request.messages:
        return "missing"
    last = request.messages[-1]
    return f"the {last.role}'s {last.content[:200]!r}"
