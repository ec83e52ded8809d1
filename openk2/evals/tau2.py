"""The first call of τ²-bench tasks. This is no τ² reward.

In: the packs of tasks and policies. Out: cases and scores.
Must not know: how answers are asked for.

τ²'s reward needs its databases, its tools' code and a simulated user; the packs hold tasks and
policies only. What can be asked without them is the first action of a task, where all of its
arguments are among what the user says: whom to look up, which reservation to read. A case offers
every function that any task of its domain names, with the parameters that occur there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from openk2.evals.benchmark import Answer, Benchmark, Case, Scores, ask_once
from openk2.evals.decisions import decoded_all, valid_call
from openk2.evals.exact_match import same_calls
from openk2.text.corpus import read_rows
from openk2.types import Message, ToolSpec

TASKS, POLICIES = "eval/tau2_tasks.jsonl.zst", "eval/tau2_policies.jsonl.zst"
_TYPES: Mapping[type, str] = {
    str: "string", bool: "boolean", int: "number", float: "number", list: "array", dict: "object",
}  # fmt: skip


def cases(data: Path) -> Iterator[Case]:
    """Read the tasks whose first action a user's own words tell; `gold` is that call."""
    policies = {row["domain"]: row["policy"] for row in read_rows(data / POLICIES)}
    rows = [row for row in read_rows(data / TASKS) if row["domain"] in policies]
    tools = {domain: _tools(domain, rows) for domain in policies}
    for row in rows:
        actions = _actions(row)
        said = _said(row["user_scenario"]["instructions"])
        if actions and _told(actions[0], said):
            yield Case(
                id=f"{row['domain']}-{row['id']}",
                group=row["domain"],
                messages=(Message("system", policies[row["domain"]]), Message("user", said)),
                tools=tools[row["domain"]],
                gold=[[actions[0]["name"], actions[0]["arguments"]]],
            )


def _actions(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    actions: list[Mapping[str, Any]] = row["evaluation_criteria"].get("actions") or []
    return [one for one in actions if one.get("requestor", "assistant") == "assistant"]


def _said(instructions: Any) -> str:
    if isinstance(instructions, str):
        return instructions
    parts = (instructions.get("reason_for_call"), instructions.get("known_info"))
    # The instructions are written to the one who plays the user.
    return "This is what I want, as it was put to me:\n" + "\n".join(part for part in parts if part)


def _told(action: Mapping[str, Any], said: str) -> bool:
    values = cast(Mapping[str, Any], action["arguments"]).values()
    return bool(values) and all(
        isinstance(value, str) and value.lower().replace("_", " ") in _words(said)
        for value in values
    )


def _words(text: str) -> str:
    return text.lower().replace("_", " ")


def _tools(domain: str, rows: Sequence[Mapping[str, Any]]) -> tuple[ToolSpec, ...]:
    """Describe functions by what tasks give them: the packs have no schemas of them."""
    seen: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        for action in _actions(row) if row["domain"] == domain else ():
            seen.setdefault(action["name"], []).append(action["arguments"])
    return tuple(_tool(name, uses) for name, uses in sorted(seen.items()))


def _tool(name: str, uses: Sequence[Mapping[str, Any]]) -> ToolSpec:
    parameters = dict.fromkeys(parameter for use in uses for parameter in use)
    properties: dict[str, Any] = {}
    for parameter in parameters:
        kinds: set[type] = {type(use[parameter]) for use in uses if parameter in use}
        known = sorted({_TYPES[kind] for kind in kinds if kind in _TYPES})
        properties[parameter] = {"type": known[0]} if len(known) == 1 else {}
    required = [one for one in parameters if all(one in use for use in uses)]
    schema = {"type": "object", "properties": properties, "required": required}
    return ToolSpec(name, name.replace("_", " ").capitalize() + ".", json.loads(json.dumps(schema)))


def score(case: Case, answer: Answer) -> Scores:
    """Score the first call that is made."""
    gold = [(name, arguments) for name, arguments in case.gold]
    calls = decoded_all(answer.calls[:1])
    scores = {
        "first_call": float(calls is not None and same_calls(calls, gold)),
        "first_name": float([call.name for call in answer.calls[:1]] == [gold[0][0]]),
    }
    if answer.calls:
        valid = all(valid_call(call, case.tools) for call in answer.calls)
        scores["schema_accuracy"] = float(valid)
    return scores


BENCHMARKS = (
    Benchmark(
        name="tau2_first_call",
        about="First action of τ²-bench tasks whose arguments the user tells; no τ² reward, which "
        "needs databases that the packs lack.",
        about_zh="τ²-bench 任务的第一个动作（参数可由用户话语得知）；并非 τ² 奖励，"
        "因为数据包不含其数据库。",
        licence="MIT",
        source="sierra-research/tau2-bench@a2c024725189, one half of it by hash of the id",
        packs=(TASKS, POLICIES),
        headline="first_call",
        cases=cases,
        score=score,
        answer=ask_once(),
        failed={"first_call": 0.0},
    ),
)
