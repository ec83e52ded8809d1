"""A drifting agent is noticed and told; one on its way is left alone."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.agent import plan as plans
from openk2.agent.digest import Action
from openk2.agent.drift import DriftSettings, Verdict, due, parse, question, reminder, stalled
from openk2.types import ToolCall

PLAN = plans.write("Report", [{"text": "Load", "acceptance": "rows"}])
NO = Verdict(False, "it books a hotel", "load sales.csv")


def test_the_question_comes_every_so_many_steps_and_not_at_once():
    settings = DriftSettings(every=10)
    assert [step for step in range(45) if due(step, settings)] == [11, 21, 31, 41]
    assert not any(due(step, DriftSettings(every=0)) for step in range(100))


def test_the_question_shows_goal_rules_plan_and_the_newest_actions():
    done = [
        Action(ToolCall(f"c{i}", "shell", f'{{"command": "ls {i}"}}'), "x" * 5_000, f"r{i}")
        for i in range(500)
    ]
    system, asked = question("Report the sales", ["Only use sales.csv"], PLAN, done)
    assert system.role == "system"
    for part in ("Report the sales", "- Only use sales.csv", "[ ] p1 Load", "ls 499", "left out"):
        assert part in asked.content
    assert "ls 1 " not in asked.content and len(asked.content) < 8_000
    assert "(none)" in question("g", [], None, [])[1].content


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ('{"on_goal": true, "why": "w", "correction": ""}', Verdict(True, "w")),
        ('```json\n{"on_goal": false, "why": "a {b}", "correction": "c"}\n```',
         Verdict(False, "a {b}", "c")),
        ('I saw {x} and {"y": 1}. {"on_goal": "No", "why": null}', Verdict(False)),
        ('{"on_goal": true} no: {"on_goal": false, "why": "loops"}', Verdict(False, "loops")),
        ('{"on_goal": "是"}', Verdict(True)),
        ("Yes.", Verdict(True)),
        ("No, it books a hotel.", Verdict(False, "it books a hotel")),
        ("**on_goal**: no\nIt books a hotel.", Verdict(False, "It books a hotel")),
        ("符合目标：否。它在订酒店。", Verdict(False, "它在订酒店")),
        ("否", Verdict(False)),
        ('{"on_goal": 0, "why": "w"', None),
        ("Nothing to say", None),
        ("", None),
        ('{"on_goal": "perhaps"}', None),
    ],
)  # fmt: skip
def test_an_answer_is_read_however_it_is_written(answer: str, found: Verdict | None):
    assert parse(answer) == found


@given(st.text() | st.text(alphabet='{}[]":,on_galyes truef\\'))
def test_no_answer_breaks_the_reader(answer: str):
    found = parse(answer)
    assert found is None or isinstance(found.on_goal, bool)


@given(st.booleans(), st.text(), st.text(), st.text(), st.text(alphabet="ab {\n"))
def test_a_verdict_in_json_is_found_in_any_text(
    on_goal: bool, why: str, correction: str, before: str, after: str
):
    value = {"on_goal": on_goal, "why": why, "correction": correction}
    found = parse(before.replace("{", "(") + json.dumps(value) + after)
    assert found == Verdict(on_goal, why.strip(), correction.strip())


def test_only_a_drifting_agent_is_told():
    text = reminder(NO, "Report the sales")
    for part in ("it books a hotel", "load sales.csv", "The goal: Report the sales"):
        assert part in text
    assert reminder(Verdict(True, "fine"), "g") == reminder(None, "g") == ""


def test_a_plan_that_does_not_move_is_named_once_in_a_while():
    settings = DriftSettings(stalled_after=10)
    told = [step for step in range(1, 40) if stalled(step, 4, PLAN, settings)]
    assert told == [14, 24, 34]
    assert "no item of the plan has moved. Open: p1 (Load)" in stalled(14, 4, PLAN, settings)
    done = plans.mark(PLAN, "p1", "done", "rows")
    assert not any(stalled(step, 4, done, settings) for step in range(40))
    assert not any(stalled(step, 4, None, settings) for step in range(40))
    assert not any(stalled(step, 4, PLAN, DriftSettings(stalled_after=0)) for step in range(40))
