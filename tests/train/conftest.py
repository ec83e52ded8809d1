"""A model of a few thousand weights and the data to train it on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from openk2.model.config import K2Config
from openk2.model.transformer import Transformer
from openk2.text.packing import Document, Mixture, PackedRows, Shard, write_shard

SEQ_LEN = 16


def tiny_config(vocab_size: int = 64) -> K2Config:
    return K2Config(
        vocab_size=vocab_size,
        hidden_size=16,
        intermediate_size=32,
        moe_intermediate_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        n_routed_experts=4,
        num_experts_per_tok=2,
        q_lora_rank=8,
        kv_lora_rank=8,
        qk_nope_head_dim=8,
        qk_rope_head_dim=4,
        v_head_dim=8,
        rope_scaling=None,
        max_position_embeddings=512,
        initializer_range=0.05,
    )


@pytest.fixture
def make_model() -> Callable[..., Transformer]:
    """Build the tiny model with fixed weights."""

    def make(vocab_size: int = 64) -> Transformer:
        torch.manual_seed(0)
        return Transformer(tiny_config(vocab_size))

    return make


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    """Documents in which every token but the first follows from the one before it."""
    rng = np.random.default_rng(0)
    follows = rng.permutation(64)
    documents = []
    for _ in range(40):
        ids = [int(rng.integers(64))]
        while len(ids) < rng.integers(4, 40):
            ids.append(int(follows[ids[-1]]))
        documents.append(Document(ids, n_bytes=2 * len(ids)))
    write_shard(tmp_path / "shard", documents, 64)
    return Shard(tmp_path / "shard")


@pytest.fixture
def mixture(shard: Shard) -> Mixture:
    """An endless stream of rows of `SEQ_LEN` tokens."""
    return Mixture({"chain": (PackedRows(shard, SEQ_LEN), 1.0)})
