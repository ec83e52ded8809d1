"""What a person sees of a run, and the numbers behind it."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from openk2.rl.metrics import DIGITS, episode_numbers, held_out_numbers, lag, rounded
from openk2.rl.plot import plot
from openk2.rl.schedule import TemperatureConfig, next_family, temperature
from openk2.rl.shaping import ShapingConfig, length_reward, repeated, shape
from openk2.rl.view import Dashboard, LineView, clock, curve, time_left
from openk2.types import FinishReason, Message, Segment, Trajectory


def episode(
    reward: float, tokens: int, *, family: str = "sums", finish: FinishReason = "stop", ids=None
):
    written = tuple(ids if ids is not None else range(tokens))
    segments = (Segment((1, 2)), Segment(written, (-0.5,) * len(written), version=3))
    messages = (Message("user", "?"), Message("assistant", "!"))
    return Trajectory(f"{family}-1", family, segments, messages, reward, {"reward": reward}, finish)


def row(step: int, rate: float, *, tried: bool) -> dict:
    found = {
        "step": step,
        "reward": rate - 0.1,
        "earned": rate,
        "pass": rate,
        "signal": 0.5,
        "length": 40.0 + step,
        "truncated": 0.0,
        "entropy": 0.7,
        "kl": 0.01 * step,
        "critic_agreement": 0.8,
        "sums/earned": rate,
        "sums/pass": rate,
        "sums/length": 40.0,
    }
    times = {"iteration": 10.0, "rollout": 6.0, "update": 3.5, "sync": 0.05}
    times |= {"tokens_per_s": 1234.0, "utilisation": 0.9}
    if tried:
        groups = [[episode(float(at < 10 * rate), 4)] for at in range(10)]
        found |= held_out_numbers(groups, seed=0)
    return {**found, "machine": times}


def test_shaping_names_what_it_adds_and_takes():
    config = ShapingConfig(truncation_penalty=0.3, repetition_penalty=0.1, length_weight=0.2)
    short, long, wrong = shape(
        [episode(1.0, 10), episode(1.0, 30), episode(0.0, 20, finish="length", ids=[7] * 20)],
        config,
    )
    assert short.reward == pytest.approx(1 + 0.2 * 0.5)
    assert long.reward == pytest.approx(1 - 0.2 * 0.5)
    assert wrong.reward == pytest.approx(-0.3 - 0.1)  # in the middle: neither gains nor loses
    assert wrong.parts == {
        "reward": 0.0, "earned": 0.0, "truncation": -0.3, "repetition": -0.1, "length": 0.0,
    }  # fmt: skip
    assert length_reward(10, [10, 30], right=False) == 0.0, "short and wrong gains nothing"
    assert length_reward(10, [10, 10], right=True) == 0.0


def test_only_what_the_policy_says_again_is_repetition():
    circle = [1, 2, 3, 4] * 10
    assert repeated(episode(0, 0, ids=circle), 8) == pytest.approx(1 - 4 / 33)
    assert repeated(episode(0, 40), 8) == 0.0
    assert repeated(episode(0, 0, ids=[1]), 8) == 0.0


def test_temperature_falls_from_start_to_end():
    config = TemperatureConfig(start=1.2, end=0.6)
    values = [temperature(step, 11, config) for step in range(11)]
    assert values[0] == 1.2 and values[5] == pytest.approx(0.9) and values[10] == 0.6
    assert values == sorted(values, reverse=True)
    assert temperature(0, 1, config) == 1.2
    with pytest.raises(ValueError, match="teach nothing"):
        TemperatureConfig(end=0.0)


@given(
    st.dictionaries(st.sampled_from("abcde"), st.floats(0.1, 10), min_size=1),
    st.integers(1, 200),
)
def test_every_family_always_has_its_share_to_within_a_turn(weights, count):
    turns: dict[str, int] = {}
    for _ in range(count):
        name = next_family(weights, turns)
        turns[name] = turns.get(name, 0) + 1
    for name, weight in weights.items():
        share = count * weight / sum(weights.values())
        assert abs(turns.get(name, 0) - share) <= max(1.0, len(weights) / 2)


def test_an_iteration_in_numbers():
    config = ShapingConfig(truncation_penalty=0.5)
    groups = [
        shape([episode(1, 10), episode(0, 20, finish="length")], config),
        shape([episode(1, 10, family="words")] * 2, config),
    ]
    found = episode_numbers(groups, config)
    assert (found["pass"], found["sums/pass"], found["words/pass"]) == (0.75, 0.5, 1.0)
    assert (found["earned"], found["reward"]) == (0.75, pytest.approx((1 - 0.5 + 2) / 4))
    assert (found["signal"], found["truncated"], found["tokens"]) == (0.5, 0.25, 50)
    assert lag(groups, version=5) == 2
    assert rounded({"a": 0.123456, "b": 123456, "c": 1234567.0}) == {
        "a": 0.1235, "b": 123456, "c": float(f"{1234567.0:.{DIGITS}g}"),
    }  # fmt: skip


def test_lines_say_what_an_iteration_came_to():
    lines: list[str] = []
    view = LineView(lines.append)
    view.begin([], 20)
    view.row(row(1, 0.5, tried=False))
    view.row(row(2, 0.6, tried=True))
    assert lines[0] == "iteration 1/20  reward 0.400  pass 50%  length 41  sums 50%"
    assert lines[2].startswith("held out: sums 60% [30%, 90%]")


def test_the_dashboard_shows_the_run_and_what_was_before_it():
    out = StringIO()
    console = Console(file=out, width=110, height=40, force_terminal=False)
    view = Dashboard(console)
    console.print(view.render())
    view.begin([row(step, step / 10, tried=step == 1) for step in range(1, 4)], 20)
    view.phase("playing", 17, 64)
    view.row(row(4, 0.4, tried=True))
    view.close()
    out.truncate(0)
    console.print(view.render())
    shown = out.getvalue()
    for part in ("iteration 4/20", "playing 17/64", "entropy", "KL", "critic", "sums", "1,234"):
        assert part in shown
    assert "40%" in shown and "10%" in shown, "held-out pass rate now and at first"
    assert "left" in shown and "left ?" not in shown


def test_small_words():
    assert curve([0, 1, 0.5]) in ("▁█▄", "▁█▅") and curve([2, 2]) == "▄▄"
    assert (clock(59.9), clock(60), clock(3661)) == ("0:59", "1:00", "1:01:01")
    assert (time_left(60, 3, 6), time_left(60, 0, 6)) == ("2:00", "?")


def test_the_picture_is_drawn_from_the_log(tmp_path):
    log = tmp_path / "metrics.jsonl"
    rows = [row(step, step / 10, tried=step % 2 == 0) for step in range(1, 6)]
    log.write_text("".join(json.dumps(one) + "\n" for one in rows))
    plot(log, tmp_path / "run.png")
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")
