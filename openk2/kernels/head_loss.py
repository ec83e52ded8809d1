"""Cross-entropy fused with the language-model head.

In: final hidden states, the head's weight, targets and per-token weights. Out: the weighted sum
of the losses, differentiable in the hidden states and the head. The full logits never exist:
chunks of tokens are projected, and their gradients are formed in the forward, so the projection
is computed once instead of twice. Must not know: micro-batches, documents, why a weight is 0.

Legend: N tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def head_loss_reference(
    hidden_ND: Tensor, head_VD: Tensor, target_N: Tensor, weight_N: Tensor
) -> Tensor:
    """Return the weighted sum of the token losses by way of the full logits."""
    logits_NV = _at_least_fp32(hidden_ND @ head_VD.to(hidden_ND.dtype).T)
    loss_N = F.cross_entropy(logits_NV, target_N, reduction="none")
    return (loss_N * weight_N.to(loss_N.dtype)).sum()


def head_loss(
    hidden_ND: Tensor, head_VD: Tensor, target_N: Tensor, weight_N: Tensor, chunk: int = 1024
) -> Tensor:
    """Return the weighted sum of the token losses without ever holding the full logits.

    Args:
        hidden_ND: Final hidden states; gradients are formed in this dtype.
        head_VD: The head's weight; its gradient is summed in at least fp32.
        target_N: Next-token ids; ignored where the weight is 0.
        weight_N: Weight of each token's loss. To get a mean over a whole step, divide the
            weights by the step's total before the call.
        chunk: Tokens whose logits live at one time.
    """
    # Tokens without weight (padding, borders, prompts) need no logits at all.
    kept_N = weight_N.nonzero().squeeze(1)
    if kept_N.numel() < weight_N.numel():
        hidden_ND, target_N, weight_N = hidden_ND[kept_N], target_N[kept_N], weight_N[kept_N]
    return _HeadLoss.apply(hidden_ND, head_VD, target_N, weight_N, chunk)


class _HeadLoss(Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, head_VD: Tensor, target_N: Tensor, weight_N: Tensor, chunk: int
    ) -> Tensor:
        want_hidden, want_head = ctx.needs_input_grad[:2]
        head = head_VD.to(hidden_ND.dtype)
        sum_dtype = torch.promote_types(head_VD.dtype, torch.float32)
        total = torch.zeros((), dtype=sum_dtype, device=hidden_ND.device)
        dhidden_ND = torch.empty_like(hidden_ND) if want_hidden else None
        dhead_VD = torch.zeros_like(head_VD, dtype=sum_dtype) if want_head else None
        for start in range(0, hidden_ND.shape[0], chunk):
            rows = slice(start, start + chunk)
            x_ND, weight = hidden_ND[rows], weight_N[rows].to(sum_dtype)
            log_p_NV = torch.log_softmax(_at_least_fp32(x_ND @ head.T), -1)
            target_N1 = target_N[rows, None]
            total -= (log_p_NV.gather(1, target_N1).squeeze(1) * weight).sum()
            if not (want_hidden or want_head):
                continue
            # d loss / d logits = weight (softmax − one-hot), made in place
            grad_NV = log_p_NV.exp_().mul_(weight[:, None])
            grad_NV.scatter_add_(1, target_N1, -weight[:, None].to(grad_NV.dtype))
            grad_NV = grad_NV.to(hidden_ND.dtype)
            if dhidden_ND is not None:
                dhidden_ND[rows] = grad_NV @ head
            if dhead_VD is not None:
                dhead_VD += grad_NV.T @ x_ND
        ctx.save_for_backward(dhidden_ND, None if dhead_VD is None else dhead_VD.to(head_VD.dtype))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        dhidden_ND, dhead_VD = ctx.saved_tensors
        dhidden = None if dhidden_ND is None else dhidden_ND * grad.to(dhidden_ND.dtype)
        dhead = None if dhead_VD is None else dhead_VD * grad.to(dhead_VD.dtype)
        return dhidden, dhead, None, None, None


def _at_least_fp32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
