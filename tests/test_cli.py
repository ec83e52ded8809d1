from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest

from openk2.cli import serving


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "openk2.cli", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_help_loads_nothing_heavy():
    code = (
        "import sys\n"
        "sys.argv = ['openk2', '--help']\n"
        "from openk2.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'numpy', 'rich', 'pydantic', 'fastapi', 'tiktoken', 'asyncio'}\n"
        "print('LOADED', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.endswith("LOADED []\n"), done.stdout + done.stderr
    assert "serve" in done.stdout and "chat" in done.stdout


@pytest.mark.parametrize("command", [("serve",), ("chat",)])
def test_every_command_has_help(command):
    done = run(*command, "--help")
    assert done.returncode == 0
    assert "--model" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nothing"], "nothing"),
        (["serve", "--port", "70000"], "--port"),
        (["serve", "--max-batch", "0"], "--max-batch"),
        (["chat", "--temperature", "3"], "--temperature"),
        (["chat", "--strange"], "--strange"),
    ],
)
def test_a_wrong_argument_is_named(arguments, named):
    done = run(*arguments)
    assert done.returncode == 2
    assert named in done.stderr and "Traceback" not in done.stderr


def test_a_terminal_without_chinese_sees_marks_and_not_a_traceback(tmp_path):
    done = run("chat", "--model", str(tmp_path / "模型"), PYTHONIOENCODING="latin-1")
    assert done.returncode == 2
    assert "/??" in done.stderr and "Traceback" not in done.stderr


def test_the_welcome_names_a_program_that_can_be_started_from_anywhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert serving._program("bin/open k2") == f"'{tmp_path}/bin/open k2'"
    assert serving._program("/usr/bin/openk2") == "/usr/bin/openk2"
    assert serving._program("openk2") == "openk2"
    assert (
        serving._program("/src/openk2/cli/__main__.py")
        == f"{shlex.quote(sys.executable)} -m openk2.cli"
    )
