"""INT4 matrices with one scale per 32 inputs, packed as Kimi K2 Thinking publishes its experts.

In: a matrix, or its packed values and scales. Out: the other. Must not know: names, files or
models. Layout of compressed-tensors' `pack-quantized`: a nibble is the value plus 8, eight of them
fill an int32 along the inputs, the first in the lowest bits.

Shapes: M outputs, N inputs, W = N / 8 packed words, B = N / 2 bytes, G = N / 32 groups, g = 32, S
shrunken scales.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

GROUP = 32
"""Inputs that share a scale."""
PER_WORD = 8
"""Nibbles in one packed int32."""
OFFSET = 8
"""Added to a value to make its nibble."""
LARGEST = 7
"""Values lie in -7..7: the published weights leave -8 unused."""
VALUES_IN_CACHE = 1 << 18
"""Values rounded at a time, so that they are still in a core's cache for the next operation."""
Scales = Literal["absmax", "mse"]
"""How a group's scale is chosen: amax / 7 as published, or the one of `SHRINKS` with the least
squared error."""
SHRINKS = tuple(1 - step / 40 for step in range(13))
"""Parts of amax / 7 that are tried: a smaller scale cuts the largest value off and rounds the
others less. In groups of 32 normal values the best lie between 0.75 and 1."""


def quantize(
    weight_MN: Tensor, scale_dtype: torch.dtype = torch.bfloat16, scales: Scales = "absmax"
) -> tuple[Tensor, Tensor]:
    """Return packed int32 words [M, W] and scales [M, G], each at most about amax / 7.

    Raises:
        ValueError: N is not a multiple of the group.
    """
    M, N = weight_MN.shape
    if N % GROUP:
        raise ValueError(f"INT4 needs a multiple of {GROUP} inputs, got a matrix {M} x {N}")
    grouped_MGg = weight_MN.float().view(M, -1, GROUP)
    scale_MG1 = _scale(grouped_MGg, scale_dtype, scales)
    value_MN = _round(grouped_MGg, scale_MG1).view(M, N)
    return pack(value_MN.to(torch.int8)), scale_MG1.squeeze(-1)


