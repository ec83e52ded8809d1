"""How sure a score is: intervals by resampling cases, and pass@k.

In: scores of cases. Out: a metric's value with its interval; the difference of two runs with its.
Must not know: which benchmark the scores are of.

C: cases. B: resampled sets of cases. S: samples of one case.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from openk2.evals.benchmark import Means, Scores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

Derived = Mapping[str, Callable[[Means], "Array"]]

SETS = 2000
"""Resampled sets; the ends of a 95 % interval then move by about a twentieth of its width."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval: by resampling, or exact (Clopper–Pearson) at 0 and 1."""

    value: float
    low: float
    high: float
    n: int
    """Cases that have this metric."""


def estimates(
    cases: Sequence[Scores], derived: Derived, *, seed: int, sets: int = SETS
) -> dict[str, Estimate]:
    """Return every metric of a set of cases, first those that are means, then the derived ones.

    Args:
        cases: One mapping per case; a metric that does not apply to a case is absent.
        derived: Metrics made of means.
        seed: Of the resampling.
        sets: How many resampled sets.
    """
    import numpy as np

    values = _columns(cases)
    counts_BC = _counts(len(cases), seed, sets)
    spread = _with_derived(values, derived, counts_BC)
    whole = _with_derived(values, derived, np.ones((1, len(cases))))
    found: dict[str, Estimate] = {}
    for name in whole:
        value, column_C = float(whole[name][0]), values.get(name)
        n = len(cases) if column_C is None else int((~np.isnan(column_C)).sum())
        found[name] = _estimate(value, spread[name], n)
        if column_C is not None and set(column_C[~np.isnan(column_C)].tolist()) in ({0.0}, {1.0}):
            found[name] = _unanimous(value, n)
    return found


def difference(
    pairs: Sequence[tuple[Scores, Scores]], derived: Derived, *, seed: int, sets: int = SETS
) -> dict[str, Estimate]:
    """Return by how much the second of each pair is better, resampling pairs.

    Args:
        pairs: The scores of one case in both runs.
        derived: Metrics made of means.
        seed: Of the resampling.
        sets: How many resampled sets.
    """
    import numpy as np

    before, after = (_columns([pair[side] for pair in pairs]) for side in (0, 1))
    ones, counts_BC = np.ones((1, len(pairs))), _counts(len(pairs), seed, sets)
    found: dict[str, Estimate] = {}
    whole_before, whole_after = (_with_derived(side, derived, ones) for side in (before, after))
    spread_before, spread_after = (
        _with_derived(side, derived, counts_BC) for side in (before, after)
    )
    for name in whole_before:
        if name in whole_after:
            value = float(whole_after[name][0] - whole_before[name][0])
            found[name] = _estimate(value, spread_after[name] - spread_before[name], len(pairs))
    return found


def _columns(cases: Sequence[Scores]) -> dict[str, Array]:
    import numpy as np

    names = dict.fromkeys(name for scores in cases for name in scores)
    return {
        name: np.array([scores.get(name, math.nan) for scores in cases], dtype=np.float64)
        for name in names
    }


def _counts(cases: int, seed: int, sets: int) -> Array:
    import numpy as np

    # How often each case is drawn: a resampled mean is then one product of matrices.
    drawn = np.random.default_rng(seed).multinomial(cases, np.full(cases, 1 / cases), size=sets)
    return drawn.astype(np.float64)


def _with_derived(
    values: Mapping[str, Array], derived: Derived, counts_BC: Array
) -> dict[str, Array]:
    import numpy as np

    with np.errstate(invalid="ignore", divide="ignore"):  # a set may hold no case with the metric
        means_B = {
            name: (counts_BC @ np.nan_to_num(column_C)) / (counts_BC @ ~np.isnan(column_C))
            for name, column_C in values.items()
        }
        return means_B | {name: make(means_B) for name, make in derived.items()}


def _estimate(value: float, spread_B: Array, n: int) -> Estimate:
    import numpy as np

    known = spread_B[~np.isnan(spread_B)]
    if not len(known):
        return Estimate(value, math.nan, math.nan, n)
    low, high = np.quantile(known, [0.025, 0.975])
    return Estimate(value, float(low), float(high), n)


def _unanimous(value: float, n: int) -> Estimate:
    # Resampling cases that all say the same says nothing: the exact binomial bound, then.
    far = 1 - 0.025 ** (1 / n)
    return Estimate(value, 0.0, far, n) if value == 0 else Estimate(value, 1 - far, 1.0, n)


def over_samples(samples_S: Sequence[Scores], headline: str) -> dict[str, float]:
    """Make one mapping of a case's samples: means, and pass@k and pass^k of the headline metric.

    pass@k, the chance that one of k samples passes, is the unbiased estimate of Chen et al. 2021
    (arXiv:2107.03374); pass^k, that all k do, of Yao et al. 2024 (arXiv:2406.12045).
    """
    names = dict.fromkeys(name for scores in samples_S for name in scores)
    found: dict[str, float] = {}
    for name in names:
        had = [scores[name] for scores in samples_S if name in scores]
        found[name] = sum(had) / len(had)
    n = len(samples_S)
    passed = [scores.get(headline) for scores in samples_S]
    if n > 1 and all(one in (0.0, 1.0) for one in passed):
        right = sum(one == 1.0 for one in passed)
        for k in sorted({1, n} | {2**power for power in range(1, n.bit_length()) if 2**power < n}):
            found[f"pass@{k}"] = 1 - math.comb(n - right, k) / math.comb(n, k)
            found[f"pass^{k}"] = math.comb(right, k) / math.comb(n, k)
    return found
