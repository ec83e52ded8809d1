"""Tools that are known by their specification only: what users ask for can be done, exactly."""

from __future__ import annotations

import re
from random import Random
from typing import Any

import pytest

from openk2.envs.domain import Domain, Intent, placeholders
from openk2.envs.env import Session
from openk2.envs.oracle import Oracle
from openk2.envs.rubric import score
from openk2.envs.slots import Lang
from openk2.envs.solution import expected
from openk2.envs.task import Task, Topic
from openk2.envs.tool import perform, validator
from openk2.synth.phrases import doing_of
from openk2.synth.spec_domain import spec_domain
from openk2.types import Message, ToolSpec


def spec(
    name: str, description: str, required: tuple[str, ...] = (), **properties: Any
) -> ToolSpec:
    schema = {"type": "object", "properties": properties, "required": list(required)}
    return ToolSpec(name, description, schema)


TEXT = {"type": "string"}
TOOLS = (
    spec("create_playlist", "Creates a new playlist for the listener.", ("title",),
         title=TEXT, public={"type": "boolean"}, mood={"enum": ["calm", "very_loud"]}),
    spec("add_track", "Add a track to a playlist.", ("playlist_id", "track"),
         playlist_id={"type": "integer", "minimum": 1}, track=TEXT),
    spec("search_songs", "Search songs by words.", ("query",), query=TEXT,
         limit={"type": "integer", "maximum": 50}, cursor=TEXT),
    spec("get_weather", "查询某城市的天气", ("city",),
         city={"type": "string", "description": "城市名称"}),
    spec("deletePage", "Delete {page} [now] | for `ever`", ("world", "self"),
         world=TEXT, self=TEXT),
    spec("plot", "", ("points",), points={"type": "array", "items": {
        "type": "object", "properties": {"x": {"type": "number"}, "y": {"type": "number"}},
        "required": ["x", "y"]}, "minItems": 2, "maxItems": 2}),
    spec("impossible", "Cannot be called.", ("n",),
         n={"type": "integer", "minimum": 2, "maximum": 1}),
)  # fmt: skip
OUTPUTS = {"get_weather": {"type": "object", "properties": {
    "sky": {"type": "string", "enum": ["clear", "rain", "snow"]},
    "degrees": {"type": "integer", "minimum": -20, "maximum": 40}}}}  # fmt: skip
MUSIC = spec_domain("music", TOOLS, outputs=OUTPUTS)


def a_session(one: Domain, intent: Intent, seed: int, lang: Lang) -> Session:
    goal = intent.draw(one.world(seed), Random(seed))
    assert goal is not None
    topics = (Topic("do", intent.name, (goal,)),)
    told = expected(one, seed, topics, lang)
    tools = tuple(tool.name for tool in one.tools)
    return Session(one, Task("t", "", one.name, seed, lang, "plain", "", tools, topics, told))


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("intent", MUSIC.intents, ids=lambda intent: intent.name)
def test_what_is_asked_for_can_be_done_and_nothing_else_will_do(intent: Intent, lang: Lang) -> None:
    for seed in range(6):
        session = a_session(MUSIC, intent, seed, lang)
        asked = session.messages[-1].content
        for fact in session.task.topics[0].goals[0].facts.values():
            if isinstance(fact.value, str) and fact.words is None:
                assert fact.value in asked
        assert score(session).score == 0
        idle = a_session(MUSIC, intent, seed, lang)
        while not idle.done:
            idle.move(Message("assistant", "Done."))
        assert score(idle).score == 0
        Oracle(session).play()
        verdict = score(session)
        assert all(value == 1 for value, _ in verdict.values.values()), verdict.values
        call = session.calls[0].call
        perform(MUSIC.by_name[call.name], session.world, {"more": seed})
        assert score(session).score == 0


def test_every_tool_that_can_be_asked_for_is_and_arguments_fit() -> None:
    names = {re.split(r"[+>]", intent.name)[0] for intent in MUSIC.intents}
    assert names == set(MUSIC.by_name) - {"impossible"}
    assert "create_playlist>add_track" in MUSIC.intents_by_name
    for intent in MUSIC.intents:
        for seed in range(20):
            goal = intent.draw(MUSIC.world(seed), Random(seed))
            assert goal is not None
            for call in goal.calls:
                validator(MUSIC.by_name[call.tool]).validate(dict(call.arguments))
                assert "cursor" not in call.arguments
            for templates in (*intent.ask.values(), *intent.reply.values()):
                for template in templates:
                    told = {p for p in placeholders(template) if p[0] in "pab" and p[1:].isdigit()}
                    assert told <= set(goal.facts)


def test_ids_go_from_one_step_to_the_next() -> None:
    intent = MUSIC.intents_by_name["create_playlist>add_track"]
    session = a_session(MUSIC, intent, 3, "en")
    Oracle(session).play()
    first, second = session.calls
    assert (
        first.outcome.value["playlist_id"]
        == session.task.topics[0].goals[0].calls[1].arguments["playlist_id"]
    )
    assert isinstance(first.outcome.value["playlist_id"], int)
    assert second.call.name == "add_track"


def test_strange_words_of_owners_are_no_templates() -> None:
    for intent in MUSIC.intents:
        if intent.name.startswith("deletePage"):
            for template in (*intent.ask["en"], *intent.ask["zh"], *intent.reply["en"]):
                assert "{page}" not in template and "`" not in template
                assert set(placeholders(template)) <= {"p0", "p1"}


def test_the_same_specifications_make_the_same_domain() -> None:
    again, other = spec_domain("music", TOOLS), spec_domain("music", TOOLS, seed=1)
    same = spec_domain("music", TOOLS)
    assert [i.ask for i in again.intents] == [i.ask for i in same.intents]
    assert [i.ask for i in again.intents] != [i.ask for i in other.intents]
    hashes = {again.world(seed).state_hash() for seed in range(8)}
    assert len(hashes) == 8
    result = perform(again.by_name["search_songs"], again.world(1), {"query": "x"})
    assert result == perform(same.by_name["search_songs"], same.world(1), {"query": "x"})
    assert result != perform(same.by_name["search_songs"], same.world(2), {"query": "x"})


def test_requests_say_what_the_tool_does() -> None:
    assert doing_of("getUserById", "Returns a user by id.").en[0] == "get a user by id"
    assert doing_of("delete_file", "").en[0] == "delete the file"
    assert doing_of("shop__list_orders", "").kind == "list"
    assert doing_of("mark_done", "Mark a task as done.").kind == "change"
    assert doing_of("x", "删除指定文档，不可撤销").zh == ("删除指定文档",)
    assert doing_of("weather", "You can use this tool for weather.").en[0] == "get the weather"
    assert doing_of("create_order", "").zh[0] == "创建订单"
