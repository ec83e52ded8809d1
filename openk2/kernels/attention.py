"""Causal attention over packed documents that also reports each head's largest logit.

In: scaled queries, keys, values and the document of every token, negative on padding. Out: the
mixed values, and per batch row and head the largest softmax input over allowed pairs, which
QK-Clip (Kimi K2 report, §2.1) needs and which fused attention kernels do not return. Padding has
values too, but its logits do not count: no one reads what it attends to.
Must not know: projections, rotary embedding, or the cache.

Shapes: B batch, H heads, T tokens, q query width, v value width, K keys up to a block's end.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

BLOCK = 128
"""Queries per block: a block meets only the keys up to its own end."""
SCORES_IN_CACHE = 1 << 20
"""Scores computed at a time on CPU, so that they are still in cache for softmax and product."""


def attention_reference(
    q_BHTq: Tensor, k_BHTq: Tensor, v_BHTv: Tensor, doc_BT: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Attend with the full score matrix: the plain twin of `attention`."""
    T = q_BHTq.shape[2]
    allowed_BHTT = torch.ones(T, T, dtype=torch.bool, device=q_BHTq.device).tril()[None, None]
    if doc_BT is not None:
        allowed_BHTT = allowed_BHTT & (doc_BT[:, None, :, None] == doc_BT[:, None, None, :])
    score_BHTT = (q_BHTq @ k_BHTq.transpose(-1, -2)).masked_fill(~allowed_BHTT, -torch.inf)
    mixed_BHTv = score_BHTT.float().softmax(-1).to(v_BHTv.dtype) @ v_BHTv
    top_BHT = score_BHTT.detach().amax(-1).float()
    if doc_BT is not None:
        top_BHT = top_BHT.masked_fill((doc_BT < 0)[:, None], -torch.inf)
    return mixed_BHTv, top_BHT.amax(-1)


def document_bias(doc_BT: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """Return per query block the additive mask [B, 1, block, K]: 0 where allowed, else -inf."""
    T = doc_BT.shape[1]
    position_T = torch.arange(T, device=doc_BT.device)
    blocks: list[Tensor] = []
    for start in range(0, T, BLOCK):
        end = min(start + BLOCK, T)
        causal_QK = position_T[start:end, None] >= position_T[None, :end]
        allowed_BQK = causal_QK & (doc_BT[:, start:end, None] == doc_BT[:, None, :end])
        bias_BQK = torch.zeros(allowed_BQK.shape, dtype=dtype, device=doc_BT.device)
        blocks.append(bias_BQK.masked_fill_(~allowed_BQK, -torch.inf)[:, None])
    return blocks


def attention(
    q_BHTq: Tensor,
    k_BHTq: Tensor,
    v_BHTv: Tensor,
    bias_blocks: list[Tensor],
    padding_BT: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Attend block by block.

    Args:
        q_BHTq: Queries, already multiplied by the softmax scale.
        k_BHTq: Keys.
        v_BHTv: Values.
        bias_blocks: From `document_bias`; shared by all layers.
        padding_BT: True on queries whose logits do not count.

    Returns:
        The mixed values [B, H, T, v] and the largest logit [B, H], which has no gradient and is
        -inf for a row of padding.
    """
    mixed_BHTv, top_BH = _BlockAttention.apply(q_BHTq, k_BHTq, v_BHTv, padding_BT, *bias_blocks)  # pyright: ignore
    return mixed_BHTv, top_BH


def _rows_at_once(H: int, keys: int, device: torch.device) -> int:
    return 1 << 30 if device.type != "cpu" else max(1, SCORES_IN_CACHE // (H * BLOCK * keys))


class _BlockAttention(torch.autograd.Function):
    """Scores of a few batch rows at a time; probabilities are kept for the backward."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, padding: Tensor | None, *bias_blocks: Tensor
    ) -> Any:
        B, H, T, _ = q.shape
        mixed = torch.empty_like(v)
        top_BH = torch.full((B, H), -torch.inf, device=q.device)
        probs: list[Tensor] = []
        for bias, start in zip(bias_blocks, range(0, T, BLOCK), strict=True):
            end = min(start + BLOCK, T)
            p = torch.empty(B, H, end - start, end, dtype=q.dtype, device=q.device)
            step = _rows_at_once(H, end, q.device)
            for b in range(0, B, step):
                rows = slice(b, b + step)
                score = q[rows, :, start:end] @ k[rows, :, :end].transpose(-1, -2)
                score += bias[rows]
                top_BHQ = score.amax(-1).float()
                if padding is not None:
                    top_BHQ.masked_fill_(padding[rows, None, start:end], -torch.inf)
                top_BH[rows] = torch.maximum(top_BH[rows], top_BHQ.amax(-1))
                p[rows] = torch.softmax(score, -1, dtype=torch.float32).to(q.dtype)
                mixed[rows, :, start:end] = p[rows] @ v[rows, :, :end]
            probs.append(p)
        ctx.save_for_backward(q, k, v, *probs)
        ctx.mark_non_differentiable(top_BH)
        return mixed, top_BH

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        q, k, v, *probs = ctx.saved_tensors
        B, H, T, _ = q.shape
        g = grads[0].contiguous()
        dq = torch.empty_like(q)
        dk = torch.zeros(k.shape, dtype=torch.float32, device=k.device)
        dv = torch.zeros(v.shape, dtype=torch.float32, device=v.device)
        for p, start in zip(probs, range(0, T, BLOCK), strict=True):
            end = min(start + BLOCK, T)
            step = _rows_at_once(H, end, q.device)
            for b in range(0, B, step):
                rows = slice(b, b + step)
                pr, gr = p[rows], g[rows, :, start:end]
                dp = gr @ v[rows, :, :end].transpose(-1, -2)
                ds = torch._softmax_backward_data(dp, pr, -1, pr.dtype)  # pyright: ignore
                dq[rows, :, start:end] = ds @ k[rows, :, :end]
                dk[rows, :, :end] += ds.transpose(-1, -2) @ q[rows, :, start:end]
                dv[rows, :, :end] += pr.transpose(-1, -2) @ gr
        return dq, dk.to(k.dtype), dv.to(v.dtype), None, *[None] * len(probs)
