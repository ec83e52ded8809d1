"""Logits to tokens: greedy, temperature and top-p, for all rows of a batch at once.

In: logits and one uniform number per row. Out: a token id and its log-probability per row.
Must not know: where the numbers come from, requests, or what a token means.

Shapes: B rows of the batch, V vocabulary.

A row's token is a function of its own logits and its own uniform number, nothing else. The
inverse of the cumulative distribution is taken in vocabulary order, not in order of probability,
and in float64: rounding in the logits (a matrix product may round differently in another batch
size) then moves a token's interval by about as little as the rounding itself, where swapping two
near-equal neighbours of a sorted list would move it by their whole probability. What remains: the
token can change if the uniform number falls inside that rounding, if the two best logits of a
greedy row are that close, or if the cumulative mass comes that close to top-p.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sample(
    logits_BV: Tensor, temperature_B: Tensor, top_p_B: Tensor, uniform_B: Tensor
) -> tuple[Tensor, Tensor]:
    """Choose one token per row.

    Args:
        logits_BV: Any float type.
        temperature_B: Float64; 0 is greedy.
        top_p_B: Float64; only the most likely tokens that together reach this mass can be drawn.
        uniform_B: Float64 in [0, 1); greedy rows ignore theirs.

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
        drawn_B = _draw(shifted_BV / scale_B[:, None], top_p_B, uniform_B)
        token_B = torch.where(greedy_B, token_B, drawn_B)
    logprob_BV = logits_BV.log_softmax(-1)
    return token_B, logprob_BV.gather(-1, token_B[:, None])[:, 0]


def _draw(logits_BV: Tensor, top_p_B: Tensor, uniform_B: Tensor) -> Tensor:
    probability_BV = logits_BV.softmax(-1)
    if bool((top_p_B < 1).any()):
        probability_BV = probability_BV.where(_nucleus(probability_BV, top_p_B), 0.0)
    cumulative_BV = probability_BV.cumsum(-1)
    # uniform < 1 keeps the target below the total, so the first token whose cumulative mass is
    # above it exists and has a probability above zero.
    target_B1 = uniform_B[:, None] * cumulative_BV[:, -1:]
    token_B1 = torch.searchsorted(cumulative_BV, target_B1, right=True)
    # Only a row of NaN finds none; its log-probability says so, and the id must stay an index.
    return token_B1[:, 0].clamp(max=logits_BV.shape[-1] - 1)


def _nucleus(probability_BV: Tensor, top_p_B: Tensor) -> Tensor:
    """Mark the smallest set of most likely tokens whose mass reaches top-p."""
    sorted_BV, order_BV = probability_BV.sort(dim=-1, descending=True, stable=True)
    before_BV = sorted_BV.cumsum(-1).roll(1, -1)
    before_BV[:, 0] = 0.0
    # Rounding may leave the full sum below 1, or reach 1 before the tail: top-p 1 keeps everything.
    keep_BV = (before_BV < top_p_B[:, None]) | (top_p_B[:, None] == 1)
    return torch.zeros_like(keep_BV).scatter(-1, order_BV, keep_BV)


def sample_row(
    logits: list[float], temperature: float, top_p: float, uniform: float
) -> tuple[int, float]:
    """Choose the token of one row: what `sample` does, written out (its slow twin)."""
    logprobs = _log_softmax(logits)
    if temperature == 0:
        token = max(range(len(logits)), key=logits.__getitem__)
        return token, logprobs[token]
    top = max(logits)
    scaled = [(x - top) / temperature for x in logits]
    probabilities = [math.exp(x) for x in _log_softmax(scaled)]
    kept: set[int] = set()
    mass = 0.0
    for token in sorted(range(len(logits)), key=lambda token: -probabilities[token]):
        if mass >= top_p and top_p < 1:
            break
        kept.add(token)
        mass += probabilities[token]
    target = uniform * sum(probabilities[token] for token in sorted(kept))
    cumulative = 0.0
    for token in sorted(kept):
        cumulative += probabilities[token]
        if cumulative > target:
            break
    return token, logprobs[token]


def _log_softmax(logits: list[float]) -> list[float]:
    top = max(logits)
    log_sum = top + math.log(sum(math.exp(x - top) for x in logits))
    return [x - log_sum for x in logits]
