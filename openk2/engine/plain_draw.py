"""The plain twin of `draw.py`: the same arithmetic for one row, as it would be written down.

In: a row's logits and settings. Out: its token, its log-probability and the most likely others.
Must not know: how it is made fast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from openk2.engine.draw import BITS_32, SPAN, min_p_floor
from openk2.types import Sampling


def philox(counter: Sequence[int], key: Sequence[int]) -> tuple[int, int, int, int]:
    """Return four random 32-bit words: Philox4x32-10 (Salmon et al., SC 2011)."""
    a, b, c, d = counter
    k, m = key
    for _ in range(10):
        p, q = a * 0xD2511F53, c * 0xCD9E8D57
        a, b, c, d = (q >> 32) ^ b ^ k, q & BITS_32, (p >> 32) ^ d ^ m, p & BITS_32
        k, m = (k + 0x9E3779B9) & BITS_32, (m + 0xBB67AE85) & BITS_32
    return a, b, c, d


def noise(seed64: int, index: int, token: int, level: int = 0) -> float:
    """Return the exponential noise of a token, or at level 1 of a span, at a place of an answer."""
    key = seed64 & BITS_32, seed64 >> 32
    a, b, _, _ = philox((token, level, index & BITS_32, index >> 32), key)
    return -math.log((((a << 20) | (b >> 12)) + 0.5) * 2.0**-52)


def sample_row(
    logits: Sequence[float],
    sampling: Sampling,
    prompt: Sequence[int],
    answer: Sequence[int],
    seed64: int,
    allowed: Sequence[bool] | None = None,
) -> tuple[int, float, list[tuple[int, float]]]:
    """Choose the next token after `answer`: what `Sampler` does, written out (its slow twin)."""
    top = max(logits)
    if any(math.isnan(x) for x in logits) or not math.isfinite(top):
        return 0, math.nan, []
    log_sum = math.log(math.fsum(math.exp(x - top) for x in logits))
    logprob = [x - top - log_sum for x in logits]
    by_logprob = sorted(
        (v for v, p in enumerate(logprob) if p > -math.inf), key=lambda v: -logits[v]
    )
    tops = [(v, logprob[v]) for v in by_logprob[: sampling.top_logprobs]]
    if len(answer) < len(sampling.forced):
        token = sampling.forced[len(answer)]
        return token, logprob[token], tops
    x = _edited(logits, sampling, prompt, answer)
    ids = [v for v in range(len(x)) if x[v] > -math.inf and (allowed is None or allowed[v])]
    if not ids or max(x[v] for v in ids) == math.inf:
        return 0, math.nan, tops
    token = _draw(_weights(x, ids, sampling), seed64, sampling.place + len(answer))
    return token, logprob[token], tops


def drawn_row(
    logits: Sequence[float],
    sampling: Sampling,
    prompt: Sequence[int],
    answer: Sequence[int],
    token: int,
    allowed: Sequence[bool] | None = None,
) -> tuple[float, float]:
    """Return with which log-probability a token is drawn, and the model's own at temperature T."""
    if sampling.temperature == 0:
        return 0.0, 0.0
    x = _edited(logits, sampling, prompt, answer)
    ids = [v for v in range(len(x)) if x[v] > -math.inf and (allowed is None or allowed[v])]
    weight = _weights(x, ids, sampling)
    cold = min(1 / sampling.temperature, 1e300) if sampling.temperature > 1e-300 else 1e300
    best, top = max(x[v] for v in ids), max(logits)
    total = math.fsum(math.exp((y - top) * cold) for y in logits)
    return (
        (x[token] - best) * cold - math.log(math.fsum(weight.values())),
        (logits[token] - top) * cold - math.log(total),
    )


def _edited(
    logits: Sequence[float], sampling: Sampling, prompt: Sequence[int], answer: Sequence[int]
) -> list[float]:
    edited = list(logits)
    bias = dict(sampling.logit_bias)
    for v in {*bias, *prompt, *answer}:
        x = logits[v] + bias.get(v, 0.0)
        if v in prompt or v in answer:
            penalty = sampling.repetition_penalty
            x = x / penalty if x > 0 else x * penalty
        if v in answer:
            x = x - sampling.frequency_penalty * answer.count(v) - sampling.presence_penalty
        with np.errstate(over="ignore"):
            edited[v] = float(np.float32(x))
    return edited


def _weights(x: list[float], ids: list[int], sampling: Sampling) -> dict[int, float]:
    """Return who takes part in the draw, and how heavy each is against the best one."""
    best = max(x[v] for v in ids)
    if sampling.temperature == 0:
        return {next(v for v in ids if x[v] == best): 1.0}
    ids = sorted(ids, key=lambda v: -x[v])
    if sampling.top_k:
        ids = ids[: sampling.top_k]
    ids = [v for v in ids if x[v] - best >= min_p_floor(sampling)]
    weight = {v: math.exp((x[v] - best) / sampling.temperature) for v in ids}
    if sampling.top_p < 1:
        total, mass, last = math.fsum(weight.values()), 0.0, ids[-1]
        for v in ids:
            mass += weight[v]
            if mass >= sampling.top_p * total:
                last = v
                break
        ids = [v for v in ids if x[v] >= x[last]]
    return {v: weight[v] for v in ids}


def _draw(weight: dict[int, float], seed64: int, index: int) -> int:
    spans: dict[int, float] = {}
    for v in sorted(weight):
        spans[v // SPAN] = spans.get(v // SPAN, 0.0) + weight[v]
    won = max(spans, key=lambda span: spans[span] / noise(seed64, index, span, 1))
    ids = [v for v in sorted(weight) if v // SPAN == won]
    return max(ids, key=lambda v: weight[v] / noise(seed64, index, v))
