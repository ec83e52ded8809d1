"""Long rows of calls: who knows the way gets to the end, who does nothing gets nothing."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from openk2.agent.model import ModelError, ModelRequest
from openk2.agent.models.scripted import Scripted
from openk2.evals.benchmark import Answer, AskSettings, Case
from openk2.evals.horizon import HORIZON, LENGTHS
from openk2.types import Message, ToolCall

CASES = {case.id: case for case in HORIZON.cases(Path())}
FINISH = {"status": "complete", "summary": "It is done."}


def calls(name: str, **arguments: Any) -> Message:
    return Message("assistant", tool_calls=(ToolCall("", name, json.dumps(arguments)),))


def oracle(request: ModelRequest) -> Message:
    """Read the last result and do what it leads to, as a model would."""
    if request.messages[0].content.startswith("You watch over an agent"):
        return Message("assistant", '{"on_goal": true}')
    results = [message for message in request.messages if message.role == "tool"]
    goal = next(m.content for m in request.messages if m.role == "user")
    if "trail" in goal:
        if not results:
            code = re.search(r"code (\w+);", goal)
            assert code is not None
            return calls("visit", station=1, code=code[1])
        last = json.loads(results[-1].content)
        if "trail" in last:
            return calls("finish", **FINISH)
        return calls("visit", station=last["next_station"], code=last["code"])
    if not results:
        first = re.search(r"first one (\S+)\);", goal)
        assert first is not None
        return calls("next_order", after=first[1])
    last = json.loads(results[-1].content)
    if "orders" in last:
        return calls("finish", **FINISH)
    if "shipped" in last:
        return calls("next_order", after=last["shipped"])
    if "item" in last:
        return calls("reserve", **last)
    order = json.loads(results[-2].content)["order_id"]
    return calls("ship", order_id=order, reservation_id=last["reservation_id"])


def play(case: Case, say: Any, turns: int = 400, window: int = 131_072) -> Answer:
    model = Scripted([say] * turns, context_window=window)
    return asyncio.run(HORIZON.answer(case, model, AskSettings()))


@pytest.mark.parametrize("kind", ["trail", "queue"])
def test_the_oracle_scores_one_over_thirty_calls_in_a_small_window(kind: str):
    case = CASES[f"horizon/{kind}-30-1"]
    answer = play(case, oracle, window=4096)
    scores = HORIZON.score(case, answer)
    assert scores["success"] == scores["state"] == scores["progress"] == 1
    assert scores["before_error"] == 1 and answer.usage.completion_tokens > 0
    other = CASES[f"horizon/{kind}-30-2"]
    assert HORIZON.score(other, answer)["before_error"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["trail", "queue"])
def test_the_oracle_scores_one_over_three_hundred_calls(kind: str):
    case = CASES[f"horizon/{kind}-300-0"]
    scores = HORIZON.score(case, play(case, oracle, window=8192))
    assert scores["success"] == 1 and scores["before_error"] == 10


def test_an_empty_run_scores_nothing():
    case = CASES["horizon/trail-300-0"]
    for said in ("I will do it later.", ""):
        scores = HORIZON.score(case, play(case, Message("assistant", said)))
        assert set(scores.values()) == {0.0}
    done = play(case, calls("finish", **FINISH))
    assert done.text.startswith("complete") and HORIZON.score(case, done)["success"] == 0


def test_a_window_that_cannot_hold_the_task_is_told_as_too_long():
    with pytest.raises(ModelError, match="window"):
        play(CASES["horizon/trail-9-0"], oracle, window=64)


def test_the_first_slip_ends_the_count_but_not_the_run():
    case = CASES["horizon/trail-9-0"]

    def slips(request: ModelRequest) -> Message:
        turn = sum(message.role == "assistant" for message in request.messages)
        if turn == 4:
            return calls("visit", station=5, code="wrong")
        if turn == 5:
            return calls("jump", height=3)
        if turn == 6:  # the last good result is two before
            messages = [m for m in request.messages if m.role != "tool" or "{" in m.content]
            return oracle(ModelRequest(tuple(messages)))
        return oracle(request)

    scores = HORIZON.score(case, play(case, slips))
    assert scores["success"] == 1 and scores["before_error"] == 4 / 9


def test_there_is_a_task_of_every_length_and_none_twice():
    assert len(CASES) == 2 * 5 * len(LENGTHS) and max(LENGTHS) == 300
    assert len({case.messages[-1].content for case in CASES.values()}) == len(CASES)
