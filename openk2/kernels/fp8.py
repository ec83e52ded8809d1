"""FP8 e4m3 matrices with one scale per 128 x 128 block, as DeepSeek-V3 and Kimi K2 publish them.

In: a matrix, or its FP8 values and scales. Out: the other. Must not know: names, files or models.
DeepSeek-V3 report (arXiv 2412.19437), §3.3; the published scale is called `weight_scale_inv` and
multiplies all the same.

Shapes: M outputs, N inputs, P = ceil(M / 128), Q = ceil(N / 128), b = 128.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 128
"""Rows and columns that share a scale; the last block of a side may be partial."""
LARGEST = 448.0
"""Largest finite e4m3 value."""
NAN_CODE = 127
"""The one e4m3 code, sign aside, that is not a number."""
LARGEST_SCALE = 2.0**8
"""From here on a scale times 2^120 is infinite."""
SIGN_AND_VALUE = -0x78100000
"""Bits of a float32 that an e4m3 value fills: 0x87F00000, as the int32 it is."""


def scale_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Return the shape [P, Q] of the scales of a matrix of `shape` [M, N]."""
    return -(-shape[0] // BLOCK), -(-shape[1] // BLOCK)


def quantize(weight_MN: Tensor) -> tuple[Tensor, Tensor]:
    """Return float8_e4m3fn values [M, N] and float32 scales [P, Q], each amax / 448."""
    M, N = weight_MN.shape
    P, Q = scale_shape((M, N))
    # Padding with zeros gives a partial block (kv_a_proj's 576 rows) the scale of what it holds.
    whole = M == P * BLOCK and N == Q * BLOCK
    padded = weight_MN if whole else F.pad(weight_MN, (0, Q * BLOCK - N, 0, P * BLOCK - M))
    blocks_PbQb = padded.float().view(P, BLOCK, Q, BLOCK)
    amax_PQ = blocks_PbQb.abs().amax((1, 3))
    scale_PQ = torch.where(amax_PQ > 0, amax_PQ / LARGEST, 1.0)
    scaled_PbQb = blocks_PbQb / scale_PQ[:, None, :, None]
    values = scaled_PbQb.clamp_(-LARGEST, LARGEST).to(torch.float8_e4m3fn)
    return values.view(P * BLOCK, Q * BLOCK)[:M, :N].contiguous(), scale_PQ


def dequantize(value_MN: Tensor, scale_PQ: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return `value * scale` [M, N]; the first row starts a block."""
    out_MN = torch.empty(value_MN.shape, device=value_MN.device)
    dequantize_into(out_MN, value_MN, scale_PQ, torch.empty_like(value_MN, dtype=torch.uint8))
    return out_MN.to(dtype)


def dequantize_into(out_MN: Tensor, value_MN: Tensor, scale_PQ: Tensor, scratch_MN: Tensor) -> None:
    """Write `value * scale` into a contiguous float32 matrix; `scratch_MN` is uint8."""
    M, N = value_MN.shape
    torch.bitwise_and(value_MN.view(torch.uint8), NAN_CODE, out=scratch_MN)
    is_unusual = scratch_MN.amax() == NAN_CODE or scale_PQ.amax() >= LARGEST_SCALE
    if N % BLOCK or is_unusual:
        out_MN.copy_(dequantize_reference(value_MN, scale_PQ))
        return
    # Sign, exponent and mantissa moved to where float32 has them are the value times 2^-120: three
    # times faster than PyTorch's conversion.
    bits_MN = out_MN.view(torch.int32).copy_(value_MN.view(torch.int8))
    bits_MN.bitwise_left_shift_(20).bitwise_and_(SIGN_AND_VALUE)
    scale_MQ = (scale_PQ.float() * 2.0**120).repeat_interleave(BLOCK, 0)[:M]
    out_MN.unflatten(1, (-1, BLOCK)).mul_(scale_MQ[..., None])


def dequantize_reference(value_MN: Tensor, scale_PQ: Tensor) -> Tensor:
    """Return `value * scale` [M, N] in float32: the plain twin of `dequantize`."""
    return value_MN.to(torch.float32) * _spread(scale_PQ.float(), *value_MN.shape)


def _spread(scale_PQ: Tensor, rows: int, columns: int) -> Tensor:
    spread = scale_PQ.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)
    return spread[:rows, :columns]
