"""Many errands: isolated, never paid for twice, each failure its own, one budget."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.agent.budget import Limits, Spent
from openk2.agent.errand import Errand, Report, bring_back, copy, file_name, prepare
from openk2.agent.journal import JournalError
from openk2.agent.model import ModelError
from openk2.agent.swarm import Finished, SwarmError, SwarmSettings, Task, fill, run_swarm
from openk2.agent.tool import Call, Tool, ToolError, ToolResult
from openk2.agent.tools.delegate import delegate
from openk2.agent.tools.swarm import swarm

AT_ONCE = SwarmSettings(stagger=0.0)
TASKS = [Task(str(number), f"goal {number}") for number in range(1, 7)]


class Workers:
    """Sub-agents of few words: they note who worked where, and fail where they are told to."""

    def __init__(self, fail: dict[str, Exception] | None = None, tokens: int = 100) -> None:
        self.fail = dict(fail or {})
        self.tokens = tokens
        self.errands: list[Errand] = []

    async def __call__(self, errand: Errand) -> Report:
        self.errands.append(errand)
        await asyncio.sleep(0.001)
        if errand.id in self.fail:
            raise self.fail[errand.id]
        (errand.workspace / "out.txt").write_text(errand.goal)
        spent = Spent(tokens=self.tokens, cost=7)
        return Report("complete", f"did {errand.goal}", ("out.txt",), spent)


def go(
    folder: Path, run: Any, tasks: Sequence[Task] = TASKS, limits: Limits = Limits(), **more: Any
) -> Finished:
    more.setdefault("settings", AT_ONCE)
    return asyncio.run(run_swarm(tasks, run, folder, limits=limits, **more))


# Tasks ------------------------------------------------------------------------------------------


def test_a_template_makes_a_task_of_each_item_once():
    tasks = fill("Find {city} in {land}.", [{"city": "Bonn", "land": "DE"}] * 2)
    assert [task.goal for task in tasks] == ["Find Bonn in DE."]
    texts = fill("Look up {item}!", ["a/b", "北京", "{item}"])
    assert [task.goal for task in texts] == ["Look up a/b!", "Look up 北京!", "Look up {item}!"]
    assert len({task.key for task in texts}) == 3
    assert all(file_name(task.key) == task.key for task in texts)
    # The key is the item's: another template must not make it look new.
    assert fill("Else {item}", ["a/b"])[0].key == texts[0].key


@pytest.mark.parametrize(
    ("template", "items", "problem"),
    [
        ("Do it", ["a", "b"], "the same for all items"),
        ("Do {it}", ["a"], "asks for {it}"),
        ("{city}, {land}", [{"city": "x"}], "asks for {land}"),
    ],
)
def test_a_template_that_does_not_fit_is_refused(template: str, items: Any, problem: str):
    with pytest.raises(SwarmError, match=problem):
        fill(template, items)


@given(st.lists(st.text(max_size=60), max_size=8))
def test_whatever_the_items_are_their_keys_are_folders_of_their_own(items: list[str]):
    tasks = fill("x{item}", items)
    assert len({task.key for task in tasks}) == len(set(items))
    for task in tasks:
        assert task.key == Path(task.key).name and len(task.key) < 60


# Running ----------------------------------------------------------------------------------------


def test_each_errand_works_in_a_copy_of_its_own(tmp_path: Path):
    base = tmp_path / "base"
    base.mkdir()
    (base / "data.csv").write_text("1,2\n")
    workers = Workers()
    done = go(tmp_path / "swarm", workers, base=base)
    assert list(done.reports) == [task.key for task in TASKS] and not done.problems
    for errand in workers.errands:
        assert (errand.workspace / "data.csv").read_text() == "1,2\n"
        assert (errand.workspace / "out.txt").read_text() == errand.goal
    assert [path.name for path in base.iterdir()] == ["data.csv"]
    assert done.spent == Spent(tokens=600, cost=42)


def test_as_many_run_side_by_side_as_may(tmp_path: Path):
    together = asyncio.Barrier(3)
    running: list[int] = [0]

    async def run(errand: Errand) -> Report:
        running.append(running[-1] + 1)
        await together.wait()  # passed only by three at once
        running.append(running[-1] - 1)
        return Report("complete", "")

    how = SwarmSettings(parallel=3, stagger=0.0)
    assert len(go(tmp_path, run, settings=how).reports) == 6
    assert max(running) == 3


KILLED = """
import asyncio, sys
from pathlib import Path
from openk2.agent.budget import Limits
from openk2.agent.errand import Report
from openk2.agent.swarm import SwarmSettings, Task, run_swarm

