"""BFCL, version 4, the questions with one turn: which call, with which arguments, or none.

In: the pack. Out: cases and scores.
Must not know: how answers are asked for, or the questions with several turns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from openk2.evals.ast_match import Language, calls_match
from openk2.evals.benchmark import Answer, Benchmark, Case, Scores, ask_once
from openk2.evals.decisions import DERIVED, FAILED, decision_scores, decoded_all
from openk2.evals.tool_docs import tool_of
from openk2.text.corpus import read_rows
from openk2.types import Message

PACK = "eval/bfcl_v4_single_turn.jsonl.zst"
SOURCE = "ShishirPatil/gorilla@6ea57973c7a6, one half of it by hash of the id"
NO_CALL = ("irrelevance", "live_irrelevance")
_LANGUAGES: Mapping[str, Language] = {"simple_java": "java", "simple_javascript": "javascript"}


def language_of(category: str) -> Language:
    """Return the language that a category's functions are written in."""
    return _LANGUAGES.get(category, "python")


def cases(data: Path) -> Iterator[Case]:
    """Read the cases; `gold` is the list of right calls, None where relevance is asked."""
    for row in read_rows(data / PACK):
        language = language_of(row["category"])
        yield Case(
            id=row["id"],
            group=row["category"],
            messages=tuple(Message(one["role"], one["content"]) for one in row["question"][0]),
            tools=tuple(tool_of(function, language) for function in row["function"]),
            gold=row["ground_truth"],
            meta={"functions": row["function"]},
        )


def score(case: Case, answer: Answer) -> Scores:
    """Match the calls; where relevance is asked, only whether there is one that can be read."""
    calls = decoded_all(answer.calls)
    if case.gold is None:
        called = bool(calls)
        right = not called if case.group in NO_CALL else called
    else:
        functions: list[dict[str, Any]] = case.meta["functions"]
        right = calls is not None and not calls_match(
            functions, calls, case.gold, language_of(case.group)
        )
    should_call = case.group not in NO_CALL
    return {"accuracy": float(right), **decision_scores(case, answer, should_call=should_call)}


BENCHMARKS = (
    Benchmark(
        name="bfcl",
        about="Berkeley Function Calling Leaderboard v4, one turn: calls matched by syntax tree, "
        "and no call where no function fits.",
        about_zh="伯克利函数调用榜 v4 的单轮题：按语法树比对调用；没有合适的函数时不应调用。",
        licence="Apache-2.0",
        source=SOURCE,
        packs=(PACK,),
        headline="accuracy",
        cases=cases,
        score=score,
        answer=ask_once(),
        failed={"accuracy": 0.0, **FAILED},
        derived=DERIVED,
        total=False,
    ),
)
