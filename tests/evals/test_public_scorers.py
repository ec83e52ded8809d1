"""Our matches give the verdicts of the public scorers, on right answers and on spoilt ones.

The verdicts were recorded from `bfcl-eval` 2026.3.23 and from ACEBench's own checker.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from openk2.evals import acebench, bfcl, bfcl_multi_turn
from openk2.evals.ace_match import calls_match as ace_match
from openk2.evals.ast_match import calls_match
from openk2.evals.benchmark import Answer
from openk2.evals.bfcl import language_of
from openk2.types import Message, ToolCall, Usage

ROOT = Path(__file__).resolve().parents[2]
DATA, GOLDEN = ROOT / "data", ROOT / "tests" / "golden" / "evals"


def recorded(name: str) -> list[dict[str, Any]]:
    return json.loads((GOLDEN / name).read_text(encoding="utf-8"))["verdicts"]


def calls_of(row: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(name, arguments) for name, arguments in row["calls"]]


def test_bfcl_match_agrees_with_the_public_scorer():
    cases = {case.id: case for case in bfcl.cases(DATA)}
    rows = recorded("bfcl_ast.json")
    ours: dict[int, str] = {}
    for number, row in enumerate(rows):
        case = cases[row["id"]]
        ours[number] = calls_match(
            case.meta["functions"], calls_of(row), case.gold, language_of(case.group)
        )
    differ = [rows[number] for number, why in ours.items() if (why == "") != rows[number]["right"]]
    assert differ == []
    groups = {cases[row["id"]].group for row in rows}
    assert len(groups) == 10 and len({row["why"] for row in rows}) > 15


def test_acebench_match_agrees_with_the_public_scorer():
    cases = {case.id: case for case in acebench.cases(DATA)}
    rows = recorded("acebench.json")
    for row in rows:
        case = cases[row["id"]]
        golds = case.gold if isinstance(case.gold, list) else [case.gold]
        reasons = [ace_match(case.meta["functions"], calls_of(row), gold) for gold in golds]
        assert ("" in reasons) == row["right"], (row, reasons)
    assert len({cases[row["id"]].group for row in rows}) == 24


def conversation(turns: list[list[list[Any]]]) -> Answer:
    said: list[Message] = []
    for number, turn in enumerate(turns):
        said += [Message("user", "next")] if number else []
        for place, (name, arguments) in enumerate(turn):
            call = ToolCall(f"{number}-{place}", name, json.dumps(arguments))
            said.append(Message("assistant", tool_calls=(call,)))
            said.append(Message("tool", "result", tool_call_id=call.id))
        said.append(Message("assistant", "Done."))
    return Answer(tuple(said), "stop", Usage(1, 1), 0.0)


def test_conversations_agree_with_the_public_scorer():
    cases = {case.id: case for case in bfcl_multi_turn.cases(DATA)}
    differ = [
        row
        for row in recorded("bfcl_multi_turn.json")
        if bfcl_multi_turn.score(cases[row["id"]], conversation(row["turns"]))["accuracy"]
        != row["right"]
    ]
    assert differ == []


def test_every_conversation_is_right_when_the_right_calls_are_made():
    for case in bfcl_multi_turn.cases(DATA):
        names = {tool.name: list(tool.parameters["properties"]) for tool in case.tools}
        names |= {
            one["name"]: list(one["parameters"]["properties"])
            for later in case.meta["later"].values()
            for one in later
        }
        turns = [
            [[name, {**dict(zip(names[name], unnamed, strict=False)), **named}]
             for name, named, unnamed in turn]
            for turn in case.gold
        ]  # fmt: skip
        assert bfcl_multi_turn.score(case, conversation(turns)) == {"accuracy": 1.0, "turns": 1.0}
        assert bfcl_multi_turn.score(case, conversation(turns[:-1]))["accuracy"] == 0.0


@pytest.mark.parametrize(
    ("category", "text", "gold", "right"),
    [
        ("special_irrelevant", "due to the limitations of the function, no", "", True),
        ("special_irrelevant", "I cannot.", "", False),
        ("special_incomplete", "Missing necessary parameters (a, b) for the api (F)",
         {"F": ["a", "b"]}, True),
        ("special_incomplete", "Missing necessary parameters (a) for the api (F)",
         {"F": ["a", "b"]}, False),
        ("special_error_param", "There is incorrect value (20231) for the parameters (year)",
         {"year": ["20231"]}, True),
        ("special_error_param", "There is incorrect value (2023) for the parameters (year)",
         {"year": ["20231"]}, False),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_request_must_be_said(
    category: str, text: str, gold: Any, right: bool
):
    assert acebench.says(category, text, gold) is right