async def run(errand):
    if errand.id == "3":
        (errand.workspace / "half.txt").write_text("half")
        print("here", flush=True)
        await asyncio.sleep(60)
    return Report("complete", "first")

tasks = [Task(str(number), f"goal {number}") for number in range(1, 7)]
how = SwarmSettings(parallel=1, stagger=0.0)
asyncio.run(run_swarm(tasks, run, Path(sys.argv[1]), limits=Limits(), settings=how))
"""


def test_a_killed_swarm_goes_on_with_what_is_missing(tmp_path: Path):
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        with pytest.raises(JournalError, match="in use"):
            go(tmp_path, Workers())
        process.kill()
    workers = Workers()
    done = go(tmp_path, workers)
    assert sorted(errand.id for errand in workers.errands) == ["3", "4", "5", "6"]
    assert [report.summary for report in done.reports.values()][:2] == ["first", "first"]
    assert (tmp_path / "3" / "workspace" / "half.txt").exists()


def test_what_is_done_is_not_paid_for_twice(tmp_path: Path):
    first = Workers({"2": RuntimeError("no disk"), "5": ModelError("no", "refused")})
    done = go(tmp_path, first)
    assert set(done.problems) == {"2", "5"} and "RuntimeError: no disk" in done.problems["2"]
    assert len(done.reports) == 4
    second = Workers()
    seen: list[str] = []
    done = go(tmp_path, second, on_report=lambda key, report: seen.append(key))
    assert sorted(errand.id for errand in second.errands) == ["2", "5"]
    assert not done.problems and list(done.reports) == [task.key for task in TASKS]
    assert done.spent == Spent(tokens=200, cost=14)
    assert sorted(seen) == [task.key for task in TASKS]
    third = Workers()
    more = [*TASKS, Task("7", "goal 7")]
    assert len(go(tmp_path, third, more).reports) == 7
    assert [errand.id for errand in third.errands] == ["7"]


def test_a_swarm_that_is_stopped_leaves_nothing_running_and_goes_on(tmp_path: Path):
    running = 0
    begun, reported = asyncio.Semaphore(0), asyncio.Event()

    async def stuck(errand: Errand) -> Report:
        nonlocal running
        running += 1
        (errand.workspace / "half.txt").write_text("half")
        begun.release()
        try:
            await asyncio.sleep(0 if errand.id == "1" else 600)
        finally:
            running -= 1
        return Report("complete", "done")

    async def stop() -> None:
        swarm = run_swarm(
            TASKS[:3], stuck, tmp_path, limits=Limits(), settings=AT_ONCE,
            on_report=lambda key, report: reported.set(),
        )  # fmt: skip
        job = asyncio.create_task(swarm)
        for _ in range(3):
            await begun.acquire()
        await reported.wait()
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job

    asyncio.run(stop())
    assert running == 0

    async def go_on(errand: Errand) -> Report:
        return Report("complete", (errand.workspace / "half.txt").read_text())

    done = go(tmp_path, go_on, TASKS[:3])
    assert [report.summary for report in done.reports.values()] == ["done", "half", "half"]


def test_time_that_is_up_is_said_of_each_errand(tmp_path: Path):
    async def stuck(errand: Errand) -> Report:
        await asyncio.sleep(600)
        raise AssertionError

    done = go(tmp_path, stuck, seconds=0.1)
    assert dict(done.problems) == {
        task.key: "not finished in time; go on with it" for task in TASKS
    }


def test_another_goal_under_the_same_name_is_refused(tmp_path: Path):
    go(tmp_path, Workers())
    with pytest.raises(SwarmError, match="begun with other goals"):
        go(tmp_path, Workers(), [Task("1", "something else")])


def test_a_half_written_copy_is_not_taken_for_a_workspace(tmp_path: Path):
    base = tmp_path / "base"
    base.mkdir()
    (base / "data").write_text("whole")
    errand = Errand("1", "g", tmp_path / "1", Limits())
    (errand.folder / "copying").mkdir(parents=True)
    (errand.folder / "copying" / "data").write_text("ha")
    prepare(errand, base)
    assert (errand.workspace / "data").read_text() == "whole"
    (errand.workspace / "data").write_text("changed")
    prepare(errand, base)
    assert (errand.workspace / "data").read_text() == "changed"


# The endpoint -----------------------------------------------------------------------------------


class Clock:
    """Waits without waiting, and remembers for how long."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(0)


