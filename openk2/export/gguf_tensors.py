"""A checkpoint's tensors as llama.cpp's deepseek2 wants them, a block of rows at a time.

In: a configuration, and a checkpoint in any stored form. Out: the tensors of a GGUF file with
their types, and their bytes. Norms, router and selection bias stay float32, as llama.cpp's own
quantiser leaves them. Must not know: files, metadata, tokenizers.
Layouts: https://github.com/ggml-org/llama.cpp `src/models/deepseek2.cpp`, `ggml/src/ggml-common.h`.

Shapes: M outputs, N inputs, G groups of 32 inputs, b the 16 bytes of a group's 4-bit values,
H heads, C latent width, n unrotated key width, v value width.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from openk2.export.place import ExportError
from openk2.kernels import fp8
from openk2.kernels.stored import Int4Matrix, StoredMatrix
from openk2.model.checkpoint import Checkpoint
from openk2.model.config import K2Config
from openk2.model.names import published_shapes

Format = Literal["f32", "f16", "q8_0", "q4_0"]
"""What the matrices of a file are stored as."""

GROUP = 32
"""Inputs that share a scale, in Q8_0, in Q4_0 and in the published INT4."""
BYTES_PER_GROUP = {"f32": 128, "f16": 64, "q8_0": 34, "q4_0": 18}
BLOCK_VALUES = 1 << 22
"""Weights expanded at a time: 16 MiB of float32."""

_EXPERT = re.compile(r"mlp\.experts\.(\d+)\.(gate|up|down)_proj\.weight$")
_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "input_layernorm.weight": "attn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.q_a_proj.weight": "attn_q_a.weight",
    "self_attn.q_a_layernorm.weight": "attn_q_a_norm.weight",
    "self_attn.q_b_proj.weight": "attn_q_b.weight",
    "self_attn.kv_a_proj_with_mqa.weight": "attn_kv_a_mqa.weight",
    "self_attn.kv_a_layernorm.weight": "attn_kv_a_norm.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
    "mlp.gate.weight": "ffn_gate_inp.weight",
    "mlp.gate.e_score_correction_bias": "exp_probs_b.bias",
    "mlp.shared_experts.gate_proj.weight": "ffn_gate_shexp.weight",
    "mlp.shared_experts.up_proj.weight": "ffn_up_shexp.weight",
    "mlp.shared_experts.down_proj.weight": "ffn_down_shexp.weight",
}
_KV_B = "self_attn.kv_b_proj.weight"


class GgufError(ExportError):
    """A model that a GGUF file, or the llama.cpp that reads it, cannot hold."""


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor of the file, and the published tensors that it is made from."""

    name: str
    shape: tuple[int, ...]
    """Outermost first; the file spells it the other way round."""
    format: Format
    sources: tuple[str, ...]
    """One name; in a stack of experts, one per expert."""

    @property
    def nbytes(self) -> int:
        """Bytes in the file, without padding."""
        return math.prod(self.shape) * BYTES_PER_GROUP[self.format] // GROUP


def gguf_tensors(config: K2Config, format: Format) -> list[GgufTensor]:
    """Return the file's tensors in the order in which the model computes with them.

    Args:
        config: The model's shape.
        format: `q4_0` holds the routed experts; what surrounds them is then Q8_0, for it is 1 % of
            a K2 and Moonshot's own INT4 release leaves it unquantised.
    """
    tensors: dict[str, GgufTensor] = {}
    around: Format = "q8_0" if format == "q4_0" else format
    for source, shape in published_shapes(config).items():
        prefix, _, rest = source.partition("model.layers.")[2].partition(".")
        block = f"blk.{prefix}." if prefix else ""
        rest = rest or source
        if match := _EXPERT.search(rest):
            name = f"{block}ffn_{match[2]}_exps.weight"
            before = tensors[name].sources if name in tensors else ()
            stack = (len(before) + 1, *shape)
            tensors[name] = GgufTensor(name, stack, _kept(format, shape), (*before, source))
        elif rest == _KV_B:
            tensors |= {t.name: t for t in _split_kv_b(config, block, source, around)}
        else:
            name = block + _NAMES[rest]
            is_matrix = len(shape) == 2 and not name.endswith("ffn_gate_inp.weight")
            kind = _kept(around, shape) if is_matrix else "f32"
            tensors[name] = GgufTensor(name, shape, kind, (source,))
    return list(tensors.values())


