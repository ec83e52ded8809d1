"""`openk2 synth` as a person uses it."""

from __future__ import annotations

import json
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from openk2.cli import app
from openk2.envs.env import Session
from openk2.envs.task import read_task
from openk2.synth.stages import domain_of

RUNNER = CliRunner()
TOOLS = {
    "tools": [
        {
            "name": "water",
            "description": "Water a bed.",
            "inputSchema": {
                "type": "object",
                "properties": {"bed": {"type": "string"}, "minutes": {"type": "integer"}},
                "required": ["bed", "minutes"],
            },
        },
        {"name": "water", "description": "Again.", "inputSchema": {"type": "object"}},
        {"name": "bad", "inputSchema": {"type": "banana"}},
    ]
}


def rows(path: Path) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def test_make_show_and_run_a_stage(tmp_path: Path) -> None:
    out = tmp_path / "run"
    made = RUNNER.invoke(
        app, ["synth", "--domains", "calendar,mail", "-n", "12", "--out", str(out), "--json"]
    )
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["kept"] == 12
    shown = RUNNER.invoke(app, ["synth", "show", str(out / "train.jsonl"), "-n", "2"])
    assert shown.exit_code == 0 and shown.stdout.count("verdict") == 2
    again = tmp_path / "tasks.jsonl"
    stage = RUNNER.invoke(
        app, ["synth", "stage", "tasks", str(out / "agents.jsonl"), str(again),
              "--set", "domains=['calendar','mail']"],
    )  # fmt: skip
    assert stage.exit_code == 0, stage.output
    assert rows(again) == rows(out / "tasks.jsonl")
    more = RUNNER.invoke(
        app, ["synth", "--domains", "calendar,mail", "-n", "20", "--out", str(out), "--json"]
    )
    assert json.loads(more.stdout)["kept"] == 20


def test_own_tools_are_read_refused_one_by_one_and_kept_apart_to_measure_on(tmp_path: Path) -> None:
    file, out = tmp_path / "tools.json", tmp_path / "run"
    file.write_text(json.dumps(TOOLS))
    made = RUNNER.invoke(app, ["synth", "--tools", str(file), "-n", "40", "--out", str(out)])
    assert made.exit_code == 0, made.output
    assert "bad" in made.stderr and "banana" in made.stderr
    assert len(rows(out / "refused.jsonl")) == 2 and len(rows(out / "specs.jsonl")) == 1
    measured = rows(out / "eval.jsonl")
    assert len(measured) + len(rows(out / "train.jsonl")) == 40 and measured
    task = read_task(measured[0]["task"])  # type: ignore[arg-type]
    session = Session(domain_of(task), task)
    assert [tool.name for tool in session.tools] == ["water"]


def test_held_out_domains_are_only_measured_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    made = RUNNER.invoke(
        app, ["synth", "--domains", "library", "-n", "6", "--out", str(out), "--json"]
    )
    assert made.exit_code == 0, made.output
    assert rows(out / "train.jsonl") == [] and len(rows(out / "eval.jsonl")) == 6
    listed = RUNNER.invoke(app, ["synth", "domains", "--json"])
    held = {row["name"] for row in json.loads(listed.stdout) if row["held_out"]}
    assert held == {"clinic", "hotels", "library", "rentals"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--domains", "calender"], "did you mean 'calendar'"),
        (["--tools", "missing.json"], "missing.json"),
        (["--set", "think=1"], "thinking"),
        (["show", "nothing.jsonl"], "run openk2 synth first"),
        (["stage", "task", "a", "b"], "one of agents, tasks"),
    ],
)
def test_mistakes_are_sentences(arguments: list[str], says: str, tmp_path: Path) -> None:
    place = [] if arguments[0] in ("show", "stage") else ["--out", str(tmp_path / "out")]
    result = RUNNER.invoke(app, ["synth", *arguments, *place])
    assert result.exit_code != 0 and says in result.output, result.output
    assert "Traceback" not in result.output
