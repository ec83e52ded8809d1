"""The published names of a model's tensors, and the shape that a configuration gives each.

In: a configuration, or one of our stacked parameters. Out: Hugging Face's per-expert names.
Must not know: files, number formats, or values.

Shapes: E experts, I inner width, D model width, H heads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import Tensor

from openk2.model.config import K2Config

Shape = tuple[int, ...]

_EXPERT = re.compile(r"^model\.layers\.(\d+)\.mlp\.experts\.(\d+)\.(gate|up|down)_proj\.weight$")
_FLOAT_ONLY = re.compile(r"norm\.weight$|^model\.embed_tokens|^lm_head|\.mlp\.gate\.")


def published_names(name: str, parameter: Tensor) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield each published tensor that `parameter` holds, with its index in the stack."""
    prefix, _, last = name.rpartition(".")
    prefix = prefix if prefix.startswith("lm_head") else f"model.{prefix}"
    if last == "experts_gate_up":
        for e in range(parameter.shape[0]):
            yield f"{prefix}.experts.{e}.gate_proj.weight", (e, 0)
            yield f"{prefix}.experts.{e}.up_proj.weight", (e, 1)
    elif last == "experts_down":
        for e in range(parameter.shape[0]):
            yield f"{prefix}.experts.{e}.down_proj.weight", (e,)
    elif last == "gate_up":
        yield f"{prefix}.gate_proj.weight", (0,)
        yield f"{prefix}.up_proj.weight", (1,)
    elif last == "down":
        yield f"{prefix}.down_proj.weight", ()
    else:
        yield f"{prefix}.{last}", ()


def published_shapes(config: K2Config) -> dict[str, Shape]:
    """Return every tensor of the unquantised model, in the order it is computed with."""
    shapes: dict[str, Shape] = {
        "model.embed_tokens.weight": (config.vocab_size, config.hidden_size)
    }
    for layer in range(config.num_hidden_layers):
        for name, shape in _layer_shapes(config, layer):
            shapes[f"model.layers.{layer}.{name}"] = shape
    shapes["model.norm.weight"] = (config.hidden_size,)
    shapes["lm_head.weight"] = (config.vocab_size, config.hidden_size)
    return shapes


def is_routed_expert(name: str) -> bool:
    """Whether a published weight belongs to a routed expert: what the INT4 layout quantises."""
    return _EXPERT.match(name) is not None


def is_linear(name: str) -> bool:
    """Whether a published weight is a matrix that the FP8 layout quantises."""
    return name.endswith(".weight") and _FLOAT_ONLY.search(name) is None


def _layer_shapes(config: K2Config, layer: int) -> Iterator[tuple[str, Shape]]:
    D = config.hidden_size
    yield "input_layernorm.weight", (D,)
    for name, shape in _attention_shapes(config):
        yield f"self_attn.{name}", shape
    yield "post_attention_layernorm.weight", (D,)
    if layer < config.first_k_dense_replace:
        yield from _swiglu_shapes("mlp", D, config.intermediate_size)
        return
    E, inner = config.n_routed_experts, config.moe_intermediate_size
    yield "mlp.gate.weight", (E, D)
    yield "mlp.gate.e_score_correction_bias", (E,)
    for e in range(E):
        yield from _swiglu_shapes(f"mlp.experts.{e}", D, inner)
    yield from _swiglu_shapes("mlp.shared_experts", D, inner * config.n_shared_experts)


def _attention_shapes(config: K2Config) -> Iterator[tuple[str, Shape]]:
    D, H, rank = config.hidden_size, config.num_attention_heads, config.q_lora_rank
    queries = H * config.qk_head_dim
    if rank is None:
        yield "q_proj.weight", (queries, D)
    else:
        yield "q_a_proj.weight", (rank, D)
        yield "q_a_layernorm.weight", (rank,)
        yield "q_b_proj.weight", (queries, rank)
    yield "kv_a_proj_with_mqa.weight", (config.latent_dim, D)
    yield "kv_a_layernorm.weight", (config.kv_lora_rank,)
    keys_and_values = H * (config.qk_nope_head_dim + config.v_head_dim)
    yield "kv_b_proj.weight", (keys_and_values, config.kv_lora_rank)
    yield "o_proj.weight", (D, H * config.v_head_dim)


def _swiglu_shapes(prefix: str, width: int, inner: int) -> Iterator[tuple[str, Shape]]:
    yield f"{prefix}.gate_proj.weight", (inner, width)
    yield f"{prefix}.up_proj.weight", (inner, width)
    yield f"{prefix}.down_proj.weight", (width, inner)
