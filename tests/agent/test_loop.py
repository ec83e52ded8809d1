"""The loop against scripted models: every way a run goes on, goes wrong, and ends."""

import asyncio
import itertools

import pytest

from openk2.agent.approval import Policy
from openk2.agent.budget import Limits
from openk2.agent.canonical import digest
from openk2.agent.drift import DriftSettings
from openk2.agent.journal import NAME, Journal, JournalError, read
from openk2.agent.loop import Live
from openk2.agent.model import ModelError, Price
from openk2.agent.models.retry import Patience
from openk2.agent.models.scripted import Scripted
from openk2.agent.replay import replay
from openk2.agent.tool import ToolError, ToolResult
from openk2.types import validate_history
from tests.agent import runs

says, World, Asked = runs.says, runs.World, runs.Asked

DONE = ("finish", {"status": "complete", "summary": "all done"})


def test_calls_are_carried_out_until_the_model_finishes(tmp_path):
    world = World()
    model = Asked(
        Scripted(
            [
                says("", ("add", {"n": 2}), reasoning="two first"),
                says("", ("add", {"n": 3}), ("look", {"what": "door"})),
                says("", DONE),
            ]
        )
    )
    result = runs.run(tmp_path, model, world)
    assert (result.status, result.summary) == ("complete", "all done")
    assert world.total == 5
    assert result.spent.steps == 3 and result.spent.errors == 0
    # Interleaved thinking stays with the turn that thought it.
    assert model.requests[2].messages[2 - 1].reasoning == "two first"
    for request in model.requests:
        validate_history(request.messages)


def test_reads_run_together_and_writes_one_at_a_time_in_order(tmp_path):
    world = World()
    reads = [("look", {"what": str(n)}) for n in range(5)]
    model = Scripted([says("", *reads), says("", DONE)])
    runs.run(tmp_path, model, world)
    assert world.most_running == 5

    world = World()
    mixed = [("add", {"n": 1}), reads[0], ("add", {"n": 2}), ("add", {"n": 3}), reads[1], reads[2]]
    (tmp_path / "b").mkdir()
    runs.run(tmp_path / "b", Scripted([says("", *mixed), says("", DONE)]), world)
    assert world.most_running == 2
    assert world.done[:4] == [("add", 1), ("look", "0"), ("add", 2), ("add", 3)]


BAD_CALLS = [
    (("ad", {"n": 1}), "There is no tool 'ad'. Use one of: add"),
    (("add", {"n": "one"}), 'n: "one" is not of type "integer"'),
    (("add", {}), '"n" is a required property'),
    (("add", '{"n": 1'), "are not JSON"),
    (("add", "[1]"), "are not an object"),
    (("add", "[" * 100_000), "are not JSON"),
    (("hang", {}), "did not end within 0.05 s and was stopped"),
    (("break", {"how": "bug"}), "broke: ZeroDivisionError: division by zero"),
    (("break", {"how": "failed"}), "the store is closed; come back tomorrow"),
    (("break", {"how": "unavailable"}), "the store is closed; come back tomorrow"),
]


@pytest.mark.parametrize(
    "call, told", BAD_CALLS, ids=[f"{c[0]}-{i}" for i, (c, _) in enumerate(BAD_CALLS)]
)
def test_a_call_that_cannot_be_carried_out_is_a_result_that_says_why(tmp_path, call, told):
    world = World()
    model = Asked(Scripted([says("", call, ("add", {"n": 7})), says("", DONE)]))
    result = runs.run(tmp_path, model, world)
    assert result.status == "complete"
    assert told in model.last_words[1]
    # What was asked for beside it was carried out all the same.
    assert world.total == 7
    assert asyncio.run(replay(tmp_path)).result == result


def test_the_same_call_twice_in_one_answer_is_carried_out_once(tmp_path):
    world = World()
    model = Asked(Scripted([says("", ("add", {"n": 2}), ("add", {"n": 2})), says("", DONE)]))
    runs.run(tmp_path, model, world)
    assert world.total == 2
    assert "it was carried out once" in model.last_words[1]


def test_a_model_that_repeats_itself_is_stopped_before_the_fifth_time(tmp_path):
    world = World()
    forever = (says("", ("look", {"what": "door"})) for _ in range(1000))
    last = says("I looked at the door four times; nothing changed.")
    model = Asked(Scripted([*itertools.islice(forever, 10), last]))
    result = runs.run(tmp_path, model, world)
    assert result.status == "repeat"
    assert result.summary == last.content
    assert world.done == [("look", "door")] * 4
    assert "soon it will not be carried out" in model.last_words[3]
    assert "Not carried out" in model.last_words[5]
    assert model.requests[-1].tool_choice == "none"


