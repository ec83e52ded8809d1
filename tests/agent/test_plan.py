"""A plan changes only by rules, keeps its history, and ticks off only what its check bears out."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.agent import plan as plans
from openk2.agent.plan import MOST_ITEMS, PlanError, mark, rewrite, write
from openk2.agent.tool import Access, Call, Tool, ToolError, ToolResult
from openk2.agent.tools.finish import finish
from openk2.agent.tools.plan import Board, update_plan

ITEMS = [
    {"text": "Load the sales", "acceptance": "table.csv has rows", "file": "table.csv"},
    {"id": "chart", "text": "Draw", "acceptance": "the chart shows all months"},
]


def call(workspace: Path) -> Call:
    return Call("functions.update_plan:0", workspace, 10.0)


def use(tool: Tool, workspace: Path, **arguments: Any) -> ToolResult:
    jsonschema_rs.validate(dict(tool.spec.parameters), arguments)
    return asyncio.run(tool.run(arguments, call(workspace)))


# The value --------------------------------------------------------------------------------------


def test_items_without_an_id_get_a_free_one():
    plan = write("g", [{"id": "p1", "text": "a", "acceptance": "a"}, *ITEMS])
    assert [item.id for item in plan.items] == ["p1", "p2", "chart"]


@pytest.mark.parametrize(
    ("items", "problem"),
    [
        ([], "at least one item"),
        ([{"text": "a", "acceptance": " "}], "item 1 needs `text` and `acceptance`"),
        ([*ITEMS, ITEMS[1]], "two items have the id 'chart'"),
        ([ITEMS[0]] * (MOST_ITEMS + 1), "too many"),
    ],
)
def test_an_unclear_plan_is_refused(items: Any, problem: str):
    with pytest.raises(PlanError, match=problem):
        write("g", items)


def test_what_is_settled_needs_evidence_and_one_item_is_under_way():
    plan = write("g", ITEMS)
    plan = mark(mark(plan, "p1", "doing"), "chart", "doing")
    assert [item.status for item in plan.items] == ["open", "doing"]
    with pytest.raises(PlanError, match="what shows that it holds: the chart shows all months"):
        mark(plan, "chart", "done", "  ")
    with pytest.raises(PlanError, match="no item 'p9'; its items are p1, chart"):
        mark(plan, "p9", "done", "x")
    plan = mark(plan, "chart", "done", "twelve bars")
    assert plans.progress(plan) == "plan: 1 of 2 done"
    assert plans.progress(mark(plan, "p1", "failed", "no file")).endswith("failed p1")
    assert "[x] chart Draw\n      accepted when: the chart shows all months" in plans.render(plan)


def test_replanning_keeps_what_still_holds_and_the_whole_history():
    plan = mark(mark(write("g", ITEMS), "chart", "done", "seen"), "p1", "failed", "404")
    with pytest.raises(PlanError, match="say in `why`"):
        rewrite(plan, ITEMS, "")
    new = rewrite(plan, [{**ITEMS[0], "id": "mirror", "text": "Load from the mirror"}, ITEMS[1]],
                  "the site is gone")  # fmt: skip
    assert [(item.id, item.status) for item in new.items] == [("mirror", "open"), ("chart", "done")]
    assert new.version == 2 and new.history[0].items == plan.items
    assert "Rewritten because: the site is gone" in plans.render(new)
    assert plans.progress(plan) == "plan: 1 of 2 done, failed p1"
    assert plans.progress(new) == "plan: 1 of 2 done, version 2"
    # Other words are another promise.
    other = rewrite(new, [{**ITEMS[1], "acceptance": "it is pretty"}], "taste")
    assert other.items[0].status == "open"
    assert [old.version for old in other.history] == [1, 2]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(plans.STATUSES), st.text(max_size=3))),
)
def test_whatever_is_marked_a_plan_survives_json_and_has_one_item_under_way(marks: Any):
    plan = write("g", [{"text": f"t{i}", "acceptance": "a"} for i in range(3)])
    for number, status, evidence in marks:
        try:
            changed = mark(plan, f"p{number}", status, evidence)
        except PlanError:
            continue
        assert [i.id for i in changed.items] == [i.id for i in plan.items]
        plan = rewrite(changed, [{"text": i.text, "acceptance": "a", "id": i.id}
                                 for i in changed.items], "w")  # fmt: skip
        assert plan.items == changed.items
    assert plans.from_json(json.loads(json.dumps(plans.to_json(plan)))) == plan
    assert sum(item.status == "doing" for item in plan.items) <= 1


def test_something_else_is_no_plan():
    for value in ({}, {"goal": "g", "items": [{"id": 1}], "history": [], "version": 1}):
        with pytest.raises(PlanError, match="no plan"):
            plans.from_json(value)


# The tools --------------------------------------------------------------------------------------


def test_the_model_writes_ticks_and_rewrites(tmp_path: Path):
    board = Board("Report the sales")
    tool = update_plan(board)
    first = use(tool, tmp_path, items=ITEMS)
    assert "[ ] p1 Load the sales" in first.content
    board = Board("Report the sales")
    assert board.take(json.loads(json.dumps(dict(first.details))), step=3)
    assert board.plan == plans.write("Report the sales", ITEMS) and board.moved_at == 3
    tool = update_plan(board)
    marked = use(tool, tmp_path, marks=[{"id": "chart", "status": "done", "evidence": "12 bars"}])
    board.take(marked.details, step=5)
    assert board.plan and board.plan.item("chart").status == "done"
    again = use(tool, tmp_path, items=ITEMS[1:], why="the loading was done by hand")
    board.take(again.details, step=6)
    assert board.plan.version == 2 and board.plan.items[0].status == "done"


def test_a_second_call_of_the_same_answer_sees_the_first(tmp_path: Path):
    tool = update_plan(Board("g"))
    use(tool, tmp_path, items=ITEMS)
    use(tool, tmp_path, marks=[{"id": "p1", "status": "doing"}])
    last = use(tool, tmp_path, marks=[{"id": "chart", "status": "dropped", "evidence": "no need"}])
    assert "[>] p1" in last.content and "[-] chart" in last.content


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "there is no plan yet: give `items`"),
        ({"marks": [{"id": "p1", "status": "done"}]}, "there is no plan yet"),
        ({"items": [{"text": "a", "acceptance": "b", "command": "true"}]}, "checks are off"),
    ],
)
def test_a_call_that_makes_no_sense_says_what_would(arguments: Any, problem: str, tmp_path: Path):
    with pytest.raises(ToolError, match=problem) as failure:
        use(update_plan(Board("g")), tmp_path, **arguments)
    assert failure.value.kind == "bad_arguments"


def test_a_file_that_is_not_there_refuses_the_tick_and_only_that(tmp_path: Path):
    board = Board("g", plans.write("g", ITEMS))
    tool = update_plan(board)
    marks = [
        {"id": "p1", "status": "done", "evidence": "I made it"},
        {"id": "chart", "status": "doing"},
    ]
    (tmp_path / "table.csv").touch()
    result = use(tool, tmp_path, marks=marks)
    assert result.failed and "p1 is not done: no file that is not empty" in result.content
    assert "[ ] p1" in result.content and "[>] chart" in result.content
    (tmp_path / "table.csv").write_text("a,b\n")
    result = use(tool, tmp_path, marks=marks[:1])
    assert not result.failed and "[x] p1" in result.content


@pytest.mark.parametrize(
    ("pattern", "holds"),
    [
        ("out/*.png", True),
        ("out/**/*.png", True),
        ("out", False),
        ("../secret.txt", False),
        ("/etc/passwd", False),
        ("link.txt", False),
        ("out**", False),
        ("", True),
    ],
)
def test_a_file_check_looks_only_into_the_workspace(pattern: str, holds: bool, tmp_path: Path):
    workspace = tmp_path / "work"
    (workspace / "out").mkdir(parents=True)
    (workspace / "out" / "chart.png").write_bytes(b"png")
    (tmp_path / "secret.txt").write_text("secret")
    (workspace / "link.txt").symlink_to(tmp_path / "secret.txt")
    board = Board("g", plans.write("g", [{"text": "t", "acceptance": "a", "file": pattern}]))
    marks = [{"id": "p1", "status": "done", "evidence": "there"}]
    assert use(update_plan(board), workspace, marks=marks).failed is not holds


def test_a_command_decides_and_is_what_approval_sees(tmp_path: Path):
    ran: list[str] = []

    async def shell(command: str, call: Call) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *command.split(), cwd=call.workspace, stderr=asyncio.subprocess.PIPE
        )
        _, errors = await process.communicate()
        ran.append(command)
        return process.returncode or 0, errors.decode()

    items = [{"text": "t", "acceptance": "a", "command": "cat done.txt"}]
    board = Board("g", plans.write("g", items))
    tool = update_plan(board, shell)
    marks = [{"id": "p1", "status": "done", "evidence": "e"}]
    assert tool.access({"marks": marks}, tmp_path) == Access("cat done.txt", executes=True)
    assert tool.access({"marks": [{"id": "p1", "status": "doing"}]}, tmp_path) == Access()
    assert tool.access({"marks": [{"id": "p7", "status": "done"}]}, tmp_path) == Access()
    refused = use(tool, tmp_path, marks=marks)
    assert refused.failed and "`cat done.txt` ended with status 1: cat: done" in refused.content
    (tmp_path / "done.txt").write_text("yes")
    assert not use(tool, tmp_path, marks=marks).failed
    assert len(ran) == 2


# The end ----------------------------------------------------------------------------------------


def test_a_run_ends_with_files_that_exist(tmp_path: Path):
    (tmp_path / "report.md").write_text("# Report")
    tool = finish(Board("g"))
    end = use(tool, tmp_path, status="complete", summary="Done.", artifacts=["./report.md"])
    assert end.artifacts == ((tmp_path / "report.md").resolve(),)
    assert end.details["finish"] == {
        "status": "complete",
        "summary": "Done.",
        "artifacts": ["report.md"],
    }
    for name, problem in (("chart.png", "does not exist"), ("../x", "outside the workspace")):
        with pytest.raises(ToolError, match=problem):
            use(tool, tmp_path, status="complete", summary="Done.", artifacts=[name])


def test_open_items_are_named_once_and_again_only_after_a_change(tmp_path: Path):
    board = Board("g", plans.mark(plans.write("g", ITEMS), "chart", "done", "seen"))
    tool = finish(board)
    first = use(tool, tmp_path, status="complete", summary="Done.")
    assert first.failed and "open items: p1 (Load the sales)" in first.content
    assert "finish" not in first.details
    board.take(json.loads(json.dumps(dict(first.details))))
    assert "finish" in use(tool, tmp_path, status="complete", summary="Done.").details
    assert board.plan
    board.take({"plan": plans.to_json(plans.rewrite(board.plan, ITEMS, "new"))})
    assert use(tool, tmp_path, status="complete", summary="Done.").failed


def test_a_blocked_run_may_leave_items_open(tmp_path: Path):
    board = Board("g", plans.write("g", ITEMS))
    end = use(finish(board), tmp_path, status="blocked", summary="No access to the data.")
    assert end.details["finish"]["status"] == "blocked"


def test_the_schemas_say_what_each_property_is():
    for tool in (update_plan(Board("g")), finish(Board("g"))):
        jsonschema_rs.meta.validate(dict(tool.spec.parameters))
        assert tool.spec.parameters["additionalProperties"] is False
        for value in tool.spec.parameters["properties"].values():
            assert value["description"]
