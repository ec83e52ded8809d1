"""Tasks in the shape that `verifiers` tasksets have, both ways, without needing that package.

A row is {"example_id", "task", "prompt": chat messages, "info": JSON text, "answer"}; `info` holds
the whole task, so a row goes out and comes back as it was. A rollout's completion is judged by
playing it on a fresh world.

In: tasks, or rows. Out: rows, or tasks; rewards of completions.
Must not know: how rollouts are made.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from openk2.envs.domain import Domain
from openk2.envs.env import Session
from openk2.envs.rubric import Verdict, score
from openk2.envs.task import Task, read_task, task_json
from openk2.types import Message, ToolCall


def rows(domain: Domain, tasks: Iterable[Task]) -> Iterator[dict[str, Any]]:
    """Write tasks as rows of a taskset."""
    for number, task in enumerate(tasks):
        first = [{"role": m.role, "content": m.content} for m in Session(domain, task).messages]
        info = json.dumps(task_json(task), ensure_ascii=False)
        yield {
            "example_id": number,
            "task": task.domain,
            "prompt": first,
            "info": info,
            "answer": task.expected.state,
        }


def task_of(row: Mapping[str, Any]) -> Task:
    """Read the task of a row.

    Raises:
        ValueError: The row was not made by `rows`.
    """
    info = row["info"]
    try:
        return read_task(json.loads(info) if isinstance(info, str) else info)
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"row {row.get('example_id')} holds no task of a world: its info lacks {error}"
        ) from error


def reward(
    domain: Domain, row: Mapping[str, Any], completion: Sequence[Mapping[str, Any]]
) -> Verdict:
    """Judge a completion: its assistant turns are played on a fresh world.

    Args:
        domain: That of the row's task.
        row: A row of the taskset.
        completion: Chat messages after the prompt, in the form of Chat Completions.
    """
    session = Session(domain, task_of(row))
    for message in completion:
        if message["role"] == "assistant" and not session.done:
            session.move(_message(message))
    return score(session)


def _message(row: Mapping[str, Any]) -> Message:
    calls = tuple(
        ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"])
        for call in row.get("tool_calls") or ()
    )
    return Message("assistant", row.get("content") or "", tool_calls=calls)