def test_starts_are_staggered_and_all_wait_when_the_endpoint_is_busy(tmp_path: Path):
    busy = [ModelError("busy", "busy", retry_after=30.0), ModelError("busy", "busy")]
    order: list[str] = []

    async def run(errand: Errand) -> Report:
        order.append(errand.id)
        if busy and errand.id == "1":
            raise busy.pop(0)
        return Report("complete", "")

    clock = Clock()
    how = SwarmSettings(parallel=1, stagger=0.5, pause=15.0)
    done = go(tmp_path, run, TASKS[:3], settings=how, sleep=clock)
    assert not done.problems
    assert order == ["1", "1", "1", "2", "3"]
    assert clock.waits == [0.5, 30.0, 0.5, 15.0, 0.5, 0.5]


def test_pauses_grow_while_the_endpoint_stays_busy_and_end_with_an_attempt(tmp_path: Path):
    async def run(errand: Errand) -> Report:
        raise ModelError("busy", "busy")

    clock = Clock()
    how = SwarmSettings(parallel=1, stagger=0.0, attempts=4, pause=10.0, longest_pause=25.0)
    done = go(tmp_path, run, TASKS[:1], settings=how, sleep=clock)
    assert [wait for wait in clock.waits if wait] == [10.0, 20.0, 25.0]
    assert "busy" in done.problems["1"]


# The budget -------------------------------------------------------------------------------------


def test_the_budget_is_divided_and_what_is_left_over_goes_to_the_rest(tmp_path: Path):
    workers = Workers(tokens=100)
    how = SwarmSettings(parallel=1, stagger=0.0)
    go(tmp_path, workers, TASKS[:3], Limits(tokens=900, cost=300), settings=how)
    assert [errand.limits.tokens for errand in workers.errands] == [300, 400, 700]
    assert workers.errands[0].limits.cost == 100


def test_no_errand_is_begun_without_a_budget(tmp_path: Path):
    workers = Workers(tokens=500)
    how = SwarmSettings(parallel=1, stagger=0.0)
    done = go(tmp_path, workers, TASKS, Limits(tokens=1_000), settings=how)
    # 166 were given to the first and 500 taken: the rest is told, and can be gone on with.
    assert len(done.reports) == 2 and len(done.problems) == 4
    assert "the budget is used up" in done.problems["3"]
    for limits in (Limits(tokens=0), Limits(tokens=9_000, cost=0)):
        assert len(go(tmp_path / str(limits.cost), Workers(), limits=limits).problems) == 6
    assert len(go(tmp_path, Workers(), TASKS, Limits(tokens=10_000)).reports) == 6


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 8), st.integers(1, 4), st.integers(0, 5_000), st.lists(st.floats(0, 1)),
)  # fmt: skip
def test_errands_that_keep_to_their_part_keep_to_the_budget(
    tmp_path_factory: pytest.TempPathFactory, count: int, parallel: int, tokens: int, use: Any
):
    async def run(errand: Errand) -> Report:
        part = use[int(errand.id) % len(use)] if use else 1.0
        await asyncio.sleep(0)
        assert errand.limits.tokens is not None
        return Report("complete", "", spent=Spent(tokens=int(part * errand.limits.tokens)))

    tasks = [Task(str(number), "g") for number in range(count)]
    how = SwarmSettings(parallel=parallel, stagger=0.0)
    folder = tmp_path_factory.mktemp("swarm")
    done = go(folder, run, tasks, Limits(tokens=tokens), settings=how)
    assert done.spent.tokens <= tokens
    assert len(done.reports) + len(done.problems) == count
    assert not done.problems or tokens < count