def _split_kv_b(config: K2Config, block: str, source: str, format: Format) -> Iterator[GgufTensor]:
    """Keys' half transposed and values' half: llama.cpp absorbs them into query and output."""
    H, C = config.num_attention_heads, config.kv_lora_rank
    k_shape, v_shape = (H, C, config.qk_nope_head_dim), (H, config.v_head_dim, C)
    yield GgufTensor(f"{block}attn_k_b.weight", k_shape, _kept(format, k_shape), (source,))
    yield GgufTensor(f"{block}attn_v_b.weight", v_shape, _kept(format, v_shape), (source,))


def _kept(format: Format, shape: tuple[int, ...]) -> Format:
    """F16 where rows are no multiple of 32, as llama.cpp's quantiser falls back."""
    return format if format == "f32" or shape[-1] % GROUP == 0 else "f16"


def encoded(checkpoint: Checkpoint, config: K2Config, tensor: GgufTensor) -> Iterator[np.ndarray]:
    """Yield the tensor's bytes in the order of the file, never more than one block of rows.

    Raises:
        GgufError: A value or scale does not fit into 16 bits.
    """
    for source in tensor.sources:
        if len(tensor.shape) == 1:
            yield _encode(checkpoint.dense(source)[None], tensor)
        elif source.endswith(_KV_B):
            yield _encode(_half_of_kv_b(checkpoint.dense(source), config, tensor), tensor)
        else:
            yield from _encoded_rows(checkpoint.matrix(source), tensor, source)


def _half_of_kv_b(weight_MN: Tensor, config: K2Config, tensor: GgufTensor) -> Tensor:
    heads = weight_MN.unflatten(0, (config.num_attention_heads, -1))
    key_HnC, value_HvC = heads.split((config.qk_nope_head_dim, config.v_head_dim), dim=1)
    is_key = tensor.name.endswith("attn_k_b.weight")
    half = key_HnC.transpose(1, 2) if is_key else value_HvC
    return half.flatten(0, 1)


def _encoded_rows(matrix: StoredMatrix, tensor: GgufTensor, source: str) -> Iterator[np.ndarray]:
    M, N = matrix.shape
    # FP8 expands whole blocks of 128 rows.
    rows = max(fp8.BLOCK, BLOCK_VALUES // N // fp8.BLOCK * fp8.BLOCK)
    for start in range(0, M, rows):
        stop = min(start + rows, M)
        if isinstance(matrix, Int4Matrix) and tensor.format == "q4_0":
            yield q4_0_from_int4(matrix.packed[start:stop], matrix.scale[start:stop], source)
        else:
            yield _encode(matrix.rows(start, stop, torch.float32), tensor)


def _encode(weight_MN: Tensor, tensor: GgufTensor) -> np.ndarray:
    from gguf import GGMLQuantizationType, quants

    kind = GGMLQuantizationType[tensor.format.upper()]
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        data: Any = quants.quantize(weight_MN.contiguous().numpy(), kind)
    _check_halves(data, tensor)
    return data


def _check_halves(data_Mx: np.ndarray, tensor: GgufTensor) -> None:
    """Refuse infinities that appeared on the way to float16, or were there before."""
    if data_Mx.dtype == np.uint8:  # a group is its float16 scale, then its values
        groups = data_Mx.reshape(-1, BYTES_PER_GROUP[tensor.format])
        data_Mx = groups[:, :2].copy().view(np.float16)
    if not np.isfinite(data_Mx).all():
        raise GgufError(
            f"{tensor.sources[0]}: a value of {tensor.name} is not finite as {tensor.format}; "
            "export with --format f32, and if that fails too the checkpoint holds infinities"
        )


def q4_0_from_int4(packed_MW: Tensor, scale_MG: Tensor, source: str) -> np.ndarray:
    """Return Q4_0 groups with the published nibbles: both formats are `(nibble - 8) * scale`.

    The float16 scale equals a bfloat16 one from 2^-14 up; below, it is off by at most 2^-25.

    Raises:
        GgufError: A scale exceeds what float16 holds.
    """
    byte_MGb = packed_MW.contiguous().view(torch.uint8).unflatten(1, (-1, GROUP // 2))
    # There, a byte has neighbours; here, value j of a group's first half and j of its second.
    first, second = byte_MGb.chunk(2, dim=-1)
    even, odd = first & 15 | second << 4, first >> 4 | second & 240
    values_MGb = torch.stack((even, odd), dim=-1).flatten(-2)
    half_MG1 = scale_MG.to(torch.float16)[..., None].contiguous()
    if not half_MG1.isfinite().all():
        raise GgufError(
            f"{source}: a scale exceeds float16's 65504, Q4_0 cannot hold it; "
            "export with --format f16"
        )
    groups = torch.cat((half_MG1.view(torch.uint8), values_MGb), dim=-1)
    return groups.flatten(1).numpy()
