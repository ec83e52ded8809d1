"""Artefacts as the scripts make them, by plain Python: quick to make, and there to tamper with."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from examples.browser import browser_path
from examples.checks import Check, judge
from examples.scenario import Scenario, find

needs_browser = pytest.mark.skipif(
    browser_path() is None, reason="no Chromium: `make system-deps` brings it"
)
needs_latex = pytest.mark.skipif(
    shutil.which("pdflatex") is None, reason="no pdflatex: `make system-deps` brings it"
)

PLAY = """
import sys, traceback
space = {"news": sys.argv[1]}
for name in sys.argv[2:]:
    try:
        exec(compile(open(name).read(), name, "exec"), space)
    except Exception:
        traceback.print_exc()
"""
NEWS = (
    "- 2025-10-20: https://news.example/lumen-bank-buyback\n"
    "- 2025-10-27: https://news.example/banks-reserve-ratio"
)


def make_gold(number: str, folder: Path) -> Path:
    """Run all cells of a scenario in one Python; those that fail in the script fail here."""
    scenario = find(number)
    workspace = folder / "workspace"
    workspace.mkdir(parents=True)
    scenario.make_inputs(workspace)
    cells = sorted((scenario.folder / "cells").glob("*.py"))
    environment = {**os.environ, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    played = subprocess.run(
        [sys.executable, "-c", PLAY, NEWS, *map(str, cells)],
        cwd=workspace,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert played.returncode == 0, played.stderr
    (folder / "said.txt").write_text(played.stdout, "utf-8")
    return workspace


def verdict(workspace: Path, check) -> Check:
    """Run one check."""
    return judge(workspace, [check])[0]


def refuses(workspace: Path, check, says: str) -> None:
    """Assert that a check fails, and says why."""
    found = verdict(workspace, check)
    assert not found.ok, f"{found.name} holds: {found.why}"
    assert re.search(says, found.why), found.why


def assert_all_hold(scenario: Scenario, workspace: Path) -> None:
    """Assert that a gold workspace passes every check."""
    checks = scenario.verify(workspace)
    assert [check for check in checks if not check.ok] == []
    assert len(checks) >= 7


def assert_nothing_holds_without_work(scenario: Scenario, folder: Path) -> None:
    """Assert that inputs alone pass no check but that they are there."""
    workspace = folder / "workspace"
    workspace.mkdir()
    checks = scenario.verify(workspace)
    assert [check.name for check in checks if check.ok] == []
    scenario.make_inputs(workspace)
    passed = [check.name for check in scenario.verify(workspace) if check.ok]
    assert len(passed) <= 1 and all(name.endswith("as given") for name in passed)


def copy(gold: Path, folder: Path) -> Path:
    """Copy a gold run to a place where it can be tampered with."""
    shutil.copytree(gold.parent, folder / "run")
    return folder / "run" / "workspace"


def edit(workspace: Path, name: str, old: str, new: str) -> None:
    """Replace a passage of an artefact in every place."""
    path = workspace / name
    text = path.read_text("utf-8")
    assert old in text, f"{name} has no {old!r}"
    path.write_text(text.replace(old, new), "utf-8")


def send(workspace: Path, **changed: object) -> None:
    """Send the traveller's mail with the real tool to the real sink."""
    from examples.sink import mail_sink
    from openk2.agent.tool import Call
    from openk2.agent.tools.email import MailServer, send_email

    said = (workspace.parent / "said.txt").read_text("utf-8")
    letter = {
        "to": ["mei@friends.example"],
        "subject": "The Paper Lanterns: your trip",
        "text": said[said.index("Hello Mei") :],
        "attachments": ["trip.ics", "itinerary.html"],
        **changed,
    }

    async def run() -> None:
        async with mail_sink(workspace.parent / "mail") as port:
            server = MailServer("127.0.0.1", port, "agent@runs.example", ("*@*",), security="none")
            await send_email(server).run(letter, Call("c", workspace, 30))
            if others := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait(others, timeout=5)

    asyncio.run(run())
