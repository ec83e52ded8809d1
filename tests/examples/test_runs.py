"""Every scenario from goal to verdict: a scripted model decides, everything else is real."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from examples.browser import browser_path
from examples.run import main
from examples.scenario import scenarios
from openk2.agent.journal import NAME, read
from openk2.agent.sandbox.choose import choose_sandbox
from openk2.agent.sandbox.isolation import SandboxMissing

for package in (
    "aiosmtpd",
    "icalendar",
    "ipykernel",
    "matplotlib",
    "pandas",
    "plotly",
    "statsmodels",
):
    pytest.importorskip(package, reason="pip install 'openk2[examples]'")

ROOT = Path(__file__).resolve().parents[2]
FAST = ("06-concert-trip", "03-paper-ablation")
"""Run with the fast tests; the others take longer, and differ in what the model does."""


def sandbox_missing() -> str:
    try:
        choose_sandbox()
    except SandboxMissing as error:
        return str(error)
    return "" if browser_path() else "no Chromium: `make system-deps` brings it"


pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(sandbox_missing()), reason=sandbox_missing() or "-"),
]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(one.name, marks=() if one.name in FAST else pytest.mark.slow)
        for one in scenarios()
    ],
)
def test_a_scenario_from_goal_to_verdict(name: str, tmp_path: Path, capsys):
    status = main([name, "--scripted", "--json", "--runs", str(tmp_path)])
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [check for check in told["checks"] if not check["ok"]] == []
    assert (status, told["status"], told["passed"]) == (0, "complete", True)
    folder = Path(told["folder"])
    assert json.loads((folder / "verify.json").read_text())["checks"] == told["checks"]
    failed = [record for record in records(folder) if record_failed(record)]
    assert failed, "the script shows no failure that it recovers from"
    replay(folder)


def records(folder: Path):
    found, _ = read(folder / NAME)
    return found


def record_failed(record) -> bool:
    """Whether a call brought an error, or a result that says what went wrong."""
    if record.kind != "tool":
        return False
    said = str(record.data.get("content", ""))
    signs = ("Black wins", "without a definition: ['Asia", "Error")
    ended = record.kind == "tool" and record.phase == "end"
    return ended and bool(record.data.get("error") or any(sign in said for sign in signs))


def replay(folder: Path) -> None:
    from openk2.agent.replay import replay_all

    (found,) = asyncio.run(replay_all(folder)).values()
    assert found.result is not None and found.result.status == "complete", found.interrupted
    assert found.records == len(records(folder))


def test_a_run_that_does_nothing_fails(tmp_path: Path, capsys):
    """Verdicts of an earlier run, by the command that people type."""
    (tmp_path / "run" / "workspace").mkdir(parents=True)
    command = [sys.executable, "examples/run.py", "1", "--verify", str(tmp_path / "run"), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    assert told["passed"] is False and not any(check["ok"] for check in told["checks"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["7", "--scripted"], "there is no scenario '7'"), (["1"], "say which model")],
)
def test_what_cannot_be_run_is_said(arguments, says, capsys):
    assert main(arguments) == 2
    assert says in capsys.readouterr().err


def test_an_endpoint_that_does_not_answer_is_one_sentence(tmp_path: Path):
    command = [sys.executable, "examples/run.py", "2", "--base-url", "http://127.0.0.1:9/v1"]
    command += ["--model", "x", "--runs", str(tmp_path / "runs")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()
