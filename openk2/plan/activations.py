"""Bytes that one layer keeps per token between forward and backward, and while it computes.

In: a configuration and a rule of recomputation. Out: bytes per token. Must not know: layouts, GPUs.

Names: D model width, H heads, K experts of a token, all of the configuration.
"""

from __future__ import annotations

from typing import Literal

from openk2.model.config import K2Config
from openk2.plan.facts import fact

Recompute = Literal["report", "none"]
BF16, FP32 = 2, 4


def fp8_bytes(values: int) -> float:
    """Return E4M3 bytes with a float32 scale per 1 x 128 tile (K2 report §2.4.3)."""
    return values * (1 + FP32 / fact("fp8_tile"))


def stored_bytes_per_token(config: K2Config, dense: bool, recompute: Recompute) -> float:
    """Return what one layer keeps for its backward, per token.

    `report` recomputes norms, SwiGLU, the MLA up-projections and the experts' down-projection, and
    stores the inputs of the experts' up-projection and of SwiGLU in FP8 (K2 report §2.4.3). `none`
    keeps every matrix product's input in BF16.
    """
    D, H = config.hidden_size, config.num_attention_heads
    latent = (config.q_lora_rank or 0) + config.latent_dim
    out = H * config.v_head_dim
    # The input of either block, the latents, attention's output and its softmax statistics.
    always = BF16 * (2 * D + latent + out) + FP32 * H
    if recompute == "report":
        return always + _feed_forward_report(config, dense)
    heads = H * (2 * config.qk_head_dim + config.v_head_dim)
    attention = BF16 * (D + latent + heads)  # norm's output, latents' norms, queries to values
    return always + attention + BF16 * D + _feed_forward_whole(config, dense)


def _feed_forward_report(config: K2Config, dense: bool) -> float:
    if dense:
        return fp8_bytes(2 * config.intermediate_size)
    inner, K = config.moe_intermediate_size, config.num_experts_per_tok
    experts = fp8_bytes(K * config.hidden_size) + fp8_bytes(K * 2 * inner)
    return experts + fp8_bytes(2 * inner * config.n_shared_experts) + _router(config)


def _feed_forward_whole(config: K2Config, dense: bool) -> float:
    D, inner, K = config.hidden_size, config.moe_intermediate_size, config.num_experts_per_tok
    if dense:
        return BF16 * 3 * config.intermediate_size
    experts = BF16 * K * (2 * D + 3 * inner)  # dispatched inputs, gate and up, SwiGLU, outputs
    return experts + BF16 * 3 * inner * config.n_shared_experts + _router(config)


def _router(config: K2Config) -> float:
    # Scores of all experts, and index and weight of the chosen ones.
    return FP32 * (config.n_routed_experts + 2 * config.num_experts_per_tok)


def working_bytes_per_token(config: K2Config, heads: int, rows: float, backward: bool) -> float:
    """Return what one expert layer holds while it computes, beyond what it keeps.

    Args:
        config: The model.
        heads: Attention heads of this GPU.
        rows: Expert rows of this GPU per token: K with data of its own.
        backward: Gradients of the same sizes live at the same time.
    """
    D, inner = config.hidden_size, config.moe_intermediate_size
    attention = heads * (2 * config.qk_head_dim + 2 * config.v_head_dim) + D
    experts = rows * (2 * D + 3 * inner) + D
    return BF16 * max(attention, experts) * (2 if backward else 1)


def chunks_in_flight(pipeline: int, chunks: int, stage: int, micro_batches: int) -> int:
    """Return chunk passes whose backward is due, at most: interleaved 1F1B (arXiv 2104.04473).

    The report adds warm-up micro-batches to hide the all-to-all and does not say how many.
    """
    if chunks == 1:
        return min(pipeline - stage, micro_batches)
    warm_up = 2 * (pipeline - stage - 1) + (chunks - 1) * pipeline
    return min(warm_up + 1, micro_batches * chunks)
