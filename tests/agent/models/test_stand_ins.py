"""The models that need no endpoint: a script, an echo, a record, and one that misbehaves."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from openk2.agent.model import ChatModel, ModelError, ModelRequest, Price, Reply, ask
from openk2.agent.models.chaos import TROUBLES, Chaos
from openk2.agent.models.echo import Echo
from openk2.agent.models.recorded import Recorded, request_hash
from openk2.agent.models.retry import ask_with_patience
from openk2.agent.models.scripted import Expect, Scripted, ScriptError, Turn
from openk2.agent.models.stand_in import open_stand_in
from openk2.types import Message, TextDelta, ToolCall, ToolSpec, Usage

SHELL = ToolSpec("shell")
HI = ModelRequest((Message("user", "hi"),), (SHELL,))


def said(model: ChatModel, request: ModelRequest = HI) -> Reply:
    return asyncio.run(ask(model, request))


def after(reply: Reply, *results: str) -> ModelRequest:
    """Continue a conversation with what the tools brought."""
    answers = zip(reply.message.tool_calls, results, strict=True)
    tools = (Message("tool", result, tool_call_id=call.id) for call, result in answers)
    return ModelRequest((*HI.messages, reply.message, *tools), HI.tools)


# Scripted ---------------------------------------------------------------------------------------


def test_a_script_is_played_in_order_and_sees_what_tools_brought():
    def count(request: ModelRequest) -> Message:
        return Message("assistant", f"{len(request.messages[-1].content)} letters")

    call = ToolCall("", "shell", '{"command": "ls"}')
    model = Scripted([Message("assistant", reasoning="look", tool_calls=(call, call)), count])
    first = said(model)
    assert first.finish == "tool_calls" and first.message.reasoning == "look"
    assert [c.id for c in first.message.tool_calls] == ["functions.shell:0", "functions.shell:1"]
    second = said(model, after(first, "a", "four"))
    assert (second.message.content, second.finish, model.left) == ("4 letters", "stop", 0)
    assert second.usage.prompt_tokens > first.usage.prompt_tokens > 0


def test_a_script_that_is_over_says_so_and_is_not_asked_again():
    model = Scripted([Message("assistant", "one")], name="demo")
    said(model)
    with pytest.raises(
        ModelError, match="demo is over: it has 1 turns, and this is request 2"
    ) as e:
        said(model, ModelRequest((Message("user", "more?"),)))
    assert (
        "request 2; the last message is the user's 'more?'" in str(e.value)
        and not e.value.retryable
    )


@pytest.mark.parametrize(
    ("expect", "problem"),
    [
        (Expect(role="tool"), "is the user's, not the tool's"),
        (Expect(matches="^bye"), "has no '\\^bye': 'hi'"),
        (Expect(tools=("browser",)), "no tool 'browser' among \\['shell'\\]"),
    ],
)
def test_an_expectation_that_fails_is_named(expect: Expect, problem: str):
    with pytest.raises(ModelError, match=f"turn 1 of the script scripted .*{problem}"):
        said(Scripted([Turn(Message("assistant", "x"), expect)]))
    kept = Expect("user", "^h", ("shell",))
    assert said(Scripted([Turn(Message("assistant", "x"), kept)])).message.content == "x"


def test_a_script_by_history_goes_on_in_another_process():
    turns = [Message("assistant", "one"), Message("assistant", "two")]
    later = ModelRequest((Message("user", "a"), Message("assistant", "one"), Message("user", "b")))
    assert said(Scripted(turns, by_history=True), later).message.content == "two"
    assert said(Scripted(turns, start=1), HI).message.content == "two"


FILE = [
    {"reasoning": "r", "calls": [{"name": "shell", "arguments": {"command": "列"}}],
     "expect": {"tools": ["shell"]}},
    {"fault": "busy", "retry_after": 2.5},
    {"content": "half", "finish": "length", "usage": {"prompt_tokens": 5, "completion_tokens": 6}},
    {"calls": [{"name": "shell", "arguments": "{oops", "id": "mine"}]},
]  # fmt: skip


@pytest.mark.parametrize("form", ["jsonl", "list", "object"])
def test_a_script_is_read_from_a_file(tmp_path: Path, form: str):
    path = tmp_path / ("demo.jsonl" if form == "jsonl" else "demo.json")
    whole: Any = FILE if form == "list" else {"turns": FILE, "name": "demo", "context_window": 99,
                                              "price": {"prompt": 7}}  # fmt: skip
    lines = "\n".join(json.dumps(turn) for turn in FILE) + "\n\n"
    path.write_text(lines if form == "jsonl" else json.dumps(whole), "utf-8")
    model = Scripted.from_file(path)
    assert model.name == "demo"
    assert (model.context_window, model.price.prompt) == (
        (99, 7) if form == "object" else (131_072, 0)
    )
    call = ToolCall("functions.shell:0", "shell", '{"command": "列"}')
    assert said(model).message == Message("assistant", reasoning="r", tool_calls=(call,))
    with pytest.raises(ModelError) as caught:
        said(model)
    assert (caught.value.fault, caught.value.retry_after) == ("busy", 2.5)
    assert said(model) == Reply(Message("assistant", "half"), "length", Usage(5, 6))
    assert said(model).message.tool_calls == (ToolCall("mine", "shell", "{oops"),)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "cannot read the script"),
        ("5", "neither a list of turns nor"),
        ('{"turns": [], "naem": "x"}', "'naem' is unknown"),
        ('[{"content": "x"}, {"contents": "x"}]', "turn 2: 'contents' is unknown"),
        ("[3]", "turn 1 is no object"),
        ('[{"calls": [{"arguments": {}}]}]', "has no name"),
        ('[{"calls": 5}]', "turn 1: "),
        ('[{"fault": "tired"}]', "fault 'tired' is not one of"),
        ('[{"expect": {"matches": "("}}]', "turn 1: "),
        ('[{"content": "x", "finish": "done"}]', "finish is 'done'"),
        ('{"turns": [], "price": {"prompt": "much"}}', "prompt is 'much'"),
    ],
)
def test_a_file_that_is_no_script_is_explained(tmp_path: Path, text: str, problem: str):
    path = tmp_path / "demo.json"
    path.write_text(text, "utf-8")
    with pytest.raises(ScriptError, match=problem):
        Scripted.from_file(path)
    with pytest.raises(ScriptError, match="cannot read"):
        Scripted.from_file(tmp_path / "none.json")


# Echo -------------------------------------------------------------------------------------------


def test_an_echo_says_what_it_hears_and_calls_what_it_is_told():
    assert said(Echo()).message.content == "hi"
    told = ModelRequest((Message("user", 'call shell {"command": "ls"}\ncall todo'),), (SHELL,))
    reply = said(Echo(), told)
    assert [(c.id, c.name, c.arguments) for c in reply.message.tool_calls] == [
        ("functions.shell:0", "shell", '{"command": "ls"}'),
        ("functions.todo:1", "todo", "{}"),
    ]
    assert said(Echo(), after(reply, "a.txt", "b.txt")).message.content == "b.txt"


def test_an_echo_obeys_the_choice_of_tools():
    assert said(Echo(), ModelRequest(HI.messages, (SHELL,), "required")).finish == "tool_calls"
    told = ModelRequest((Message("user", "call shell"),), (SHELL,), "none")
    assert said(Echo(), told).finish == "stop"


# Recorded ---------------------------------------------------------------------------------------


def test_a_record_answers_what_it_answered_and_nothing_else():
    reply = Reply(Message("assistant", "yes" * 100), "stop", Usage(3, 4, 1, 2))
    record = [(request_hash(HI), reply), (request_hash(HI), reply)]
    model = Recorded(record, name="kimi", price=Price(1))
    assert said(model) == reply
    with pytest.raises(ModelError, match=r"reply 2 .* has taken another way"):
        said(model, ModelRequest((Message("user", "other"),)))
    assert said(model) == reply
    with pytest.raises(ModelError, match="has 2 replies, not more"):
        said(model)


# Chaos ------------------------------------------------------------------------------------------

CALL = Message("assistant", "I look", tool_calls=(ToolCall("", "shell", '{"command": "ls"}'),))


def spoilt(trouble: Any, message: Message = CALL, **settings: Any) -> Reply:
    return said(Chaos(Scripted([message]), schedule=[trouble], **settings))


def test_scheduled_troubles_spoil_what_they_say():
    (call,) = spoilt("malformed").message.tool_calls
    with pytest.raises(json.JSONDecodeError):
        json.loads(call.arguments)
    assert spoilt("unknown_tool").message.tool_calls[0].name == "shell_v0"
    assert 390_000 < len(spoilt("huge").message.content) <= 400_000
    assert spoilt(None).message.tool_calls[0] == ToolCall(
        "functions.shell:0", "shell", '{"command": "ls"}'
    )


def test_scheduled_faults_are_raised():
    for trouble, fault in (("busy", "busy"), ("server", "server"), ("half", "broken_stream")):
        with pytest.raises(ModelError) as caught:
            spoilt(trouble, retry_after=7.0)
        assert caught.value.fault == fault
        assert caught.value.retry_after == (7.0 if trouble == "busy" else None)


def test_half_a_stream_is_seen_and_not_folded():
    seen: list[Any] = []
    model = Chaos(
        Scripted([Message("assistant", "x" * 100), Message("assistant", "whole")]),
        schedule=["half", "busy"], retry_after=0.0,
    )  # fmt: skip
    waits: list[tuple[str, int]] = []

    async def no_sleep(seconds: float) -> None:
        pass

    async def run() -> Reply:
        return await ask_with_patience(
            model, HI, on_event=seen.append, sleep=no_sleep,
            on_retry=lambda fault, seconds, attempt: waits.append((fault, attempt)),
        )  # fmt: skip

    assert asyncio.run(run()).message.content == "whole"
    assert TextDelta("x" * 24) in seen and waits == [("broken_stream", 2), ("busy", 3)]


def test_a_repeated_call_is_the_same_under_another_id():
    model = Chaos(Scripted([CALL, Message("assistant", "done")]), schedule=[None, "repeat"])
    first = said(model)
    second = said(model, after(first, "a"))
    (one,), (two,) = first.message.tool_calls, second.message.tool_calls
    assert (one.name, one.arguments) == (two.name, two.arguments) and one.id != two.id
    assert second.finish == "tool_calls"


def test_a_slow_answer_waits_between_its_pieces():
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    assert spoilt("slow", pause=0.5, sleep=sleep).message.content == "I look"
    assert len(pauses) > 3 and set(pauses) == {0.5}


def happened(seed: int) -> list[Any]:
    model = Chaos(Scripted([CALL] * 200), seed, rates=dict.fromkeys(TROUBLES, 0.1), pause=0.0)
    for _ in range(200):
        try:
            said(model)
        except ModelError:
            continue
    return model.happened


def test_the_same_seed_spoils_the_same_answers_as_often_as_told():
    first = happened(1)
    assert first == happened(1) != happened(2)
    counts = Counter(first)
    assert counts.keys() == {*TROUBLES, None}
    assert all(8 <= counts[trouble] <= 35 for trouble in TROUBLES)


def test_rates_that_are_none_are_refused():
    for rates in ({"busy": 0.6, "half": 0.5}, {"busy": -0.1}):
        with pytest.raises(ValueError, match="rates"):
            Chaos(Echo(), rates=rates)  # type: ignore[arg-type]


# By name ----------------------------------------------------------------------------------------


def test_a_stand_in_is_opened_by_its_name(tmp_path: Path):
    path = tmp_path / "demo.jsonl"
    path.write_text('{"content": "played"}\n', "utf-8")
    assert isinstance(open_stand_in("echo"), Echo)
    for name in (f"script:{path}", f"chaos:4:script:{path}"):
        model = open_stand_in(name)
        assert model is not None and model.name == "demo"
    assert isinstance(model, Chaos)
    assert open_stand_in("kimi-k2") is None and open_stand_in("script") is None
    for name in ("chaos:x:echo", "chaos:3:kimi", f"script:{tmp_path}/none"):
        with pytest.raises(ValueError, match=r"none"):
            open_stand_in(name)
