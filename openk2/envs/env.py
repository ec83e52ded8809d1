"""An episode in a world: calls change the world, words go to the user, until the user is done.

`Session` is the plain form: synchronous, deterministic, quick. `Env` is the same behind the
asynchronous reset and step that agents and reinforcement learning speak.

In: a domain and a task, then an assistant's moves. Out: results, the user's words, the state.
Must not know: who the assistant is, how a solution is found or judged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from openk2.envs.domain import Domain
from openk2.envs.slots import Json
from openk2.envs.task import Task, call_key
from openk2.envs.tool import Outcome, enriched, perform, refusal, validator
from openk2.envs.user import User
from openk2.envs.world import Snapshot, World
from openk2.types import Message, ToolCall, ToolSpec

FAULTS: Mapping[str, str] = {
    "timeout": "The service did not answer in time; nothing was done. Try again.",
    "unavailable": "The service is not available at the moment; nothing was done. Try again.",
    "rate_limited": "Too many requests; nothing was done. Try again.",
}

_LARGEST = 1 << 53
"""The largest integer that every program reads as it is (RFC 8259, section 6)."""


@dataclass(frozen=True, slots=True)
class Done:
    """A call that was made."""

    call: ToolCall
    outcome: Outcome
    topic: int
    """What the user was talking about."""


@dataclass(slots=True)
class Session:
    """One episode."""

    domain: Domain
    task: Task
    fresh: bool = False
    """Whether the world is made from nothing, and not copied from one just made."""
    world: World = field(init=False)
    user: User = field(init=False)
    messages: list[Message] = field(default_factory=list[Message])
    calls: list[Done] = field(default_factory=list[Done])
    said: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    """What the assistant said at the end of its turns, with the topic."""
    cut_off: str = ""
    """The limit that ended the episode."""
    _turns: int = 0

    def __post_init__(self) -> None:
        """Begin with the system turn and the user's first words."""
        make = self.domain.fresh_world if self.fresh else self.domain.world
        self.world = make(self.task.seed)
        self.user = User(self.task, self.domain)
        self.messages = [Message("system", self.task.prompt)] if self.task.prompt else []
        self.messages.append(Message("user", self.user.begin()))

    @property
    def tools(self) -> tuple[ToolSpec, ...]:
        """Return what is offered to the assistant."""
        return tuple(self.domain.by_name[name].spec(self.task.lang) for name in self.task.tools)

    @property
    def done(self) -> bool:
        """Whether the episode is over."""
        return self.user.done or bool(self.cut_off)

    def move(self, message: Message) -> tuple[Message, ...]:
        """Take an assistant's turn and return what answers it: results, or the user's words.

        Args:
            message: Of role assistant. With calls, its text is heard by nobody.

        Raises:
            ValueError: The episode is over.
        """
        if self.done:
            raise ValueError("the episode is over: reset it before the next move")
        self._turns += 1
        self.messages.append(message)
        if message.tool_calls:
            answers = tuple(
                Message("tool", self._call(call).text, tool_call_id=call.id)
                for call in message.tool_calls
            )
        else:
            self.said.append((self.user.topic, message.content))
            reply = self.user.hear(message.content)
            answers = () if reply is None else (Message("user", reply),)
        self.messages.extend(answers)
        if len(self.calls) >= self.task.limits.calls:
            self.cut_off = "calls"
        elif self._turns >= self.task.limits.turns:
            self.cut_off = "turns"
        return answers

    def _call(self, call: ToolCall) -> Outcome:
        outcome = self._outcome(call)
        self.calls.append(Done(call, outcome, self.user.topic))
        return outcome

    def _outcome(self, call: ToolCall) -> Outcome:
        number = len(self.calls)
        if call.name not in self.task.tools:
            return refusal("unknown_tool", f"There is no tool named {call.name}.")
        tool = self.domain.by_name[call.name]
        try:
            arguments = _arguments(call.arguments)
        except (ValueError, RecursionError) as error:
            return refusal("invalid_arguments", f"The arguments are not JSON: {error}.")
        problem = next(iter(validator(tool).iter_errors(arguments)), None)
        if problem is not None:
            return refusal("invalid_arguments", problem.message)
        for fault in self.task.faults:
            if fault.call == number:
                return refusal(fault.code, FAULTS[fault.code])
        outcome = perform(tool, self.world, arguments)
        more = self.task.answers.get(call_key(call.name, arguments)) if self.task.answers else None
        return outcome if more is None else enriched(outcome, more)


def _arguments(text: str) -> Json:
    """Read what a model wrote; what other programs could not read counts as no JSON.

    Raises:
        ValueError, RecursionError: It is none.
    """
    if "\\u" in text:
        json.dumps(json.loads(text), ensure_ascii=False).encode()  # half of a surrogate pair
    return json.loads(text, parse_int=_integer)


def _integer(digits: str) -> int:
    value = int(digits)
    if abs(value) > _LARGEST:
        raise ValueError(f"{digits[:20]} is beyond the integers of JSON")
    return value


@dataclass(frozen=True, slots=True)
class Obs:
    """What an assistant gets to see."""

    messages: tuple[Message, ...]
    """New ones since the last observation."""
    done: bool
    info: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Env:
    """The asynchronous form, for agents and reinforcement learning."""

    def __init__(self, domain: Domain) -> None:
        """Hold the domain; a task comes with `reset`."""
        self.domain = domain
        self.session: Session | None = None

    @property
    def current(self) -> Session:
        """Return the episode that is on.

        Raises:
            ValueError: There is none.
        """
        if self.session is None:
            raise ValueError("there is no episode yet: call reset with a task first")
        return self.session

    async def reset(self, task: Task) -> Obs:
        """Begin an episode and return its first messages."""
        self.session = Session(self.domain, task)
        tools = [spec.name for spec in self.session.tools]
        return Obs(tuple(self.session.messages), self.session.done, {"tools": tools})

    async def step(self, move: Sequence[ToolCall] | str) -> Obs:
        """Make calls, or say something to the user.

        Raises:
            ValueError: There is no episode, or it is over.
        """
        if isinstance(move, str):
            message = Message("assistant", move)
        else:
            message = Message("assistant", tool_calls=tuple(move))
        answers = self.current.move(message)
        return Obs(answers, self.current.done, {"cut_off": self.current.cut_off})

    def state_hash(self) -> str:
        """Return the hash of the world as it is."""
        return self.current.world.state_hash()

    def snapshot(self) -> Snapshot:
        """Copy the world's state."""
        return self.current.world.snapshot()

    def restore(self, snapshot: Snapshot) -> None:
        """Bring a world's state back; the conversation stays as it is."""
        self.current.world.restore(snapshot)
