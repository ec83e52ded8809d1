"""ACEBench's agent questions of one user turn: tasks on a telephone, judged by its state.

In: the packs. Out: cases, the model acting, scores.
Must not know: how the telephone works.

The questions of several turns (`agent_multi_turn`) need a language model as user: they are left
out. `process` is the benchmark's other number: how much of one right row of calls was made, in its
order; 1 where the end is right.
"""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from openk2.agent.model import ChatModel
from openk2.evals.ace_phone import Phone
from openk2.evals.acebench import PACK, written_calls
from openk2.evals.acting import act
from openk2.evals.ast_match import Call
from openk2.evals.benchmark import Answer, AskSettings, Benchmark, Case, Scores
from openk2.evals.decisions import decoded_all
from openk2.evals.exact_match import same_calls
from openk2.evals.tool_docs import tool_of
from openk2.text.corpus import read_rows
from openk2.types import Message

PHONES = "eval/acebench_phone.jsonl"
_MISTAKES = (TypeError, ValueError, KeyError, AttributeError)
_RULES: Mapping[str, str] = {
    "en": "Do what the user asks step by step with the functions, one call at a time, and decide "
    "by its result what comes next. Nobody answers questions. When all is done, say: finish "
    "conversation.",
    "zh": "请用函数一步一步完成用户的要求，每次只调用一个函数，并根据返回结果决定下一步。"
    "没有人会回答你的问题。全部完成后，请回答：finish conversation。",
}


def cases(data: Path) -> Iterator[Case]:
    """Read the tasks; `gold` is how the telephone must be afterwards."""
    phones = {row["lang"]: row for row in read_rows(data / PHONES)}
    for row in read_rows(data / PACK):
        if row["category"] == "agent_multi_step":
            yield Case(
                id=f"{row['lang']}-{row['id']}",
                group=row["lang"],
                messages=(Message("system", _RULES[row["lang"]]), Message("user", row["question"])),
                tools=tuple(tool_of(one) for one in row["function"]),
                gold=row["possible_answer"]["ground_truth"],
                meta={
                    "phone": phones[row["lang"]],
                    "config": row["initial_config"].get("BaseApi", {}),
                    "milestones": [
                        [read_milestone(text) for text in texts]
                        for texts in _rows(row["possible_answer"]["mile_stone"])
                    ],
                },
            )


def _rows(milestones: Sequence[Any]) -> list[list[str]]:
    """Return the rows of calls that are right; most tasks have one."""
    if milestones and isinstance(milestones[0], list):
        return cast(list[list[str]], list(milestones))
    return [cast(list[str], list(milestones))]


def read_milestone(text: str) -> list[Any]:
    """Read a call as the pack writes it: `[name(key='value', …)]`, quotes inside quotes included.

    Raises:
        ValueError: It is no call.
    """
    if calls := written_calls(text):
        return [calls[0][0], dict(calls[0][1])]
    found = re.fullmatch(r"\s*\[(\w+)\((.*)\)\]\s*", text, re.DOTALL)
    if found is None:
        raise ValueError(f"{text!r} is no call; the pack is damaged, fetch it again")
    parts = re.findall(r"(\w+)='(.*?)'(?=, \w+=|$)", found[2], re.DOTALL)
    return [found[1], dict(parts)]


async def answer(case: Case, model: ChatModel, settings: AskSettings) -> Answer:
    """Let the model act until it calls nothing."""
    phone, began = Phone(case.meta["phone"], case.meta["config"]), time.monotonic()
    said = list(case.messages)
    stopped, usage = await act(
        said, model, case.tools, settings, lambda call: carry_out(phone, call)
    )
    new = tuple(said[len(case.messages) :])
    return Answer(new, "stop" if stopped else "length", usage, time.monotonic() - began)


def carry_out(phone: Phone, call: Call) -> str:
    """Do what a call says and return the result as the model reads it."""
    name, arguments = call
    if name.startswith("_") or name == "state" or not hasattr(phone, name):
        return f"Error during execution: there is no function {name}"
    try:
        result = getattr(phone, name)(**copy.deepcopy(dict(arguments)))
    except _MISTAKES as error:
        return f"Error during execution: {error}"
    return json.dumps(result, ensure_ascii=False)


def score(case: Case, answer: Answer) -> Scores:
    """Carry the calls out again and compare the telephone with the right one."""
    phone = Phone(case.meta["phone"], case.meta["config"])
    calls = [call for one in answer.calls for call in decoded_all([one]) or []]
    for call in calls:
        carry_out(phone, call)
    right = bool(calls) and _as_wanted(json.loads(json.dumps(phone.state())), case.gold)
    rows: Sequence[Sequence[Any]] = case.meta["milestones"]
    process = 1.0 if right else max(_passed(calls, row) for row in rows)
    return {"accuracy": float(right), "process": process}


def _as_wanted(state: Mapping[str, Mapping[str, Any]], gold: Sequence[Mapping[str, Any]]) -> bool:
    """Compare as the public scorer does: a table may hold more than it must."""
    return all(
        _holds(state[system][part], wanted)
        for one in gold
        for system, parts in one.items()
        for part, wanted in parts.items()
    )


def _holds(found: Any, wanted: Any) -> bool:
    if not isinstance(wanted, dict):
        return found == wanted
    table = cast(dict[str, Any], wanted)
    return all(key in found and found[key] == value for key, value in table.items())


def _passed(calls: Sequence[Call], milestones: Sequence[Sequence[Any]]) -> float:
    """Return the share of milestones that were passed, each after the one before it."""
    place, passed = 0, 0
    for name, arguments in milestones:
        while place < len(calls):
            place += 1
            if same_calls([calls[place - 1]], [(name, arguments)]):
                passed += 1
                break
    return passed / len(milestones) if milestones else 1.0


BENCHMARKS = (
    Benchmark(
        name="acebench_agent",
        about="ACEBench agent tasks of one user turn, English and Chinese: the state of a "
        "telephone after the model has acted.",
        about_zh="ACEBench 单轮智能体任务（中英文）：模型操作之后手机的状态。",
        licence="MIT",
        source="chenchen0103/ACEBench@56dd66cf6439, one half of it by hash of the id",
        packs=(PACK, PHONES),
        headline="accuracy",
        cases=cases,
        score=score,
        answer=answer,
        failed={"accuracy": 0.0, "process": 0.0},
    ),
)
