"""When2Call: to call, to ask for what is missing, or to say that no tool can do it.

In: the pack. Out: cases and scores.
Must not know: how answers are asked for.

The public evaluation has a language model judge what an answer is. Here a program does: a call is a
call, a text with a question mark asks, any other declines. So `kind` is no published number;
`decision`, whether a tool is called when one should be, needs no judge.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from openk2.evals.ast_match import tool_name
from openk2.evals.benchmark import Answer, Benchmark, Case, Scores, ask_once
from openk2.evals.decisions import DERIVED, FAILED, decision_scores, decoded_all
from openk2.evals.exact_match import same_calls
from openk2.evals.tool_docs import tool_of
from openk2.text.corpus import read_rows
from openk2.types import Message

PACK = "eval/when2call_judge.jsonl.zst"

Kind = Literal["tool_call", "request_for_info", "cannot_answer"]


def cases(data: Path) -> Iterator[Case]:
    """Read the cases; `gold` is the right kind of answer, and the call where that is one."""
    for row in read_rows(data / PACK):
        kind: Kind = row["correct_answer"]
        tools = [json.loads(text) for text in row["tools"]]
        gold: dict[str, Any] = {"kind": kind}
        if kind == "tool_call":
            call = json.loads(row["answers"]["tool_call"])
            gold["call"] = [tool_name(call["name"]), call["arguments"]]
        yield Case(
            id=row["uuid"],
            group=kind if tools else f"{kind}, no tools",
            messages=(Message("user", row["question"]),),
            tools=tuple(tool_of(tool) for tool in tools),
            gold=gold,
        )


def kind_of(answer: Answer) -> Kind:
    """Say what an answer is."""
    if answer.calls:
        return "tool_call"
    asks = "?" in answer.text or "？" in answer.text
    return "request_for_info" if asks else "cannot_answer"


def score(case: Case, answer: Answer) -> Scores:
    """Score the decision to call, the kind of answer, and the call where there should be one."""
    kind: Kind = case.gold["kind"]
    found, should_call = kind_of(answer), kind == "tool_call"
    scores = {
        "decision": float((found == "tool_call") == should_call),
        "kind": float(found == kind),
        **decision_scores(case, answer, should_call=should_call),
    }
    if should_call:
        calls, (name, arguments) = decoded_all(answer.calls), case.gold["call"]
        right = calls is not None and same_calls(calls, [(name, arguments)])
        scores["call_accuracy"] = float(right)
    return scores


BENCHMARKS = (
    Benchmark(
        name="when2call",
        about="When2Call: a call, a question back, or that no tool can do it; kinds are told apart "
        "by a program.",
        about_zh="When2Call：该调用、该追问，还是该说明没有工具能做到；由程序判别。",
        licence="Apache-2.0",
        source="NVIDIA/When2Call@ecc8d42388e9, the half that goes with the half of BFCL",
        packs=(PACK,),
        headline="decision",
        cases=cases,
        score=score,
        answer=ask_once(),
        failed={"decision": 0.0, "kind": 0.0, **FAILED},
        derived=DERIVED,
    ),
)
