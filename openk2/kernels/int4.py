"""INT4 matrices with one scale per 32 inputs, packed as Kimi K2 Thinking publishes its experts.

In: a matrix, or its packed values and scales. Out: the other. Must not know: names, files or
models. Layout of compressed-tensors' `pack-quantized`: a nibble is the value plus 8, eight of them
fill an int32 along the inputs, the first in the lowest bits.

Shapes: O outputs, N inputs, W = N / 8 packed words, G = N / 32 groups.
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


def quantize(
    weight_ON: Tensor, scale_dtype: torch.dtype = torch.bfloat16
) -> tuple[Tensor, Tensor]:
    """Return packed int32 words [O, W] and scales [O, G], each about amax / 7.

    Raises:
        ValueError: N is not a multiple of the group.
    """
    O, N = weight_ON.shape
    if N % GROUP:
        raise ValueError(f"INT4 needs a multiple of {GROUP} inputs, got a matrix {O} x {N}")
    grouped_OGg = weight_ON.float().view(O, -1, GROUP)
    amax_OG1 = grouped_OGg.abs().amax(-1, keepdim=True)
    # Rounded to the stored type first, or the values would be chosen for another scale.
    scale_OG1 = torch.where(amax_OG1 > 0, amax_OG1 / LARGEST, 1.0).to(scale_dtype)
    value = (grouped_OGg / scale_OG1.float()).round().clamp(-LARGEST, LARGEST)
    return pack(value.view(O, N).to(torch.int8)), scale_OG1.squeeze(-1)


def dequantize(packed_OW: Tensor, scale_OG: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return `value * scale` [O, N]."""
    value_ON = unpack(packed_OW).float()
    scaled_OGg = value_ON.unflatten(1, (-1, GROUP)).mul_(scale_OG.float()[..., None])
    return scaled_OGg.flatten(1).to(dtype)


def pack(value_ON: Tensor) -> Tensor:
    """Pack int8 values in -8..7 into int32 words [O, W]."""
    nibble_ON = (value_ON + OFFSET).to(torch.uint8)
    # A byte holds two nibbles, low first; four bytes are one little-endian word.
    return (nibble_ON[:, ::2] | nibble_ON[:, 1::2] << 4).contiguous().view(torch.int32)


def unpack(packed_OW: Tensor) -> Tensor:
    """Return the int8 values [O, N] of packed words."""
    byte = packed_OW.contiguous().view(torch.uint8)
    nibble = torch.stack((byte & 15, byte >> 4), dim=-1)
    return nibble.flatten(1).view(torch.int8) - OFFSET
