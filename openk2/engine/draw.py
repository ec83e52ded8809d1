"""The arithmetic of sampling: one compiled function for a batch. `plain_draw.py` is its twin.

In: float32 logits and a record per row. Out: a token id, its log-probability and the most likely
others per row.
Must not know: who counts a row's tokens, requests, threads, or what a token means.

A row's logits go through this, in this order:
1. The logit bias is added; the repetition penalty divides or multiplies; frequency and presence
   penalties are subtracted. The sum is rounded to float32, as the model's own logits are.
2. The grammar mask. With temperature 0, the largest logit wins here, the lower id of equal ones.
3. Temperature; top-k (lower ids first among equal logits); min-p; top-p over what is left (with
   the last token that it needs, all of the same logit are kept).
4. A draw. The reported log-probabilities are the model's own: at temperature 1, before all of this.
   A row that asks for it is also told the log-probability with which its token was drawn, after
   all of this, and the model's own at the row's temperature. A forced token is not drawn: NaN.

A token is drawn by two exponential races (Gumbel-max in other coordinates), between spans of 64 ids
and then within the winner: v finishes at `noise[v] / probability[v]`, the first one wins. The noise
is a pure function of (seed, index of the token in the answer, v), so a row's token is a function of
its own logits and seed and of nothing else. Logits may still differ in their last bits from one
batch to another where a matrix product rounds differently in another batch size. With the same
noise, two distributions at total variation D then end a race differently with a probability of at
most 2D / (1 + D), whatever the size of the vocabulary (Daliri, Musco and Suresh, arXiv 2408.07978).
Inverting the cumulative distribution has no such bound: there the shifts add up over the
vocabulary.

Shapes: O rows, V vocabulary, W = ceil(V / 32) mask words, N tokens that can still be drawn, E edits
of logits (bias and penalties) over all rows, K most likely tokens to report, H histogram bins,
2: drawn, and the model's own at that temperature.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from openk2.engine.compiling import DRAWS
from openk2.kernels.cpu.cache import kept
from openk2.kernels.cpu.fragment import Fragment
from openk2.types import Sampling

BINS = 1024
"""Of the histogram that finds top-k's and top-p's last token."""
BLOCK = 256
"""Noise is made for this many tokens at a time: the loop that makes it is vectorised."""
SPAN = 64
"""Neighbouring ids that race together first."""
BITS_32 = (1 << 32) - 1
INFINITY = 0x7F800000
"""The bits of a float32 infinity; a NaN's are above it."""

INNER: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "pipeline_class": Fragment,
}
"""Of functions that only compiled code calls: a fifth less to compile, and they land in the cache
as parts of `sample_rows`. Without numpy's error model, a check for zero stops vectorisation."""

EDIT = np.dtype([("id", "i8"), ("bias", "f8"), ("count", "i8"), ("seen", "i8")])
"""How a token's logit changes: `count` times in the answer, `seen` in prompt or answer."""
ROW = np.dtype(
    [
        ("temperature", "f8"),
        ("top_p", "f8"),
        ("min_p_floor", "f8"),
        ("presence", "f8"),
        ("frequency", "f8"),
        ("repetition", "f8"),
        ("top_k", "i8"),
        ("tops", "i8"),
        ("seed", "u8"),
        ("index", "i8"),
        ("forced", "i8"),
        ("masked", "i8"),
        ("edits", "i8"),
        ("draws", "i8"),
    ]
)
"""What the compiled function knows of a row; its edits lie one row after the other."""


