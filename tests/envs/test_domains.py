"""Every hand-written domain keeps what the planner, the user and the rubric rely on."""

from __future__ import annotations

import json
import re
from random import Random

import pytest

from openk2.envs.catalogue import HELD_OUT, domain, names
from openk2.envs.domain import Domain, Goal, Intent, placeholders
from openk2.envs.slots import sayings
from openk2.envs.tool import perform, validator
from openk2.envs.world import World

DRAWS = 24
"""Goals that are drawn from every intent, each in another world."""
FROM_RESULT = re.compile(r"^(result|rows)\.|^count$")


def draws(one: Domain, intent: Intent) -> list[tuple[World, Goal]]:
    found: list[tuple[World, Goal]] = []
    for seed in range(DRAWS):
        world = one.world(seed)
        goal = intent.sample(world, Random(seed))
        if goal is not None:
            found.append((world, goal))
    return found


@pytest.mark.parametrize("name", names())
def test_tools_are_specified_in_both_languages(name: str) -> None:
    one = domain(name)
    assert 8 <= len(one.tools) <= 20
    assert len({tool.name for tool in one.tools}) == len(one.tools)
    assert any(tool.writes for tool in one.tools) and any(not tool.writes for tool in one.tools)
    for tool in one.tools:
        assert re.search(r"[\u4e00-\u9fff]", tool.zh), tool.name
        assert not re.search(r"[\u4e00-\u9fff]", tool.en), tool.name
        for param in tool.params:
            assert re.search(r"[\u4e00-\u9fff]", param.slot.zh), (tool.name, param.name)
            assert not param.slot.entity or param.slot.entity in one.rows, (tool.name, param.name)
    assert len(one.policies["en"]) == len(one.policies["zh"])


@pytest.mark.parametrize("name", names())
def test_a_seed_gives_one_world_and_snapshots_bring_it_back(name: str) -> None:
    one = domain(name)
    worlds = [one.world(seed) for seed in range(8)]
    assert len({world.state_hash() for world in worlds}) == 8
    assert worlds[3].state_hash() == one.world(3).state_hash()
    for table, rows in worlds[0].tables().items():
        assert rows, f"{table} is empty"
        assert all(key == row.id for key, row in rows.items())
    for intent in one.intents:
        for world, goal in draws(one, intent)[:5]:
            before, copy = world.state_hash(), world.snapshot()
            for call in goal.calls:
                perform(one.by_name[call.tool], world, call.arguments)
            world.restore(copy)
            assert world.state_hash() == before


@pytest.mark.parametrize("name", names())
def test_goals_do_what_their_kind_says(name: str) -> None:
    one = domain(name)
    for intent in one.intents:
        found = draws(one, intent)
        assert len(found) >= DRAWS // 4, f"{intent.name} finds an occasion too rarely"
        for world, goal in found:
            _check_goal(one, intent, world, goal)


def _check_goal(one: Domain, intent: Intent, world: World, goal: Goal) -> None:
    before = world.state_hash()
    outcomes = []
    for call in goal.calls:
        tool = one.by_name[call.tool]
        validator(tool).validate(dict(call.arguments))
        outcomes.append(perform(tool, world, call.arguments))
        assert outcomes[-1].error in ("", *tool.errors), (intent.name, call, outcomes[-1])
    writes = any(one.by_name[call.tool].writes for call in goal.calls)
    changed = world.state_hash() != before
    match intent.kind:
        case "do":
            assert outcomes and not any(outcome.error for outcome in outcomes), (
                intent.name,
                goal,
                outcomes[-1].text,
            )
            assert changed == writes, intent.name
        case "fails":
            assert outcomes[-1].error and not changed, intent.name
            assert not any(outcome.error for outcome in outcomes[:-1]), intent.name
        case "policy":
            assert not writes and not any(outcome.error for outcome in outcomes), intent.name
    for name, fact in (*goal.facts.items(), *goal.clues.items()):
        assert fact.kind in one.slots, (intent.name, name, fact.kind)
        assert sayings(fact.value, one.slots[fact.kind].form, "en"), (intent.name, name)
        json.dumps(fact.value)
    for lang in ("en", "zh"):
        assert intent.ask[lang] and intent.reply[lang]
        for template in intent.ask[lang]:
            unknown = set(placeholders(template)) - set(goal.facts)
            assert not unknown, (intent.name, template, unknown)
        told = [
            {p for p in placeholders(template) if FROM_RESULT.match(p)}
            for template in intent.reply[lang]
        ]
        assert all(part == told[0] for part in told), (intent.name, "replies tell different things")
        for template in intent.reply[lang]:
            for placeholder in placeholders(template):
                _check_reply(intent, goal, outcomes[-1].value if outcomes else None, placeholder)


def _check_reply(intent: Intent, goal: Goal, result: object, placeholder: str) -> None:
    where = (intent.name, placeholder)
    head, _, field = placeholder.partition(".")
    if head == "result":
        assert isinstance(result, dict) and field in result, where
    elif head == "rows":
        assert isinstance(result, list) and all(field in row for row in result), where
    elif head == "count":
        assert isinstance(result, list), where
    else:
        assert placeholder in goal.facts, where


@pytest.mark.parametrize("name", names())
def test_intents_cover_the_tools_and_all_kinds(name: str) -> None:
    one = domain(name)
    kinds = [intent.kind for intent in one.intents]
    assert kinds.count("do") >= 6 and kinds.count("fails") >= 1 and kinds.count("policy") >= 1
    used = {
        call.tool for intent in one.intents for _, goal in draws(one, intent) for call in goal.calls
    }
    unused = {tool.name for tool in one.tools if tool.writes} - used
    assert not unused, f"no intent needs {unused}"


def test_held_out_domains_exist() -> None:
    assert set(HELD_OUT) <= set(names())
