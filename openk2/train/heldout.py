"""How well held-out documents are predicted.

In: held-out shards and a trainer. Out: bits per byte of texts, which unlike a loss per token
compares between vocabularies, and of conversations the loss per learned token and the share of
those that are the likeliest. Must not know: text, how the model is trained.

Legend: D hidden size, V vocabulary, K learned tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from openk2.kernels.head_loss import head_loss
from openk2.text.packing import PackedRows, Shard, collate
from openk2.train.loop import Trainer

_ROWS_AT_ONCE = 16
_LOGITS_AT_ONCE = 1024


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

        Texts give the first, conversations (shards without a byte count) the second, and with it
        `tokens_right/NAME`, the share of learned tokens that greedy decoding would choose.
        """
        sums: dict[str, tuple[float, float]] = {}
        found: dict[str, float] = {}
        for name, packed in self._packed.items():
            nll, targets, right = _score(trainer, packed, self._picked[name])
            shard, kind, value = packed.shard, "held_out_loss", nll / max(1, targets)
            if shard.n_bytes:
                # A document's first token is not predicted, nor is the first after a cut: the
                # sample's bytes are its share of all predicted tokens.
                n_bytes = shard.n_bytes * targets / (len(shard.tokens) - len(shard))
                kind, value = "bits_per_byte", nll / math.log(2) / n_bytes
            else:
                found[f"tokens_right/{name}"] = right / max(1, targets)
            found[f"{kind}/{name}"] = value
            weight, (total, weights) = self._weights.get(name, 1.0), sums.get(kind, (0.0, 0.0))
            sums[kind] = total + weight * value, weights + weight
        return {kind: total / weights for kind, (total, weights) in sums.items()} | found


def _score(trainer: Trainer, packed: PackedRows, picked: list[int]) -> tuple[float, int, int]:
    """Return the summed negative log-likelihood, the learned tokens, and how many are right."""
    nll, targets, right = 0.0, 0, 0
    for start in range(0, len(picked), _ROWS_AT_ONCE):
        rows = [packed.row(i) for i in picked[start : start + _ROWS_AT_ONCE]]
        batch = collate(rows, prompt_weight=0.0)
        ids, doc, target, weight = trainer.tensors(batch)
        learned = weight.flatten() > 0
        hidden_KD = trainer.forward(ids, doc).hidden_BTD.flatten(0, 1)[learned]
        target_K, weight_K = target.flatten()[learned], weight.flatten()[learned]
        head_VD = trainer.model.lm_head.weight
        nll += float(head_loss(hidden_KD, head_VD, target_K, weight_K))
        low_VD = head_VD.to(hidden_KD.dtype)
        parts = zip(hidden_KD.split(_LOGITS_AT_ONCE), target_K.split(_LOGITS_AT_ONCE), strict=True)
        right += sum(int(((h @ low_VD.T).argmax(-1) == t).sum()) for h, t in parts)
        targets += len(target_K)
    return nll, targets, right