@kept(DRAWS)
def sample_rows(
    logits_OV: np.ndarray,
    row_O: np.ndarray,
    edit_E: np.ndarray,
    bits_OW: np.ndarray,
    scratch: tuple[np.ndarray, ...],
    token_O: np.ndarray,
    logprob_O: np.ndarray,
    top_OK: np.ndarray,
    top_logprob_OK: np.ndarray,
    drawn_O2: np.ndarray,
) -> None:
    """Fill `token_O`, `logprob_O`, tops and draws of each row, as many as `token_O` is long."""
    edited_V = scratch[0]
    end = 0
    for o in range(token_O.size):
        row, raw_V, x_V = row_O[o], logits_OV[o], logits_OV[o]
        best, log_sum = _log_sum(raw_V, scratch[3])
        token = best
        top_OK[o] = -1
        drawn_O2[o] = np.nan
        if not math.isnan(log_sum):
            _most_likely(raw_V, top_OK[o, : row.tops])
            if row.edits:
                x_V = edited_V
                _copy(raw_V, x_V)
                _edit(x_V, edit_E[end : end + row.edits], row)
            if row.forced >= 0:
                token = row.forced
            elif row.temperature > 0 and _is_plain(row):
                token = _choose_of_all(x_V, best, row, scratch)
            elif row.temperature > 0 or row.edits or row.masked:
                token = _choose(x_V, bits_OW[o], row, scratch, drawn_O2[o])
            if not row.draws or row.forced >= 0 or token < 0:
                drawn_O2[o] = np.nan
            else:
                _tell(raw_V, best, token, log_sum, row, scratch[3], drawn_O2[o])
        end += row.edits
        top = np.float64(raw_V[best])
        token_O[o] = max(token, 0)
        logprob_O[o] = raw_V[token] - top - log_sum if token >= 0 else np.nan
        for k in range(row.tops):
            top_logprob_OK[o, k] = raw_V[max(top_OK[o, k], 0)] - top - log_sum


@njit(**INNER)
def _log_sum(x_V: np.ndarray, weight_V: np.ndarray) -> tuple[int, float]:
    """The first largest logit and the log of the sum of exp(x - largest), NaN if there is none.

    The terms of the sum are left in `weight_V`: the weights of a draw at temperature 1.
    """
    _, top = _range(x_V)
    if not math.isfinite(top):
        return 0, np.nan
    best = 0
    while x_V[best] != top:
        best += 1
    return best, math.log(_weigh(x_V, np.float64(top), 1.0, weight_V))


@njit(**INNER)
def _is_plain(row: Any) -> bool:
    """Whether every token can be drawn, with its own logit."""
    return not (row.edits or row.masked or row.top_k or row.min_p_floor > -np.inf or row.top_p < 1)


@njit(**INNER)
def _choose_of_all(x_V: np.ndarray, best: int, row: Any, scratch: tuple[np.ndarray, ...]) -> int:
    """What `_choose` does, without a list of who takes part; `_log_sum` has left its weights."""
    weight_V, noise, mass_N, all_V = scratch[3], scratch[8], scratch[11], scratch[12]
    if row.temperature != 1:
        _weigh(x_V, np.float64(x_V[best]), row.temperature, weight_V)
    spans = (x_V.size + SPAN - 1) // SPAN
    for span in range(spans):
        mass_N[span] = _sum(weight_V[SPAN * span : SPAN * (span + 1)])
    first = SPAN * _fastest(row, all_V[:spans], mass_N, 1, noise)
    end = min(first + SPAN, x_V.size)
    return first + _fastest(row, all_V[first:end], weight_V[first:end], 0, noise)


@njit(**INNER)
def _tell(
    raw_V: np.ndarray,
    best: int,
    token: int,
    log_sum: float,
    row: Any,
    weight_V: np.ndarray,
    drawn_2: np.ndarray,
) -> None:
    """Write the token's log-probability at the row's temperature; `_choose` wrote the drawn one."""
    if row.temperature == 0:
        drawn_2[:] = 0.0
        return
    top = np.float64(raw_V[best])
    if row.temperature != 1:
        log_sum = math.log(_weigh(raw_V, top, row.temperature, weight_V))
    drawn_2[1] = (raw_V[token] - top) * min(1 / row.temperature, 1e300) - log_sum
    if _is_plain(row):
        drawn_2[0] = drawn_2[1]


