"""Root-mean-square normalisation that stays in cache while it trains on a CPU.

In: activations, a gain per feature and an epsilon. Out: normalised activations, differentiable.
Must not know: which layer asks.

PyTorch's own passes over memory once per operation, forward and backward; here a few rows go
through all operations at a time.

Shapes: N rows, D features.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

VALUES_IN_CACHE = 1 << 16


def rms_norm(x: Tensor, gain_D: Tensor, eps: float) -> Tensor:
    """Return `x / rms(x) * gain` over the last dimension: what `F.rms_norm` does, its twin."""
    in_cache = (
        x.device.type == "cpu"
        and torch.is_grad_enabled()
        and x.dtype == gain_D.dtype
        and not torch.compiler.is_compiling()
    )
    if not in_cache:
        return F.rms_norm(x, gain_D.shape, gain_D, eps)
    return _RmsNorm.apply(x, gain_D, eps)  # pyright: ignore[reportReturnType]


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain_D: Tensor, eps: float) -> Tensor:
        x_ND = x.reshape(-1, x.shape[-1])
        norm_N1 = torch.linalg.vector_norm(x_ND, dim=-1, keepdim=True)
        inverse_N1 = norm_N1.square_().div_(x_ND.shape[1]).add_(eps).rsqrt_()
        y_ND = torch.empty_like(x_ND)
        for rows in _in_cache(x_ND):
            torch.mul(x_ND[rows], inverse_N1[rows], out=y_ND[rows]).mul_(gain_D)
        ctx.save_for_backward(x_ND, gain_D, inverse_N1)
        return y_ND.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x_ND, gain_D, inverse_N1 = ctx.saved_tensors
        dy_ND = grads[0].reshape(x_ND.shape)
        dx_ND, dgain_D = torch.empty_like(x_ND), torch.zeros_like(gain_D)
        for rows in _in_cache(x_ND):
            unit_ND = x_ND[rows] * inverse_N1[rows]
            product_ND = dy_ND[rows] * unit_ND
            dgain_D += product_ND.sum(0)
            # dx = (dy · gain − unit · mean(dy · gain · unit)) / rms
            minus_mean_N = (product_ND @ gain_D).div_(-x_ND.shape[1])
            dx = torch.mul(dy_ND[rows], gain_D, out=dx_ND[rows])
            dx.addcmul_(unit_ND, minus_mean_N[:, None]).mul_(inverse_N1[rows])
        return dx_ND.view_as(grads[0]), dgain_D, None


def _in_cache(x_ND: Tensor) -> Iterator[slice]:
    N, D = x_ND.shape
    step = max(1, VALUES_IN_CACHE // D)
    return (slice(start, start + step) for start in range(0, N, step))
