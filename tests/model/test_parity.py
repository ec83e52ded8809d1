"""Our forward and file format against transformers' DeepseekV3, in both directions."""

from dataclasses import replace

import pytest
import torch

from openk2.model import weights
from openk2.model.config import K2Config, YarnConfig
from openk2.model.transformer import Transformer

TINY = K2Config(
    vocab_size=160,
    hidden_size=64,
    intermediate_size=96,
    moe_intermediate_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    n_routed_experts=8,
    num_experts_per_tok=2,
    q_lora_rank=24,
    kv_lora_rank=16,
    qk_nope_head_dim=8,
    qk_rope_head_dim=8,
    v_head_dim=12,
    max_position_embeddings=512,
    initializer_range=0.1,
    bos_token_id=0,
    eos_token_id=1,
)
SHAPES = {
    "plain": TINY,
    "no query latent": replace(TINY, q_lora_rank=None),
    "yarn 32, betas 1/1": replace(TINY, rope_scaling=YarnConfig(32.0)),
    "yarn 64, betas 32/1, two shared": replace(
        TINY,
        n_shared_experts=2,
        rope_scaling=YarnConfig(64.0, beta_fast=32.0),
        qk_rope_head_dim=16,
    ),
    "yarn 1, two dense layers, top 3": replace(
        TINY,
        first_k_dense_replace=2,
        num_experts_per_tok=3,
        rope_scaling=YarnConfig(1.0),
    ),
    "two shared, no query latent, eps 1e-5": replace(
        TINY, q_lora_rank=None, n_shared_experts=2, rms_norm_eps=1e-5
    ),
    "expert groups": replace(TINY, n_group=4, topk_group=2),
    "mscales left out": replace(
        TINY, rope_scaling=YarnConfig(32.0, mscale=0.0, mscale_all_dim=0.0)
    ),
}


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parity(
    format="FP32", direction="in", peer="transformers", claim="weights bit for bit, logits to 1e-5"
)
@pytest.mark.parity(
    format="FP32", direction="out", peer="transformers", claim="logits to 1e-5, eight shapes"
)
@pytest.mark.parametrize("name", SHAPES)
def test_logits_agree_with_transformers_both_ways(name, tmp_path):
    from transformers import DeepseekV3ForCausalLM

    torch.manual_seed(len(name))
    ours = Transformer(SHAPES[name])
    for layer in ours.layers[SHAPES[name].first_k_dense_replace :]:
        layer.mlp.gate.e_score_correction_bias.normal_(0, 0.1)
    weights.save(ours, tmp_path / "ours")
    theirs = DeepseekV3ForCausalLM.from_pretrained(tmp_path / "ours", dtype=torch.float32).eval()
    ids = torch.randint(0, 160, (2, 70))
    with torch.no_grad():
        expected = theirs(ids).logits
        assert relative_error(ours.logits(ours(ids).hidden_BTD), expected) < 1e-5
        theirs.save_pretrained(tmp_path / "theirs")
        back = weights.load(tmp_path / "theirs")
        assert relative_error(back.logits(back(ids).hidden_BTD), expected) < 1e-5
    for a, b in zip(ours.state_dict().values(), back.state_dict().values(), strict=True):
        assert torch.equal(a, b)