@njit(**INNER)
def _range(x_N: np.ndarray) -> tuple[Any, Any]:
    """The smallest and the largest x, NaN if there is one; in integers: those are vectorised."""
    bits_N = x_N.view(np.int32)
    flip = np.int32(0x7FFFFFFF)
    low, high, worst = flip, np.int32(-0x7FFFFFFF), np.int32(0)
    for n in range(bits_N.size):
        bits = bits_N[n]
        # With the lower 31 bits of negative numbers flipped, integers are ordered as floats are.
        key = np.int32(bits ^ (np.int32(bits >> 31) & flip))
        low, high = min(low, key), max(high, key)
        worst = max(worst, np.int32(bits & flip))
    if worst > INFINITY:
        return np.float32(np.nan), np.float32(np.nan)
    low = np.int32(low ^ (np.int32(low >> 31) & flip))
    high = np.int32(high ^ (np.int32(high >> 31) & flip))
    return low.view(np.float32), high.view(np.float32)


@kept(DRAWS, fastmath={"contract"})
def exp(y: float) -> float:
    """Exp of y <= 0, 0 below -708, to 2 ulp; without a call, so that loops over it vectorise.

    The usual way: y = k log 2 + r in two parts (Cody and Waite), a polynomial in r, k as exponent.
    """
    z = max(y, -708.0)
    shifted = z * 1.4426950408889634 + 6755399441055744.0  # 1.5 * 2^52: rounds to an integer
    k = shifted - 6755399441055744.0
    r = z - k * 6.93147180369123816490e-01 - k * 1.90821492927058770002e-10
    p = 1 / 6227020800
    for n in (479001600, 39916800, 3628800, 362880, 40320, 5040, 720, 120, 24, 6, 2, 1, 1):
        p = p * r + 1 / n
    exponent = (np.float64(shifted).view(np.int64) + 1023) << 52
    return p * np.int64(exponent).view(np.float64) if y >= -708.0 else 0.0


@njit(**INNER, fastmath={"reassoc"})
def _sum(weight_N: np.ndarray) -> float:
    total = 0.0
    for n in range(weight_N.size):
        total += weight_N[n]
    return total


@njit(**INNER, fastmath={"reassoc"})
def _weigh(x_N: np.ndarray, top: float, temperature: float, weight_N: np.ndarray) -> float:
    # Finite even for the smallest temperatures: 0 times infinity is no weight.
    total, coldness = 0.0, min(1 / temperature, 1e300)
    for n in range(x_N.size):
        weight_N[n] = exp((np.float64(x_N[n]) - top) * coldness)
        total += weight_N[n]
    return total


@njit(**INNER)
def _most_likely(x_V: np.ndarray, top_K: np.ndarray) -> None:
    """Insert into a sorted list; few tokens get that far. Unused places keep their -1."""
    count = 0
    for v in range(x_V.size):
        full = count == top_K.size
        if (full and (count == 0 or x_V[v] <= x_V[top_K[count - 1]])) or x_V[v] == -np.inf:
            continue
        k = count - 1 if full else count
        count = k + 1
        while k > 0 and x_V[v] > x_V[top_K[k - 1]]:
            top_K[k] = top_K[k - 1]
            k -= 1
        top_K[k] = v


@njit(**INNER)
def _copy(from_V: np.ndarray, to_V: np.ndarray) -> None:
    # Not to_V[:] = from_V: that compiles for seconds, for the text of an error that cannot happen.
    for v in range(from_V.size):
        to_V[v] = from_V[v]


@njit(**INNER)
def _edit(x_V: np.ndarray, edit_E: np.ndarray, row: Any) -> None:
    for e in range(edit_E.size):
        edit = edit_E[e]
        x = x_V[edit.id] + edit.bias
        if edit.seen:
            x = x / row.repetition if x > 0 else x * row.repetition
        if edit.count:
            x = x - row.frequency * edit.count - row.presence
        x_V[edit.id] = x


