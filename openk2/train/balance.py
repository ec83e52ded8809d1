"""Expert balance without an auxiliary loss: a bias on the router's choice, nudged once a step.

In: how many tokens each expert got in the whole step. Out: new biases and load metrics. Must not
know the router: the bias only enters its top-k, never the gate value.

Shapes: M MoE layers, E experts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class LoadMetrics:
    """How evenly tokens were spread over experts."""

    max_over_mean: float
    """Busiest expert's load over the mean load, averaged over layers; 1 is perfect balance."""
    worst_max_over_mean: float
    """The same, of the worst layer."""
    dead_experts: int
    """Experts without a single token, over all layers."""


def bias_update(load_ME: Tensor, rate: float) -> Tensor:
    """Return what to add to the biases, `rate * (sign(e) - mean sign(e))` with `e = mean - load`.

    Taking the mean off keeps biases from drifting together (arXiv 2502.16982, appendix C).
    """
    # E times the usual e: exact in whole numbers, so an expert at the mean is seen as such.
    error_ME = load_ME.sum(-1, keepdim=True) - load_ME.shape[-1] * load_ME
    sign_ME = torch.sign(error_ME).float()
    return rate * (sign_ME - sign_ME.mean(-1, keepdim=True))


@torch.no_grad()
def update_biases(biases: Sequence[Tensor], load_ME: Tensor, rate: float = 1e-3) -> None:
    """Move every layer's bias towards balance, in place.

    Args:
        biases: One `[E]` buffer a MoE layer, in `load_ME`'s order.
        load_ME: Tokens of the whole step, summed over micro-batches and ranks.
        rate: Moonlight's 1e-3; 0 freezes the biases, as it does for the final annealing.
    """
    for bias_E, delta_E in zip(biases, bias_update(load_ME, rate), strict=True):
        bias_E.add_(delta_E)


def load_metrics(load_ME: Tensor) -> LoadMetrics:
    """Summarise one step's loads for the log; all 0 for a model without experts."""
    if not len(load_ME):
        return LoadMetrics(0.0, 0.0, 0)
    load_ME = load_ME.float()
    ratio_M = load_ME.amax(-1) / load_ME.mean(-1).clamp_min(torch.finfo(torch.float32).tiny)
    return LoadMetrics(
        max_over_mean=ratio_M.mean().item(),
        worst_max_over_mean=ratio_M.max().item(),
        dead_experts=int((load_ME == 0).sum()),
    )
