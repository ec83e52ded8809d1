from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.train.schedule import ScheduleConfig, lr_factor


@st.composite
def schedules(draw):
    warmup, stable, decay = (draw(st.integers(0, 50)) for _ in range(3))
    return ScheduleConfig(
        total_steps=warmup + stable + decay,
        warmup_steps=warmup,
        decay_steps=decay,
        floor=draw(st.floats(0, 1)),
        decay=draw(st.sampled_from(["cosine", "linear", "1-sqrt"])),
    )


@given(schedules())
def test_rises_then_stays_at_the_peak_then_falls_to_the_floor(config):
    decay_start = config.total_steps - config.decay_steps
    factors = [lr_factor(step, config) for step in range(config.total_steps + 10)]
    warmup, stable, decay = (
        factors[: config.warmup_steps],
        factors[config.warmup_steps : decay_start],
        factors[decay_start:],
    )
    assert all(0 < a < b for a, b in pairwise(warmup))
    assert all(factor == 1 for factor in stable)
    assert all(a >= b - 1e-12 for a, b in pairwise(decay))
    assert decay[-1] == pytest.approx(config.floor if config.decay_steps else 1.0, abs=1e-12)


@given(schedules())
def test_never_jumps(config):
    factors = [lr_factor(step, config) for step in range(config.total_steps + 1)]
    for step, (a, b) in enumerate(pairwise(factors)):
        if step < config.warmup_steps:
            assert abs(b - a) <= 1 / config.warmup_steps + 1e-12
        elif config.decay_steps:  # 1 - sqrt is steepest, in its first step
            assert abs(b - a) <= (1 - config.floor) * config.decay_steps**-0.5 + 1e-12


@pytest.mark.parametrize(
    "decay,expected", [("cosine", [1.0, 0.55, 0.1]), ("linear", [1.0, 0.55, 0.1])]
)
def test_half_way_down(decay, expected):
    config = ScheduleConfig(total_steps=30, warmup_steps=5, decay_steps=20, decay=decay)
    assert [lr_factor(step, config) for step in (10, 20, 30)] == pytest.approx(expected)


def test_square_root_decay_falls_fast_first():
    config = ScheduleConfig(total_steps=100, decay_steps=100, decay="1-sqrt", floor=0.0)
    assert lr_factor(25, config) == pytest.approx(0.5)


def test_warmup_starts_above_zero_and_ends_at_the_peak():
    config = ScheduleConfig(total_steps=10, warmup_steps=4)
    assert [lr_factor(step, config) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


@pytest.mark.parametrize(
    "settings,problem",
    [
        ({"total_steps": 10, "warmup_steps": 6, "decay_steps": 5}, "exceed"),
        ({"total_steps": 10, "warmup_steps": -1}, "negative"),
        ({"total_steps": 10, "floor": 1.5}, "fraction"),
        ({"total_steps": 10, "decay": "exponential"}, "unknown"),
    ],
)
def test_refuses_phases_that_make_no_sense(settings, problem):
    with pytest.raises(ValueError, match=problem):
        ScheduleConfig(**settings)