# Files ------------------------------------------------------------------------------------------


def test_only_what_is_in_a_workspace_can_be_taken_out_of_it(tmp_path: Path):
    (tmp_path / "secret").write_text("key")
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "a.txt").write_text("a")
    (source / "link").symlink_to(tmp_path / "secret")
    (source / "deep" / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(source / "deep" / "pipe")
    target = tmp_path / "target"
    for name in ("link", "../secret", str(tmp_path / "secret"), "nothing", "deep/pipe"):
        with pytest.raises(FileNotFoundError, match="no file or folder in the workspace"):
            copy(name, source, target)
    copy("deep", source, target)
    assert (target / "deep" / "a.txt").read_text() == "a"
    assert (target / "deep" / "link").is_symlink()
    assert not (target / "deep" / "pipe").exists()
    report = Report("complete", "", ("deep/a.txt", "gone.txt"))
    copies, missing = bring_back(report, source, target)
    assert copies == (target / "deep" / "a.txt",) and "gone.txt" in missing


def test_a_copy_does_not_copy_itself(tmp_path: Path):
    (tmp_path / "data").write_text("x")
    errand = Errand("1", "g", tmp_path / "runs" / "1", Limits())
    prepare(errand, tmp_path)
    assert sorted(path.name for path in errand.workspace.rglob("*")) == ["data"]


# The tools --------------------------------------------------------------------------------------


def use(tool: Tool, workspace: Path, seconds: float = 60.0, **arguments: Any) -> ToolResult:
    jsonschema_rs.validate(dict(tool.spec.parameters), arguments)
    workspace.mkdir(exist_ok=True)
    return asyncio.run(tool.run(arguments, Call("functions.task:0", workspace, seconds)))


def test_a_sub_agent_gets_its_files_and_brings_its_own(tmp_path: Path):
    work = tmp_path / "work"
    work.mkdir()
    (work / "in.csv").write_text("1")
    (work / "other.csv").write_text("2")
    workers = Workers()
    tool = delegate(workers, tmp_path / "errands", lambda: Limits(steps=50, tokens=1_000))
    result = use(tool, work, goal="Sum up in.csv, please", files=["in.csv"])
    errand = workers.errands[0]
    assert sorted(path.name for path in errand.workspace.iterdir()) == ["in.csv", "out.txt"]
    assert errand.limits == Limits(steps=50, tokens=500)
    assert result.artifacts[0].read_text() == "Sum up in.csv, please"
    assert result.artifacts[0].is_relative_to(work / "tasks")
    assert "[complete] did Sum up in.csv, please" in result.content and not result.failed
    assert result.details["spent"] == {"tokens": 100, "cost": 7}
    again = use(tool, work, goal="Sum up in.csv, please", files=["in.csv"])
    assert again.content == result.content and again.details["spent"] == {}
    (work / "in.csv").write_text("123")
    use(tool, work, goal="Sum up in.csv, please", files=["in.csv"])
    assert len(workers.errands) == 2


def test_a_sub_agent_that_fails_is_said_and_goes_on_later(tmp_path: Path):
    workers = Workers({"task": ModelError("gone", "refused")})
    tool = delegate(workers, tmp_path / "errands", Limits)
    with pytest.raises(ToolError, match="No task was begun: 'no"):
        use(tool, tmp_path / "work", goal="Sum up no.csv", files=["no.csv"])
    with pytest.raises(ToolError, match=r"brought nothing \(ModelError: gone\)"):
        use(tool, tmp_path / "work", goal="Do something")
    workers.fail.clear()
    assert use(tool, tmp_path / "work", goal="Do something").content.startswith("[complete]")

    async def stuck(errand: Errand) -> Report:
        return Report("blocked", "I need a key", untrusted=True)

    result = use(delegate(stuck, tmp_path / "more", Limits), tmp_path / "work", goal="Do all of it")
    assert result.failed and result.untrusted and "[blocked] I need a key" in result.content


def test_a_swarm_tells_what_each_item_brought(tmp_path: Path):
    work = tmp_path / "work"
    workers = Workers()
    tool = swarm(workers, tmp_path / "swarms", Limits, AT_ONCE)
    result = use(tool, work, template="Look up {item}.", items=["Bonn", "Rome"])
    assert "2 of 2 items have a result" in result.content
    rows = json.loads(result.artifacts[0].read_text())
    assert [row["summary"] for row in rows] == ["did Look up Bonn.", "did Look up Rome."]
    assert all((work / row["files"][0]).read_text().startswith("Look up") for row in rows)
    assert result.details["spent"] == {"tokens": 200, "cost": 14}
    with pytest.raises(ToolError, match="No swarm was begun: the template is the same"):
        use(tool, work, template="Look it up.", items=["Bonn"])
    with pytest.raises(ToolError, match="begun with other goals"):
        name = result.details["swarm"]
        use(tool, work, template="Look {item} up.", items=["Bonn"], id=name)


def test_a_swarm_copies_what_is_named_and_never_fills_the_disk(tmp_path: Path):
    work = tmp_path / "work"
    (work / "data").mkdir(parents=True)
    (work / "data" / "a.csv").write_text("1")
    with (work / "large.bin").open("wb") as large:
        large.truncate(1_200_000_000)  # sparse: it takes no room, and would when copied
    workers = Workers()
    tool = swarm(workers, tmp_path / "swarms", Limits, AT_ONCE)
    arguments = {"template": "Look up {item}.", "items": ["Bonn", "Rome"]}
    with pytest.raises(ToolError, match=r"2 copies of the workspace have 2\.4 GB: name in `files`"):
        use(tool, work, **arguments)
    with pytest.raises(ToolError, match="'nothing' is not in the workspace"):
        use(tool, work, **arguments, files=["nothing"])
    assert "2 of 2" in use(tool, work, **arguments, files=["data"]).content
    for errand in workers.errands:
        names = sorted(path.name for path in errand.workspace.rglob("*"))
        assert names == ["a.csv", "data", "out.txt"]


def test_a_swarm_out_of_time_tells_what_it_has_and_goes_on_with_the_rest(tmp_path: Path):
    async def run(errand: Errand) -> Report:
        await asyncio.sleep(0.01 if "quick" in errand.goal else 60)
        return Report("complete", "here")

    tool = swarm(run, tmp_path / "swarms", Limits, AT_ONCE)
    arguments = {"template": "Look up {item}.", "items": ["quick", "slow"]}
    result = use(tool, tmp_path / "work", seconds=3.0, **arguments)
    assert "1 of 2 items have a result" in result.content
    assert "not finished in time" in result.content and result.details["missing"] == 1
    workers = Workers()
    tool = swarm(workers, tmp_path / "swarms", Limits, AT_ONCE)
    assert "2 of 2" in use(tool, tmp_path / "work", **arguments).content
    assert len(workers.errands) == 1


def test_a_swarm_without_any_result_has_failed(tmp_path: Path):
    async def run(errand: Errand) -> Report:
        raise OSError("no disk")

    tool = swarm(run, tmp_path / "swarms", Limits, dataclasses.replace(AT_ONCE, attempts=1))
    result = use(tool, tmp_path / "work", template="Look up {item}.", items=["a"])
    assert result.failed and "no result: OSError: no disk" in result.content
