from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest
import torch

from openk2.model.config import K2Config
from openk2.model.transformer import Transformer

T = TypeVar("T", bound=Transformer)

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


class FaultyTransformer(Transformer):
    """Raises on chosen calls of `infer`, and remembers the shape and rows of every call."""

    fail_on: frozenset[int] = frozenset()

    def infer(self, ids_BT, cache, slot_B, start_B, length_B):
        self.calls: list[tuple[tuple[int, ...], list[int]]] = getattr(self, "calls", [])
        self.calls.append((tuple(ids_BT.shape), slot_B.tolist()))
        if len(self.calls) - 1 in self.fail_on:
            raise ArithmeticError("the device is on fire")
        return super().infer(ids_BT, cache, slot_B, start_B, length_B)


def tiny(cls: type[T]) -> T:
    model = cls(TINY)
    model.reset_parameters(torch.Generator().manual_seed(0))
    return model


@pytest.fixture(scope="session")
def model() -> Transformer:
    return tiny(Transformer)


@pytest.fixture(scope="session")
def make_faulty() -> Callable[[], FaultyTransformer]:
    return lambda: tiny(FaultyTransformer)


@pytest.fixture
def faulty(make_faulty) -> FaultyTransformer:
    return make_faulty()
