"""API-Bank, level 2: a tool was searched for and found; the call of it.

In: the pack. Out: cases and scores.
Must not know: how answers are asked for.

Level 1 gives its APIs in files that the pack does not hold, so it cannot be asked. At level 2 the
result of `ToolSearcher` describes the API that the next call is of; the searches themselves have no
one right answer and are not asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from openk2.evals.benchmark import Answer, Benchmark, Case, Scores, ask_once
from openk2.evals.decisions import DERIVED, FAILED, decision_scores, decoded_all
from openk2.evals.exact_match import same_calls
from openk2.evals.tool_docs import tool_of
from openk2.text.corpus import read_rows
from openk2.types import Message, ToolCall, ToolSpec

PACK = "eval/apibank_lv12.jsonl.zst"
SEARCH = ToolSpec(
    "ToolSearcher",
    "Finds a tool by keywords. A tool that was found can be called.",
    {
        "type": "object",
        "properties": {"keywords": {"type": "string", "description": "What the tool is for."}},
        "required": ["keywords"],
    },
)


def cases(data: Path) -> Iterator[Case]:
    """Read the calls of APIs that the dialogue has found before; `gold` is the call."""
    for row in read_rows(data / PACK):
        if row["level"] != "level-2-toolsearcher":
            continue
        tools: dict[str, ToolSpec] = {SEARCH.name: SEARCH}
        messages: list[Message] = []
        for place, turn in enumerate(row["turns"]):
            if turn["role"] != "API":
                messages.append(_said(turn))
                continue
            name: str = turn["api_name"]
            if name in tools and name != SEARCH.name:
                asked = messages[:-1] if messages[-1].role == "assistant" else messages
                yield Case(
                    id=f"{row['id']}#{place}",
                    group="level 2",
                    messages=tuple(asked),
                    tools=tuple(tools.values()),
                    gold=[[name, turn["param_dict"]]],
                )
            # What was said before a call is a part of its turn.
            spoken = messages.pop().content if messages[-1].role == "assistant" else ""
            messages += _called(turn, place, spoken)
            for tool in _found(turn):
                tools[tool.name] = tool


def _said(turn: Mapping[str, Any]) -> Message:
    return Message("user" if turn["role"] == "User" else "assistant", turn["text"])


def _called(turn: Mapping[str, Any], place: int, spoken: str) -> Sequence[Message]:
    call = ToolCall(f"c{place}", turn["api_name"], json.dumps(turn["param_dict"]))
    result = json.dumps(turn["result"]["output"])
    return (
        Message("assistant", spoken, tool_calls=(call,)),
        Message("tool", result, tool_call_id=call.id),
    )


def _found(turn: Mapping[str, Any]) -> Iterator[ToolSpec]:
    output: Any = turn["result"]["output"]
    if turn["api_name"] != SEARCH.name:
        return
    for api in cast(list[Any], output) if isinstance(output, list) else [output]:
        if isinstance(api, dict) and "input_parameters" in api:
            about = cast(dict[str, Any], api)
            properties: Mapping[str, Any] = about["input_parameters"]
            parameters = {"properties": properties, "required": list(properties)}
            yield tool_of({**about, "parameters": parameters})


def score(case: Case, answer: Answer) -> Scores:
    """Score the call: name, and all arguments."""
    gold = [(name, arguments) for name, arguments in case.gold]
    calls = decoded_all(answer.calls)
    return {
        "call_accuracy": float(calls is not None and same_calls(calls, gold)),
        "name_accuracy": float([call.name for call in answer.calls] == [gold[0][0]]),
        **decision_scores(case, answer, should_call=True),
    }


BENCHMARKS = (
    Benchmark(
        name="apibank",
        about="API-Bank, level 2: the call of an API that a search in the dialogue has found.",
        about_zh="API-Bank 第二级：对话中检索到接口之后的那次调用。",
        licence="Apache-2.0",
        source="AlibabaResearch/DAMO-ConvAI@483554eae102, one half of it by hash of the id",
        packs=(PACK,),
        headline="call_accuracy",
        cases=cases,
        score=score,
        answer=ask_once(),
        failed={"call_accuracy": 0.0, **FAILED},
        derived=DERIVED,
    ),
)
