"""NESTFUL: a request that needs a row of calls, each fed by results of those before it.

In: the packs. Out: cases and scores.
Must not know: how answers are asked for.

All calls are made in one turn, before any result is known: `$varN.field$` stands for a field of
what the N-th call returns. Every case offers the functions it needs among others of its set. The
closing `var_result` of the source only names the outputs, so it is not asked for.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from openk2.evals import sealtools
from openk2.evals.ast_match import tool_name
from openk2.evals.benchmark import Answer, Benchmark, Case, Scores, ask_once
from openk2.evals.decisions import decoded_all
from openk2.evals.exact_match import normal
from openk2.evals.sealtools import DERIVED, FAILED
from openk2.text.corpus import read_rows
from openk2.types import Message, ToolSpec

PACKS = ("eval/nestful.jsonl.zst", "eval/nestful_specs.jsonl.zst")
OFFERED = 8
"""Tools of a case, the needed ones included: a set has 30 to 70, too many for a small window."""

_NESTING = (
    "Make all calls that the request needs at once, in the order in which they run. What a call "
    "returns is not known yet: give a field of the N-th call's result to a later one as \"$varN."
    'FIELD$", counting from 1.'
)
_PARAMETERS = ("parameters", "query_parameters", "path_parameters", "arguments")


def cases(data: Path) -> Iterator[Case]:
    """Read the cases whose functions are all described: two of the source's are not."""
    specs = {
        row["set"].removesuffix("-spec.json"): {one["name"]: one for one in row["spec"]}
        for row in read_rows(data / PACKS[1])
    }
    for row in read_rows(data / PACKS[0]):
        kind = row["set"].removesuffix("-data.json")
        gold = [call for call in row["output"] if call["name"] != "var_result"]
        needed = {call["name"] for call in gold}
        if needed <= specs[kind].keys():
            yield Case(
                id=f"{kind}-{row['n']}",
                group=kind,
                messages=(Message("system", _NESTING), Message("user", row["input"])),
                tools=tuple(_offered(specs[kind], needed, f"{kind}-{row['n']}")),
                gold=[[tool_name(call["name"]), call["arguments"]] for call in gold],
            )


def _offered(
    specs: Mapping[str, Mapping[str, Any]], needed: set[str], seed: str
) -> Iterator[ToolSpec]:
    rng = random.Random(seed)
    others = sorted(specs.keys() - needed)
    chosen = [*needed, *rng.sample(others, max(0, min(len(others), OFFERED - len(needed))))]
    chosen.sort()
    rng.shuffle(chosen)
    return (_tool(specs[name]) for name in chosen)


def _tool(spec: Mapping[str, Any]) -> ToolSpec:
    declared: dict[str, Mapping[str, Any]] = {}
    for key in _PARAMETERS:
        declared |= spec.get(key) or {}
    # A parameter may hold the stand-in of a result, so its type is only said.
    properties = {name: {"description": " ".join(_said(about))} for name, about in declared.items()}
    returned = ", ".join(spec.get("output_parameters") or {})
    required = [name for name, about in declared.items() if about.get("required")]
    return ToolSpec(
        tool_name(spec["name"]),
        f"{spec['description']} Returns: {returned}",
        {"type": "object", "properties": properties, "required": required},
    )


def _said(about: Mapping[str, Any]) -> Iterator[str]:
    yield str(about.get("description", ""))
    if about.get("type"):
        yield f"({about['type']})"
    if options := about.get("enum") or about.get("allowed_values") or about.get("possible_values"):
        yield f"One of: {options}"


def score(case: Case, answer: Answer) -> Scores:
    """Compare functions, parameters, and the whole row of calls in its order."""
    found = decoded_all(answer.calls) or []
    gold = [(name, arguments) for name, arguments in case.gold]
    return {
        **sealtools.score(case, answer),
        "in_order": float(_begins(found, gold) == len(gold) == len(found)),
        "begins": _begins(found, gold) / len(gold),
    }


def _begins(found: Sequence[tuple[str, Any]], gold: Sequence[tuple[str, Any]]) -> int:
    """Count the calls that are right up to the first that is not."""
    for place, (ours, right) in enumerate(zip(found, gold, strict=False)):
        if (ours[0], normal(ours[1])) != (right[0], normal(right[1])):
            return place
    return min(len(found), len(gold))


BENCHMARKS = (
    Benchmark(
        name="nestful",
        about="NESTFUL: rows of calls that use each other's results, made before any is known.",
        about_zh="NESTFUL：相互引用结果的一串调用，在得到任何结果之前一次给出。",
        licence="Apache-2.0",
        source="IBM/NESTFUL@053cbde0446d, one half of it by hash of the id",
        packs=PACKS,
        headline="exact",
        cases=cases,
        score=score,
        answer=ask_once(),
        failed={"exact": 0.0, **FAILED},
        derived=DERIVED,
    ),
)
