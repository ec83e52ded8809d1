"""A failing tool rests, another of its capability does the work, and the model is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from openk2.agent.fallback import (
    BREAKS,
    Breaker,
    BreakerSettings,
    Health,
    alternatives,
    offer,
    peers,
    refusal,
    stand_in,
    stood_in,
)
from openk2.agent.tool import Call, ErrorKind, Tool, ToolResult
from openk2.types import ToolSpec

QUICK = BreakerSettings(failures=2, rest_steps=5)


def schema(required: str = "query", **more: str) -> dict[str, Any]:
    properties = {required: {"type": "string"}} | {k: {"type": v} for k, v in more.items()}
    return {
        "type": "object",
        "properties": properties,
        "required": [required],
        "additionalProperties": False,
    }


def tool(
    name: str, capability: str = "", cost: float = 1.0, parameters: Any = None, writes: bool = False
) -> Tool:
    async def run(arguments: Mapping[str, Any], call: Call) -> ToolResult:
        return ToolResult(name)

    spec = ToolSpec(name, parameters=parameters or schema())
    return Tool(spec=spec, run=run, capability=capability, cost=cost, writes=writes)


FILES = tool("files")
LOCAL = tool("local", "search", 1.0)
REMOTE = tool("remote", "search", 2.0, schema(language="string"))
PAID = tool("paid", "search", 9.0, schema("question"))
TOOLS = [FILES, REMOTE, PAID, LOCAL]


def names(tools: list[Tool]) -> list[str]:
    return [tool.name for tool in tools]


def broken(name: str, at: int = 1) -> Health:
    health = Health(QUICK)
    for _ in range(QUICK.failures):
        health.record(name, "unavailable", at)
    return health


# The breaker ------------------------------------------------------------------------------------


def test_a_tool_rests_after_failures_in_a_row_and_one_call_tries_it():
    health = Health(QUICK)
    assert not health.record("t", "timeout", 1)
    health.record("t", None, 2)
    assert not health.record("t", "unavailable", 3)
    assert health.record("t", "unavailable", 4)
    assert [health.state("t", step) for step in (4, 8, 9)] == ["open", "open", "half_open"]
    assert health.record("t", "unavailable", 9)  # one failure is enough now
    assert health.rests_until("t") == 14
    health.record("t", None, 14)
    assert health.state("t", 15) == "closed" and health.of("t") == Breaker()


def test_mistakes_of_the_model_and_rules_say_nothing_about_the_tool():
    health = Health(QUICK)
    for error in ("bad_arguments", "refused") * 5:
        health.record("t", error, 1)
    health.record("t", "unavailable", 1)
    health.record("t", "bad_arguments", 1)
    assert health.record("t", "unavailable", 1)
    health = Health(QUICK)
    health.record("t", "unavailable", 1)
    health.record("t", "failed", 1)  # it answered
    assert not health.record("t", "unavailable", 1)


@pytest.mark.parametrize("wrong", [{"failures": 0}, {"rest_steps": 0}])
def test_a_breaker_that_cannot_work_is_refused(wrong: dict[str, int]):
    assert BreakerSettings(failures=1, rest_steps=1)
    with pytest.raises(ValueError, match="1 or more"):
        BreakerSettings(**wrong)


class BreakerMachine(RuleBasedStateMachine):
    """The breaker against a plain list of what happened."""

    def __init__(self) -> None:
        super().__init__()
        self.step = 1
        self.health = Health(QUICK)
        self.streak = 0
        self.opened: int | None = None

    @rule(steps=st.integers(1, 7))
    def time_passes(self, steps: int) -> None:
        self.step += steps

    @rule(error=st.sampled_from([None, *get_args(ErrorKind)]))
    def a_call_ends(self, error: ErrorKind | None) -> None:
        resting = self.opened is not None
        trial = resting and self.step - self.opened >= QUICK.rest_steps
        began = self.health.record("t", error, self.step)
        if error in (None, "failed"):
            self.streak, self.opened = 0, None
        elif error in BREAKS:
            self.streak += 1
            if trial or (not resting and self.streak >= QUICK.failures):
                self.opened = self.step
                assert began
                return
        assert not began

    @invariant()
    def it_rests_exactly_as_long_as_it_should(self) -> None:
        state = self.health.state("t", self.step)
        if self.opened is None:
            assert state == "closed" and self.streak < QUICK.failures
        else:
            rested = self.step - self.opened
            assert state == ("open" if rested < QUICK.rest_steps else "half_open")

    @invariant()
    def it_is_tried_again_some_day(self) -> None:
        assert self.health.state("t", self.step + QUICK.rest_steps) != "open"


TestBreaker = BreakerMachine.TestCase
TestBreaker.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


# What is offered --------------------------------------------------------------------------------


def test_in_good_health_the_cheapest_of_a_capability_comes_first_and_the_rest_stays():
    assert names(offer(TOOLS, Health(), 1)) == ["files", "local", "remote", "paid"]


def test_a_resting_tool_is_not_shown_while_another_can_do_its_work():
    health = broken("local")
    assert names(offer(TOOLS, health, 2)) == ["files", "remote", "paid"]
    assert names(offer(TOOLS, health, 6)) == ["files", "remote", "paid", "local"]  # half open: last
    assert names(offer([FILES, LOCAL], health, 2)) == ["files", "local"]
    assert names(offer(TOOLS, broken("files"), 2))[0] == "files"


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(["", "x", "y"])), max_size=6,
             unique_by=lambda pair: pair[0]),
    st.sets(st.sampled_from("abcdef")),
)  # fmt: skip
def test_every_capability_stays_reachable(pairs: list[tuple[str, str]], down: set[str]):
    tools = [tool(name, capability) for name, capability in pairs]
    health = Health(BreakerSettings(failures=1))
    for name in down:
        health.record(name, "unavailable", 1)
    shown = offer(tools, health, 2)
    assert {t.capability for t in shown} == {t.capability for t in tools}
    assert len(set(names(shown))) == len(shown)
    assert {t.name for t in tools if t.name not in down} <= set(names(shown))


# What stands in ---------------------------------------------------------------------------------


def test_the_next_of_the_capability_is_run_if_the_arguments_fit_it():
    health = Health()
    assert stand_in(LOCAL, {"query": "a"}, "unavailable", TOOLS, health, 1) is REMOTE
    assert stand_in(REMOTE, {"query": "a"}, "timeout", TOOLS, health, 1) is LOCAL
    # `language` means nothing to the local one, and nothing else needs a query.
    assert stand_in(REMOTE, {"query": "a", "language": "zh"}, "timeout", TOOLS, health, 1) is None
    assert stand_in(PAID, {"question": "a"}, "unavailable", TOOLS, health, 1) is None
    assert stand_in(FILES, {"query": "a"}, "unavailable", TOOLS, health, 1) is None


def test_nothing_stands_in_for_a_mistake_or_for_what_may_have_happened():
    health = Health()
    for error in ("failed", "refused", "bad_arguments"):
        assert stand_in(LOCAL, {"query": "a"}, error, TOOLS, health, 1) is None
    mail = [tool("one", "mail", writes=True), tool("two", "mail", writes=True)]
    assert stand_in(mail[0], {"query": "a"}, "timeout", mail, health, 1) is None
    assert stand_in(mail[0], {"query": "a"}, "unavailable", mail, health, 1) is mail[1]
    mixed = [tool("reader", "x"), tool("writer", "x", writes=True)]
    assert stand_in(mixed[0], {"query": "a"}, "unavailable", mixed, health, 1) is None


def test_a_value_that_the_other_forbids_does_not_go_to_it():
    narrow = schema()
    narrow["properties"] = {"query": {"type": "string", "maxLength": 3}}
    tools = [LOCAL, tool("narrow", "search", 0.5, narrow)]
    assert stand_in(LOCAL, {"query": "abc"}, "timeout", tools, Health(), 1) is tools[1]
    assert stand_in(LOCAL, {"query": "abcd"}, "timeout", tools, Health(), 1) is None


# What the model is told -------------------------------------------------------------------------


def test_a_call_of_a_resting_tool_is_refused_with_a_way_on():
    health = broken("local")
    told = refusal(LOCAL, TOOLS, health, 2)
    assert told is not None
    assert "failed 2 times in a row and rests until step 6" in told
    assert "there is remote, paid, with arguments of its own" in told
    assert refusal(LOCAL, TOOLS, health, 6) is None and refusal(REMOTE, TOOLS, health, 2) is None
    assert "Nothing else here" in alternatives(FILES, TOOLS, health, 2)
    assert peers(FILES, [FILES, tool("other")], health, 2) == []


def test_the_note_names_both_tools_and_the_reason():
    note = stood_in(LOCAL, "no answer", REMOTE)
    assert note.startswith("[local brought nothing (no answer). remote was called")
