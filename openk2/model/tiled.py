"""A checkpoint's weights in the order in which the CPU kernels compute with them.

In: an opened checkpoint of INT4, bfloat16 or float32 matrices. Out: one block of memory, and the
addresses in it that `kernels.cpu.step` reads. Stored values are kept exactly, with one exception:
the key-value up-projection is split into its absorbed halves, which contract over other dimensions
than a group of INT4 scales, and is kept in bfloat16 (in float32 if it was stored so).
Must not know: batches, caches, or threads.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from openk2.kernels.cpu import products, tiles
from openk2.kernels.cpu.records import LAYER, SIZES
from openk2.kernels.stored import FloatMatrix, Int4Matrix, StoredMatrix
from openk2.model.checkpoint import Checkpoint
from openk2.model.config import K2Config
from openk2.model.mla import LATENT_NORM_EPS
from openk2.model.names import published_shapes
from openk2.model.rope import frequencies_and_magnitude


class CannotTileError(ValueError):
    """The CPU kernels have no form for these weights; the mapped model computes with them."""


@dataclass(slots=True)
class TiledModel:
    """Weights in tiles; the addresses are valid as long as this object lives."""

    sizes: np.ndarray
    """One record, `kernels.cpu.records.SIZES`."""
    layers: np.ndarray
    """A record per layer, `kernels.cpu.records.LAYER`."""
    embedding: int = 0
    embedding_form: int = products.BF16
    norm: int = 0
    head: int = 0
    head_form: int = products.BF16
    frequencies: int = 0
    int4_up: bool = False
    """Whether the key-value up-projections were INT4 before they were split."""
    nbytes: int = 0
    keep: list[np.ndarray] = field(default_factory=list)
    """What the addresses point into."""


def tile_model(checkpoint: Checkpoint) -> TiledModel:
    """Copy a checkpoint's weights into tiles.

    Raises:
        CannotTileError: A shape is no multiple of what a tile holds, or a form has no kernel.
        WeightsError: A tensor is missing or damaged.
    """
    config = checkpoint.config
    check_shapes(config)
    model = TiledModel(sizes_of(config), np.zeros(config.num_hidden_layers, LAYER))
    checkpoint.map_files()
    for name in published_shapes(config):
        checkpoint.will_need(name)
    writer = _Writer(checkpoint, model)
    table = checkpoint.tensor("model.embed_tokens.weight")
    model.embedding, model.embedding_form = writer.table(table)
    for index in range(config.num_hidden_layers):
        writer.attention(index)
        writer.feed_forward(index)
    model.norm = writer.vector("model.norm.weight")
    model.head, model.head_form = writer.matrix([checkpoint.matrix("lm_head.weight")])
    frequency_P, magnitude = frequencies_and_magnitude(config)
    model.frequencies = writer.array(np.append(frequency_P.numpy(), np.float32(magnitude)))
    return model


def check_shapes(config: K2Config) -> None:
    """Refuse shapes that do not fill tiles.

    Raises:
        CannotTileError: Names the first one.
    """
    multiples = {
        "hidden_size": 32,
        "moe_intermediate_size": 32,
        "intermediate_size": 32,
        "v_head_dim": 32,
        "kv_lora_rank": 16,
        "qk_rope_head_dim": 16,
        "qk_nope_head_dim": 16,
        "q_lora_rank": 32,
    }
    for name, multiple in multiples.items():
        if (getattr(config, name) or 0) % multiple:
            raise CannotTileError(
                f"{name} is {getattr(config, name)}, which is no multiple of {multiple}"
            )


def sizes_of(config: K2Config) -> np.ndarray:
    """Return the shape as the kernels want it: one record."""
    sizes = np.zeros(1, SIZES)
    values = {
        "layers": config.num_hidden_layers,
        "dense_layers": config.first_k_dense_replace,
        "vocab": config.vocab_size,
        "D": config.hidden_size,
        "H": config.num_attention_heads,
        "n": config.qk_nope_head_dim,
        "r": config.qk_rope_head_dim,
        "v": config.v_head_dim,
        "C": config.kv_lora_rank,
        "Q": config.q_lora_rank or 0,
        "E": config.n_routed_experts,
        "K": config.num_experts_per_tok,
        "groups": config.n_group,
        "top_groups": config.topk_group,
        "I": config.moe_intermediate_size,
        "shared_I": config.n_shared_experts * config.moe_intermediate_size,
        "dense_I": config.intermediate_size,
        "normalise": config.norm_topk_prob,
        "eps": config.rms_norm_eps,
        "latent_eps": LATENT_NORM_EPS,
        "softmax": config.softmax_scale,
        "routed": config.routed_scaling_factor,
    }
    for name, value in values.items():
        sizes[name] = value
    return sizes


class _Writer:
    """Writes one weight after the other and notes where."""

    def __init__(self, checkpoint: Checkpoint, model: TiledModel) -> None:
        self._checkpoint = checkpoint
        self._model = model

    def array(self, values: np.ndarray) -> int:
        """Copy an array and return its address."""
        out = self._room(values.nbytes)
        out[: values.nbytes] = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        return out.ctypes.data

    def vector(self, name: str) -> int:
        return self.array(self._checkpoint.dense(name).numpy())

    def table(self, table_VD: Tensor) -> tuple[int, int]:
        """Copy an embedding as it is stored."""
        if table_VD.dtype == torch.bfloat16:
            return self.array(_bits(table_VD)), products.BF16
        return self.array(table_VD.float().numpy()), products.FLOAT32

    def matrix(self, parts: list[StoredMatrix]) -> tuple[int, int]:
        """Stack matrices of one form over each other; return address and form."""
        if all(isinstance(part, Int4Matrix) for part in parts):
            packed = torch.cat([part.packed for part in parts])  # pyright: ignore
            scale = torch.cat([part.scale for part in parts])  # pyright: ignore
            return self._int4(packed, scale), products.INT4
        if all(isinstance(part, FloatMatrix) for part in parts):
            return self._float(torch.cat([part.weight for part in parts]))  # pyright: ignore
        kinds = sorted({type(part).__name__ for part in parts})
        raise CannotTileError(f"there is no CPU kernel for {', '.join(kinds)}")

    def _int4(self, packed_MW: Tensor, scale_MG: Tensor) -> int:
        bfloat16_MG = scale_MG.to(torch.bfloat16)
        if not bool((bfloat16_MG.float() == scale_MG.float()).all()):
            raise CannotTileError("INT4 scales are finer than bfloat16")
        M, G = scale_MG.shape
        out = self._room(tiles.int4_bytes(M, G * tiles.GROUP))
        words = packed_MW.contiguous().numpy().view(np.uint32)
        tiles.tile_int4(words, _bits(bfloat16_MG), out)
        return out.ctypes.data

    def _float(self, weight_MN: Tensor) -> tuple[int, int]:
        narrow = weight_MN.dtype == torch.bfloat16
        values = _bits(weight_MN) if narrow else weight_MN.float().numpy()
        out = self._room(tiles.float_bytes(*weight_MN.shape, width=values.itemsize))
        tiles.tile_float(values, out)
        return out.ctypes.data, products.BF16 if narrow else products.FLOAT32

    def _room(self, nbytes: int) -> np.ndarray:
        # Anonymous memory begins on a page; large pages save the processor most look-ups.
        memory = mmap.mmap(-1, max(nbytes, 1))
        if nbytes >= 1 << 21 and hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)
        out = np.frombuffer(memory, np.uint8)[:nbytes]
        self._model.keep.append(out)
        self._model.nbytes += nbytes
        return out

    def attention(self, index: int) -> None:
        """Write layer `index`'s norms and attention."""
        checkpoint, row = self._checkpoint, self._model.layers[index]
        config, row["index"] = checkpoint.config, index
        prefix = f"model.layers.{index}"
        row["input_norm"] = self.vector(f"{prefix}.input_layernorm.weight")
        row["post_norm"] = self.vector(f"{prefix}.post_attention_layernorm.weight")
        attention = f"{prefix}.self_attn"
        stacked = [checkpoint.matrix(f"{attention}.kv_a_proj_with_mqa.weight")]
        if config.q_lora_rank is not None:
            stacked.insert(0, checkpoint.matrix(f"{attention}.q_a_proj.weight"))
            row["q_norm"] = self.vector(f"{attention}.q_a_layernorm.weight")
        row["latents"], row["latents_form"] = self.matrix(stacked)
        row["kv_norm"] = self.vector(f"{attention}.kv_a_layernorm.weight")
        queries = "q_proj" if config.q_lora_rank is None else "q_b_proj"
        matrix = checkpoint.matrix(f"{attention}.{queries}.weight")
        row["q"], row["q_form"] = self.matrix([matrix])
        self._absorbed(row, f"{attention}.kv_b_proj.weight")
        matrix = checkpoint.matrix(f"{attention}.o_proj.weight")
        row["o"], row["o_form"] = self.matrix([matrix])

    def _absorbed(self, row: np.void, name: str) -> None:
        config, stored = self._checkpoint.config, self._checkpoint.matrix(name)
        self._model.int4_up = isinstance(stored, Int4Matrix)
        exact = isinstance(stored, FloatMatrix) and stored.weight.dtype != torch.bfloat16
        dtype = torch.float32 if exact else torch.bfloat16
        weight = stored.rows(0, stored.shape[0], dtype)
        wkv_HxC = weight.unflatten(0, (config.num_attention_heads, -1))
        wk_HnC, wv_HvC = wkv_HxC.split((config.qk_nope_head_dim, config.v_head_dim), dim=1)
        row["k_up"], row["up_form"] = self._float(wk_HnC.transpose(1, 2).flatten(0, 1))
        row["v_up"], row["up_form"] = self._float(wv_HvC.flatten(0, 1))

    def feed_forward(self, index: int) -> None:
        """Write layer `index`'s router and experts."""
        config, row = self._checkpoint.config, self._model.layers[index]
        prefix = f"model.layers.{index}.mlp"
        if index < config.first_k_dense_replace:
            self._experts(row, [prefix], "shared_gate_up", "shared_down", "shared_form")
            return
        router = self._checkpoint.dense(f"{prefix}.gate.weight")
        row["router"] = self._float(router.float())[0]
        row["bias"] = self.vector(f"{prefix}.gate.e_score_correction_bias")
        routed = [f"{prefix}.experts.{e}" for e in range(config.n_routed_experts)]
        self._experts(row, routed, "gate_up", "down", "experts_form")
        if config.n_shared_experts:
            shared = [f"{prefix}.shared_experts"]
            self._experts(row, shared, "shared_gate_up", "shared_down", "shared_form")

    def _experts(self, row: np.void, prefixes: list[str], up: str, down: str, form: str) -> None:
        stored = self._checkpoint.matrix
        pairs = [[stored(f"{p}.{part}_proj.weight") for part in ("gate", "up")] for p in prefixes]
        row[up], row[form] = self.matrix([_in_units(gate, up_) for gate, up_ in pairs])
        row[down], of_down = self.matrix([stored(f"{p}.down_proj.weight") for p in prefixes])
        if of_down != row[form]:
            raise CannotTileError(f"{prefixes[0]} has matrices of different forms")


def _in_units(gate: StoredMatrix, up: StoredMatrix) -> StoredMatrix:
    """Stack 32 rows of the gate, the same 32 of up, and so on: SwiGLU then needs no other rows."""
    if isinstance(gate, Int4Matrix) and isinstance(up, Int4Matrix):
        return Int4Matrix(_alternate(gate.packed, up.packed), _alternate(gate.scale, up.scale))
    if isinstance(gate, FloatMatrix) and isinstance(up, FloatMatrix):
        return FloatMatrix(_alternate(gate.weight, up.weight))
    raise CannotTileError(f"there is no CPU kernel for {type(gate).__name__}")


def _alternate(gate: Tensor, up: Tensor) -> Tensor:
    units = (gate.unflatten(0, (-1, 32)), up.unflatten(0, (-1, 32)))
    return torch.stack(units, dim=1).flatten(0, 2)


def _bits(values: Tensor) -> np.ndarray:
    """The bits of bfloat16 values, which numpy does not know."""
    return values.contiguous().view(torch.uint16).numpy()
