"""INT4 matrices with one scale per 32 inputs, packed as Kimi K2 Thinking publishes its experts.

In: a matrix, or its packed values and scales. Out: the other. Must not know: names, files or
models. Layout of compressed-tensors' `pack-quantized`: a nibble is the value plus 8, eight of them
fill an int32 along the inputs, the first in the lowest bits.

Shapes: M outputs, N inputs, W = N / 8 packed words, B = N / 2 bytes, G = N / 32 groups.
"""

from __future__ import annotations

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


def quantize(weight_MN: Tensor, scale_dtype: torch.dtype = torch.bfloat16) -> tuple[Tensor, Tensor]:
    """Return packed int32 words [M, W] and scales [M, G], each about amax / 7.

    Raises:
        ValueError: N is not a multiple of the group.
    """
    M, N = weight_MN.shape
    if N % GROUP:
        raise ValueError(f"INT4 needs a multiple of {GROUP} inputs, got a matrix {M} x {N}")
    grouped_MGg = weight_MN.float().view(M, -1, GROUP)
    amax_MG1 = grouped_MGg.abs().amax(-1, keepdim=True)
    # Rounded to the stored type first, or the values would be chosen for another scale.
    scale_MG1 = torch.where(amax_MG1 > 0, amax_MG1 / LARGEST, 1.0).to(scale_dtype)
    value = (grouped_MGg / scale_MG1.float()).round_().clamp_(-LARGEST, LARGEST)
    return pack(value.view(M, N).to(torch.int8)), scale_MG1.squeeze(-1)


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
