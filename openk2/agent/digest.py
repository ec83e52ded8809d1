"""What an agent did, in one line per call: for hand-off notes, drift checks and reports.

In: messages, or calls with their results. Out: short text that no output can make long.
Must not know: the loop, the model, or any particular tool.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from openk2.types import Message, ToolCall


@dataclass(frozen=True, slots=True)
class Action:
    """One call and what it brought."""

    call: ToolCall
    result: str
    handle: str = ""
    """Under which `read_result` shows the whole result."""


def one_line(text: str, limit: int) -> str:
    r"""Put text on one line of at most `limit` characters; what is cut is the middle.

    >>> one_line("a\n  b", 10)
    'a b'
    >>> one_line("abcdefghij", 7)
    'abcd … j'
    """
    flat = " ".join(text.split())
    if len(flat) <= limit:
        return flat
    tail = max(1, limit // 4)
    return f"{flat[: max(1, limit - tail - 2)]} … {flat[-tail:]}"


def describe(action: Action, limit: int = 240) -> str:
    """Say a call and its result on one line."""
    arguments = one_line(action.call.arguments, limit // 2)
    result = one_line(action.result, limit // 2) or "(nothing)"
    where = f"[{action.handle}] " if action.handle else ""
    return f"{where}{action.call.name}({arguments}) → {result}"


def actions(messages: Iterable[Message]) -> list[Action]:
    """Pair the calls of a conversation with their results; calls without one are left out."""
    calls: dict[str, ToolCall] = {}
    done: list[Action] = []
    for message in messages:
        if message.role == "assistant":
            calls = {call.id: call for call in message.tool_calls}
        elif message.role == "tool" and message.tool_call_id in calls:
            done.append(Action(calls[message.tool_call_id], message.content))
    return done


def newest_that_fit(lines: Sequence[str], limit: int) -> list[str]:
    """Keep the newest lines that fit into `limit` characters, and say how many are left out."""
    kept: list[str] = []
    room = limit
    for line in reversed(lines):
        room -= len(line) + 1
        if room < 0:
            break
        kept.append(line)
    left_out = len(lines) - len(kept)
    return [*([f"({left_out} earlier ones left out)"] if left_out else []), *reversed(kept)]
