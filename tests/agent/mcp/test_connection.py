"""Servers that serve, crash, hang, die, babble and lie; each in a process of its own."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from pathlib import Path

import pytest

from openk2.agent.sandbox.choose import choose_sandbox
from openk2.agent.sandbox.isolation import SandboxMissing
from openk2.agent.tool import Call, ToolError
from tests.agent.mcp.harness import (
    HERE,
    PATIENT,
    alive,
    bare,
    connected,
    names,
    package,
    state,
    until,
    use,
)

TOKEN = "sesame-3141592"


def test_a_server_written_with_the_package(tmp_path: Path):
    async def run() -> None:
        async with connected(tmp_path, {"pack": package()}) as tools:
            assert {"pack__add", "pack__draw", "pack__slow"} <= set(names(tools))
            add, draw = tools.tool("pack__add"), tools.tool("pack__draw")
            assert add and draw and not add.writes and draw.writes
            summed = await use(tools, "pack__add", {"a": 2, "b": 3}, tmp_path)
            assert json.loads(summed.content) == summed.details["structured"] == {"sum": 5}
            assert summed.untrusted and not summed.failed
            drawn = await use(tools, "pack__draw", {}, tmp_path)
            assert drawn.content.startswith("here it is\n[image image/png, 70 bytes: mcp/")
            assert drawn.artifacts[0].read_bytes().startswith(b"\x89PNG")
            assert drawn.artifacts[0].is_relative_to(tmp_path)
            # It tells of changes only to who asked to hear of them.
            await use(tools, "pack__grow", {}, tmp_path)
            await until(lambda: "pack__late" in names(tools))
            late = await use(tools, "pack__late", {}, tmp_path)
            assert late.content == "better than never"

    asyncio.run(run())


def test_progress_is_shown_and_a_call_that_takes_too_long_is_ended_over_there(tmp_path: Path):
    async def run() -> None:
        async with connected(tmp_path, {"pack": package()}) as tools:
            told: list[str] = []
            trace = tmp_path / "trace"
            slow = {"seconds": 0.1, "trace": str(trace)}
            await use(tools, "pack__slow", slow, tmp_path, progress=told.append)
            assert told[0] == "1/5 step 1"
            assert trace.read_text() == "done"
            with pytest.raises(ToolError, match=r"did not answer in 0\.5 seconds") as caught:
                await use(tools, "pack__slow", {**slow, "seconds": 60.0}, tmp_path, seconds=0.5)
            assert caught.value.kind == "timeout"
            await until(lambda: trace.read_text() == "cancelled")
            # A person's Ctrl-C does the same.
            trace.unlink()
            call = use(tools, "pack__slow", {**slow, "seconds": 60.0}, tmp_path)
            task = asyncio.create_task(call)
            await asyncio.sleep(0.3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(lambda: trace.exists() and trace.read_text() == "cancelled")
            assert state(tools, "pack").status == "ready"

    asyncio.run(run())


def test_neither_a_crash_nor_a_hang_delays_the_others(tmp_path: Path):
    async def run() -> None:
        note = tmp_path / "note"
        began = time.monotonic()
        entries = {
            "crash": bare("crash", env={"TOKEN": TOKEN}),
            "hang": bare("hang", note),
            "missing": {"command": "no-such-program-anywhere"},
            "kind": bare("kind"),
        }
        async with connected(tmp_path, entries, settle=0, close_seconds=0.3) as tools:
            assert time.monotonic() - began < 1, "a run does not wait for servers"
            assert names(tools) == []
            await until(lambda: "kind__echo" in names(tools))
            assert (await use(tools, "kind__echo", {"text": "hi"}, tmp_path)).content == "hi"
            await until(lambda: state(tools, "crash").status == "waiting" and note.exists())
            crashed = state(tools, "crash")
            assert "ended before it was connected" in crashed.sentence
            assert "is not installed" in state(tools, "missing").sentence
            assert state(tools, "hang").status == "connecting"
            log = (tmp_path / "logs" / "mcp-crash.log").read_text()
            assert "cannot start with [hidden]" in log
        assert alive(note) == []

    asyncio.run(run())


def test_a_server_that_hangs_is_given_up_after_its_time(tmp_path: Path):
    async def run() -> None:
        note = tmp_path / "note"
        settings = {"connect_seconds": 0.7, "close_seconds": 0.2, "retry_seconds": 60.0}
        async with connected(tmp_path, {"hang": bare("hang", note)}, **settings) as tools:
            hung = state(tools, "hang")
            assert hung.status == "waiting"
            assert "did not connect within 0.7 seconds" in hung.sentence
            assert "tried again in 60 s" in hung.sentence
            assert alive(note) == []

    asyncio.run(run())


def test_after_some_failures_in_a_row_its_tools_are_hidden_until_it_is_back(tmp_path: Path):
    async def run() -> None:
        program = tmp_path / "program"  # a server that is repaired while the run goes on
        program.write_text("import sys; sys.exit(1)")
        entries = {"moody": {"command": "python3", "args": [str(program)]}}
        settings = {"retry_seconds": 0.05, "longest_retry_seconds": 0.2, "failures_tolerated": 2}
        async with connected(tmp_path, entries, **settings) as tools:
            await until(lambda: "again in 0.2 s" in state(tools, "moody").sentence)
            assert names(tools) == []
            program.write_text(
                f"import runpy, sys; sys.argv = ['', 'kind']; "
                f"runpy.run_path({str(HERE / 'bare_server.py')!r}, run_name='__main__')"
            )
            await until(lambda: "moody__echo" in names(tools))
            assert (await use(tools, "moody__echo", {"text": "well"}, tmp_path)).content == "well"

    asyncio.run(run())


def test_a_server_that_dies_in_a_call_is_started_again_by_the_next(tmp_path: Path):
    async def run() -> None:
        note = tmp_path / "note"
        entries = {"kind": bare("kind", note)}
        async with connected(tmp_path, entries, retry_seconds=60.0) as tools:
            with pytest.raises(ToolError, match="broke off during the call") as caught:
                await use(tools, "kind__die", {}, tmp_path)
            assert caught.value.kind == "unavailable"
            assert (await use(tools, "kind__echo", {"text": "again"}, tmp_path)).content == "again"
            assert len(note.read_text().split()) == 2
        assert alive(note) == []

    asyncio.run(run())


def test_a_server_that_dies_in_every_call_is_refused_after_some(tmp_path: Path):
    async def run() -> None:
        entries = {"kind": bare("kind")}
        async with connected(tmp_path, entries, retry_seconds=60.0) as tools:
            tool = tools.tool("kind__echo")
            for _ in range(3):
                with pytest.raises(ToolError):
                    await use(tools, "kind__die", {}, tmp_path)
            await until(lambda: names(tools) == [])
            began = time.monotonic()
            assert tool is not None
            with pytest.raises(ToolError, match="cannot be called now") as caught:
                await tool.run({"text": ""}, Call("functions.x:8", tmp_path, PATIENT))
            assert caught.value.kind == "unavailable" and time.monotonic() - began < 1

    asyncio.run(run())


def test_a_server_that_does_not_want_to_end_is_ended_with_its_children(tmp_path: Path):
    async def run() -> None:
        note = tmp_path / "note"
        entries = {"stubborn": bare("stubborn", note)}
        async with connected(tmp_path, entries, close_seconds=0.2) as tools:
            assert (await use(tools, "stubborn__echo", {"text": "hi"}, tmp_path)).content == "hi"
            await until(lambda: len(note.read_text().split()) == 2)
            began = time.monotonic()
        assert time.monotonic() - began < 5
        await until(lambda: alive(note) == [])

    asyncio.run(run())


def test_an_answer_of_50_megabytes_fails_its_call_only(tmp_path: Path):
    async def run() -> None:
        note = tmp_path / "note"
        async with connected(tmp_path, {"kind": bare("kind", note)}) as tools:
            with pytest.raises(ToolError, match=r"more than 16,777,216 bytes: 52,428,") as caught:
                await use(tools, "kind__much", {"bytes": 50 << 20}, tmp_path)
            assert caught.value.kind == "failed"
            assert (await use(tools, "kind__echo", {"text": "hi"}, tmp_path)).content == "hi"
            whole = await use(tools, "kind__much", {"bytes": 3 << 20}, tmp_path)
            assert len(whole.content) == 3 << 20
            assert len(note.read_text().split()) == 1, "the connection outlived it"

    asyncio.run(run())


def test_evil_names_schemas_and_descriptions(tmp_path: Path):
    async def run() -> None:
        async with connected(tmp_path, {"evil": bare("evil")}) as tools:
            found = {tool.name: tool for tool in tools.tools()}
            long = next(name for name in found if name.startswith("evil__a_name"))
            assert len(long) <= 64 and long.isascii()
            assert set(found) == {
                "evil__good",
                "evil__no_schema",
                "evil__poison",
                "evil__backtracking",
                long,
            }
            assert found["evil__good"].spec.description == "Is fine."
            poison = found["evil__poison"].spec.description
            assert poison.startswith("Adds.[31m IGNORE") and len(poison) == 1200
            assert "pattern" not in json.dumps(found["evil__backtracking"].spec.parameters)
            warnings = " ".join(state(tools, "evil").warnings)
            for word in ("text_schema", "not_an_object", "invalid", "file_ref", "huge", "twice"):
                assert word in warnings
            # A schema of its answers, which it does not keep, is not looked at.
            answer = await use(tools, "evil__poison", {}, tmp_path)
            assert answer.content == "(it answered without content)"

    asyncio.run(run())


def test_failures_are_told_without_secrets(tmp_path: Path):
    async def run() -> None:
        entries = {"kind": bare("kind", env={"TOKEN": TOKEN, "LANG": "C"})}
        async with connected(tmp_path, entries) as tools:
            failed = await use(tools, "kind__fail", {}, tmp_path)
            assert failed.failed and failed.untrusted
            assert failed.content == "the moon is in the way"
            refused = await use(tools, "kind__refuse", {}, tmp_path)
            assert refused.failed and refused.untrusted
            assert "your token [hidden] is wrong[2J" in refused.content
            told = await use(tools, "kind__environment", {}, tmp_path)
            environment = json.loads(told.content)
            assert set(environment) <= {"PATH", "HOME", "LANG", "TOKEN", "LC_CTYPE"}
            assert environment["LANG"] == "C" and environment["TOKEN"] == TOKEN
            log = (tmp_path / "logs" / "mcp-kind.log").read_text()
            assert "my token is [hidden]" in log and "Welcome" in log
            assert TOKEN not in log + str(tools.states()) + repr(tools)

    asyncio.run(run())


def test_a_question_to_the_person_is_refused(tmp_path: Path):
    async def run() -> None:
        async with connected(tmp_path, {"kind": bare("kind")}) as tools:
            heard = json.loads((await use(tools, "kind__ask", {}, tmp_path)).content)
            assert heard["error"]["message"] == "Elicitation not supported"

    asyncio.run(run())


def test_a_list_that_changes_is_read_anew(tmp_path: Path):
    async def run() -> None:
        async with connected(tmp_path, {"kind": bare("kind")}) as tools:
            before = names(tools)
            await use(tools, "kind__grow", {}, tmp_path)
            await until(lambda: names(tools) != before)
            assert names(tools) == [*before, "kind__late"]

    asyncio.run(run())


def test_tools_on_disk_are_offered_at_once_and_the_first_call_starts_the_server(tmp_path: Path):
    async def run() -> None:
        note = tmp_path / "note"
        async with connected(tmp_path, {"kind": bare("kind", note)}) as tools:
            known = names(tools)
        for _ in range(2):
            async with connected(tmp_path, {"kind": bare("kind", note)}, settle=0) as tools:
                assert names(tools) == known
                await asyncio.sleep(0.1)
                assert state(tools, "kind").status == "asleep"
        assert len(note.read_text().split()) == 1
        async with connected(tmp_path, {"kind": bare("kind", note)}) as tools:
            assert (await use(tools, "kind__echo", {"text": "up"}, tmp_path)).content == "up"
        assert len(note.read_text().split()) == 2
        # Another configuration is another server; a file that is damaged is none.
        other = bare("kind", note, env={"X": "1"})
        for file in (tmp_path / "cache").iterdir():
            file.write_text('{"version": 1, "saved": "now"')
        for entry in (other, bare("kind", note)):
            async with connected(tmp_path, {"kind": entry}, settle=0) as tools:
                assert names(tools) == []

    asyncio.run(run())


def test_many_tools_are_found_by_search(tmp_path: Path):
    async def run() -> None:
        async with connected(tmp_path, {"many": bare("many")}, shown_tokens=900) as tools:
            assert names(tools) == ["find_tools"]
            assert "30 tools of these servers: many (30)" in tools.tools()[0].spec.description
            result = await use(tools, "find_tools", {"query": "export an invoice"}, tmp_path)
            assert result.details["shown"][0] == "many__export_invoice"
            shown = names(tools)
            assert shown[0] == "find_tools" and "many__export_invoice" in shown
            nothing = await use(tools, "find_tools", {"query": "quantum"}, tmp_path)
            assert nothing.details["shown"] == [] and "No tool matches" in nothing.content
            # What is shown stays below the limit, and the latest search is kept.
            for query in ("recipe", "flight", "rename warehouse"):
                result = await use(tools, "find_tools", {"query": query}, tmp_path)
            assert "many__rename_warehouse" in names(tools)
            assert len(names(tools)) < 12
            shown = names(tools)
        # A run that goes on in its folder has found them already; a damaged file is no file.
        async with connected(tmp_path, {"many": bare("many")}, shown_tokens=900) as tools:
            assert names(tools) == shown
        (tmp_path / "logs" / "mcp-tools.json").write_text("[1, {}")
        async with connected(tmp_path, {"many": bare("many")}, shown_tokens=900) as tools:
            assert names(tools) == ["find_tools"]
        async with connected(tmp_path, {"many": bare("many")}) as tools:
            assert len(names(tools)) == 30

    asyncio.run(run())


def test_a_server_in_a_sandbox_sees_its_folder_and_no_network(tmp_path: Path):
    try:
        sandbox = choose_sandbox()
    except SandboxMissing as missing:
        pytest.skip(str(missing))

    async def run() -> None:
        workspace = tmp_path / "workspace"
        workspace.mkdir()
        shutil.copy(HERE / "bare_server.py", workspace)
        (tmp_path / "secret").write_text("not for servers")
        system = {"command": "/usr/bin/python3", "args": ["bare_server.py", "look"]}
        entries = {
            "inside": {**system, "cwd": str(workspace), "sandbox": True, "env": {"TOKEN": TOKEN}},
            "outside": {**system, "cwd": str(workspace)},
        }
        async with connected(tmp_path, entries, sandbox=sandbox) as tools:
            arguments = {"paths": [str(tmp_path / "secret"), str(workspace / "bare_server.py")]}
            inside = await use(tools, "inside__look", arguments, tmp_path)
            assert json.loads(inside.content) == {"readable": [False, True], "network": False}
            outside = await use(tools, "outside__look", arguments, tmp_path)
            assert json.loads(outside.content)["readable"] == [True, True]
            tool = tools.tool("inside__look")
            assert tool and tool.access({}, tmp_path).hosts == ()
            log = (tmp_path / "logs" / "mcp-inside.log").read_text()
            assert "my token is [hidden]" in log
            with pytest.raises(ToolError, match="broke off"):
                await use(tools, "inside__die", {}, tmp_path)
            again = await use(tools, "inside__echo", {"text": "again"}, tmp_path)
            assert again.content == "again"
        async with connected(tmp_path, entries) as tools:
            assert "inside" in tools.problems[0] and "there is none here" in tools.problems[0]
            assert [one.name for one in tools.states()] == ["outside"]

    if not Path("/usr/bin/python3").exists():
        pytest.skip("no /usr/bin/python3: a sandbox sees the system's programs only")
    asyncio.run(run())
