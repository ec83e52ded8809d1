"""FP8 e4m3 matrices with one scale per 128 x 128 block, as DeepSeek-V3 and Kimi K2 publish them.

In: a matrix, or its FP8 values and scales. Out: the other. Must not know: names, files or models.
DeepSeek-V3 report (arXiv 2412.19437), §3.3; the published scale is called `weight_scale_inv` and
multiplies all the same.

Shapes: O outputs, N inputs, P = ceil(O / 128), Q = ceil(N / 128).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 128
"""Rows and columns that share a scale; the last block of a side may be partial."""
LARGEST = 448.0
"""Largest finite e4m3 value."""


def scale_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Return the shape [P, Q] of the scales of a matrix of `shape` [O, N]."""
    return -(-shape[0] // BLOCK), -(-shape[1] // BLOCK)


def quantize(weight_ON: Tensor) -> tuple[Tensor, Tensor]:
    """Return float8_e4m3fn values [O, N] and float32 scales [P, Q], each amax / 448."""
    O, N = weight_ON.shape
    P, Q = scale_shape((O, N))
    # Padding with zeros gives a partial block (kv_a_proj's 576 rows) the scale of what it holds.
    padded = F.pad(weight_ON.float(), (0, Q * BLOCK - N, 0, P * BLOCK - O))
    amax_PQ = padded.view(P, BLOCK, Q, BLOCK).abs().amax((1, 3))
    scale_PQ = torch.where(amax_PQ > 0, amax_PQ / LARGEST, 1.0)
    values = weight_ON.float() / _spread(scale_PQ, O, N)
    return values.clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn), scale_PQ


def dequantize(value_ON: Tensor, scale_PQ: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return `value * scale` [O, N]; the first row starts a block."""
    O, N = value_ON.shape
    # Scaled one block column of rows at a time, so that the scales are never spread over N.
    whole = N // BLOCK * BLOCK
    out_ON = value_ON.to(torch.float32)
    scale_OQ = scale_PQ.repeat_interleave(BLOCK, 0)[:O]
    out_ON[:, :whole].unflatten(1, (-1, BLOCK)).mul_(scale_OQ[:, : N // BLOCK, None])
    if whole < N:
        out_ON[:, whole:].mul_(scale_OQ[:, -1:])
    return out_ON.to(dtype)


def _spread(scale_PQ: Tensor, rows: int, columns: int) -> Tensor:
    spread = scale_PQ.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)
    return spread[:rows, :columns]
