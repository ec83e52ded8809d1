"""In every benchmark the right answer scores 1, silence does not, and ids are unique."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from openk2.evals import acebench, registry
from openk2.evals.benchmark import Answer, Benchmark, Case
from openk2.evals.next_call import turns
from openk2.evals.run import choose
from openk2.evals.tool_docs import tool_of
from openk2.types import Message, ToolCall, Usage, validate_history

DATA = Path(__file__).resolve().parents[2] / "data"


def answer(*calls: tuple[str, Any], text: str = "") -> Answer:
    made = tuple(
        ToolCall(f"functions.{name}:{number}", name, json.dumps(arguments))
        for number, (name, arguments) in enumerate(calls)
    )
    return Answer((Message("assistant", text, tool_calls=made),), "stop", Usage(1, 1), 0.0)


def first_options(value: Any) -> Any:
    """Take the first right value of each parameter, in objects inside too."""
    if isinstance(value, dict):
        return {
            key: first_options(next(one for one in options if one != ""))
            for key, options in value.items()
            if any(one != "" for one in options)
        }
    return [first_options(one) for one in value] if isinstance(value, list) else value


def bfcl_right(case: Case) -> Answer:
    if case.gold is None:
        called = [("f", {})] if case.group == "live_relevance" else []
        return answer(*called, text="" if called else "No.")
    calls: list[tuple[str, Any]] = []
    for right in case.gold:
        for name, values in right.items():
            function = next(one for one in case.meta["functions"] if one["name"] == name)
            needed = function["parameters"]["required"]
            given = {k: v for k, v in values.items() if "" not in v or k in needed}
            calls.append((name.replace(".", "_"), first_options(given)))
    return answer(*calls)


def ace_right(case: Case) -> Answer:
    if case.meta["category"].startswith("special"):
        gold = case.gold if isinstance(case.gold, dict) else {case.gold: []}
        said = [
            "Due to the limitations of the function", "Missing necessary parameters",
            "There is incorrect value", *gold, *(one for values in gold.values() for one in values),
        ]  # fmt: skip
        return answer(text=" ".join(said))
    gold = case.gold[0] if isinstance(case.gold, list) else case.gold
    return answer(
        *((re.sub(r"_\d+$", "", name).replace(".", "_"), given) for name, given in gold.items())
    )


def calls_right(case: Case) -> Answer:
    return answer(*((name, arguments) for name, arguments in case.gold), text="Yes.")


def next_right(case: Case) -> Answer:
    return answer(*((name, json.loads(text)) for name, text in case.gold), text="Yes.")


def when_right(case: Case) -> Answer:
    if "call" in case.gold:
        name, arguments = case.gold["call"]
        return answer((name, arguments))
    return answer(text="Where?" if case.gold["kind"] == "request_for_info" else "I cannot.")


RIGHT: Mapping[str, Callable[[Case], Answer]] = {
    "bfcl": bfcl_right,
    "acebench": ace_right,
    "when2call": when_right,
    "nestful": calls_right,
    "sealtools": calls_right,
    "apibank": calls_right,
    "tau2_first_call": calls_right,
    "sgd": next_right,
    "nlu": next_right,
}


REFUSED = {
    "en-normal_preference_40", "en-normal_single_turn_parallel_function_42",
    "zh-normal_similar_api_2", "zh-normal_similar_api_22",
    "zh-normal_single_turn_parallel_function_80",
}  # fmt: skip
"""ACEBench's own scorer refuses these right answers: functions whose name ends in a number, lists
that are empty or of another type than declared."""


@pytest.fixture(scope="module", params=sorted(RIGHT))
def benchmark_and_cases(request: pytest.FixtureRequest) -> tuple[Benchmark, list[Case]]:
    benchmark = registry.find(request.param)
    return benchmark, choose(benchmark, DATA, limit=40, seed=1)


def test_the_right_answer_scores_1(benchmark_and_cases: tuple[Benchmark, list[Case]]):
    benchmark, cases = benchmark_and_cases
    wrong = [
        case.id
        for case in cases
        if benchmark.score(case, RIGHT[benchmark.name](case)).get(benchmark.headline, 1.0) != 1.0
        and case.group not in ("simple_java", "simple_javascript")  # values are source there
    ]
    assert set(wrong) <= REFUSED


def test_silence_scores_0_where_something_is_to_be_done(
    benchmark_and_cases: tuple[Benchmark, list[Case]],
):
    benchmark, cases = benchmark_and_cases
    silent = answer(text="")
    rightly_silent = (
        "irrelevance", "live_irrelevance", "cannot_answer", "request_for_info",
        "sgd_test no call", "nlu_calls_test no call",
    )  # fmt: skip
    for case in cases:
        if not case.group.startswith(rightly_silent):
            assert benchmark.score(case, silent).get(benchmark.headline, 0.0) == 0.0, case.id


def test_a_case_is_a_sound_conversation_with_sound_tools(
    benchmark_and_cases: tuple[Benchmark, list[Case]],
):
    _, cases = benchmark_and_cases
    for case in cases:
        validate_history(case.messages)
        assert len({tool.name for tool in case.tools}) == len(case.tools)
        assert case.messages[-1].role != "assistant"


def test_arguments_that_are_no_json_are_no_call_to_bfcl():
    (case,) = (c for c in registry.find("bfcl").cases(DATA) if c.id == "irrelevance_1")
    broken = Message("assistant", tool_calls=(ToolCall("a", "math_sum", '{"numbers": ['),))
    scores = registry.find("bfcl").score(case, Answer((broken,), "length", Usage(1, 1), 0.0))
    assert scores["accuracy"] == 1.0  # as the public scorer has it
    assert scores["fp"] == 1.0 and scores["schema_accuracy"] == 0.0


def test_a_next_call_is_asked_with_the_dialogue_as_it_went():
    case = next(one for one in turns(DATA, "sgd_test") if one.gold)
    assert case.messages[-1].role == "user" and case.tools
    assert registry.find("sgd").score(case, answer(text="Hm."))["fn"] == 1.0


def test_a_dialogue_is_read_by_its_speakers():
    said = acebench.turns("user: one\nmore: of it\nsystem: [f(a=1)]\nsystem: done\nuser：两")
    assert [(m.role, m.content) for m in said] == [
        ("user", "one\nmore: of it"), ("assistant", "[f(a=1)]"), ("assistant", "done"),
        ("user", "两"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("[f(a=1, b='x'), g.h()]", [("f", {"a": 1, "b": "x"}), ("g_h", {})]),
        ("Sure: [f(a=true, b=[1, {'c': None}])]", [("f", {"a": "true", "b": [1, {"c": None}]})]),
        ("[f(1)]", None),
        ("[f(a=1]", None),
        ("nothing", None),
        ("[1, 2]", None),
    ],
)
def test_calls_written_as_text_are_read(text: str, calls: list[tuple[str, Any]] | None):
    assert acebench.written_calls(text) == calls


def test_a_java_function_takes_source_in_strings():
    items = {"type": "ArrayList", "items": {"type": "long"}, "description": "Ids."}
    function = {
        "name": "a.b",
        "description": "Does.",
        "parameters": {"type": "dict", "properties": {"ids": items}, "required": ["ids"]},
    }
    tool = tool_of(function, "java")
    assert tool.name == "a_b"
    part = tool.parameters["properties"]["ids"]
    assert part["type"] == "string" and "ArrayList with items of type long" in part["description"]
    assert tool_of(function).parameters["properties"]["ids"]["items"] == {"type": "integer"}
