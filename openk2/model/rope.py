"""Rotary position embedding with YaRN, on interleaved pairs.

In: positions and a config. Out: the angles' cosines and sines, and rotated heads.
Must not know: attention, or which part of a head is rotated. RoFormer (arXiv
2104.09864) and YaRN (arXiv 2309.00071), in DeepSeek-V3's interleaved layout.

Shapes: B batch, T tokens, H heads, r rotary width, P = r / 2 pairs.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from openk2.model.config import K2Config, YarnConfig, yarn_mscale


@functools.lru_cache(maxsize=32)
def _frequencies(config: K2Config, device: torch.device) -> Tensor:
    pairs_P = torch.arange(0, config.qk_rope_head_dim, 2, dtype=torch.float32)
    frequency_P = config.rope_theta ** -(pairs_P / config.qk_rope_head_dim)
    if config.rope_scaling is not None:
        keep_P = 1.0 - yarn_ramp(config.rope_scaling, config.qk_rope_head_dim, config.rope_theta)
        stretched_P = frequency_P / config.rope_scaling.factor
        frequency_P = stretched_P * (1.0 - keep_P) + frequency_P * keep_P
    return frequency_P.to(device)


def yarn_ramp(yarn: YarnConfig, rope_dim: int, theta: float) -> Tensor:
    """Return, per pair, how far its frequency is divided by the factor: 0 not at all, 1 wholly."""

    def pair_with_rotations(beta: float) -> float:
        wavelengths = yarn.original_max_position_embeddings / (beta * 2 * math.pi)
        return rope_dim * math.log(wavelengths) / (2 * math.log(theta))

    low = max(math.floor(pair_with_rotations(yarn.beta_fast)), 0)
    high = min(math.ceil(pair_with_rotations(yarn.beta_slow)), rope_dim - 1)
    if low == high:  # a ramp of no width would divide by zero; transformers widens it the same way
        return _ramp(rope_dim // 2, low, high + 0.001)
    return _ramp(rope_dim // 2, low, high)


def _ramp(n_pairs: int, low: float, high: float) -> Tensor:
    return ((torch.arange(n_pairs, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)


def frequencies_and_magnitude(config: K2Config) -> tuple[Tensor, float]:
    """Return the angle per position of each pair [P], and what both functions are multiplied by."""
    return _frequencies(config, torch.device("cpu")), _magnitude(config.rope_scaling)


def rope_angles(config: K2Config, position_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Return `cos_BTP` and `sin_BTP` in float32 for integer positions of any shape."""
    angle_BTP = position_BT.float()[..., None] * _frequencies(config, position_BT.device)
    magnitude = _magnitude(config.rope_scaling)
    return angle_BTP.cos() * magnitude, angle_BTP.sin() * magnitude


def _magnitude(yarn: YarnConfig | None) -> float:
    """K2 has mscale = mscale_all_dim, hence 1: YaRN's m² sits in the softmax scale alone."""
    if yarn is None:
        return 1.0
    if yarn.mscale and yarn.mscale_all_dim:
        return yarn_mscale(yarn.factor, yarn.mscale) / yarn_mscale(yarn.factor, yarn.mscale_all_dim)
    return yarn_mscale(yarn.factor, 1.0)


def rotate(x_BTHr: Tensor, cos_BTP: Tensor, sin_BTP: Tensor) -> Tensor:
    """Rotate the pairs (0,1), (2,3), … of the last dimension; the head dimension broadcasts."""
    even, odd = x_BTHr.float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cos_BTP[..., None, :], sin_BTP[..., None, :]
    rotated = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return rotated.flatten(-2).to(x_BTHr.dtype)
