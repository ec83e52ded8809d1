from __future__ import annotations

import numpy as np
import pytest
import torch

from openk2.engine.runner import TorchRunner
from openk2.model.config import K2Config
from openk2.model.transformer import Transformer

TINY = K2Config(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=64,
    moe_intermediate_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    n_routed_experts=4,
    num_experts_per_tok=2,
    q_lora_rank=16,
    kv_lora_rank=16,
    qk_nope_head_dim=8,
    qk_rope_head_dim=4,
    v_head_dim=8,
    max_position_embeddings=128,
    # Large weights: the logits of a random model are then far apart, and sampling is not uniform.
    initializer_range=0.3,
)


class FaultyRunner(TorchRunner):
    """Raises on chosen calls and on chosen tokens, and remembers each call's tokens per row."""

    def __init__(self, model):
        super().__init__(model)
        self.calls: list[dict[int, int]] = []
        self.fail_on: frozenset[int] = frozenset()
        self.poison: frozenset[int] = frozenset()

    def forward(self, batch):
        rows, counts = np.unique(batch.sequence_T, return_counts=True)
        self.calls.append(dict(zip(rows.tolist(), counts.tolist(), strict=True)))
        if len(self.calls) - 1 in self.fail_on or self.poison & set(batch.ids_T.tolist()):
            raise ArithmeticError("the device is on fire")
        return super().forward(batch)


def tiny() -> Transformer:
    model = Transformer(TINY)
    model.reset_parameters(torch.Generator().manual_seed(0))
    return model


@pytest.fixture(scope="session")
def model() -> Transformer:
    return tiny()


@pytest.fixture
def runner(model) -> TorchRunner:
    return TorchRunner(model)


@pytest.fixture
def faulty() -> FaultyRunner:
    """Over a model of its own, which a test may damage."""
    return FaultyRunner(tiny())
