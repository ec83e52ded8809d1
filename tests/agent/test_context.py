"""What a model is sent stays whole, pinned, recoverable and within its limit, whatever happens."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.agent.context import Context, ContextFull, ContextSettings, ContextView
from openk2.agent.handoff import NOTE, QUESTION, QUESTION_ZH
from openk2.agent.meter import Meter, estimate
from openk2.types import HistoryError, Message, ToolCall, validate_history

SYSTEM = Message("system", "You act.")
PLACEHOLDER = re.compile(r'\[output (r\d+) hidden: [\d,]+ characters; read_result\(handle="(r\d+)"')


def real(messages: Sequence[Message]) -> int:
    """The tokenizer of these tests: like the estimate, but never equal to it."""
    return sum(
        4
        + sum(len(text) for text in (m.content, m.reasoning)) // 3
        + sum(len(call.id + call.name + call.arguments) for call in m.tool_calls) // 3
        for m in messages
    )


@dataclass
class Run:
    """A loop in miniature: appends, keeps whole results, counts what it was asked."""

    context: Context
    limit: int = 4_000
    note: str = "I know that x is 7 (from a.csv). Next: report."
    store: dict[str, str] = field(default_factory=dict)
    counts: int = 0
    questions: list[Sequence[Message]] = field(default_factory=list)
    calls: int = 0

    async def count(self, messages: Sequence[Message]) -> int:
        self.counts += 1
        return real(messages)

    async def summarise(self, messages: Sequence[Message]) -> str:
        validate_history(messages)
        assert messages[-1].content in (QUESTION, QUESTION_ZH)
        self.questions.append(messages)
        return self.note

    def step(self, *outputs: str, text: str = "", pin: str = "", details: Any = None) -> None:
        ids = [f"functions.t:{self.calls + i}" for i in range(len(outputs))]
        calls = tuple(ToolCall(id, "t", f'{{"n": "{id}"}}') for id in ids)
        self.context.append(
            Message("assistant", text, reasoning=f"thought {self.calls}", tool_calls=calls)
        )
        for id, output in zip(ids, outputs, strict=True):
            self.calls += 1
            handle = f"r{self.calls}"
            self.store[handle] = output
            self.context.append(
                Message("tool", output, tool_call_id=id), pin=pin, handle=handle, details=details
            )

    def fit(self) -> ContextView:
        view = asyncio.run(self.context.fit(self.limit, self.count, self.summarise))
        self.context.observe(view, real(view.messages))
        return view

    def view(self) -> ContextView:
        view = asyncio.run(self.context.view(self.limit, self.count))
        self.context.observe(view, real(view.messages))
        return view


def run(limit: int = 4_000, note: str | None = None, **choices: Any) -> Run:
    context = Context([SYSTEM], ContextSettings(**choices))
    context.begin_task("Find out what x is.")
    made = Run(context, limit)
    return made if note is None else dataclasses.replace(made, note=note)


# Within the limit -------------------------------------------------------------------------------


def test_within_the_limit_a_view_is_what_was_appended_and_costs_no_count():
    agent = run(limit=100_000)
    sent = [agent.fit().messages]
    for number in range(20):
        agent.step("x" * 3_000, f"{number}")
        sent.append(agent.fit().messages)
    for before, after in itertools.pairwise(sent):
        assert after[: len(before)] == before
    assert len(sent[-1]) == 2 + 20 * 3
    assert agent.counts == 0


def test_a_message_that_cannot_follow_is_refused_at_once():
    context = Context([SYSTEM])
    with pytest.raises(HistoryError, match="no open call"):
        context.append(Message("tool", "x", tool_call_id="a"))
    context.append(Message("user", "go"))
    context.append(Message("assistant", tool_calls=(ToolCall("a", "t", "{}"),)))
    with pytest.raises(HistoryError, match="have no result yet"):
        context.append(Message("user", "well?"))
    with pytest.raises(HistoryError, match="have no result yet"):
        context.checkpoint("here")
    with pytest.raises(HistoryError, match="have no result yet"):
        asyncio.run(context.view(100, Run(context).count))


@pytest.mark.parametrize(
    ("thinking", "kept"), [("all", [True, True]), ("current_task", [False, True]), ("none", [0, 0])]
)
def test_thinking_is_kept_by_its_policy(thinking: Any, kept: list[bool]):
    agent = run(limit=100_000, thinking=thinking)
    agent.step("one")
    agent.context.begin_task("And y?")
    agent.step("two")
    thoughts = [m.reasoning for m in agent.view().messages if m.role == "assistant"]
    assert [bool(thought) for thought in thoughts] == [bool(keep) for keep in kept]


# Hiding -----------------------------------------------------------------------------------------


def test_old_outputs_are_hidden_in_batches_and_can_be_read_back():
    agent = run(keep_steps=3)
    batches = 0
    views: list[ContextView] = []
    for number in range(40):
        agent.step(f"{number} " + "data " * 200)
        views.append(agent.fit())
        batches += any(change.kind == "hidden" for change in views[-1].changes)
    assert views[-1].hidden
    # Each batch makes room for several steps: the prefix is stable in between.
    assert 2 <= batches <= 12
    for before, after in itertools.pairwise(views):
        if not after.changes:
            assert after.messages[: len(before.messages)] == before.messages
    for message in views[-1].messages:
        if found := PLACEHOLDER.search(message.content):
            assert found[1] in agent.store and found[1] in views[-1].hidden
    # Some counts near the limit, not one per step.
    assert agent.counts < 40


def test_the_old_and_large_go_first_and_the_newest_steps_never():
    agent = run(limit=3_000, keep_steps=2, hide_to=0.8)
    agent.step("small " * 110)
    agent.step("large " * 900)
    agent.step("x" * 300)
    agent.step("new " * 600)
    agent.step("newest " * 400)
    view = agent.fit()
    assert view.hidden == ("r2",)
    assert view.messages[-1].content.startswith("newest")


def test_what_fills_the_limit_exactly_still_fits():
    agent = run(limit=100_000, keep_steps=1)
    for _ in range(4):
        agent.step("x" * 3_000)
    whole = real(agent.view().messages)
    agent.limit = whole
    assert agent.view().hidden == ()
    agent.limit = whole - 1
    assert agent.view().hidden == ("r1", "r2")


def test_an_output_without_handle_and_the_plan_are_never_hidden():
    agent = run(limit=3_000, keep_steps=1)
    agent.step("The plan: " + "p" * 3_000, pin="plan")
    agent.context.append(Message("assistant", tool_calls=(ToolCall("q", "t", "{}"),)))
    agent.context.append(Message("tool", "u" * 2_400, tool_call_id="q"))
    for _ in range(3):
        agent.step("x" * 2_000)
    shown = "".join(message.content for message in agent.fit().messages)
    assert "The plan: ppp" in shown and "u" * 2_400 in shown and "hidden" in shown


# Notes ------------------------------------------------------------------------------------------


def talk(agent: Run, steps: int) -> None:
    for number in range(steps):
        agent.step("ok", text=f"{number} " + "words " * 60)


def test_a_note_takes_the_place_of_older_steps():
    agent = run(limit=2_000, keep_steps=2)
    talk(agent, 30)
    view = agent.fit()
    assert [change.kind for change in view.changes] == ["summary"]
    assert real(view.messages) <= 2_000
    assert [m.content for m in view.messages[:2]] == ["You act.", "Find out what x is."]
    assert view.messages[2].content.startswith(f"{NOTE}\n{agent.note}")
    assert view.messages[-2].content.startswith("29 ")
    assert [m.role for m in view.messages[3:]] == ["assistant", "tool"] * 2
    # The note is written by somebody who sees what it is about.
    assert real(agent.questions[0]) <= 2_200


@pytest.mark.parametrize("note", ["", "  \n", "blah " * 50_000])
def test_without_a_usable_note_it_is_made_from_the_calls(note: str):
    agent = run(limit=4_000, note=note, keep_steps=2)
    talk(agent, 40)
    view = agent.fit()
    told = next(m.content for m in view.messages if m.content.startswith(NOTE))
    assert 't({"n": "functions.t:' in told and "→ ok" in told
    assert "earlier ones left out" in told
    assert real(view.messages) <= 4_000


def test_a_second_note_made_from_calls_remembers_the_first():
    agent = run(limit=4_000, keep_steps=2)
    talk(agent, 40)
    agent.fit()
    agent.note = ""
    talk(agent, 40)
    told = next(m.content for m in agent.fit().messages if m.content.startswith(NOTE))
    assert "x is 7 (from a.csv)" in told


def test_the_question_is_in_the_language_of_the_goal():
    context = Context([SYSTEM])
    context.begin_task("请查明 x 的值，并写一份报告。")
    assert context.note_request(100_000)[-1].content == QUESTION_ZH
    context.begin_task("Now in English.")
    assert context.note_request(100_000)[-1].content == QUESTION_ZH  # both goals are pinned words
    other = run()
    assert other.context.note_request(100_000)[-1].content == QUESTION


def test_the_newest_plan_is_said_again_when_its_call_has_gone():
    agent = run(limit=2_000, keep_steps=1)
    agent.step("Plan version 1", pin="plan")
    agent.step("Plan version 2: [x] p1", pin="plan")
    talk(agent, 30)
    contents = [message.content for message in agent.fit().messages]
    assert "Plan version 2: [x] p1" in contents and "Plan version 1" not in contents


def test_the_model_may_ask_for_its_note_itself():
    agent = run(limit=100_000)
    talk(agent, 10)
    agent.step("Done.", details={"context": {"compact": "x is 7; report next."}})
    agent.context.append(Message("user", "Hurry up"))
    view = agent.view()
    assert [message.role for message in view.messages] == ["system", "user", "user", "user"]
    assert "x is 7; report next." in view.messages[2].content
    assert view.messages[3].content == "Hurry up"
    assert view.changes[0].kind == "summary" and view.changes[0].tokens_after < 200


def test_a_note_asked_for_beside_other_calls_leaves_their_step_whole():
    agent = run(limit=100_000)
    talk(agent, 3)
    agent.step("Done.", "the file", details={"context": {"compact": "a note"}})
    assert [m.role for m in agent.view().messages][2:] == ["user", "assistant", "tool", "tool"]


# Going back -------------------------------------------------------------------------------------


def test_going_back_drops_what_followed_and_tells_why():
    agent = run(limit=100_000)
    agent.step("one")
    agent.step("marked", details={"context": {"checkpoint": "before"}})
    before = agent.view().messages
    talk(agent, 5)
    details = {"context": {"go_back": "before", "message": "The parser is wrong; use csv."}}
    agent.step("Going back.", details=details)
    view = agent.view()
    assert view.messages[:-1] == before
    assert "The parser is wrong; use csv." in view.messages[-1].content
    assert view.changes[0].kind == "reset"
    assert agent.context.checkpoints == ("before",)


def test_going_back_to_an_unknown_place_changes_nothing():
    agent = run(limit=100_000)
    agent.step("x", details={"context": {"go_back": "nowhere", "message": "m"}})
    agent.step("x", details={"context": {"strange": 1}})
    assert len(agent.view().messages) == 6


def test_a_checkpoint_in_compacted_steps_moves_behind_the_note():
    agent = run(limit=2_000, keep_steps=2)
    agent.step("one", details={"context": {"checkpoint": "early"}})
    agent.fit()
    talk(agent, 30)
    agent.fit()
    agent.context.go_back("early", 2_000, "again")
    contents = [message.content for message in agent.view().messages]
    assert any(content.startswith(NOTE) for content in contents)
    assert contents[-1].endswith("again")


def test_outputs_that_exceed_the_window_together_are_hidden_before_anything_is_dropped():
    agent = run(limit=4_000)
    talk(agent, 3)
    agent.step(*("x" * 3_000 for _ in range(10)), text="ten at once")
    view = agent.fit()
    assert [change.kind for change in view.changes] == ["summary", "hidden"]
    assert view.messages[-11].content == "ten at once"
    assert 5 <= len(view.hidden) < 10 and real(view.messages) <= 4_000


def test_an_endless_newest_step_ends_in_a_reset_and_an_endless_goal_in_a_clear_error():
    agent = run(limit=2_000)
    talk(agent, 3)
    agent.context.append(Message("assistant", "word " * 4_000))
    view = agent.fit()
    assert view.changes[-1].kind == "reset" and real(view.messages) <= 2_000
    agent.context.begin_task("goal " * 4_000)
    with pytest.raises(ContextFull, match="the limit is 2,000"):
        agent.fit()


# Whatever happens -------------------------------------------------------------------------------

EVENTS = st.one_of(
    st.tuples(st.just("step"), st.lists(st.integers(0, 5_000), max_size=4)),
    st.tuples(st.just("plan"), st.integers(0, 300)),
    st.tuples(st.just("say"), st.integers(1, 800)),
    st.tuples(st.just("task"), st.integers(1, 200)),
    st.tuples(st.just("checkpoint"), st.sampled_from(["a", "b"])),
    st.tuples(st.just("go_back"), st.sampled_from(["a", "b", "c"])),
    st.tuples(st.just("compact"), st.integers(0, 500)),
    st.tuples(st.just("fit"), st.none()),
)


def play(agent: Run, number: int, kind: str, value: Any, pins: dict[str, str]) -> None:
    match kind:
        case "step":
            agent.step(*(f"o{number}." + "x" * size for size in value), text=f"step {number}")
        case "plan":
            pins["plan"] = f"Plan {number} " + "p" * value
            agent.step(pins["plan"], pin="plan")
        case "say":
            agent.context.append(Message("user", f"said {number} " + "s" * value))
        case "task":
            pins["next"] = f"Goal {number} " + "g" * value
            agent.context.begin_task(pins["next"])
        case "checkpoint":
            agent.step("marked", details={"context": {"checkpoint": value}})
        case "go_back":
            agent.step("back", details={"context": {"go_back": value, "message": f"m{number}"}})
        case "compact":
            agent.step("done", details={"context": {"compact": "n" * value}})
        case _:
            pass


@settings(max_examples=150, deadline=None)
@given(
    st.lists(EVENTS, max_size=40),
    st.integers(1_200, 8_000),
    st.integers(1, 6),
    st.sampled_from(["", "A short note.", "long " * 400, "endless " * 20_000]),
    st.sampled_from([0.0, 0.1, 0.5]),
)
def test_every_view_is_whole_pinned_recoverable_and_within_its_limit(
    events: list[tuple[str, Any]], limit: int, keep: int, note: str, least: float
):
    agent = run(limit=limit, note=note, keep_steps=keep, hide_least=least)
    pins = {"goal": "Find out what x is."}
    last: ContextView | None = None
    task_began = False
    for number, (kind, value) in enumerate([*events, ("fit", None)]):
        play(agent, number, kind, value, pins)
        task_began = task_began or kind == "task"
        if kind != "fit" and number % 3:
            continue
        everything = agent.context._messages()
        view = agent.fit()
        validate_history(view.messages)
        assert view.needs == "nothing"
        assert real(view.messages) <= limit
        assert view.messages[0] == SYSTEM
        for text in pins.values():
            assert any(text in message.content for message in view.messages)
        hidden = {m[1] for t in view.messages if (m := PLACEHOLDER.fullmatch(t.content[:200]))}
        assert hidden <= set(view.hidden) <= agent.store.keys()
        if not view.changes:
            assert view.messages == everything
            if last is not None and not task_began:
                assert view.messages[: len(last.messages)] == last.messages
        elif all(change.kind == "hidden" for change in view.changes):
            assert [m.role for m in view.messages] == [m.role for m in everything]
            if not any("newest" in change.why for change in view.changes):
                assert view.messages[-1] == everything[-1]
        last, task_began = view, False


@settings(max_examples=60, deadline=None)
@given(st.lists(EVENTS, max_size=25), st.integers(1_200, 6_000))
def test_the_same_events_bring_the_same_views(events: list[tuple[str, Any]], limit: int):
    def views() -> list[ContextView]:
        agent = run(limit=limit)
        seen = []
        for number, (kind, value) in enumerate(events):
            play(agent, number, kind, value, {})
            seen.append(agent.fit())
        return seen

    assert views() == views()


# Counting ---------------------------------------------------------------------------------------


def test_a_meter_knows_what_was_read_and_estimates_the_rest():
    meter = Meter()
    first = [Message("user", "word " * 200)]
    guess, doubt = meter.tokens(first)
    assert guess == doubt == estimate(first[0])
    for messages, nonsense in (([], 50), (first, 0), (first, -1)):
        meter.observe(messages, nonsense)
        assert meter.tokens(first) == (guess, guess)
    meter.observe(first, 2 * guess)
    assert meter.tokens(first) == (2 * guess, 0)
    more = [*first, Message("user", "word " * 20)]
    tokens, doubt = meter.tokens(more)
    assert tokens - 2 * guess == doubt == 2 * estimate(more[1])


def test_chinese_is_not_counted_as_english():
    chinese, english = "深" * 100, "a" * 100
    assert estimate(Message("user", chinese)) == 76
    assert estimate(Message("user", english)) == 34
    call = ToolCall("", "", english)
    mixed = Message("assistant", english + chinese, reasoning=chinese, tool_calls=(call,))
    assert estimate(mixed) == 6 + 2 * 70 + 2 * 28


def test_a_meter_counts_only_near_the_limit():
    agent = run()
    meter = Meter()
    messages = [Message("user", "word " * 200)]
    for limit, counts in ((100_000, 0), (500, 1), (500, 1)):
        asyncio.run(meter.settle(messages, limit, agent.count))
        assert agent.counts == counts


def test_settings_that_free_nothing_are_refused():
    for wrong in ({"hide_to": 1.0}, {"hide_least": 1.0}, {"keep_steps": 0}):
        with pytest.raises(ValueError, match="keep_steps is 1 or more"):
            ContextSettings(**wrong)
