"""The routed experts: every token through its chosen SwiGLU networks, nothing dropped.

In: tokens, the experts each was routed to, the gate weights and the stacked expert matrices.
Out: the weighted sum of the experts' outputs. Must not know: how experts were chosen.

Shapes: T tokens, K experts per token, E experts, D model width, I expert width,
R rows of the sorted buffer (T * K plus padding).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

ROW_MULTIPLE = 16
"""Each expert's rows are rounded up to this, so that products do not see ever new odd shapes:
on CPU that alone is worth 1.3x (fp32) to 2x (bf16) of a training step."""
VALUES_IN_CACHE = 1 << 17
"""Gates, or ups, that SwiGLU takes at a time on a CPU, so that they stay in cache between its
operations: memory and not arithmetic is what it waits for."""


def swiglu_reference(gate_up: Tensor) -> Tensor:
    """Return `silu(gate) * up` for the two halves of the last dimension."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


def swiglu(gate_up: Tensor) -> Tensor:
    """Return what `swiglu_reference` does, in cache where that matters."""
    if gate_up.device.type != "cpu" or torch.compiler.is_compiling():
        return swiglu_reference(gate_up)
    return _Swiglu.apply(gate_up)  # pyright: ignore[reportReturnType]


class _Swiglu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        return _swiglu_rows(gate_up.flatten(0, -2)).view(
            *gate_up.shape[:-1], gate_up.shape[-1] // 2
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (gate_up,) = ctx.saved_tensors
        rows_N2I = gate_up.flatten(0, -2)
        grad_N2I = torch.empty_like(rows_N2I)
        for rows in _in_cache(rows_N2I):
            _swiglu_backward(grads[0].flatten(0, -2)[rows], rows_N2I[rows], grad_N2I[rows])
        return grad_N2I.view_as(gate_up)


def _in_cache(rows_N2I: Tensor) -> list[slice]:
    N, width = rows_N2I.shape
    step = max(1, 2 * VALUES_IN_CACHE // width)
    return [slice(start, start + step) for start in range(0, N, step)]


def _swiglu_rows(gate_up_N2I: Tensor) -> Tensor:
    inner = gate_up_N2I.shape[1] // 2
    out_NI = gate_up_N2I.new_empty(len(gate_up_N2I), inner)
    for rows in _in_cache(gate_up_N2I):
        gate, up = gate_up_N2I[rows].split(inner, 1)
        torch.ops.aten.silu.out(gate, out=out_NI[rows]).mul_(up)
    return out_NI


def _swiglu_backward(grad_NI: Tensor, gate_up_N2I: Tensor, out_N2I: Tensor) -> None:
    gate, up = gate_up_N2I.chunk(2, 1)
    dgate, dup = out_N2I.chunk(2, 1)
    torch.mul(F.silu(gate), grad_NI, out=dup)
    torch.ops.aten.silu_backward.grad_input(grad_NI * up, gate, grad_input=dgate)


def experts_reference(
    x_TD: Tensor, expert_TK: Tensor, gate_TK: Tensor, gate_up_E2ID: Tensor, down_EDI: Tensor
) -> Tensor:
    """Run one chosen expert after the other: the plain twin of `experts`."""
    out_TD = torch.zeros_like(x_TD)
    for e in expert_TK.unique().tolist():
        token, slot = torch.where(expert_TK == e)
        hidden = swiglu_reference(x_TD[token] @ gate_up_E2ID[e].flatten(0, 1).T)
        out_TD = out_TD.index_add(0, token, gate_TK[token, slot, None] * (hidden @ down_EDI[e].T))
    return out_TD


@dataclass(frozen=True, slots=True)
class SortedRows:
    """Where every (token, choice) pair sits in the buffer that is sorted by expert."""

    row_TK: Tensor
    token_R: Tensor
    """The token of each row; padding rows repeat token 0 and nobody reads their result."""
    end_E: Tensor
    """int32: where each expert's rows end."""


def sort_by_expert(expert_TK: Tensor, n_experts: int, multiple: int = ROW_MULTIPLE) -> SortedRows:
    """Sort pairs by expert (stable) and round each expert's share up to `multiple` rows."""
    flat = expert_TK.flatten()
    count_E = torch.bincount(flat, minlength=n_experts)
    room_E = (count_E + multiple - 1) // multiple * multiple
    end_E = room_E.cumsum(0)
    shift_E = (end_E - room_E) - (count_E.cumsum(0) - count_E)
    order = flat.argsort(stable=True)
    row_of_sorted = torch.arange(flat.numel(), device=flat.device) + shift_E[flat[order]]
    row = torch.empty_like(order).scatter_(0, order, row_of_sorted)
    # An upper bound on the rows keeps this free of a device-to-host copy.
    rows = flat.numel() + n_experts * (multiple - 1)
    token_R = torch.zeros(rows // multiple * multiple, dtype=torch.long, device=flat.device)
    token_R[row] = torch.arange(flat.numel(), device=flat.device) // expert_TK.shape[1]
    return SortedRows(row.view_as(expert_TK), token_R, end_E.to(torch.int32))


def experts(
    x_TD: Tensor, expert_TK: Tensor, gate_TK: Tensor, gate_up_E2ID: Tensor, down_EDI: Tensor
) -> Tensor:
    """Run all experts as two grouped matrix products over tokens sorted by expert."""
    E, _, inner, D = gate_up_E2ID.shape
    if x_TD.device.type == "cpu" and not torch.is_grad_enabled() and expert_TK.numel() <= E:
        # Decoding: a grouped product would pad and visit every expert for a handful of rows.
        return experts_reference(x_TD, expert_TK, gate_TK, gate_up_E2ID, down_EDI)
    rows = sort_by_expert(expert_TK, E)
    device = x_TD.device.type
    # Autocast leaves grouped products out: a forward's dtypes would part from its backward's.
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        x_TD, gate_up_E2ID, down_EDI = (t.to(dtype) for t in (x_TD, gate_up_E2ID, down_EDI))
    with torch.autocast(device, enabled=False):
        if device == "cpu" and not torch.compiler.is_compiling():
            token_R = rows.token_R[: int(rows.end_E[-1])]
            return _FusedExperts.apply(  # pyright: ignore[reportReturnType]
                x_TD,
                gate_TK,
                gate_up_E2ID.flatten(1, 2),
                down_EDI,
                token_R,
                rows.row_TK,
                rows.end_E,
            )
        x_RD = _Dispatch.apply(x_TD, rows.token_R, rows.row_TK)
        gate_up_EDx = gate_up_E2ID.view(E, 2 * inner, D).transpose(1, 2)
        hidden_RI = swiglu(F.grouped_mm(x_RD, gate_up_EDx, offs=rows.end_E))
        y_RD = F.grouped_mm(hidden_RI, down_EDI.transpose(1, 2), offs=rows.end_E)
        return _Combine.apply(y_RD, gate_TK, rows.row_TK)  # pyright: ignore[reportReturnType]


class _FusedExperts(torch.autograd.Function):
    """The same with what lies between the products done in cache, forward and backward."""

    @staticmethod
    def forward(
        ctx: Any,
        x_TD: Tensor,
        gate_TK: Tensor,
        gate_up_ExD: Tensor,
        down_EDI: Tensor,
        token_R: Tensor,
        row_TK: Tensor,
        end_E: Tensor,
    ) -> Tensor:
        x_RD = x_TD.index_select(0, token_R)
        gate_up_Rx = F.grouped_mm(x_RD, gate_up_ExD.transpose(1, 2), offs=end_E)
        hidden_RI = _swiglu_rows(gate_up_Rx)
        y_RD = F.grouped_mm(hidden_RI, down_EDI.transpose(1, 2), offs=end_E)
        ctx.save_for_backward(
            x_RD, gate_TK, gate_up_ExD, down_EDI, token_R, row_TK, end_E, gate_up_Rx, hidden_RI
        )
        return F.embedding_bag(row_TK, y_RD, mode="sum", per_sample_weights=gate_TK.to(y_RD.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x_RD, gate_TK, gate_up_ExD, down_EDI, token_R, row_TK, end_E, gate_up_Rx, hidden_RI = (
            ctx.saved_tensors
        )
        # Padding rows have gate 0: they must not move the weights.
        gate_R1 = hidden_RI.new_zeros(len(token_R), 1)
        gate_R1[row_TK.flatten(), 0] = gate_TK.flatten().to(gate_R1.dtype)
        dy_RD = grads[0].index_select(0, token_R)  # not yet times the gates
        dhidden_RI = F.grouped_mm(dy_RD, down_EDI, offs=end_E)
        dgate_R = torch.empty_like(gate_R1[:, 0])
        dgate_up_Rx, weighted_RI = torch.empty_like(gate_up_Rx), torch.empty_like(hidden_RI)
        for rows in _in_cache(gate_up_Rx):
            hidden, dhidden, gate = hidden_RI[rows], dhidden_RI[rows], gate_R1[rows]
            # A gate's gradient is y · dy = down(hidden) · dy = hidden · dhidden: half as wide.
            torch.sum(hidden * dhidden, -1, out=dgate_R[rows])
            torch.mul(hidden, gate, out=weighted_RI[rows])
            _swiglu_backward(dhidden.mul_(gate), gate_up_Rx[rows], dgate_up_Rx[rows])
        ddown_EDI = F.grouped_mm(dy_RD.T, weighted_RI, offs=end_E)
        dgate_up_ExD = F.grouped_mm(dgate_up_Rx.T, x_RD, offs=end_E)
        dx_RD = F.grouped_mm(dgate_up_Rx, gate_up_ExD, offs=end_E)
        dx_TD = F.embedding_bag(row_TK, dx_RD, mode="sum")
        dgate_TK = dgate_R[row_TK].to(gate_TK.dtype)
        return dx_TD, dgate_TK, dgate_up_ExD, ddown_EDI, None, None, None


class _Dispatch(torch.autograd.Function):
    """Gather rows; the backward is a gather by the inverse order, not a slow scatter-add."""

    @staticmethod
    def forward(ctx: Any, x_TD: Tensor, token_R: Tensor, row_TK: Tensor) -> Tensor:
        ctx.save_for_backward(row_TK)
        return x_TD[token_R]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (row_TK,) = ctx.saved_tensors
        return grads[0][row_TK].sum(1), None, None


class _Combine(torch.autograd.Function):
    """Sum each token's rows, weighted by its gates."""

    @staticmethod
    def forward(ctx: Any, y_RD: Tensor, gate_TK: Tensor, row_TK: Tensor) -> Tensor:
        ctx.save_for_backward(y_RD, gate_TK, row_TK)
        return torch.bmm(gate_TK[:, None].to(y_RD.dtype), y_RD[row_TK]).squeeze(1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        y_RD, gate_TK, row_TK = ctx.saved_tensors
        grad_TD = grads[0]
        dy_RD = torch.zeros_like(y_RD)  # padding rows stay 0: they must not move the weights
        dy_RD[row_TK] = gate_TK[..., None].to(y_RD.dtype) * grad_TD[:, None]
        dgate_TK = torch.bmm(y_RD[row_TK], grad_TD[..., None]).squeeze(-1)
        return dy_RD, dgate_TK.to(gate_TK.dtype), None
