"""Worlds: does an assistant get done what a user wants, as the state of the world shows?

In: tasks of domains that are kept from training, or a file of tasks. Out: episodes with the
scripted user; success, and what went wrong on the way.
Must not know: what any domain is about, or how tasks are drawn or solved.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from openk2.agent.model import ChatModel, Reply
from openk2.envs.catalogue import domain
from openk2.envs.domain import Domain
from openk2.envs.env import Session
from openk2.envs.episode import play
from openk2.envs.rubric import Verdict, score
from openk2.envs.task import Task, read_task, task_json
from openk2.evals.benchmark import Answer, AskSettings, Benchmark, Case, Scores
from openk2.evals.world_tasks import held_out_tasks
from openk2.text.corpus import DamagedPackError, read_rows
from openk2.types import Usage

_TURN_TOKENS = 512
_MEASURED = ("state", "told", "spoke", "finished", "schema", "no_invented_ids",
             "no_needless_refusals")  # fmt: skip
_FAILED: Scores = {"success": 0.0, **dict.fromkeys(_MEASURED, 0.0)}


OpenDomain = Callable[[Task], Domain]
"""Raises KeyError where the task's domain is not there."""


def catalogued(task: Task) -> Domain:
    """Open a hand-written domain."""
    return domain(task.domain)


def _case(task: Task, open_domain: OpenDomain = catalogued) -> Case:
    session = Session(open_domain(task), task)
    return Case(
        f"worlds/{task.id}",
        task.domain.partition("~")[0],  # variants count for what they are variants of
        tuple(session.messages),
        session.tools,
        meta={"task": task_json(task), "kind": task.kind},
    )


def _held_out(data: Path) -> Iterator[Case]:
    del data
    yield from map(_case, held_out_tasks())


def tasks_in(path: Path) -> Iterator[Task]:
    """Read a file of tasks, or of conversations with their tasks, as `openk2 synth` writes them.

    Raises:
        DamagedPackError: A row holds no task.
    """
    for number, row in enumerate(read_rows(path), start=1):
        try:
            yield read_task(row.get("task", row))
        except (KeyError, TypeError, AttributeError) as error:
            raise DamagedPackError(
                f"{path}:{number} holds no task of a world ({error}); "
                "take eval.jsonl or tasks.jsonl of a run of `openk2 synth`"
            ) from error


async def _answer(
    open_domain: OpenDomain, case: Case, model: ChatModel, settings: AskSettings
) -> Answer:
    task = read_task(case.meta["task"])
    began, session, replies = time.monotonic(), Session(open_domain(task), task), list[Reply]()
    await play(model, session, settings.sampling(_TURN_TOKENS), replies.append)
    usage = Usage(
        sum(reply.usage.prompt_tokens for reply in replies),
        sum(reply.usage.completion_tokens for reply in replies),
        sum(reply.usage.cached_tokens for reply in replies),
        sum(reply.usage.reasoning_tokens for reply in replies),
    )
    said = tuple(session.messages[len(case.messages) :])
    return Answer(said, replies[-1].finish, usage, time.monotonic() - began)


def verdict(open_domain: OpenDomain, case: Case, answer: Answer) -> Verdict:
    """Play an answer's turns again on a fresh world and judge where they lead."""
    task = read_task(case.meta["task"])
    session = Session(open_domain(task), task)
    for message in answer.messages:
        if message.role == "assistant" and not session.done:
            session.move(message)
    return score(session)


def _score(open_domain: OpenDomain, case: Case, answer: Answer) -> Scores:
    found = verdict(open_domain, case, answer)
    success = float(found.passed)
    topics = case.meta["task"]["topics"]
    acting = any(topic["kind"] in ("do", "fails") for topic in topics)
    return {
        "success": success,
        # Whoever always declines solves the others: this is what is left of such a success.
        **({"success acting": success} if acting else {}),
        f"success {case.meta['kind']}": success,
        **{name: found.values[name][0] for name in _MEASURED},
    }


WORLDS = Benchmark(
    name="worlds",
    about="Tasks of domains that are never trained on, with a scripted user, judged by state.",
    about_zh="从不用于训练的整个领域中的任务，由脚本用户对话，按世界状态判定。",
    licence="Apache-2.0",
    source="openk2/evals/world_tasks.py",
    packs=(),
    headline="success",
    cases=_held_out,
    score=partial(_score, catalogued),
    answer=partial(_answer, catalogued),
    failed=_FAILED,
)
BENCHMARKS = (WORLDS,)


def worlds_of(path: Path, open_domain: OpenDomain = catalogued) -> Benchmark:
    """Make a benchmark, named `tasks`, of a file of tasks.

    Args:
        path: As `tasks_in` reads it.
        open_domain: Finds the domain of a task.
    """

    def cases(data: Path) -> Iterator[Case]:
        del data
        for task in tasks_in(path):
            try:
                yield _case(task, open_domain)
            except KeyError as error:
                raise DamagedPackError(f"{path}: the task {task.id}: {error.args[0]}") from error

    return replace(
        WORLDS,
        name="tasks",
        about="Tasks of a file, with the scripted user, judged by the state of the world.",
        about_zh="文件中的任务，由脚本用户对话，按世界状态判定。",
        licence="as the file says",
        source=path.name,
        cases=cases,
        score=partial(_score, open_domain),
        answer=partial(_answer, open_domain),
    )
