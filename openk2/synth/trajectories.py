"""Trajectories: a task solved, as the conversation that a model learns from.

In: a task with its user. Out: the conversation, by the solver or by any model. Must not know: which
conversations are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from openk2.envs.domain import Domain
from openk2.envs.env import Session
from openk2.envs.oracle import Manner, Oracle
from openk2.envs.task import Task
from openk2.synth.config import SynthConfig
from openk2.types import Message, ToolCall, ToolSpec


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One conversation."""

    task: Task
    manner: str
    """How it was made: oracle, recovery (services failed on the way), explorer, or a model."""
    tools: tuple[ToolSpec, ...]
    messages: tuple[Message, ...]

    @property
    def calls(self) -> int:
        """Count the calls."""
        return sum(len(message.tool_calls) for message in self.messages)

    @property
    def difficulty(self) -> int:
        """Grade it: calls, topics, what was not said at once, and tools to choose from."""
        hidden = sum(len(topic.withheld) + len(topic.mistaken) for topic in self.task.topics)
        return self.calls + len(self.task.topics) + hidden + len(self.tools) // 4


def solve(task: Task, domain: Domain, config: SynthConfig) -> Trajectory:
    """Let the solver play a task.

    Raises:
        Unsolvable: The task needs what nobody can know.
    """
    rng = Random(f"manner/{task.id}")
    thinking, curious = rng.random() < config.thinking, rng.random() < config.curiosity
    session = Session(domain, task)
    Oracle(session, Manner(config.seed, thinking, 0.5 if curious else 0.0)).play()
    manner = "recovery" if task.faults else "explorer" if curious else "oracle"
    return Trajectory(task, manner, session.tools, tuple(session.messages))


def trajectory_json(one: Trajectory) -> dict[str, Any]:
    """Write a trajectory as a training row: its conversation, and where it comes from."""
    task = one.task
    return {
        "id": task.id,
        # Conversations of one agent share tools and prompt: a split keeps those together.
        "key": task.meta.get("agent", task.key),
        "domain": task.domain,
        "kind": task.kind,
        "lang": task.lang,
        "manner": one.manner,
        "seed": task.seed,
        "difficulty": one.difficulty,
        "calls": one.calls,
        **task.meta,
        "tools": [tool_json(tool) for tool in one.tools],
        "messages": [message_json(message) for message in one.messages],
    }


def tool_json(tool: ToolSpec) -> dict[str, Any]:
    """Write a tool's specification."""
    return {
        "name": tool.name,
        "description": tool.description,
        "parameters": dict(tool.parameters),
    }


def message_json(message: Message) -> dict[str, Any]:
    """Write a message, without what it does not have."""
    row: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning:
        row["reasoning"] = message.reasoning
    if message.tool_calls:
        row["tool_calls"] = [
            {"id": call.id, "name": call.name, "arguments": call.arguments}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        row["tool_call_id"] = message.tool_call_id
    return row


def read_messages(rows: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """Read what `message_json` wrote."""
    return tuple(
        Message(
            row["role"],
            row["content"],
            row.get("reasoning", ""),
            tuple(
                ToolCall(call["id"], call["name"], call["arguments"])
                for call in row.get("tool_calls", ())
            ),
            row.get("tool_call_id"),
        )
        for row in rows
    )


def read_tools(rows: Sequence[Mapping[str, Any]]) -> tuple[ToolSpec, ...]:
    """Read what `tool_json` wrote."""
    return tuple(ToolSpec(row["name"], row["description"], row["parameters"]) for row in rows)
