"""How well held-out documents are predicted.

In: held-out shards and a trainer. Out: bits per byte of texts, which unlike a loss per token
compares between vocabularies, and the loss per learned token of conversations. Must not know:
text, how the model is trained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch

from openk2.kernels.head_loss import head_loss
from openk2.text.packing import PackedRows, Shard, collate
from openk2.train.loop import Trainer

_ROWS_AT_ONCE = 16


class HeldOut:
    """A fixed sample of held-out rows."""

    def __init__(
        self,
        shards: Mapping[str, Shard],
        seq_len: int,
        rows: int,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        """Pick the rows.

        Args:
            shards: Name → held-out shard.
            seq_len: Tokens per row.
            rows: How many rows an evaluation reads, split evenly over the shards.
            weights: Weight of each shard in the mean; absent ones count 1.
        """
        self._packed = {name: PackedRows(shard, seq_len) for name, shard in shards.items()}
        self._weights = weights or {}
        each = max(1, rows // max(1, len(shards)))
        rng = np.random.default_rng(0)
        self._picked = {
            name: rng.permutation(len(packed))[:each].tolist()
            for name, packed in self._packed.items()
        }

    def evaluate(self, trainer: Trainer) -> dict[str, float]:
        """Return `bits_per_byte` and `held_out_loss`: weighted means, and `…/NAME` of each shard.

        Texts give the first, conversations (shards without a byte count) the second.
        """
        sums: dict[str, tuple[float, float]] = {}
        found: dict[str, float] = {}
        for name, packed in self._packed.items():
            nll, targets = _score(trainer, packed, self._picked[name])
            shard, kind, value = packed.shard, "held_out_loss", nll / max(1, targets)
            if shard.n_bytes:
                # A document's first token is not predicted, nor is the first after a cut: the
                # sample's bytes are its share of all predicted tokens.
                n_bytes = shard.n_bytes * targets / (len(shard.tokens) - len(shard))
                kind, value = "bits_per_byte", nll / math.log(2) / n_bytes
            found[f"{kind}/{name}"] = value
            weight, (total, weights) = self._weights.get(name, 1.0), sums.get(kind, (0.0, 0.0))
            sums[kind] = total + weight * value, weights + weight
        return {kind: total / weights for kind, (total, weights) in sums.items()} | found


def _score(trainer: Trainer, packed: PackedRows, picked: list[int]) -> tuple[float, int]:
    """Return the summed negative log-likelihood and the number of learned tokens."""
    nll, targets = 0.0, 0
    for start in range(0, len(picked), _ROWS_AT_ONCE):
        rows = [packed.row(i) for i in picked[start : start + _ROWS_AT_ONCE]]
        batch = collate(rows, prompt_weight=0.0)
        ids, doc, target, weight = trainer.tensors(batch)
        hidden_ND = trainer.forward(ids, doc).hidden_BTD.flatten(0, 1)
        head_VD = trainer.model.lm_head.weight
        nll += float(head_loss(hidden_ND, head_VD, target.flatten(), weight.flatten()))
        targets += int(torch.count_nonzero(weight))
    return nll, targets
