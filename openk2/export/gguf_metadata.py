"""What a GGUF file says about a model besides its weights, for llama.cpp's deepseek2 architecture.

In: a configuration and a tokenizer directory. Out: keys on a `gguf.GGUFWriter`.
Must not know: tensors or where the file lies.
Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; what llama.cpp makes of them:
`src/models/deepseek2.cpp`, `src/llama-context.cpp` and `src/llama-vocab.cpp`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openk2.export.gguf_tensors import GgufError
from openk2.export.tokenizer import (
    byte_level,
    chat_template,
    load_tokenizer,
    merges,
    tokenizer_settings,
)
from openk2.model.config import K2Config, YarnConfig, yarn_mscale

if TYPE_CHECKING:
    from gguf import GGUFWriter


def check_supported(config: K2Config) -> None:
    """Refuse the few shapes that llama.cpp reads as another model or stops at.

    Raises:
        GgufError: With the field.
    """
    layers, vocab = config.num_hidden_layers, config.vocab_size
    is_lite = layers in (26, 27) or (layers, vocab) == (48, 128256)
    if is_lite and config.q_lora_rank is not None:
        raise GgufError(
            f"llama.cpp reads any deepseek2 model of {layers} layers as one without q_lora_rank; "
            f"this one has q_lora_rank {config.q_lora_rank} and cannot be a GGUF file"
        )
    if config.n_group >= config.n_routed_experts:
        raise GgufError(
            f"llama.cpp stops at n_group = n_routed_experts ({config.n_group}): groups of one"
        )


def add_model(writer: GGUFWriter, config: K2Config) -> None:
    """Add the architecture's keys."""
    from gguf import ExpertGatingFuncType

    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(1)  # absorbed, MLA is attention with one key and value for all heads
    writer.add_q_lora_rank(config.q_lora_rank or 0)  # asked for even where there is none
    writer.add_kv_lora_rank(config.kv_lora_rank)
    writer.add_key_length(config.latent_dim)
    writer.add_value_length(config.kv_lora_rank)
    writer.add_key_length_mla(config.qk_head_dim)
    writer.add_value_length_mla(config.v_head_dim)
    writer.add_leading_dense_block_count(config.first_k_dense_replace)
    writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    writer.add_expert_count(config.n_routed_experts)
    writer.add_expert_used_count(config.num_experts_per_tok)
    writer.add_expert_shared_count(config.n_shared_experts)
    writer.add_expert_weights_scale(config.routed_scaling_factor)
    writer.add_expert_weights_norm(config.norm_topk_prob)
    writer.add_expert_gating_func(ExpertGatingFuncType.SIGMOID)
    if config.topk_group < config.n_group:  # equal ones limit nothing, and llama.cpp stops at them
        writer.add_expert_group_count(config.n_group)
        writer.add_expert_group_used_count(config.topk_group)
    writer.add_rope_dimension_count(config.qk_rope_head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    if config.rope_scaling is not None:
        _add_yarn(writer, config.rope_scaling)


def _add_yarn(writer: GGUFWriter, yarn: YarnConfig) -> None:
    from gguf import RopeScalingType

    writer.add_rope_scaling_type(RopeScalingType.YARN)
    writer.add_rope_scaling_factor(yarn.factor)
    writer.add_rope_scaling_orig_ctx_len(yarn.original_max_position_embeddings)
    writer.add_rope_scaling_yarn_beta_fast(yarn.beta_fast)
    writer.add_rope_scaling_yarn_beta_slow(yarn.beta_slow)
    log_mul, attn_factor = yarn_multipliers(yarn)
    if log_mul:
        writer.add_rope_scaling_yarn_log_mul(0.1 * log_mul)  # llama.cpp divides by 0.1 again
    if attn_factor != 1.0:
        writer.add_rope_scaling_attn_factors(attn_factor)


def yarn_multipliers(yarn: YarnConfig) -> tuple[float, float]:
    """Return the log multiplier and attention factor that make llama.cpp scale as the model does.

    With L the logarithm of the factor, llama.cpp multiplies cosines and sines by the attention
    factor (and by `0.1 L + 1` if the log multiplier is 0), and the softmax by the square of that
    times `0.1 * log multiplier * L + 1`. K2's mscales of 1 give 1 and 1.
    """
    if yarn.factor <= 1:
        return 0.0, 1.0
    softmax_root = yarn_mscale(yarn.factor, yarn.mscale_all_dim)
    alone = yarn_mscale(yarn.factor, 1.0)
    has_both = yarn.mscale and yarn.mscale_all_dim
    magnitude = yarn_mscale(yarn.factor, yarn.mscale) / softmax_root if has_both else alone
    if softmax_root == magnitude:
        return 0.0, magnitude / alone
    return (softmax_root / magnitude - 1) / (0.1 * math.log(yarn.factor)), magnitude


def ignored_betas(config: K2Config) -> str | None:
    """Return llama.cpp's options that the file cannot carry, or None where it needs none.

    llama.cpp reads YaRN's betas for some architectures and not for deepseek2, where they are 32/1.
    """
    yarn = config.rope_scaling
    if yarn is None or yarn.factor == 1 or (yarn.beta_fast, yarn.beta_slow) == (32.0, 1.0):
        return None
    return f"--yarn-beta-fast {yarn.beta_fast:g} --yarn-beta-slow {yarn.beta_slow:g}"


def add_vocabulary(writer: GGUFWriter, config: K2Config, directory: Path) -> None:
    """Add tokens, merges, special ids and the chat template.

    Raises:
        GgufError: The tokenizer has more ids than the model, or two tokens are spelled alike.
        ExportError: A tokenizer file is missing, or the chat template cannot be read.
        TokenizerFileError: A tokenizer file is malformed.
    """
    from gguf import TokenType

    tokenizer = load_tokenizer(directory)
    settings = tokenizer_settings(directory)
    if tokenizer.vocab_size > config.vocab_size:
        raise GgufError(
            f"{directory}: the tokenizer has {tokenizer.vocab_size} ids, config.json's vocab_size "
            f"is {config.vocab_size}"
        )
    named = {id_: name for name, id_ in tokenizer.specials.items()}
    visible = _visible(settings)
    tokens: list[str] = []
    types: list[TokenType] = []
    for id_ in range(config.vocab_size):
        if id_ >= tokenizer.vocab_size:
            tokens.append(f"<|unused_token_{id_}|>")
            types.append(TokenType.UNUSED)
        elif id_ in named:
            tokens.append(named[id_])
            is_reserved = named[id_].startswith("<|reserved_token_")
            kind = TokenType.USER_DEFINED if id_ in visible else TokenType.CONTROL
            types.append(TokenType.UNUSED if is_reserved else kind)
        else:
            tokens.append(byte_level(tokenizer.token_bytes(id_)))
            types.append(TokenType.NORMAL)
    if len(set(tokens)) < len(tokens):  # llama.cpp would stop at an assertion
        raise GgufError(f"{directory}: a special token is spelled like an ordinary one")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("kimi-k2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    pairs = ((byte_level(left), byte_level(right)) for left, right in merges(tokenizer))
    writer.add_token_merges([f"{left} {right}" for left, right in pairs])
    _add_special_ids(writer, tokenizer.specials)
    writer.add_chat_template(chat_template(directory, settings))


def _add_special_ids(writer: GGUFWriter, specials: Mapping[str, int]) -> None:
    writer.add_add_bos_token(False)
    if "[BOS]" in specials:
        writer.add_bos_token_id(specials["[BOS]"])
    if "[PAD]" in specials:
        writer.add_pad_token_id(specials["[PAD]"])
    # A turn ends with <|im_end|>; llama.cpp adds [EOS] and [EOT] to what ends a text by name.
    end = specials.get("<|im_end|>", specials.get("[EOS]"))
    if end is not None:
        writer.add_eos_token_id(end)
        writer.add_eot_token_id(end)


def _visible(settings: Mapping[str, Any]) -> set[int]:
    added = settings["added_tokens_decoder"]
    return {int(id_) for id_, entry in added.items() if not entry.get("special", True)}
