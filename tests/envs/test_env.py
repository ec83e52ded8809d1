"""An episode from the outside: a model in it, the classic form, the taskset form, its limits."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.agent.models.scripted import Scripted
from openk2.envs import tasksets
from openk2.envs.catalogue import domain
from openk2.envs.domain import Call, Fact, Goal
from openk2.envs.env import Env, Session
from openk2.envs.episode import play
from openk2.envs.gym import WorldGym
from openk2.envs.oracle import Oracle
from openk2.envs.planner import edges
from openk2.envs.rubric import score
from openk2.envs.slots import Form, sayings
from openk2.envs.solution import expected
from openk2.envs.task import Fault, Limits, Task, Topic
from openk2.envs.wording import request
from openk2.types import Message, ToolCall

CALENDAR = domain("calendar")


def a_task(intent: str, seed: int = 4, **changes: object) -> Task:
    one = CALENDAR.intents_by_name[intent]
    goal = one.draw(CALENDAR.world(seed), Random(seed))
    assert goal is not None
    topics = (Topic(one.kind, intent, (goal,)),)
    tools = tuple(tool.name for tool in CALENDAR.tools)
    told = expected(CALENDAR, seed, topics, "en")
    task = Task(
        f"test/{intent}", "calendar", "calendar", seed, "en", "plain", "Help.", tools, topics, told
    )
    return dataclasses.replace(task, **changes)  # type: ignore[arg-type]


def solved(task: Task) -> Session:
    session = Session(CALENDAR, task)
    Oracle(session).play()
    return session


def test_a_model_that_does_the_right_thing_passes_and_one_that_talks_does_not() -> None:
    task = a_task("reschedule")
    turns = [m for m in solved(task).messages if m.role == "assistant"]
    played = Session(CALENDAR, task)
    asyncio.run(play(Scripted(turns), played))
    assert score(played).score == 1
    idle = Session(CALENDAR, task)
    asyncio.run(play(Scripted([Message("assistant", "I moved it for you.")]), idle))
    assert score(idle).score == 0 and idle.done


def test_the_classic_form_rewards_at_the_end_only() -> None:
    task = a_task("reschedule")
    gym = WorldGym(CALENDAR, [task])
    first, info = gym.reset(seed=0)
    assert [m.role for m in first] == ["system", "user"]
    assert {t.name for t in info["tools"]} == set(task.tools)
    rewards = []
    for message in solved(task).messages[2:]:
        if message.role == "assistant":
            _, reward, ended, cut, values = gym.step(message.tool_calls or message.content)
            rewards.append(reward)
    assert rewards == [0.0] * (len(rewards) - 1) + [1.0]
    assert ended and not cut and values["state"] == 1
    with pytest.raises(ValueError, match="over"):
        gym.step("more")


def test_a_taskset_row_brings_its_task_back_and_judges_completions() -> None:
    task = a_task("ask_when")
    (row,) = tasksets.rows(CALENDAR, [task])
    row = json.loads(json.dumps(row))
    assert tasksets.task_of(row) == task
    completion = [
        {
            "role": m.role,
            "content": m.content,
            "tool_calls": [
                {"id": c.id, "function": {"name": c.name, "arguments": c.arguments}}
                for c in m.tool_calls
            ],
        }
        for m in solved(task).messages[2:]
    ]
    assert tasksets.reward(CALENDAR, row, completion).score == 1
    assert tasksets.reward(CALENDAR, row, [{"role": "assistant", "content": "At noon."}]).score == 0
    with pytest.raises(ValueError, match="no task"):
        tasksets.task_of({"example_id": 4, "info": "{}"})


def test_the_asynchronous_form_steps_and_goes_back() -> None:
    async def run() -> None:
        env = Env(CALENDAR)
        with pytest.raises(ValueError, match="reset"):
            await env.step("hello")
        await env.reset(a_task("cancel"))
        before, hashed = env.snapshot(), env.state_hash()
        event = next(iter(env.current.world.tables()["events"]))
        obs = await env.step([ToolCall("a", "delete_event", json.dumps({"event_id": event}))])
        assert obs.messages[0].role == "tool" and env.state_hash() != hashed
        env.restore(before)
        assert env.state_hash() == hashed

    asyncio.run(run())


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("fly_to_the_moon", "{}", "unknown_tool"),
        ("move_event", "{", "invalid_arguments"),
        ("move_event", "[]", "invalid_arguments"),
        ("move_event", '{"event_id": "E1"}', "invalid_arguments"),
        ("move_event", '{"event_id": "E1", "start": "x", "by": 1}', "invalid_arguments"),
        ("move_event", '{"event_id": "E1", "start": "2030-01-01 10:00"}', "not_found"),
    ],
)
def test_a_wrong_call_is_answered_and_changes_nothing(
    name: str, arguments: str, error: str
) -> None:
    session = Session(CALENDAR, a_task("cancel"))
    before = session.world.state_hash()
    (answer,) = session.move(Message("assistant", tool_calls=(ToolCall("a", name, arguments),)))
    assert json.loads(answer.content)["error"] == error
    assert session.world.state_hash() == before


def test_faults_are_answered_and_the_oracle_tries_again() -> None:
    task = a_task("cancel", faults=(Fault(0, "timeout"), Fault(2, "unavailable")))
    session = solved(task)
    assert [done.outcome.error for done in session.calls].count("timeout") == 1
    assert [done.outcome.error for done in session.calls].count("unavailable") == 1
    assert score(session).score == 1


def test_limits_cut_an_episode_off() -> None:
    session = Session(CALENDAR, a_task("ask_when", limits=Limits(calls=2, turns=10)))
    call = ToolCall("a", "find_events", "{}")
    session.move(Message("assistant", tool_calls=(call, dataclasses.replace(call, id="b"))))
    assert session.done and session.cut_off == "calls" and score(session).score == 0


def test_a_user_keeps_back_corrects_and_tells_what_it_is_asked() -> None:
    base = a_task("reschedule")
    goal = base.topics[0].goals[0]
    topic = dataclasses.replace(base.topics[0], withheld=("start",))
    session = Session(CALENDAR, dataclasses.replace(base, topics=(topic,)))
    start = goal.facts["start"].value
    assert start not in session.messages[-1].content
    (answer,) = session.move(Message("assistant", "What is the start time?"))
    assert any(way in answer.content for way in sayings(start, "datetime", "en"))
    wrong = {"start": Fact("start", "2026-12-24 18:00")}
    topic = dataclasses.replace(base.topics[0], mistaken=wrong)
    task = dataclasses.replace(base, topics=(topic,), confirm=True)
    session = solved(task)
    assert score(session).score == 1
    said = " ".join(m.content for m in session.messages if m.role == "user")
    assert any(way in said for way in sayings("2026-12-24 18:00", "datetime", "en"))
    assert score(session).values["confirmed"][0] == 1


def test_what_was_asked_for_must_reach_the_user() -> None:
    task = a_task("ask_when")
    session = Session(CALENDAR, task)
    for message in solved(task).messages[2:]:
        if message.role == "assistant" and not session.done:
            told = dataclasses.replace(message, content="I looked it up.")
            session.move(message if message.tool_calls else told)
    values = score(session).values
    assert values["state"][0] == 1 and values["told"][0] == 0 and score(session).score == 0


def test_the_graph_joins_what_gives_an_id_to_what_takes_it() -> None:
    graph = edges(CALENDAR)
    assert ("find_events", "event_id", "move_event") in graph
    assert ("find_people", "person_id", "invite") in graph
    assert ("find_people", "event_id", "move_event") not in graph


NAMES = st.sampled_from(["a", "b", "c"])


@given(st.lists(st.tuples(NAMES, st.booleans()), max_size=5), st.sets(NAMES))
def test_a_request_says_all_or_nothing_of_a_bracket(
    parts: list[tuple[str, bool]], said: set[str]
) -> None:
    template = "".join(
        f"[ x{{{name}}}]" if optional else f" {{{name}}}" for name, optional in parts
    )
    text = request(template, {name: name.upper() for name in said})
    needed = {name for name, optional in parts if not optional}
    assert (text is None) == bool(needed - said)
    if text is not None:
        expect = [
            f"x{name.upper()}" if optional else name.upper()
            for name, optional in parts
            if name in said
        ]
        assert text.split() == expect


@given(
    st.dates(),
    st.sampled_from(["date", "datetime", "time", "money", "count", "text"]),
    st.booleans(),
)
def test_every_saying_has_the_written_form_first(day: object, form: Form, english: bool) -> None:
    values = {"date": f"{day}", "datetime": f"{day} 13:30", "time": "00:05", "money": 12.5}
    value = values.get(form, 7)
    ways = sayings(value, form, "en" if english else "zh")
    assert ways[0] == ("12.50" if form == "money" else str(value))
    assert len(set(ways)) == len(ways)


def test_a_goal_without_a_way_is_no_task() -> None:
    goal = Goal((Call("move_event", {"event_id": "E00000", "start": "2030-01-01 10:00"}),), {})
    with pytest.raises(Exception, match="There is no event"):
        expected(CALENDAR, 1, (Topic("do", "reschedule", (goal,)),), "en")