def test_a_huge_result_is_shortened_for_the_model_and_kept_whole(tmp_path):
    model = Asked(Scripted([says("", ("shout", {"characters": 5_000_000})), says("", DONE)]))
    runs.run(tmp_path, model, World())
    told = model.last_words[1]
    assert len(told) < 21_000 and 'read_result(handle="r1")' in told
    assert (tmp_path / "results" / "r1.txt").stat().st_size == 5_000_000
    assert (tmp_path / NAME).stat().st_size < 100_000


def test_each_budget_ends_in_one_last_answer_without_calls(tmp_path):
    price = Price(prompt=1_000_000, completion=1_000_000)
    for number, (limits, name) in enumerate(
        [
            (Limits(steps=5), "steps"),
            (Limits(tokens=12_000), "tokens"),
            (Limits(cost=12_000), "cost"),
            (Limits(seconds=0.4), "time"),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()

        def say(request):
            if request.tool_choice == "none":
                return says("This is what I have.")
            turn = sum(message.role == "assistant" for message in request.messages)
            return says("", ("add", {"n": turn}))

        model = Asked(Scripted([say] * 500, price=price))
        result = runs.run(folder, model, World(), limits=limits)
        assert (result.status, result.summary) == ("budget", "This is what I have.")
        assert result.reason.startswith(name)
        warned = [words for words in model.last_words if "The budget runs low" in words]
        assert len(warned) == 1 or name == "time"
        assert "This run ends now" in model.last_words[-1]
        assert asyncio.run(replay(folder)).result == result


def test_errors_in_a_row_end_the_run(tmp_path):
    def say(request):
        turn = sum(message.role == "assistant" for message in request.messages)
        return says("I give up.") if request.tool_choice == "none" else says("", (f"no{turn}", {}))

    result = runs.run(tmp_path, Scripted([say] * 50), World(), limits=Limits(errors=4))
    assert result.status == "budget" and result.reason == "errors in a row 4 of 4"
    assert result.spent.steps == 5


def test_text_without_calls_ends_the_run_unless_the_plan_is_open(tmp_path):
    result = runs.run(tmp_path, Scripted([says("Four.")]), World())
    assert (result.status, result.summary) == ("answered", "Four.")

    plan = ("update_plan", {"items": [{"id": "a", "text": "Add", "acceptance": "it is added"}]})
    tick = ("update_plan", {"marks": [{"id": "a", "status": "done", "evidence": "total 1"}]})
    model = Asked(Scripted([says("", plan), says("Done!"), says("", tick), says("Done.")]))
    (tmp_path / "b").mkdir()
    result = runs.run(tmp_path / "b", model, World())
    assert result.summary == "Done."
    assert "the plan has open items: a (Add)" in model.last_words[2]


def test_a_finish_with_open_items_is_refused_once(tmp_path):
    plan = ("update_plan", {"items": [{"id": "a", "text": "Add", "acceptance": "it is added"}]})
    model = Asked(Scripted([says("", plan), says("", DONE), says("", DONE)]))
    result = runs.run(tmp_path, model, World())
    assert result.status == "complete" and result.spent.steps == 3
    assert "Not yet: the plan has open items" in model.last_words[2]


def test_what_leaves_the_machine_is_asked_and_the_answer_holds(tmp_path):
    asked = []

    async def approve(question):
        asked.append(question)
        return {"a.example": "session", "b.example": "no"}[question.arguments["host"]]

    world = World()
    model = Asked(
        Scripted(
            [
                says("", ("send", {"host": "a.example"})),
                says("", ("send", {"host": "b.example"}), ("add", {"n": 1})),
                says("Again.", ("send", {"host": "a.example"})),
                says("", DONE),
            ]
        )
    )
    runs.run(tmp_path, model, world, approve=approve)
    assert [question.arguments["host"] for question in asked] == ["a.example", "b.example"]
    assert [one for one in world.done if one[0] == "send"] == [("send", "a.example")] * 2
    assert "The user refused this call" in model.last_words[2]
    assert asyncio.run(replay(tmp_path)).interrupted == ""


def test_text_of_strangers_makes_sending_ask_again(tmp_path):
    asked = []

    async def approve(question):
        asked.append(question.reason)
        return "no"

    world = World()
    send = ("send", {"host": "a.example"})
    model = Scripted([says("", send), says("", ("page", {})), says("Now.", send), says("", DONE)])
    policy = Policy.of(["allow host a.example"])
    runs.run(tmp_path, model, world, approve=approve, policy=policy)
    assert world.done == [("send", "a.example")]
    assert len(asked) == 1 and "text of strangers" in asked[0]


def test_an_endpoint_that_fails_and_recovers_costs_nothing(tmp_path):
    busy = ModelError("busy", "busy", retry_after=0.01)
    broken = ModelError("half a stream", "broken_stream")
    model = Scripted([busy, ModelError("down", "server"), broken, says("", DONE)])
    result = runs.run(tmp_path, model, World(), patience=Patience(base=0.001))
    assert result.status == "complete"
    records, _ = read(tmp_path / NAME)
    faults = [record.data["fault"] for record in records if record.kind == "retry"]
    assert faults == ["busy", "server", "broken_stream"]
    assert asyncio.run(replay(tmp_path)).result == result


def test_an_endpoint_that_stays_away_pauses_the_run_and_loses_nothing(tmp_path):
    world = World()
    down = ModelError("no route to host", "network")
    with pytest.raises(ModelError, match="no route"):
        runs.run(
            tmp_path,
            Scripted([says("", ("add", {"n": 5})), down, down]),
            world,
            patience=Patience(attempts=2, base=0.001),
        )
    assert "interrupted" in asyncio.run(replay(tmp_path)).interrupted
    journal = Journal.resume(tmp_path)
    model = Scripted([says("", ("add", {"n": 6})), says("", DONE)])
    patience = Patience(attempts=2, base=0.001)
    result = asyncio.run(runs.agent(tmp_path, journal, model, world, patience=patience).run())
    journal.close()
    assert result.status == "complete" and world.total == 11 and result.spent.steps == 3


def test_a_run_that_has_lost_its_goal_is_told_so(tmp_path):
    def say(request):
        if request.messages[0].content.startswith("You watch over an agent"):
            assert "Reach the goal" in request.messages[1].content and not request.tools
            return says('{"on_goal": false, "why": "it counts sheep", "correction": "add two"}')
        if "it counts sheep" in request.messages[-1].content:
            return says("", DONE)
        turn = sum(message.role == "assistant" for message in request.messages)
        return says("", ("look", {"what": f"sheep {turn}"}))

    model = Asked(Scripted([say] * 50))
    result = runs.run(tmp_path, model, World(), drift=DriftSettings(every=5))
    assert result.status == "complete" and result.spent.steps == 6
    assert "Suggested instead: add two" in model.last_words[-1]
    assert asyncio.run(replay(tmp_path)).result == result


def searcher(name, world, cost, broken):
    async def run(arguments, call):
        if broken():
            raise ToolError("the service does not answer", "unavailable")
        return ToolResult(f"{name} found {arguments['what']}")

    return world._tool(
        name, runs.schema(what=runs.TEXT), run, writes=False, capability="search", cost=cost
    )


def test_a_broken_tool_is_stood_in_for_and_then_rests(tmp_path):
    world = World()
    world.tools = lambda: [
        searcher("best", world, 1, lambda: True),
        searcher("other", world, 2, lambda: False),
    ]

    def say(request):
        turn = sum(message.role == "assistant" for message in request.messages)
        if turn == 5:
            return says("", DONE)
        offered = {tool.name for tool in request.tools}
        return says("", ("best" if "best" in offered else "other", {"what": f"page {turn}"}))

    model = Asked(Scripted([say] * 9))
    result = runs.run(tmp_path, model, world)
    assert result.status == "complete"
    assert "[best brought nothing (the service does not answer)" in model.last_words[1]
    assert "other found page 0" in model.last_words[1]
    assert [any(tool.name == "best" for tool in request.tools) for request in model.requests] == [
        True, True, True, False, False, False,
    ]  # fmt: skip
    assert asyncio.run(replay(tmp_path)).result == result


def test_words_of_a_person_come_in_between_steps(tmp_path):
    live = Live()

    def say(request):
        live.words.append("And add nine.")
        return says("", ("add", {"n": 1}))

    model = Asked(Scripted([say, says("", ("add", {"n": 9})), says("", DONE)]))
    runs.run(tmp_path, model, World(), live=live)
    assert model.last_words[1].endswith("And add nine.")
    assert asyncio.run(replay(tmp_path)).interrupted == ""


def test_a_run_that_ended_goes_on_with_new_words_and_limits(tmp_path):
    def say(request):
        if request.tool_choice == "none":
            return says("Not ready.")
        turn = sum(message.role == "assistant" for message in request.messages)
        return says("", ("add", {"n": turn})) if turn < 6 else says("", DONE)

    world = World()
    assert runs.run(tmp_path, Scripted([say] * 9), world, limits=Limits(steps=3)).status == "budget"
    live = Live(words=["Take your time."], limits=Limits(steps=50))
    journal = Journal.resume(tmp_path)
    one = runs.agent(
        tmp_path, journal, Scripted([say] * 9), world, live=live, limits=Limits(steps=3)
    )
    result = asyncio.run(one.run())
    journal.close()
    assert result.status == "complete" and result.spent.steps == 7
    found = asyncio.run(replay(tmp_path))
    assert found.result == result and found.interrupted == ""


def three_hundred_calls(request):
    """Add the numbers 1 to 300, one per step, reading the total from the last result."""
    if request.messages[0].content.startswith("You watch over an agent"):
        return says('{"on_goal": true}')
    turn = sum(message.role == "assistant" for message in request.messages)
    last = request.messages[-1].content
    if turn and not last.startswith(("total", "<reminder>")):
        raise AssertionError(last)
    if turn == 300:
        return says("", ("finish", {"status": "complete", "summary": f"sum: {last}"}))
    return says("", ("add", {"n": turn + 1}), reasoning=f"Now {turn + 1}.")


@pytest.mark.parametrize("cut", [0.3334, 0.6007, 0.99])
def test_three_hundred_calls_reach_the_goal_also_when_cut_off(tmp_path, cut):
    world = World()
    limits = Limits(steps=301)
    result = runs.run(tmp_path, Scripted([three_hundred_calls] * 320), world, limits=limits)
    assert result.status == "complete" and result.summary == "sum: total 45150"
    whole = asyncio.run(replay(tmp_path))
    assert whole.result == result

    path = tmp_path / NAME
    lines = path.read_bytes().splitlines(keepends=True)
    kept = lines[: int(len(lines) * cut)]
    path.write_bytes(b"".join(kept))
    done = sum(b'"kind":"tool"' in line and b'"phase":"end"' in line for line in kept)
    begun = sum(b'"kind":"tool"' in line and b'"phase":"begin"' in line for line in kept)
    again = World(total=sum(range(1, done + 1)))

    def say(request):
        if "interrupted" in request.messages[-1].content:
            # What an agent should do: look before it repeats.
            return says("", ("look", {"what": "total"}))
        turn = again.total_turn = getattr(again, "total_turn", 0) + 1
        return says("", ("add", {"n": 1000 + turn})) if turn < 3 else says("", DONE)

    journal = Journal.resume(tmp_path)
    one = runs.agent(tmp_path, journal, Scripted([say] * 301), again, limits=limits)
    result = asyncio.run(one.run())
    journal.close()
    assert result.status == "complete"
    # Nothing that was recorded is done again, and nothing that may have been is repeated unasked.
    added = [n for kind, n in again.done if kind == "add"]
    asked = sum(b'"kind":"model"' in line and b'"phase":"end"' in line for line in kept)
    assert added == ([asked] if asked > begun else []) + [1001, 1002]
    assert (("look", "total") in again.done) == (begun > done)


def test_replaying_twice_gives_the_same_hash_and_a_tampered_run_none(tmp_path):
    result = runs.run(tmp_path, Scripted([says("", ("add", {"n": 2})), says("", DONE)]), World())
    first, second = asyncio.run(replay(tmp_path)), asyncio.run(replay(tmp_path))
    assert first.result == second.result == result
    assert first.hash == second.hash and first.records == second.records
    path = tmp_path / NAME
    path.write_bytes(path.read_bytes().replace(b"total 2", b"total 3"))
    with pytest.raises(JournalError, match="was changed"):
        asyncio.run(replay(tmp_path))


def test_a_journal_grows_with_the_conversation_and_not_with_its_square(tmp_path):
    sizes = []
    for steps in (40, 80):
        folder = tmp_path / str(steps)
        folder.mkdir()

        def say(request, steps=steps):
            if request.messages[0].content.startswith("You watch over an agent"):
                return says('{"on_goal": true}')
            turn = sum(message.role == "assistant" for message in request.messages)
            return says("", ("add", {"n": turn})) if turn < steps else says("", DONE)

        runs.run(folder, Scripted([say] * 100), World())
        sizes.append((folder / NAME).stat().st_size)
    assert sizes[1] < 2.3 * sizes[0]


def test_old_outputs_leave_a_small_window_and_the_goal_stays(tmp_path):
    def say(request):
        if request.messages[0].content.startswith("You watch over an agent"):
            return says('{"on_goal": true}')
        turn = sum(message.role == "assistant" for message in request.messages)
        assert any(message.content == "Reach the goal" for message in request.messages)
        say.turns += 1
        if say.turns > 60:
            return says("", DONE)
        return says("", ("shout", {"characters": 900 + say.turns}), reasoning=f"step {turn}")

    say.turns = 0
    model = Asked(Scripted([say] * 200))
    result = runs.run(tmp_path, model, World(), window=6_000, answer_tokens=1_000)
    assert result.status == "complete" and say.turns == 61
    records, _ = read(tmp_path / NAME)
    kinds = {record.data["kind"] for record in records if record.kind == "context"}
    assert "hidden" in kinds
    found = asyncio.run(replay(tmp_path))
    assert found.result == result and digest(found.result) == digest(result)
