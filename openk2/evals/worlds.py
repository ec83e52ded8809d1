"""Worlds: does an assistant get done what a user wants, as the state of the world shows?

In: tasks of domains that are kept from training, or a file of tasks. Out: episodes with the
scripted user; success, and what went wrong on the way.
Must not know: what any domain is about, or how tasks are drawn or solved.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from openk2.agent.model import ChatModel, Reply
from openk2.envs.catalogue import domain
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


def _case(task: Task) -> Case:
    session = Session(domain(task.domain), task)
    return Case(
        f"worlds/{task.id}",
        task.domain,
        tuple(session.messages),
        session.tools,
        meta={"task": task_json(task), "kind": task.kind},
    )


def _session(case: Case) -> Session:
    task = read_task(case.meta["task"])
    return Session(domain(task.domain), task)


def _held_out(data: Path) -> Iterator[Case]:
    del data
    yield from map(_case, held_out_tasks())


def tasks_in(path: Path) -> Iterator[Task]:
    """Read a file of tasks, JSON Lines, as `openk2 synth` writes it.

    Raises:
        DamagedPackError: A row is no task, or of a domain that is not here.
    """
    for number, row in enumerate(read_rows(path), start=1):
        try:
            task = read_task(row)
            domain(task.domain)
        except (KeyError, TypeError) as error:
            raise DamagedPackError(
                f"{path}:{number} is not a task of a world that is here ({error}); "
                "make the file again with this version"
            ) from error
        yield task


async def _answer(case: Case, model: ChatModel, settings: AskSettings) -> Answer:
    began, session, replies = time.monotonic(), _session(case), list[Reply]()
    await play(model, session, settings.sampling(_TURN_TOKENS), replies.append)
    usage = Usage(
        sum(reply.usage.prompt_tokens for reply in replies),
        sum(reply.usage.completion_tokens for reply in replies),
        sum(reply.usage.cached_tokens for reply in replies),
        sum(reply.usage.reasoning_tokens for reply in replies),
    )
    said = tuple(session.messages[len(case.messages) :])
    return Answer(said, replies[-1].finish, usage, time.monotonic() - began)


def verdict(case: Case, answer: Answer) -> Verdict:
    """Play an answer's turns again on a fresh world and judge where they lead."""
    session = _session(case)
    for message in answer.messages:
        if message.role == "assistant" and not session.done:
            session.move(message)
    return score(session)


def _score(case: Case, answer: Answer) -> Scores:
    found = verdict(case, answer)
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


def worlds_of(path: Path) -> Benchmark:
    """Make a benchmark of a file of tasks, named after it."""
    return _benchmark(
        path.name.split(".")[0],
        "Tasks of a file, with the scripted user, judged by the state of the world.",
        "文件中的任务，由脚本用户对话，按世界状态判定。",
        str(path),
        lambda data: map(_case, tasks_in(path)),
    )


def _benchmark(
    name: str, about: str, about_zh: str, source: str, cases: Callable[[Path], Iterable[Case]]
) -> Benchmark:
    return Benchmark(
        name=name,
        about=about,
        about_zh=about_zh,
        licence="Apache-2.0",
        source=source,
        packs=(),
        headline="success",
        cases=cases,
        score=_score,
        answer=_answer,
        failed=_FAILED,
    )


WORLDS = _benchmark(
    "worlds",
    "Tasks of whole domains that are never trained on, with a scripted user, judged by state.",
    "从不用于训练的整个领域中的任务，由脚本用户对话，按世界状态判定。",
    "openk2/evals/world_tasks.py",
    _held_out,
)
BENCHMARKS = (WORLDS,)
