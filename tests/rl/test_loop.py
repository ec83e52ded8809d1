"""The loop as a person runs it: two iterations, an interruption, one policy version behind."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from openk2.cli import app
from openk2.config import ConfigError, from_mapping, load
from openk2.gym.registry import FAMILIES
from openk2.model import weights
from openk2.rl.config import RlConfig
from openk2.rl.loop import run
from openk2.rl.practice import FamilyConfig, Practice
from openk2.rl.stage import Players
from openk2.rl.view import LineView
from openk2.train.metrics import read

SETTINGS = """
model = "{folder}/start"
out = "{folder}/out"
iterations = 2
problems = 2
samples = 3
save_every = 1
context = 512
concurrency = 4
[families.arithmetic]
max_tokens = 24
[families.morse]
max_tokens = 24
[shaping]
length_weight = 1.0  # a tiny model is never right, but not always equally long
[held_out]
every = 2
problems = 1
[policy]
workers = 1
[policy.objective]
max_weight = "none"  # importance weights bring the engine's rounding into the trained weights
"""


@pytest.fixture
def folder(tmp_path: Path, tiny_policy_model, tokenizer) -> Path:
    weights.save(tiny_policy_model, tmp_path / "start", torch.bfloat16)
    tokenizer.save(tmp_path / "start")
    (tmp_path / "run.toml").write_text(SETTINGS.format(folder=tmp_path))
    return tmp_path


def config(folder: Path, out: str, **more: Any) -> RlConfig:
    values = tomllib.loads(SETTINGS.format(folder=folder))
    return from_mapping(RlConfig, {**values, "out": str(folder / out), **more})


def without_machine(log: Path) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "machine"} for row in read(log)]


def test_the_command_plays_learns_measures_and_leaves_a_model(folder: Path):
    done = CliRunner().invoke(app, ["rl", str(folder / "run.toml"), "--json"])
    assert done.exit_code == 0, done.output
    out = folder / "out"
    before, first, last = read(out / "metrics.jsonl")
    assert (before["step"], first["step"], last["step"]) == (0, 1, 2)
    assert before["held_out/morse/problems"] == last["held_out/morse/problems"] == 1
    assert (first["version"], last["version"]) == (0, 1)
    assert first["episodes"] == 6 and first["machine"]["sync"] > 0 and "entropy" in first
    assert json.loads(done.stdout)["reason"] == "finished"
    episodes = read(out / "episodes.jsonl")
    assert [row["versions"] for row in episodes] == [[0]] * 6 + [[1]] * 6
    assert {row["problem"] for row in read(out / "held_out.jsonl")}.isdisjoint(
        row["problem"] for row in episodes
    )
    assert (out / "metrics.png").read_bytes().startswith(b"\x89PNG")
    start, end = (weights.load(path).state_dict() for path in (folder / "start", out / "model"))
    assert any(not torch.equal(start[name].float(), end[name].float()) for name in start)


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"iterations": 3}, marks=pytest.mark.slow),
        {"iterations": 4, "overlap": True, "rollout": {"pause_after": 13}},
    ],
    ids=["in turns", "one version behind, with pauses"],
)
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(folder: Path, more: dict[str, Any]):
    view = LineView(lambda line: None)
    assert run(config(folder, "whole", **more), view=view).reason == "finished"
    stopped = run(config(folder, "parts", max_minutes=1e-9, **more), view=view)
    assert (stopped.step, stopped.reason) == (1, "time")
    assert run(config(folder, "parts", **more), view=view).step == more["iterations"]
    whole, parts = folder / "whole", folder / "parts"
    assert (whole / "episodes.jsonl").read_bytes() == (parts / "episodes.jsonl").read_bytes()
    assert without_machine(whole / "metrics.jsonl") == without_machine(parts / "metrics.jsonl")
    if "overlap" in more:
        rows = read(whole / "metrics.jsonl")
        assert any(row["carried"] for row in rows[1:]), "nothing was paused: this shows nothing"
        assert any(row["lag"] > 0 for row in rows[1:]), "nobody was behind"


@pytest.mark.slow  # two processes import torch
def test_workers_play_the_same_episodes(folder: Path):
    view = LineView(lambda line: None)
    run(config(folder, "here"), view=view)
    run(config(folder, "workers"), view=view, players=Players(workers=2))
    here, workers = (read(folder / name / "episodes.jsonl") for name in ("here", "workers"))
    assert [row["ids"] for row in here] == [row["ids"] for row in workers]
    assert [row["reward"] for row in here] == [row["reward"] for row in workers]


def test_practice_gives_the_same_problems_whoever_asks_and_prefers_what_is_not_known():
    families = {"arithmetic": FamilyConfig(2.0, max_tokens=9), "morse": FamilyConfig(1.0)}
    turns: dict[str, int] = {}
    practice = Practice(families, seed=1)
    drawn = practice.draw(6, turns)
    assert [one.family for one in drawn].count("arithmetic") == 4
    assert len({(one.family, one.number) for one in drawn}) == 6, "no problem comes twice"
    again = Practice(families, seed=1)
    again.resume(practice.state())
    assert again.draw(3, dict(turns)) == practice.draw(3, dict(turns))
    one = drawn[0]
    assert again.problem(one.family, one.number) == practice.problem(one.family, one.number)
    assert practice.problem("arithmetic", 0).max_tokens == 9
    exam = Practice(families, seed=1, held_out=True)
    seen = {practice.problem("morse", number).key for number in range(50)}
    assert seen.isdisjoint(
        exam.problem(found.family, found.number).key for found in exam.first("morse", 20)
    )


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"samples": 1}, "at least 2"),
        ({"families": {}}, "name at least one"),
        ({"families": {"arithmetic": {"weight": 0.0}}}, "greater than 0"),
        ({"ptx_rows": 4}, "names nothing to read"),
        ({"sample": 4}, "did you mean `samples`"),
        ({"held_out": {"every": 0}}, "at least 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(change: dict[str, Any], what: str):
    with pytest.raises(ConfigError, match=what):
        from_mapping(RlConfig, {"families": {"arithmetic": {}}, **change})


def test_the_recipe_of_the_shipped_model_can_be_read():
    recipe = load(RlConfig, Path(__file__).parents[2] / "configs" / "rl-nano.toml")
    assert recipe.families.keys() <= FAMILIES.keys() and len(recipe.families) >= 3
    assert recipe.data is not None and recipe.ptx_rows > 0


def test_the_command_says_what_is_missing(folder: Path):
    run = CliRunner().invoke
    nothing = run(app, ["rl"])
    assert nothing.exit_code == 2 and "--list" in nothing.output
    strange = run(app, ["rl", str(folder / "run.toml"), "--set", "families.chess.weight=1"])
    assert strange.exit_code == 2 and "no family 'chess'" in strange.output
    listed = run(app, ["rl", "--list", "--json"])
    assert "arithmetic" in [json.loads(line)["name"] for line in listed.output.splitlines()]