@njit(**INNER)
def _choose(
    x_V: np.ndarray,
    bits_W: np.ndarray,
    row: Any,
    scratch: tuple[np.ndarray, ...],
    drawn_2: np.ndarray,
) -> int:
    """The row's token, or -1 where nothing can be drawn; the first of `drawn_2` says how likely."""
    _, id_V, x_N, weight_N, near_N, near_weight_N, bin_N, sum_H, noise = scratch[:9]
    count = _gather(x_V, bits_W, row.masked, id_V, x_N)
    if count == 0:
        return -1
    _, top = _range(x_N[:count])
    if not math.isfinite(top):
        return -1
    if row.temperature == 0:
        first = 0
        while x_N[first] != top:
            first += 1
        return id_V[first]
    top = np.float64(top)
    if 0 < row.top_k < count:
        weight_N[:count] = 1.0
        last = _last(x_N[:count], weight_N, float(row.top_k), near_N, near_weight_N, bin_N, sum_H)
        count = _keep(id_V, x_N, count, last, row.top_k)
    if row.min_p_floor > -np.inf:
        count = _keep_near(id_V, x_N, count, top, row.min_p_floor)
    total = _weigh(x_N[:count], top, row.temperature, weight_N)
    floor: Any = np.float32(-np.inf)
    if row.top_p < 1:
        floor = _last(x_N[:count], weight_N, row.top_p * total, near_N, near_weight_N, bin_N, sum_H)
        total = 0.0
        for n in range(count):
            total += weight_N[n] if x_N[n] >= floor else 0.0
    token = _race(row, id_V, x_N[:count], weight_N, floor, noise, scratch[9:12])
    drawn_2[0] = (x_V[token] - top) * min(1 / row.temperature, 1e300) - math.log(total)
    return token


