"""Logits to tokens: greedy, temperature and top-p, for all rows of a batch at once.

In: logits and noise per row. Out: a token id and its log-probability per row.
Must not know: where the noise comes from, requests, or what a token means.

Shapes: B rows of the batch, V vocabulary, K most likely tokens.

A token is drawn by an exponential race (Gumbel-max in other coordinates): token v finishes at
`noise[v] / probability[v]`, the first one wins. A row's token is a function of its own logits and
noise, nothing else. The logits may still differ in their last bits from one batch to another,
because a matrix product rounds differently in another batch size. With the same noise, two
distributions at total variation D then give different tokens with a probability of at most
2D / (1 + D), whatever the size of the vocabulary (Daliri, Musco and Suresh, arXiv 2408.07978).
Inverting the cumulative distribution has no such bound: there the shifts add up over the
vocabulary. What remains: with float32 weights a flip is rare; in bfloat16, whose logits carry two
or three digits, a long answer may well flip, and from there on the two texts differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

LIKELY = 1024
"""Top-p first looks at this many tokens: finding them is about ten times cheaper than a sort."""


def sample(
    logits_BV: Tensor, temperature_B: Tensor, top_p_B: Tensor, noise_BV: Tensor
) -> tuple[Tensor, Tensor]:
    """Choose one token per row.

    Args:
        logits_BV: Any float type.
        temperature_B: Float64; 0 is greedy.
        top_p_B: Float64; only the most likely tokens that together reach this mass can be drawn,
            and those as likely as the last of them.
        noise_BV: Float64, positive, exponentially distributed; greedy rows ignore theirs.

    Returns:
        Token ids, and their log-probabilities at temperature 1 without top-p. A row whose logits
        have no distribution (NaN, +inf, or all -inf) gets an arbitrary id and NaN.
    """
    logits_BV = logits_BV.double()
    token_B = logits_BV.argmax(-1)
    greedy_B = temperature_B == 0
    if not bool(greedy_B.all()):
        scale_B = torch.where(greedy_B, 1.0, temperature_B)
        # The maximum goes first: however small the temperature, the best logit stays 0, not inf.
        shifted_BV = logits_BV - logits_BV.amax(-1, keepdim=True)
        probability_BV = (shifted_BV / scale_B[:, None]).softmax(-1)
        kept_BV = _nucleus(probability_BV, top_p_B)
        drawn_B = (kept_BV / noise_BV).argmax(-1)
        token_B = torch.where(greedy_B, token_B, drawn_B)
    logprob_BV = logits_BV.log_softmax(-1)
    return token_B, logprob_BV.gather(-1, token_B[:, None])[:, 0]


def _nucleus(probability_BV: Tensor, top_p_B: Tensor) -> Tensor:
    """Set everything outside each row's top-p to 0; the rest is not rescaled."""
    cut_B = top_p_B < 1
    if not bool(cut_B.any()):
        return probability_BV
    top_BK = probability_BV.topk(min(LIKELY, probability_BV.shape[-1])).values
    if bool((cut_B & (top_BK.sum(-1) < top_p_B)).any()):
        top_BK = probability_BV.sort(descending=True).values
    short_BK = top_BK.cumsum(-1) < top_p_B[:, None]
    # Rounding may leave the sum of all just below a top-p near 1: the last one is then enough.
    last_B1 = short_BK.sum(-1, keepdim=True).clamp(max=top_BK.shape[-1] - 1)
    floor_B1 = torch.where(cut_B[:, None], top_BK.gather(-1, last_B1), 0.0)
    return probability_BV.where(probability_BV >= floor_B1, 0.0)


def sample_row(
    logits: Sequence[float], temperature: float, top_p: float, noise: Sequence[float]
) -> tuple[int, float]:
    """Choose the token of one row: what `sample` does, written out (its slow twin)."""
    ids = range(len(logits))
    top = max(logits)
    log_sum = math.log(sum(math.exp(x - top) for x in logits))
    logprob = [x - top - log_sum for x in logits]
    if temperature == 0:
        token = max(ids, key=logits.__getitem__)
        return token, logprob[token]
    weight = [math.exp((x - top) / temperature) for x in logits]
    total = sum(weight)
    probability = [w / total for w in weight]
    floor = mass = 0.0
    if top_p < 1:
        for floor in sorted(probability, reverse=True):
            mass += floor
            if mass >= top_p:
                break
    kept = [i for i in ids if probability[i] >= floor]
    token = max(kept, key=lambda i: probability[i] / noise[i])
    return token, logprob[token]
