"""Commands run in a real sandbox: what they print, how they end, and what they cannot do."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from openk2.agent.sandbox.choose import choose_sandbox
from openk2.agent.sandbox.isolation import Sandbox, SandboxMissing
from openk2.agent.tool import Call, ToolResult
from openk2.agent.tools.shell import ShellSettings, shell, shortened


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    try:
        return choose_sandbox()
    except SandboxMissing as error:
        pytest.skip(str(error))


def sh(
    sandbox: Sandbox, work: Path, command: str, settings: ShellSettings | None = None, **more: float
) -> ToolResult:
    tool = shell(sandbox, settings)
    return asyncio.run(tool.run({"command": command, **more}, Call("c", work, 60.0)))


def test_output_errors_status_and_files_come_back(sandbox: Sandbox, tmp_path: Path):
    result = sh(sandbox, tmp_path, "pwd; echo oops >&2; echo x > made.txt; exit 3")
    assert result.content.split("\n") == [
        str(tmp_path),
        "[standard error]",
        "oops",
        "[new or changed files: made.txt]",
        "[exit status 3]",
    ]
    assert result.failed and result.details["status"] == 3
    assert result.artifacts == (tmp_path / "made.txt",)
    calm = sh(sandbox, tmp_path, "python -c 'print(6 * 7)'")
    assert calm.content == "42\n[exit status 0]" and not calm.failed and not calm.untrusted


def test_a_command_that_hangs_is_stopped_with_its_children(sandbox: Sandbox, tmp_path: Path):
    begin = time.monotonic()
    result = sh(sandbox, tmp_path, "echo begun; sleep 300 & sleep 300", seconds=1.0)
    assert time.monotonic() - begin < 20
    assert result.content.startswith("begun\n[stopped after 1 s") and result.failed


def test_output_is_seen_as_it_comes(sandbox: Sandbox, tmp_path: Path):
    times: list[float] = []
    call = Call("c", tmp_path, 60.0, lambda text: times.append(time.monotonic()))
    command = {"command": "for i in 1 2 3; do echo $i; sleep 0.4; done"}
    asyncio.run(shell(sandbox).run(command, call))
    assert times[-1] - times[0] > 0.6


def test_of_a_flood_the_begin_and_the_end_are_kept(sandbox: Sandbox, tmp_path: Path):
    settings = ShellSettings(output_characters=1_000)
    text = sh(sandbox, tmp_path, "echo first; seq 200000; echo last", settings).content
    assert text.startswith("first\n1\n2\n") and text.endswith("\nlast\n[exit status 0]")
    assert len(text) < 1_200 and "characters left out" in text
    tight = ShellSettings(output_bytes=10_000, output_characters=1_000)
    assert "more bytes of output were dropped" in sh(sandbox, tmp_path, "seq 90000", tight).content


def test_nothing_of_the_host_is_in_reach(sandbox: Sandbox, tmp_path: Path):
    (tmp_path / "work").mkdir()
    (tmp_path / "secret").write_text("the secret")
    work = tmp_path / "work"
    result = sh(sandbox, work, "cat ../secret; cat /etc/shadow; echo x > ../new; env")
    assert "the secret" not in result.content and "root:" not in result.content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret", "work"]
    offline = sh(sandbox, work, "exec 3<>/dev/tcp/1.1.1.1/53 && echo online")
    assert offline.failed and "online" not in offline.content


def test_access_tells_the_command_and_the_network(sandbox: Sandbox, tmp_path: Path):
    access = shell(sandbox).access({"command": "ls"}, tmp_path)
    assert access.command == "ls" and access.executes and access.hosts == ()
    networked = shell(sandbox, ShellSettings(network=True))
    assert networked.access({"command": "ls"}, tmp_path).hosts == ("*",)
    assert "has the network" in networked.spec.description


def test_a_text_that_fits_is_not_shortened():
    assert shortened("abc", 3) == "abc"
    assert shortened("abcdefghij", 5) == "ab\n[… 5 characters left out …]\nhij"