@njit(**INNER)
def _gather(
    x_V: np.ndarray, bits_W: np.ndarray, masked: int, id_N: np.ndarray, x_N: np.ndarray
) -> int:
    """Compact what is allowed and possible, in the order of ids."""
    if not masked and _range(x_V)[0] > -np.inf:
        for v in range(x_V.size):
            id_N[v], x_N[v] = v, x_V[v]
        return x_V.size
    count = 0
    for start in range(0, x_V.size, 32):
        bits = bits_W[start // 32] if masked else np.uint32(BITS_32)
        if bits == 0:
            continue
        for v in range(start, min(start + 32, x_V.size)):
            id_N[count], x_N[count] = v, x_V[v]
            count += int(bits >> np.uint32(v - start) & 1 and x_V[v] > -np.inf)
    return count


@njit(**INNER)
def _last(
    x_N: np.ndarray,
    weight_N: np.ndarray,
    need: float,
    near_N: np.ndarray,
    near_weight_N: np.ndarray,
    bin_N: np.ndarray,
    sum_H: np.ndarray,
) -> Any:
    """The x of the last token that a sum of weights needs to reach `need`, largest x first.

    The histogram bin in which the sum gets there is spread over a histogram of its own, until one
    value is left: no sort, and about one pass over all tokens.
    """
    low, high = _range(x_N)
    above = 0.0
    while low < high:
        origin, scale = np.float64(high), BINS / (np.float64(high) - low)
        for n in range(x_N.size):
            bin_N[n] = np.int32(min((origin - x_N[n]) * scale, BINS - 1.0))
        sum_H[:] = 0
        for n in range(x_N.size):
            sum_H[bin_N[n]] += weight_N[n]
        h = 0
        while h < BINS - 1 and above + sum_H[h] < need:
            above += sum_H[h]
            h += 1
        count = 0
        for n in range(x_N.size):
            if bin_N[n] == h:
                near_N[count], near_weight_N[count] = x_N[n], weight_N[n]
                count += 1
        x_N, weight_N = near_N[:count], near_weight_N
        low, high = _range(x_N)
    return high


@njit(**INNER)
def _keep(id_N: np.ndarray, x_N: np.ndarray, count: int, last: float, top_k: int) -> int:
    """Keep what is above `last`, and of those at it the lower ids."""
    equal = top_k
    for n in range(count):
        equal -= x_N[n] > last
    kept = 0
    for n in range(count):
        x, token = x_N[n], id_N[n]
        if x == last:
            equal -= 1
        if x > last or (x == last and equal >= 0):
            id_N[kept], x_N[kept] = token, x
            kept += 1
    return kept


@njit(**INNER)
def _keep_near(id_N: np.ndarray, x_N: np.ndarray, count: int, top: float, floor: float) -> int:
    kept = 0
    for n in range(count):
        id_N[kept], x_N[kept] = id_N[n], x_N[n]
        kept += x_N[n] - top >= floor
    return kept


@njit(**INNER)
def _race(
    row: Any,
    id_N: np.ndarray,
    x_N: np.ndarray,
    weight_N: np.ndarray,
    floor: Any,
    noise: np.ndarray,
    scratch: tuple[np.ndarray, ...],
) -> int:
    span_N, start_N, mass_N = scratch
    count = x_N.size
    if floor > -np.inf:
        count = 0
        for n in range(x_N.size):
            id_N[count], weight_N[count] = id_N[n], weight_N[n]
            count += x_N[n] >= floor
    # First between spans of neighbouring ids, then within the winner: 8,192 tokens then need 192
    # random numbers.
    spans = 0
    start = 0
    while start < count:
        span, mass, end = id_N[start] // SPAN, 0.0, start
        while end < count and id_N[end] // SPAN == span:
            mass += weight_N[end]
            end += 1
        span_N[spans], mass_N[spans], start_N[spans] = span, mass, start
        spans += 1
        start = end
    start_N[spans] = count
    won = _fastest(row, span_N[:spans], mass_N, 1, noise)
    first, end = start_N[won], start_N[won + 1]
    won = _fastest(row, id_N[first:end], weight_N[first:end], 0, noise)
    return id_N[first + won]  # pyright: ignore[reportReturnType]


@njit(**INNER)
def _fastest(
    row: Any, id_N: np.ndarray, weight_N: np.ndarray, level: int, noise: np.ndarray
) -> int:
    won, best = 0, 0.0
    for start in range(0, id_N.size, BLOCK):
        end = min(start + BLOCK, id_N.size)
        _uniform(row.seed, row.index, id_N[start:end], level, noise)
        for n in range(start, end):
            u = noise[n - start]
            # -log(u) >= 1 - u: most are out of the race before their logarithm is known.
            if weight_N[n] >= best * (1 - u) * 0.999999:
                speed = weight_N[n] / -math.log(u)
                if speed > best:
                    won, best = n, speed
    return won


@njit(**INNER)
def _uniform(seed: int, index: int, id_N: np.ndarray, level: int, noise_N: np.ndarray) -> None:
    """Noise in (0, 1), 52 bits, by Philox4x32-10 (Salmon et al., SC 2011)."""
    low = np.uint64(BITS_32)
    half = np.uint64(32)
    for n in range(id_N.size):
        a, b = np.uint64(id_N[n]), np.uint64(level)
        c, d = np.uint64(index) & low, np.uint64(index) >> half
        k, m = seed & low, seed >> half
        for _ in range(10):
            p, q = a * np.uint64(0xD2511F53), c * np.uint64(0xCD9E8D57)
            a, b, c, d = (q >> half) ^ b ^ k, q & low, (p >> half) ^ d ^ m, p & low
            k = (k + np.uint64(0x9E3779B9)) & low
            m = (m + np.uint64(0xBB67AE85)) & low
        bits = (a << np.uint64(20)) | (b >> np.uint64(12))
        noise_N[n] = (np.float64(np.int64(bits)) + 0.5) * 2.0**-52


def min_p_floor(sampling: Sampling) -> float:
    """Return how far below the best logit min-p reaches: p >= min_p * best, as a bound on it."""
    return sampling.temperature * math.log(sampling.min_p) if sampling.min_p else -math.inf
