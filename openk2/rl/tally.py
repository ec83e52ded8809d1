"""What there is to tell about an update: sums over rows, means over tokens, means over updates.

In: tokens with their log-probabilities, and what the objective made of them. Out: numbers for the
log. Must not know: models, the optimizer, where numbers are shown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from torch import Tensor

from openk2.rl.objective import Slopes, Tokens, kl_estimate

Metrics = dict[str, float]

COUNTS = ("updates", "clipped_heads")
"""Numbers that updates add up."""


def sums(tokens: Tokens, found: Slopes, entropy_N: Tensor, fresh_N: Tensor) -> dict[str, float]:
    """Return what a row's tokens add to the update's numbers; names in `_max` are largest values.

    Args:
        tokens: The row's.
        found: What the objective made of them.
        entropy_N: Of the distribution at each.
        fresh_N: True where the newest policy served: elsewhere a difference is not a mismatch.
    """
    start_N, served_N = tokens.start_N[fresh_N], tokens.served_N[fresh_N]
    off_N = (start_N - served_N).abs()
    return {
        "loss": found.loss.item(),
        "tokens": float(len(fresh_N)),
        "fresh": float(len(off_N)),
        "entropy": entropy_N.sum().item(),
        "kl": kl_estimate(tokens.start_N, tokens.now_N).sum().item(),
        "masked": found.masked_N.sum().item(),
        "clipped": found.clipped_N.sum().item(),
        "weight": found.weight_N.sum().item(),
        "mismatch": off_N.sum().item(),
        "mismatch_kl": kl_estimate(served_N, start_N).sum().item(),
        "mismatch_max": off_N.max().item() if len(off_N) else 0.0,
    }


def means(total: Mapping[str, float]) -> Metrics:
    """Turn an update's sums into means per token."""
    found = defaultdict(float, total)
    tokens, fresh = max(1.0, found["tokens"]), max(1.0, found["fresh"])
    per_token = ("entropy", "kl", "masked", "clipped", "weight")
    return {
        "loss": found["loss"],
        "ptx_loss": found["ptx_loss"],
        **{name: found[name] / tokens for name in per_token},
        **{name: found[name] / fresh for name in ("mismatch", "mismatch_kl")},
        "mismatch_max": found["mismatch_max"],
        "stale": 1 - found["fresh"] / tokens,
    }


def over_updates(updates: Sequence[Metrics]) -> Metrics:
    """Return the means of all updates; largest values and counts are those of all together."""
    found: Metrics = {}
    for name in updates[0]:
        values = [metrics[name] for metrics in updates]
        whole = max if name.endswith("_max") else sum
        found[name] = whole(values) / (1 if whole is max or name in COUNTS else len(values))
    return found
