"""Changed domains can still be played to the end, come again from their description, and keep out
what is held out."""

from __future__ import annotations

import json
from random import Random

import pytest

from openk2.envs.catalogue import HELD_OUT, domain
from openk2.envs.domain import Domain
from openk2.envs.env import Session
from openk2.envs.oracle import Oracle, Unsolvable
from openk2.envs.rubric import score
from openk2.envs.slots import Lang
from openk2.envs.solution import expected
from openk2.envs.task import Task, Topic
from openk2.envs.tool import perform
from openk2.synth.spec_domain import spec_domain
from openk2.synth.variants import (
    Kind,
    Variant,
    draw_variants,
    read_variant,
    root,
    variant_json,
    vary,
)
from openk2.types import ToolSpec

KINDS: tuple[Kind, ...] = (
    "rename", "obfuscate", "rename_params", "paraphrase", "schema", "missing", "distract", "merge"
)  # fmt: skip
SHOP = (
    ToolSpec("list_orders", "List the orders of a customer.", {
        "type": "object", "required": ["customer"],
        "properties": {"customer": {"type": "string"}}}),
    ToolSpec("cancel_order", "取消订单。", {
        "type": "object", "required": ["order_id"],
        "properties": {"order_id": {"type": "string"}, "reason": {"type": "string"},
                       "speed": {"type": "string", "enum": ["now", "end_of_day"]}}}),
)  # fmt: skip


def found(name: str) -> Domain:
    return spec_domain(name, SHOP) if name == "shop" else domain(name)


def changed(kind: Kind, seed: int, base: str = "calendar", other: str = "mail") -> Domain:
    named = other if kind in ("merge", "distract") else ""
    return vary(found(base), (Variant(kind, seed, named),), found)


def play(one: Domain, seed: int) -> tuple[int, int]:
    """Let the solver do what every intent wants; return how many it solved, and could not."""
    solved = unsolvable = 0
    for number, intent in enumerate(one.intents):
        lang: Lang = "zh" if number % 2 else "en"
        goal = intent.draw(one.world(seed), Random(f"{seed}/{intent.name}"))
        if goal is None:
            continue
        topics = (Topic(intent.kind, intent.name, (goal,)),)
        told = expected(one, seed, topics, lang)
        tools = tuple(tool.name for tool in one.tools)
        task = Task("t", "", one.name, seed, lang, "plain", "", tools, topics, told)
        session = Session(one, task)
        try:
            Oracle(session).play()
        except Unsolvable:
            unsolvable += 1
            continue
        verdict = score(session)
        assert all(value == 1 for value, _ in verdict.values.values()), (
            intent.name,
            verdict.values,
        )
        solved += 1
    return solved, unsolvable


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("base", "other"), [("calendar", "mail"), ("calendar", "shop"), ("shop", "mail")]
)
def test_goals_stay_reachable_through_every_change(kind: Kind, base: str, other: str) -> None:
    solved = unsolvable = 0
    for seed in range(2):
        one = changed(kind, seed, base, other)
        assert len({tool.name for tool in one.tools}) == len(one.tools)
        for tool in one.tools:
            assert {param.name for param in tool.params} == set(tool.parameters()["properties"])
        more, less = play(one, seed)
        solved, unsolvable = solved + more, unsolvable + less
    assert solved >= 6 and unsolvable <= solved // 3


def test_changes_change_what_they_say() -> None:
    plain = domain("calendar")
    specs = {kind: [t.spec() for t in changed(kind, 3).tools] for kind in KINDS}
    before = [tool.spec() for tool in plain.tools]
    assert {spec.name for spec in specs["obfuscate"]}.isdisjoint(plain.by_name)
    assert [s.description for s in specs["obfuscate"]] == [s.description for s in before]
    assert [s.name for s in specs["paraphrase"]] == [s.name for s in before]
    assert [s.description for s in specs["paraphrase"]] != [s.description for s in before]
    assert [s.name for s in specs["rename"]] != [s.name for s in before]
    assert [s.parameters for s in specs["rename_params"]] != [s.parameters for s in before]
    assert [s.parameters for s in specs["schema"]] != [s.parameters for s in before]
    assert len(specs["missing"]) == len(before) - 1
    distracted = changed("distract", 3)
    assert len(distracted.tools) > len(before) and len(distracted.intents) == len(plain.intents)
    both = changed("merge", 3)
    assert len(both.intents) == len(plain.intents) + len(domain("mail").intents)
    assert set(both.rows) == set(plain.rows) | set(domain("mail").rows)


def test_what_a_missing_tool_was_for_is_declined_without_a_call() -> None:
    one = changed("missing", 3)
    (gone,) = set(domain("calendar").by_name) - set(one.by_name)
    declined = [intent for intent in one.intents if intent.kind == "policy"]
    assert len(declined) > 1
    for intent in one.intents:
        goal = intent.draw(one.world(1), Random(1))
        assert goal is None or all(call.tool != gone for call in goal.calls)


@pytest.mark.parametrize("seed", range(6))
def test_a_stack_of_changes_comes_again_from_its_description(seed: int) -> None:
    base = domain("calendar")
    variants = draw_variants(base, Random(seed), ("mail", "crm", "retail", *HELD_OUT), found)
    rows = json.loads(json.dumps([variant_json(one) for one in variants]))
    again = tuple(read_variant(row) for row in rows)
    assert again == variants and all(one.other not in HELD_OUT for one in variants)
    one, two = vary(base, variants, found), vary(base, again, found)
    assert [t.spec("zh") for t in one.tools] == [t.spec("zh") for t in two.tools]
    assert root(one.name) == "calendar" and one.name == two.name
    for intent, other in zip(one.intents, two.intents, strict=True):
        world = one.world(seed)
        assert world.state_hash() == two.world(seed).state_hash()
        assert intent.draw(world, Random(seed)) == other.draw(two.world(seed), Random(seed))
    solved, unsolvable = play(one, seed)
    assert solved >= 4 and unsolvable <= solved // 3


def test_worlds_side_by_side_go_back_together_and_copies_go_their_own_way() -> None:
    one = changed("merge", 1)
    world, other = one.world(5), one.world(5)
    before, copy = world.state_hash(), world.snapshot()
    for intent in one.intents:
        goal = intent.draw(other, Random(2))
        for call in goal.calls if goal else ():
            perform(one.by_name[call.tool], world, call.arguments)
    assert world.state_hash() != before and other.state_hash() == before
    world.restore(copy)
    assert world.state_hash() == before


@pytest.mark.parametrize("name", HELD_OUT)
def test_held_out_domains_are_neither_changed_nor_lent(name: str) -> None:
    with pytest.raises(ValueError, match="held out"):
        vary(domain(name), (Variant("rename", 0),))
    for kind in ("merge", "distract"):
        with pytest.raises(ValueError, match="held out"):
            vary(domain("calendar"), (Variant(kind, 0, name),))
    vary(domain(name), (Variant("rename", 0),), held_out=())
    with pytest.raises(ValueError, match="no change"):
        read_variant({"kind": "explode", "seed": 1})
