"""Tasks of the held-out domains: the solver that knows scores one, silence nothing."""

from __future__ import annotations

import asyncio
import json
from functools import cache
from pathlib import Path

import pytest

from openk2.agent.models.scripted import Scripted
from openk2.envs.catalogue import HELD_OUT, domain
from openk2.envs.env import Session
from openk2.envs.oracle import Oracle
from openk2.envs.rubric import score
from openk2.envs.task import Task, read_task, task_json
from openk2.evals.benchmark import Answer, AskSettings, Benchmark, Case
from openk2.evals.world_tasks import domain_tasks, held_out_tasks
from openk2.evals.worlds import WORLDS, tasks_in, worlds_of
from openk2.text.corpus import DamagedPackError
from openk2.types import Message, ToolCall

REFUSED = {"policy", "irrelevant", "missing_tool"}
"""Kinds in which nothing is to be done: whoever only says no is right."""


@cache
def tasks() -> tuple[Task, ...]:
    return tuple(domain_tasks(domain(HELD_OUT[0]), "en"))


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    """Return the benchmark of one domain in one language, by way of a file of tasks."""
    path = tmp_path_factory.mktemp("worlds") / "clinic.jsonl"
    lines = (json.dumps(task_json(task), ensure_ascii=False) for task in tasks())
    path.write_text("\n".join(lines), "utf-8")
    return worlds_of(path)


def solved(task: Task) -> list[Message]:
    session = Session(domain(task.domain), task)
    Oracle(session).play()
    return [message for message in session.messages if message.role == "assistant"]


def answer(case: Case, turns: list[Message]) -> Answer:
    return asyncio.run(WORLDS.answer(case, Scripted(turns), AskSettings()))  # type: ignore[arg-type]


def test_what_the_solver_does_scores_one_and_silence_nothing(benchmark: Benchmark):
    cases = list(benchmark.cases(Path()))
    assert [read_task(case.meta["task"]) for case in cases] == list(tasks())
    assert {case.meta["kind"] for case in cases} >= REFUSED | {"simple", "fails", "parallel"}
    for case, task in list(zip(cases, tasks(), strict=True))[::3]:
        scores = benchmark.score(case, answer(case, solved(task)))
        assert scores["success"] == scores[f"success {task.kind}"] == 1, case.id
        assert scores["schema"] == scores["no_invented_ids"] == scores["no_needless_refusals"] == 1
        silent = benchmark.score(case, answer(case, [Message("assistant", "")] * 40))
        assert silent["success"] == 0, case.id
        no = benchmark.score(case, answer(case, [Message("assistant", "I cannot do that.")] * 40))
        blind = all(
            topic.kind in REFUSED and not (topic.kind == "policy" and topic.goals[0].calls)
            for topic in task.topics
        )
        assert no["success"] == blind, case.id
        assert no.get("success acting", 0) == 0


def test_invented_ids_and_invalid_calls_are_seen(benchmark: Benchmark):
    case = next(iter(benchmark.cases(Path())))
    tool = next(t for t in case.tools if any("id" in name for name in t.parameters["required"]))
    made_up = dict.fromkeys(tool.parameters["required"], "P99999")
    turns = [
        Message("assistant", tool_calls=(ToolCall("", tool.name, json.dumps(made_up)),)),
        Message("assistant", tool_calls=(ToolCall("", "no_such_tool", "{"),)),
        *[Message("assistant", "Done.")] * 10,
    ]
    said = answer(case, turns)
    scores = benchmark.score(case, said)
    assert scores["no_invented_ids"] == 0 and scores["schema"] < 1 and scores["success"] == 0
    assert len(said.calls) == 2 and said.usage.completion_tokens > 0


@pytest.mark.parametrize(
    "value",
    [
        '"next Sunday"',
        "9" * 40,
        "1e400",
        "NaN",
        '"\\ud800"',
        "[" * 50_000,
        "null",
        '"' + "9" * 5000,
    ],
)
def test_no_value_that_a_model_can_write_breaks_a_world(value: str):
    task = tasks()[0]
    for tool in domain(task.domain).tools:
        session = Session(domain(task.domain), task)
        fields = ", ".join(f'"{name}": {value}' for name in tool.parameters()["properties"])
        for text in (f"{{{fields}}}", value):
            session.move(Message("assistant", tool_calls=(ToolCall("c", tool.name, text),)))
        assert score(session).score == 0 and session.world.state_hash()


def test_a_file_that_is_none_of_tasks_is_refused_with_its_line(tmp_path: Path):
    path = tmp_path / "tasks.jsonl"
    row = task_json(tasks()[0])
    path.write_text(f"{json.dumps({'task': row})}\n{json.dumps({'id': 1})}\n")
    with pytest.raises(DamagedPackError, match=r"tasks\.jsonl:2 holds no task"):
        list(tasks_in(path))
    path.write_text(json.dumps(row | {"domain": "nowhere"}))
    with pytest.raises(DamagedPackError, match="no domain 'nowhere'"):
        list(worlds_of(path).cases(tmp_path))


@pytest.mark.slow
def test_every_held_out_task_is_solved_and_there_are_many_of_every_kind():
    found = list(held_out_tasks())
    assert len({task.id for task in found}) == len(found) > 200
    assert {task.domain for task in found} <= set(HELD_OUT)
    for case, task in zip(WORLDS.cases(Path()), found, strict=True):
        assert WORLDS.score(case, answer(case, solved(task)))["success"] == 1, case.id
