"""What a policy learns from rewarded samples: Kimi K2's objective and GRPO, as slopes per token.

In: rewards by group, and each emitted token's log-probability now, at the start of the iteration
and as it was served. Out: the loss, and its derivative by every token's log-probability now; the
gradient by the weights is the sum of those slopes times the gradients of the log-probabilities.
Must not know: models, rows, optimizers, or what a reward is for.

Kimi K2 report (arXiv 2507.20534), §3.2.3; Kimi k1.5 report (arXiv 2501.12599), §2.3.2; GRPO (arXiv
2402.03300) and its kin.

Legend: N tokens with a loss, S trajectories, K trajectories of one problem.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Kind = Literal["k2", "grpo"]
GrpoLoss = Literal["grpo", "dapo", "dr_grpo", "cispo"]
RewardScale = Literal["group", "batch", "none"]

STD_FLOOR = 1e-4
"""Added to the standard deviation that rewards are divided by; TRL's value."""


@dataclass(frozen=True, slots=True)
class ObjectiveConfig:
    """What is minimised."""

    kind: Kind = "k2"
    """k2: (reward - the group's mean - tau * log-ratio of the whole sequence)², a mean over the
    samples of a problem and over problems. grpo: the clipped ratio of each token."""
    tau: float = 0.1
    """How strongly `k2` holds the policy to the one at the iteration's start; the reports do not
    say theirs. Rewards lie between 0 and 1, and the log-ratio is a sum over the answer's tokens."""
    grpo_loss: GrpoLoss = "dapo"
    """How `grpo` weighs tokens. grpo: equally within an answer, answers equally. dapo: all tokens
    equally. dr_grpo: a sum per answer over the fixed `dr_grpo_tokens`. cispo: as dapo, but a token
    with a clipped ratio still learns (arXiv 2506.13585)."""
    grpo_scale: RewardScale = "group"
    """Whose standard deviation `grpo` divides centred rewards by."""
    clip_low: float = 0.2
    """A ratio below 1 minus this no longer lowers a bad token; PPO's value."""
    clip_high: float = 0.2
    """A ratio above 1 plus this no longer raises a good token. DAPO takes 0.28; for `cispo`, which
    caps weights and drops nothing, 4 is usual."""
    dr_grpo_tokens: int = 256
    """What `dr_grpo` divides each answer's sum by: the most tokens that an answer can have."""
    band: tuple[float, float] | None = None
    """Tokens whose log-ratio of the policy now to the one that served them lies outside learn
    nothing from the reward, whatever its sign (Kimi K2.5, arXiv 2602.02276); none takes all."""
    max_weight: float | None = 2.0
    """Cap of the importance weight, start over served, of tokens that came from a rounded or an
    older policy (truncated importance sampling); none weighs all tokens 1."""

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        for name in ("tau", "dr_grpo_tokens"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be greater than 0, not {getattr(self, name)}")
        if not 0 <= self.clip_low <= 1:
            raise ValueError(f"clip_low must lie between 0 and 1, not {self.clip_low}")
        if not self.clip_high >= 0:
            raise ValueError(f"clip_high must not be negative, but is {self.clip_high}")
        if self.band is not None and not self.band[0] < self.band[1]:
            raise ValueError(f"band must rise, but is {self.band}")
        if self.max_weight is not None and not self.max_weight > 0:
            raise ValueError(f"max_weight must be greater than 0 or none, not {self.max_weight}")


class Tokens(NamedTuple):
    """The emitted tokens of some trajectories, one after the other."""

    sequence_N: Tensor
    """Which of the trajectories each is of."""
    now_N: Tensor
    """Log-probability under the policy that learns."""
    start_N: Tensor
    """The same when the iteration began."""
    served_N: Tensor
    """As served, by whichever policy."""


class Slopes(NamedTuple):
    """A part's loss and what to do about it."""

    loss: Tensor
    """The trajectories' part of the whole step's loss; `k2` as published, the squared error."""
    slope_N: Tensor
    """The derivative to follow: of `grpo`'s loss, and of `k2`'s divided by 2 tau, as published."""
    masked_N: Tensor
    """True where the band took the reward away."""
    clipped_N: Tensor
    """True where GRPO's ratio is at its limit; never for `k2`."""
    weight_N: Tensor
    """Importance weights after the cap."""


def advantages(rewards: Sequence[Sequence[float]], config: ObjectiveConfig) -> Tensor:
    """Return how much better than its group each trajectory did, float64 [S], group by group.

    A group without differences gives exact zeros, and so does one of a single trajectory.
    """
    groups = [torch.tensor(group, dtype=torch.float64) for group in rewards]
    centred = [r_K - r_K.mean() if len(set(r_K.tolist())) > 1 else r_K * 0 for r_K in groups]
    if config.kind == "k2" or config.grpo_scale == "none":
        return torch.cat(centred)
    if config.grpo_scale == "batch":
        return torch.cat(centred) / (_std(torch.cat(groups)) + STD_FLOOR)
    scaled = [c_K / (_std(r_K) + STD_FLOOR) for c_K, r_K in zip(centred, groups, strict=True)]
    return torch.cat(scaled)


def _std(r_K: Tensor) -> Tensor:
    return r_K.std() if len(r_K) > 1 else r_K.new_zeros(())


def shares(lengths: Sequence[Sequence[int]], config: ObjectiveConfig) -> Tensor:
    """Return what one token of each trajectory counts in the step's loss, float64 [S].

    For `k2`, whose loss is the sequences', it is what the sequence counts.

    Args:
        lengths: Tokens with a loss of each trajectory, group by group.
        config: The objective.
    """
    found: list[float] = []
    total = sum(map(sum, lengths))
    for group in lengths:
        mean = 1 / (len(lengths) * len(group))  # over problems, and over the samples of each
        for length in group:
            if config.kind == "k2":
                found.append(mean)
            elif config.grpo_loss == "grpo":
                found.append(mean / max(1, length))
            elif config.grpo_loss == "dr_grpo":
                found.append(mean / config.dr_grpo_tokens)
            else:
                found.append(1 / max(1, total))
    return torch.tensor(found, dtype=torch.float64)


def slopes(tokens: Tokens, advantage_S: Tensor, share_S: Tensor, config: ObjectiveConfig) -> Slopes:
    """Return the loss of whole trajectories and its derivative by every `now_N`.

    Args:
        tokens: All tokens with a loss of the trajectories.
        advantage_S: Of the trajectories, from `advantages`.
        share_S: Of the trajectories, from `shares`.
        config: The objective.
    """
    weight_N = importance(tokens, config.max_weight)
    masked_N = out_of_band(tokens, config.band)
    if config.kind == "k2":
        return _squared_error(tokens, advantage_S, share_S, weight_N, masked_N, config.tau)
    return _clipped_ratio(tokens, advantage_S, share_S, weight_N, masked_N, config)


def importance(tokens: Tokens, cap: float | None) -> Tensor:
    """Return how much likelier each token was at the iteration's start than where it was served."""
    if cap is None:
        return torch.ones_like(tokens.now_N)
    return (tokens.start_N - tokens.served_N).clamp(max=math.log(cap)).exp()


def out_of_band(tokens: Tokens, band: tuple[float, float] | None) -> Tensor:
    """Tell which tokens the policy left behind: their log-ratio lies outside the band."""
    ratio_N = tokens.now_N - tokens.served_N
    if band is None:
        return torch.zeros_like(ratio_N, dtype=torch.bool)
    return (ratio_N < band[0]) | (ratio_N > band[1])


def _squared_error(
    tokens: Tokens,
    advantage_S: Tensor,
    share_S: Tensor,
    weight_N: Tensor,
    masked_N: Tensor,
    tau: float,
) -> Slopes:
    sequence_N, ratio_N = tokens.sequence_N, tokens.now_N - tokens.start_N
    ratio_S = torch.zeros_like(advantage_S).index_add(0, sequence_N, ratio_N.to(advantage_S.dtype))
    loss = (share_S * (advantage_S - tau * ratio_S) ** 2).sum()
    # advantage * grad log p - tau / 2 * grad (log-ratio)²: the band takes the first term only.
    reward_N = advantage_S[sequence_N].masked_fill(masked_N, 0.0)
    slope_N = share_S[sequence_N] * weight_N * (tau * ratio_S[sequence_N] - reward_N)
    return Slopes(loss, slope_N, masked_N, torch.zeros_like(masked_N), weight_N)


def _clipped_ratio(
    tokens: Tokens,
    advantage_S: Tensor,
    share_S: Tensor,
    weight_N: Tensor,
    masked_N: Tensor,
    config: ObjectiveConfig,
) -> Slopes:
    advantage_N = advantage_S[tokens.sequence_N]
    ratio_N = (tokens.now_N - tokens.start_N).exp()
    low, high = 1 - config.clip_low, 1 + config.clip_high
    scale_N = (share_S[tokens.sequence_N] * weight_N).masked_fill(masked_N, 0.0)
    if config.grpo_loss == "cispo":
        capped_N = ratio_N.clamp(max=high)
        slope_N = -capped_N * advantage_N * scale_N
        return Slopes((slope_N * tokens.now_N).sum(), slope_N, masked_N, ratio_N > high, weight_N)
    clipped_N = ((advantage_N > 0) & (ratio_N > high)) | ((advantage_N < 0) & (ratio_N < low))
    bounded_N = torch.where(clipped_N, ratio_N.clamp(low, high), ratio_N)
    slope_N = -(ratio_N * advantage_N * scale_N).masked_fill(clipped_N, 0.0)
    return Slopes(
        -(bounded_N * advantage_N * scale_N).sum(), slope_N, masked_N, clipped_N, weight_N
    )


def kl_estimate(drawn_N: Tensor, other_N: Tensor) -> Tensor:
    """Return each token's estimate of KL(drawn, other), never negative (Schulman's k3).

    Args:
        drawn_N: Log-probabilities under the policy that drew the tokens.
        other_N: Under the other one.
    """
    return torch.expm1(other_N - drawn_N) - (other_N - drawn_N)