def fake_quantize_into(
    out_MN: Tensor,
    weight_MN: Tensor,
    scale_dtype: torch.dtype = torch.bfloat16,
    scales: Scales = "absmax",
) -> None:
    """Write what `dequantize(*quantize(weight_MN))` returns, without packing in between.

    Raises:
        ValueError: N is not a multiple of the group.
    """
    M, N = weight_MN.shape
    if N % GROUP:
        raise ValueError(f"INT4 needs a multiple of {GROUP} inputs, got a matrix {M} x {N}")
    step = max(1, VALUES_IN_CACHE // N) if weight_MN.device.type == "cpu" else M
    for out_mN, weight_mN in zip(out_MN.split(step), weight_MN.split(step), strict=True):
        grouped_mGg = weight_mN.float().unflatten(1, (-1, GROUP))
        scale_mG1 = _scale(grouped_mGg, scale_dtype, scales)
        out_mN.unflatten(1, (-1, GROUP)).copy_(
            _round(grouped_mGg, scale_mG1).mul_(scale_mG1.float())
        )


def _scale(grouped_MGg: Tensor, dtype: torch.dtype, scales: Scales) -> Tensor:
    """Return scales [M, G, 1] in the stored type: values are chosen for what will be read."""
    scale_MG1 = _absmax_scale(grouped_MGg, dtype)
    return _least_error_scale(grouped_MGg, scale_MG1) if scales == "mse" else scale_MG1


def _absmax_scale(grouped_MGg: Tensor, dtype: torch.dtype) -> Tensor:
    scale_MG1 = (grouped_MGg.abs().amax(-1, keepdim=True) / LARGEST).to(dtype)
    return torch.where(scale_MG1 > 0, scale_MG1, 1.0).to(dtype)  # zeros, or too small for the type


def _round(grouped_MGg: Tensor, scale_MG1: Tensor) -> Tensor:
    return (grouped_MGg / scale_MG1.float()).round_().clamp_(-LARGEST, LARGEST)


def _error(grouped_MGg: Tensor, scale_MG1: Tensor) -> Tensor:
    """Return the squared error [M, G, 1] of each group."""
    value_MGg = _round(grouped_MGg, scale_MG1).mul_(scale_MG1.float())
    return value_MGg.sub_(grouped_MGg).square_().sum(-1, keepdim=True)


def _least_error_scale(grouped_MGg: Tensor, scale_MG1: Tensor) -> Tensor:
    """Try the shrunken scales one after the other, holding one expanded matrix at a time."""
    best_MG1, least_MG1 = scale_MG1, _error(grouped_MGg, scale_MG1)
    for shrink in SHRINKS[1:]:
        tried_MG1 = (scale_MG1.float() * shrink).to(scale_MG1.dtype)
        error_MG1 = _error(grouped_MGg, tried_MG1)
        better_MG1 = (error_MG1 < least_MG1) & (tried_MG1 > 0)
        best_MG1 = torch.where(better_MG1, tried_MG1, best_MG1)
        least_MG1 = torch.where(better_MG1, error_MG1, least_MG1)
    return best_MG1


def least_error_scale_reference(
    weight_MN: Tensor, scale_dtype: torch.dtype = torch.bfloat16
) -> Tensor:
    """Return the scales [M, G] that `mse` chooses, from a table of all errors: the plain twin."""
    grouped_MGg = weight_MN.float().unflatten(1, (-1, GROUP))
    largest_MG = (grouped_MGg.abs().amax(-1) / LARGEST).to(scale_dtype).float()
    largest_MG = torch.where(largest_MG > 0, largest_MG, 1.0)
    tried_SMG = torch.stack([(largest_MG * shrink).to(scale_dtype) for shrink in SHRINKS])
    scale_SMG1 = tried_SMG.float()[..., None]
    value_SMGg = (grouped_MGg / scale_SMG1).round().clamp(-LARGEST, LARGEST)
    error_SMG = (value_SMGg * scale_SMG1 - grouped_MGg).square().sum(-1)
    usable_SMG = torch.where(tried_SMG > 0, error_SMG, torch.inf)
    return tried_SMG.gather(0, usable_SMG.argmin(0, keepdim=True))[0]


def dequantize(packed_MW: Tensor, scale_MG: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return `value * scale` [M, N]."""
    M, W = packed_MW.shape
    out_MN = torch.empty(M, W * PER_WORD, device=packed_MW.device)
    scratch = torch.empty(M, W * PER_WORD // 2, dtype=torch.uint8, device=packed_MW.device)
    dequantize_into(out_MN, packed_MW, scale_MG, scratch)
    return out_MN.to(dtype)


def dequantize_into(
    out_MN: Tensor, packed_MW: Tensor, scale_MG: Tensor, scratch_MB: Tensor
) -> None:
    """Write `value * scale` into a contiguous float32 matrix; `scratch_MB` is uint8, N / 2 wide."""
    byte_MB = packed_MW.contiguous().view(torch.uint8)
    out_MB2 = out_MN.unflatten(1, (-1, 2))
    # Both nibbles go straight to where they belong: four times faster than `unpack`, then float.
    torch.bitwise_and(byte_MB, 15, out=scratch_MB)
    out_MB2[..., 0] = scratch_MB.view(torch.int8).sub_(OFFSET)
    torch.bitwise_right_shift(byte_MB, 4, out=scratch_MB)
    out_MB2[..., 1] = scratch_MB.view(torch.int8).sub_(OFFSET)
    out_MN.unflatten(1, (-1, GROUP)).mul_(scale_MG.float()[..., None])


def dequantize_reference(packed_MW: Tensor, scale_MG: Tensor) -> Tensor:
    """Return `value * scale` [M, N] in float32: the plain twin of `dequantize`."""
    scale_MN = scale_MG.float().repeat_interleave(GROUP, 1)
    return unpack(packed_MW).float() * scale_MN


def pack(value_MN: Tensor) -> Tensor:
    """Pack int8 values in -8..7 into int32 words [M, W]."""
    nibble_MN = (value_MN + OFFSET).view(torch.uint8)
    # A byte holds two nibbles, low first; four bytes are one little-endian word.
    byte = nibble_MN[:, 1::2] << 4
    return byte.bitwise_or_(nibble_MN[:, ::2]).view(torch.int32)


def unpack(packed_MW: Tensor) -> Tensor:
    """Return the int8 values [M, N] of packed words."""
    byte = packed_MW.contiguous().view(torch.uint8)
    nibble = torch.stack((byte & 15, byte >> 4), dim=-1)
    return nibble.flatten(1).view(torch.int8) - OFFSET
