"""Causal attention over packed documents that also reports each head's largest logit.

In: scaled queries, keys, values and the document of every token, negative on padding. Out: the
mixed values, and per batch row and head the largest softmax input over allowed pairs, which
QK-Clip (Kimi K2 report, §2.1) needs and which fused attention kernels do not return. Padding has
values too, but its logits do not count: no one reads what it attends to.
Must not know: projections, rotary embedding, or the cache.

Shapes: B batch, H heads, T tokens, q query width, v value width, K keys of a block.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

BLOCK = 128
"""Queries per block: a block meets no keys behind its own end."""
KEY_MULTIPLE = 16
"""Where a block's keys begin is rounded down to this, so that products have few odd widths."""


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


class AttentionBlock(NamedTuple):
    """Queries that are computed together, and the keys that one of them may see."""

    rows: slice
    queries: slice
    keys: slice


class DocumentMask(NamedTuple):
    """Who may see whom in packed rows; shared by all layers."""

    blocks: list[AttentionBlock]
    biases: list[Tensor]
    """Of each block [rows, 1, queries, keys]: 0 where allowed, else -inf."""


def document_mask(doc_BT: Tensor, dtype: torch.dtype) -> DocumentMask:
    """Divide packed rows into blocks of queries.

    On a CPU a block is of one row, so that its scores stay in cache for softmax and product, and
    its keys begin where the documents of its queries do. A GPU takes all rows at once, as it would
    have to wait for where they begin.
    """
    B, T = doc_BT.shape
    one_by_one = doc_BT.device.type == "cpu" and not torch.compiler.is_compiling()
    position_T = torch.arange(T, device=doc_BT.device)
    mask = DocumentMask([], [])
    for start in range(0, T, BLOCK):
        end = min(start + BLOCK, T)
        causal_QK = position_T[start:end, None] >= position_T[None, :end]
        allowed_BQK = causal_QK & (doc_BT[:, start:end, None] == doc_BT[:, None, :end])
        bias_BQK = torch.zeros(allowed_BQK.shape, dtype=dtype, device=doc_BT.device)
        bias_B1QK = bias_BQK.masked_fill_(~allowed_BQK, -torch.inf)[:, None]
        if not one_by_one:
            mask.blocks.append(AttentionBlock(slice(0, B), slice(start, end), slice(0, end)))
            mask.biases.append(bias_B1QK)
            continue
        for row, first in enumerate(allowed_BQK.any(1).int().argmax(-1).tolist()):
            rows, keys = slice(row, row + 1), slice(first // KEY_MULTIPLE * KEY_MULTIPLE, end)
            mask.blocks.append(AttentionBlock(rows, slice(start, end), keys))
            mask.biases.append(bias_B1QK[rows, ..., keys])
    return mask


def attention(
    q_BHTq: Tensor,
    k_BHTq: Tensor,
    v_BHTv: Tensor,
    mask: DocumentMask,
    padding_BT: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Attend block by block.

    Args:
        q_BHTq: Queries, already multiplied by the softmax scale.
        k_BHTq: Keys.
        v_BHTv: Values.
        mask: From `document_mask`.
        padding_BT: True on queries whose logits do not count.

    Returns:
        The mixed values [B, H, T, v] and the largest logit [B, H], which has no gradient and is
        -inf for a row of padding.
    """
    return _BlockAttention.apply(  # pyright: ignore[reportReturnType]
        q_BHTq, k_BHTq, v_BHTv, padding_BT, mask.blocks, *mask.biases
    )


class _BlockAttention(torch.autograd.Function):
    """Scores of one block after the other; probabilities are kept for the backward."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        padding: Tensor | None,
        blocks: list[AttentionBlock],
        *biases: Tensor,
    ) -> Any:
        B, H = q.shape[:2]
        mixed = torch.empty_like(v)
        top_BH = torch.full((B, H), -torch.inf, device=q.device)
        probs: list[Tensor] = []
        for (rows, queries, keys), bias in zip(blocks, biases, strict=True):
            score = q[rows, :, queries] @ k[rows, :, keys].transpose(-1, -2)
            score += bias
            top_BHQ = score.amax(-1).float()
            if padding is not None:
                top_BHQ.masked_fill_(padding[rows, None, queries], -torch.inf)
            top_BH[rows] = torch.maximum(top_BH[rows], top_BHQ.amax(-1))
            p = torch.softmax(score, -1, dtype=torch.float32).to(q.dtype)
            mixed[rows, :, queries] = p @ v[rows, :, keys]
            probs.append(p)
        ctx.save_for_backward(q, k, v, *probs)
        ctx.blocks = blocks
        ctx.mark_non_differentiable(top_BH)
        return mixed, top_BH

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        q, k, v, *probs = ctx.saved_tensors
        g = grads[0].contiguous()
        dq = torch.empty_like(q)
        dk = torch.zeros(k.shape, dtype=torch.float32, device=k.device)
        dv = torch.zeros(v.shape, dtype=torch.float32, device=v.device)
        for (rows, queries, keys), p in zip(ctx.blocks, probs, strict=True):
            grad = g[rows, :, queries]
            dp = grad @ v[rows, :, keys].transpose(-1, -2)
            ds = torch._softmax_backward_data(dp, p, -1, p.dtype)  # pyright: ignore
            dq[rows, :, queries] = ds @ k[rows, :, keys]
            dk[rows, :, keys] += ds.transpose(-1, -2) @ q[rows, :, queries]
            dv[rows, :, keys] += p.transpose(-1, -2) @ grad
        return dq, dk.to(k.dtype), dv.to(v.dtype), None, None, *[None] * len(probs)
