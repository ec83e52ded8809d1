"""A telephone is acted on, and judged by how it is afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from openk2.evals.ace_agent import carry_out, cases, read_milestone, score
from openk2.evals.ace_phone import Phone
from openk2.evals.benchmark import Answer, Case
from openk2.types import Message, ToolCall, Usage

DATA = Path(__file__).resolve().parents[2] / "data"


@pytest.fixture(scope="module")
def known() -> dict[str, Case]:
    return {case.id: case for case in cases(DATA)}


def answer(*calls: tuple[str, dict[str, Any]]) -> Answer:
    made = [
        Message("assistant", tool_calls=(ToolCall(str(n), name, json.dumps(arguments)),))
        for n, (name, arguments) in enumerate(calls)
    ]
    return Answer(tuple(made), "stop", Usage(1, 1), 0.0)


BARBECUE = (
    ("get_products", {"merchant_name": "Jiutian BBQ"}),
    ("login_food_platform", {"username": "Jack", "password": "password654"}),
    ("add_food_delivery_order", {"username": "Jack", "merchant_name": "Jiutian BBQ",
                                 "items": [{"product": "Grilled Pork Belly", "quantity": 1}]}),
)  # fmt: skip


def test_a_task_is_done_when_the_telephone_is_as_it_should_be(known: dict[str, Case]):
    with_wifi, without = known["en-agent_multi_step_3"], known["en-agent_multi_step_2"]
    assert score(with_wifi, answer(*BARBECUE)) == {"accuracy": 1.0, "process": 1.0}
    assert score(without, answer(*BARBECUE))["accuracy"] == 0.0  # Wi-Fi is off
    assert score(without, answer(("turn_on_wifi", {}), *BARBECUE))["accuracy"] == 1.0


def test_milestones_are_passed_in_their_order(known: dict[str, Case]):
    case = known["en-agent_multi_step_3"]
    login, order = BARBECUE[1:]
    assert score(case, answer(login))["process"] == pytest.approx(1 / 2)
    assert score(case, answer(order, login))["process"] == pytest.approx(1 / 2)
    assert score(case, answer())["process"] == 0.0
    again = score(case, answer(*BARBECUE, order))  # refused: the money is gone
    assert again["accuracy"] == 1.0
    eve = ("login_food_platform", {"username": "Eve", "password": "password123"})
    assert score(case, answer(*BARBECUE, eve)) == {"accuracy": 0.0, "process": 1.0}


def test_most_tasks_are_done_by_their_milestones_alone(known: dict[str, Case]):
    # The others' milestones leave out a login, or name another message than the state does.
    left = {
        name
        for name, case in known.items()
        if not any(score(case, answer(*row))["accuracy"] for row in case.meta["milestones"])
    }
    ends = ("8", "12", "13", "14", "15", "16", "17")
    assert left <= {f"{lang}-agent_multi_step_{end}" for lang in ("en", "zh") for end in ends}


def test_every_case_offers_what_the_telephone_can(known: dict[str, Case]):
    offered = {tool.name for case in known.values() for tool in case.tools}
    assert {name for name in offered if not hasattr(Phone, name)} == {"search_reminders"}
    phone = Phone(known["zh-agent_multi_step_3"].meta["phone"], {"wifi": True})
    assert "there is no function" in carry_out(phone, ("search_reminders", {}))
    assert "Error during execution" in carry_out(phone, ("delete_message", {}))
    assert "短信已满" in carry_out(
        phone, ("send_message", {"sender_name": "Eve", "receiver_name": "Jack", "message": "x"})
    )


def test_a_milestone_with_quotes_inside_quotes_is_read():
    text = "[send_message(sender_name='Eve', message='Don't forget tomorrow's meeting')]"
    said = {"sender_name": "Eve", "message": "Don't forget tomorrow's meeting"}
    assert read_milestone(text) == ["send_message", said]
    assert read_milestone("[f(a=[{'b': 1}])] ") == ["f", {"a": [{"b": 1}]}]
    with pytest.raises(ValueError, match="is no call"):
        read_milestone("nothing")
