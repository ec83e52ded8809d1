"""Seal-Tools: a request, some tools, and the calls that serve it, some fed by others.

In: the pack. Out: cases and scores.
Must not know: how answers are asked for.

Measured as in the paper (arXiv 2405.08355): precision, recall and F1 of tools and of parameters,
over all cases together. The right calls are known before any is made: `API_call_N` stands for the
N-th value that the calls return.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openk2.evals.benchmark import Answer, Benchmark, Case, Means, Scores, ask_once
from openk2.evals.decisions import decision_scores, decoded_all
from openk2.evals.exact_match import entries, overlap, same_calls
from openk2.text.corpus import read_rows
from openk2.types import Message, ToolSpec

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

PACK = "eval/sealtools_test.jsonl.zst"

KINDS = ("both", "only_found", "only_right")
"""What `overlap` counts, for names of scores."""

_NESTING = (
    "Make all calls that the request needs at once, in the order in which they run. A call returns "
    "the values that its tool's description names. Count them over all calls, from 0: the N-th may "
    'be given to a later call as "API_call_N".'
)


def cases(data: Path) -> Iterator[Case]:
    """Read the cases; `gold` is the right calls."""
    for row in read_rows(data / PACK):
        calls: Sequence[Mapping[str, Any]] = row["calling"]
        nested = "API_call_" in str([call["parameters"] for call in calls])
        kind = "nested" if nested else "several" if len(calls) > 1 else "single"
        yield Case(
            id=row["id"],
            group=f"{row['set'].removeprefix('test_')} {kind}",
            messages=(Message("system", _NESTING), Message("user", row["query"])),
            tools=tuple(_tool(api) for api in _apis(row["prompt"])),
            gold=[[call["api"], call["parameters"]] for call in calls],
        )


def _apis(prompt: str) -> Sequence[Mapping[str, Any]]:
    start = prompt.index("api_list = ") + len("api_list = ")
    return ast.literal_eval(prompt[start : prompt.rindex("\ntask_instruction")])


def _tool(api: Mapping[str, Any]) -> ToolSpec:
    # A parameter may hold the stand-in of another call's result, so its type is only said.
    properties = {
        name: {"description": f"{about.get('description', '')} ({about['type']})"}
        for name, about in api["parameters"].items()
    }
    returned = ", ".join(api.get("responses", ()))
    return ToolSpec(
        api["api_name"],
        f"{api['api_description']}. Returns: {returned}",
        {"type": "object", "properties": properties, "required": list(api["required"])},
    )


def score(case: Case, answer: Answer) -> Scores:
    """Compare tools and parameters; `exact` is all of them."""
    calls = decoded_all(answer.calls)
    gold = [(name, arguments) for name, arguments in case.gold]
    found = calls or []
    tools = overlap([name for name, _ in found], [name for name, _ in gold])
    parameters = overlap(entries(found), entries(gold))
    return {
        "exact": float(calls is not None and same_calls(calls, gold)),
        **{f"tool_{kind}": float(count) for kind, count in zip(KINDS, tools, strict=True)},
        **{f"parameter_{kind}": float(n) for kind, n in zip(KINDS, parameters, strict=True)},
        **decision_scores(case, answer, should_call=True),
    }


def _f1(what: str) -> Callable[[Means], NDArray[float64]]:
    def make(means: Means) -> NDArray[float64]:
        both, found, right = (means[f"{what}_{kind}"] for kind in KINDS)
        return 2 * both / (2 * both + found + right)

    return make


DERIVED = {"tool_f1": _f1("tool"), "parameter_f1": _f1("parameter")}
"""F1 over all calls of all cases; a failed case has none."""
FAILED: Scores = {f"{what}_{kind}": 0.0 for what in ("tool", "parameter") for kind in KINDS}

BENCHMARKS = (
    Benchmark(
        name="sealtools",
        about="Seal-Tools: single, several and nested calls; tools and parameters by F1.",
        about_zh="Seal-Tools：单个、多个与嵌套调用，按工具与参数计算 F1。",
        licence="Apache-2.0",
        source="fairyshine/Seal-Tools@ce753ecd60ed, one half of it by hash of the id",
        packs=(PACK,),
        headline="exact",
        cases=cases,
        score=score,
        answer=ask_once(),
        failed={"exact": 0.0, **FAILED},
        derived=DERIVED,
    ),
)
