"""Slopes per token against plain losses in float64 and PyTorch's own derivative."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from openk2.rl.objective import (
    ObjectiveConfig,
    Slopes,
    Tokens,
    advantages,
    kl_estimate,
    shares,
    slopes,
)

REWARDS = [[1.0, 0.0, 0.0], [0.25, 0.5], [1.0, 1.0, 1.0], [0.7]]
LENGTHS = [[3, 5, 1], [0, 4], [2, 2, 6], [3]]
PLAIN = ObjectiveConfig(max_weight=None)
GRPO = replace(PLAIN, kind="grpo")


def tokens(seed: int = 0, lengths: Sequence[Sequence[int]] = LENGTHS, apart: float = 0.3) -> Tokens:
    generator = torch.Generator().manual_seed(seed)
    flat = torch.tensor([length for group in lengths for length in group])
    now, start, served = torch.randn(3, int(flat.sum()), generator=generator, dtype=torch.float64)
    sequence = torch.repeat_interleave(torch.arange(len(flat)), flat)
    return Tokens(sequence, -2 + apart * now, -2 + apart * start, -2 + apart * served)


def ours(config: ObjectiveConfig, given_tokens: Tokens) -> Slopes:
    return slopes(given_tokens, advantages(REWARDS, config), shares(LENGTHS, config), config)


def by_trajectory(values_N: Tensor) -> list[list[Tensor]]:
    """Cut per-token values as `LENGTHS` says, in its nesting."""
    pieces = iter(values_N.split([length for group in LENGTHS for length in group]))
    return [[next(pieces) for _ in group] for group in LENGTHS]


def test_the_squared_error_is_the_published_one():
    given_tokens, config = tokens(), replace(PLAIN, tau=0.3)
    now_N = given_tokens.now_N.requires_grad_()
    loss = torch.zeros((), dtype=torch.float64)
    for rewards, ratios in zip(REWARDS, by_trajectory(now_N - given_tokens.start_N), strict=True):
        mean = sum(rewards) / len(rewards)
        errors = [(r - mean - 0.3 * x.sum()) ** 2 for r, x in zip(rewards, ratios, strict=True)]
        loss = loss + sum(errors) / len(errors) / len(REWARDS)
    (gradient_N,) = torch.autograd.grad(loss, now_N)
    found = ours(config, given_tokens)
    torch.testing.assert_close(found.loss, loss.detach())
    torch.testing.assert_close(found.slope_N, gradient_N / (2 * 0.3))


def test_at_the_start_of_an_iteration_only_the_reward_pulls():
    given_tokens = tokens()
    given_tokens = given_tokens._replace(now_N=given_tokens.start_N)
    weak, strong = (ours(replace(PLAIN, tau=tau), given_tokens).slope_N for tau in (1e-3, 10.0))
    assert torch.equal(weak, strong)
    first = weak[: LENGTHS[0][0]]
    torch.testing.assert_close(first, torch.full_like(first, -(1 - 1 / 3) / 3 / len(REWARDS)))


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
@pytest.mark.parametrize("variant", ["grpo", "dapo", "dr_grpo", "cispo"])
@pytest.mark.parametrize("cap", [None, 1.1])
def test_grpo_is_what_autograd_says(variant, scale, cap):
    config = replace(GRPO, grpo_loss=variant, grpo_scale=scale, max_weight=cap, dr_grpo_tokens=7)
    given_tokens = tokens()
    now_N = given_tokens.now_N.requires_grad_()
    weight_N = (
        torch.ones_like(now_N)
        if cap is None
        else ((given_tokens.start_N - given_tokens.served_N).exp().clamp(max=cap))
    )
    everyone = torch.tensor([r for group in REWARDS for r in group], dtype=torch.float64)
    ratios = by_trajectory((now_N - given_tokens.start_N).exp())
    weights, nows = by_trajectory(weight_N), by_trajectory(now_N)
    n_tokens = sum(map(sum, LENGTHS))
    loss = torch.zeros((), dtype=torch.float64)
    for g, rewards in enumerate(REWARDS):
        r = torch.tensor(rewards, dtype=torch.float64)
        std = {"group": r.std() if len(r) > 1 else 0.0, "batch": everyone.std(), "none": None}
        spread = 1.0 if std[scale] is None else std[scale] + 1e-4
        for k, advantage in enumerate((r - r.mean()) / spread):
            ratio = ratios[g][k]
            if variant == "cispo":
                gain = ratio.detach().clamp(max=1.2) * advantage * nows[g][k]
            else:
                gain = torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
            gain = (gain * weights[g][k]).sum()
            each = 1 / (len(REWARDS) * len(rewards))
            share = {"grpo": each / max(1, len(ratio)), "dr_grpo": each / 7}
            loss = loss - gain * share.get(variant, 1 / n_tokens)
    (gradient_N,) = torch.autograd.grad(loss, now_N)
    found = ours(config, given_tokens)
    torch.testing.assert_close(found.loss, loss.detach())
    torch.testing.assert_close(found.slope_N, gradient_N)
    assert found.clipped_N.any() and (found.slope_N != 0).any()


@pytest.mark.parametrize("config", [PLAIN, GRPO, replace(GRPO, grpo_loss="grpo")])
def test_slopes_are_the_finite_differences_of_the_loss(config):
    given_tokens, step = tokens(seed=1, apart=0.05), 1e-6
    found = ours(config, given_tokens)
    per = 2 * config.tau if config.kind == "k2" else 1.0
    for n in range(len(found.slope_N)):
        moved = torch.zeros_like(given_tokens.now_N)
        moved[n] = step
        ahead, behind = (
            ours(config, given_tokens._replace(now_N=given_tokens.now_N + sign * moved)).loss
            for sign in (1, -1)
        )
        slope = float(ahead - behind) / (2 * step) / per
        assert slope == pytest.approx(float(found.slope_N[n]), abs=1e-7)


@given(st.floats(-10, 10), st.integers(1, 9), st.sampled_from(["k2", "grpo"]))
def test_equal_rewards_and_a_single_sample_teach_exactly_nothing(reward, count, kind):
    config = ObjectiveConfig(kind=kind)
    assert advantages([[reward] * count, [1.0]], config).tolist() == [0.0] * (count + 1)
    given_tokens = tokens(lengths=[[2] * count])
    given_tokens = given_tokens._replace(now_N=given_tokens.start_N)
    zeros = torch.zeros(count, dtype=torch.float64)
    found = slopes(given_tokens, zeros, shares([[2] * count], config), config)
    assert not found.slope_N.any() and float(found.loss) == 0


def test_later_in_an_iteration_equal_rewards_still_pull_back_to_its_start():
    given_tokens = tokens(lengths=[[4, 4]])
    config = PLAIN
    found = slopes(given_tokens, advantages([[1, 1]], config), shares([[4, 4]], config), config)
    drift = (given_tokens.now_N - given_tokens.start_N).view(2, 4).sum(1)
    torch.testing.assert_close(found.slope_N.view(2, 4)[:, 0], config.tau * drift / 2)


@pytest.mark.parametrize("config", [PLAIN, GRPO])
def test_trajectories_without_a_token_cost_nothing(config):
    empty = tokens(lengths=[[0, 0]])
    found = slopes(empty, advantages([[0.0, 1.0]], config), shares([[0, 0]], config), config)
    assert found.slope_N.shape == (0,)
    assert math.isfinite(float(found.loss))


@pytest.mark.parametrize("config", [PLAIN, GRPO])
def test_outside_the_band_only_the_pull_to_the_start_is_left(config):
    given_tokens = tokens(apart=0.05)
    now_N = given_tokens.served_N.clone()
    now_N[0] += 0.51  # of a good trajectory
    now_N[4] -= 0.51  # of a bad one: whatever the sign
    given_tokens = given_tokens._replace(now_N=now_N, start_N=now_N)
    free, banded = ours(config, given_tokens), ours(replace(config, band=(-0.5, 0.5)), given_tokens)
    assert banded.masked_N.nonzero().flatten().tolist() == [0, 4]
    inside_N = ~banded.masked_N
    assert free.slope_N[[0, 4]].abs().min() > 0
    assert not banded.slope_N[[0, 4]].any()
    assert torch.equal(banded.slope_N[inside_N], free.slope_N[inside_N])
    if config.kind == "k2":
        drifted = given_tokens._replace(start_N=given_tokens.start_N - 0.1)
        assert ours(replace(config, band=(-0.5, 0.5)), drifted).slope_N[0] > 0


def test_the_weight_of_a_token_is_start_over_served_up_to_the_cap():
    given_tokens = tokens(lengths=[[3]])
    served_N = given_tokens.start_N - torch.tensor([0.0, math.log(1.5), math.log(9.0)]).double()
    given_tokens = given_tokens._replace(served_N=served_N, now_N=given_tokens.start_N)
    one = torch.ones(1, dtype=torch.float64)
    found = slopes(given_tokens, one, one, ObjectiveConfig(max_weight=2.0))
    torch.testing.assert_close(found.weight_N, torch.tensor([1.0, 1.5, 2.0]).double())
    torch.testing.assert_close(found.slope_N, -found.weight_N)


def test_the_kl_estimate_has_the_right_mean_and_is_never_negative():
    drawn_V, other_V = torch.randn(2, 5, dtype=torch.float64).log_softmax(-1)
    exact = (drawn_V.exp() * (drawn_V - other_V)).sum()
    estimate_V = kl_estimate(drawn_V, other_V)
    torch.testing.assert_close((drawn_V.exp() * estimate_V).sum(), exact)
    assert estimate_V.min() >= 0


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("tau", 0.0),
        ("clip_low", 1.5),
        ("clip_high", -0.1),
        ("dr_grpo_tokens", 0),
        ("band", (0.5, -0.5)),
        ("max_weight", 0.0),
    ],
)
def test_a_setting_that_means_nothing_is_refused_by_name(setting, value):
    with pytest.raises(ValueError, match=setting):
        replace(ObjectiveConfig(), **{setting: value})
