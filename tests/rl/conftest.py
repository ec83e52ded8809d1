"""A tiny random policy that speaks the shipped vocabulary, ends its turns and calls tools."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from openk2.engine.engine import Engine
from openk2.engine.runner import TorchRunner
from openk2.model.config import K2Config
from openk2.model.transformer import Transformer
from openk2.rl.player import Policy
from openk2.text.template import SECTION_BEGIN
from openk2.text.tokenizer import Tokenizer

NANO = Path(__file__).parents[2] / "openk2" / "assets" / "nano"


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(NANO)


@pytest.fixture(scope="session")
def tiny_policy_model(tokenizer: Tokenizer) -> Transformer:
    """Random weights, in which a tenth of the tokens end a turn, a string or begin calls."""
    torch.manual_seed(0)
    model = Transformer(
        K2Config(
            vocab_size=tokenizer.vocab_size,
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
            max_position_embeddings=4096,
            initializer_range=0.3,
        )
    )
    with torch.no_grad():
        # One dimension of the residual stream stays at 1: what likes it is likely everywhere.
        model.embed_tokens.weight[:, 0] = 1
        for name, weight in model.named_parameters():
            if "o_proj" in name or "down" in name:
                weight[..., 0, :] = 0
        model.lm_head.weight[:, 0] = 0
        quotes = [v for v in range(tokenizer.vocab_size) if _closes(tokenizer, v)]
        model.lm_head.weight[quotes, 0] = 12
        model.lm_head.weight[tokenizer.im_end, 0] = 28
        model.lm_head.weight[tokenizer.specials[SECTION_BEGIN], 0] = 27
    return model


def _closes(tokenizer: Tokenizer, token: int) -> bool:
    special = token in tokenizer.specials.values()
    return not special and tokenizer.token_bytes(token).startswith(b'"')


def policy_of(model: Transformer, tokenizer: Tokenizer, max_batch: int = 4) -> Policy:
    stop_ids = frozenset((tokenizer.im_end, tokenizer.eos))
    engine = Engine(TorchRunner(model), max_batch=max_batch, max_len=2048, stop_ids=stop_ids)
    return Policy(engine, tokenizer)


@pytest.fixture(scope="module")
def policy(tiny_policy_model: Transformer, tokenizer: Tokenizer) -> Iterator[Policy]:
    with policy_of(tiny_policy_model, tokenizer) as one:
        yield one
