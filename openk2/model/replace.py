"""New values for the weights of a model that serves, written where it reads the old ones.

In: a served model, and the tensors of `Transformer.state_dict()` one at a time. Out: the same
model, as if it had been opened from a directory of these values: rounded to what it was stored as.
Tiles and matrices stay where they are, so that nothing is opened, planned or compiled again.
Must not know: where the values come from, or who is being served meanwhile (nobody may be).

Shapes: M outputs, N inputs, H heads, n unrotated and v value width of a head, C latent width,
E experts, I inner width, D model width, Q query latent width, R cached values per token.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from openk2.kernels import fp8, int4
from openk2.kernels.cpu import products, tiles
from openk2.kernels.repack import pack_int4, tile_bfloat16
from openk2.kernels.stored import FloatMatrix, Fp8Matrix, Int4Matrix, StoredMatrix
from openk2.model.mapped import StoredEmbedding, StoredLinear, StoredMoE, StoredSwiGLU
from openk2.model.tiled import TiledModel
from openk2.model.transformer import Layer, Transformer


class CannotReplaceError(ValueError):
    """The served model's weights cannot be replaced, or not by these."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one tensor is served from."""

    shape: tuple[int, ...]
    write: Callable[[Tensor], None]


Places = Mapping[str, Place]
"""By the names of `Transformer.state_dict()`."""


# Tiles


def tiled_places(model: TiledModel) -> Places:
    """Return where a tiled model holds each tensor."""
    rooms = _Rooms(model)
    sizes = {name: int(model.sizes[name][0]) for name in model.sizes.dtype.names or ()}
    D, V = sizes["D"], sizes["vocab"]
    places: dict[str, Place] = {}
    table = torch.bfloat16 if model.embedding_form == products.BF16 else torch.float32
    whole = torch.from_numpy(rooms.at(model.embedding)).view(table)[: V * D].view(V, D)
    places["embed_tokens.weight"] = Place((V, D), functools.partial(_copy, whole))
    for index, row in enumerate(model.layers):
        layer = rooms.attention(row, sizes) | rooms.feed_forward(row, sizes, index)
        places |= {f"layers.{index}.{name}": place for name, place in layer.items()}
    places["norm.weight"] = rooms.vector(model.norm, D)
    places["lm_head.weight"] = rooms.matrix(model.head, model.head_form, (V, D))
    return places


class _Rooms:
    """The memory that the addresses of a tiled model point into."""

    def __init__(self, model: TiledModel) -> None:
        self._by_address = {room.ctypes.data: room for room in model.keep}
        self._narrow = model.embedding_form == products.BF16
        self._int4_up = model.int4_up

    def at(self, address: int) -> np.ndarray:
        return self._by_address[int(address)]

    def vector(self, address: int, length: int, *, exact: bool = False) -> Place:
        out = torch.from_numpy(self.at(address)).view(torch.float32)[:length]
        return Place((length,), functools.partial(_copy, out, narrow=self._narrow and not exact))

    def matrix(
        self,
        address: int,
        form: int,
        shape: tuple[int, ...],
        *,
        first: int = 0,
        row_M: np.ndarray | None = None,
    ) -> Place:
        """Place a matrix, or a stack of them, `first` outputs into a room.

        Args:
            address: Of the room.
            form: Of its tiles.
            shape: Of the parameter; all but the last are outputs.
            first: A multiple of 16.
            row_M: The parameter's row that becomes each output; None is in order.
        """
        M, N = int(np.prod(shape[:-1])), shape[-1]
        start = _nbytes(form, first, N)
        out = self.at(address)[start : start + _nbytes(form, M, N)]
        rows_M = np.arange(M) if row_M is None else row_M
        return Place(shape, functools.partial(_tile, out, int(form), rows_M))

    def attention(self, row: np.void, s: dict[str, int]) -> dict[str, Place]:
        D, H, n, v, C, Q = (s[name] for name in ("D", "H", "n", "v", "C", "Q"))
        R, queries = C + s["r"], H * (n + s["r"])
        latents, form = row["latents"], row["latents_form"]
        places = {
            "input_layernorm.weight": self.vector(row["input_norm"], D),
            "post_attention_layernorm.weight": self.vector(row["post_norm"], D),
            "self_attn.kv_a_layernorm.weight": self.vector(row["kv_norm"], C),
            "self_attn.kv_a_proj_with_mqa.weight": self.matrix(latents, form, (R, D), first=Q),
            "self_attn.o_proj.weight": self.matrix(row["o"], row["o_form"], (D, H * v)),
            "self_attn.kv_b_proj.weight": self._absorbed(row, H, n, v, C),
        }
        if not Q:
            return places | {
                "self_attn.q_proj.weight": self.matrix(row["q"], row["q_form"], (queries, D))
            }
        return places | {
            "self_attn.q_a_proj.weight": self.matrix(latents, form, (Q, D)),
            "self_attn.q_a_layernorm.weight": self.vector(row["q_norm"], Q),
            "self_attn.q_b_proj.weight": self.matrix(row["q"], row["q_form"], (queries, Q)),
        }

    def _absorbed(self, row: np.void, H: int, n: int, v: int, C: int) -> Place:
        k_up = self.matrix(row["k_up"], row["up_form"], (H * C, n))
        v_up = self.matrix(row["v_up"], row["up_form"], (H * v, C))

        def write(value: Tensor) -> None:
            if self._int4_up:
                value = _through_int4(value)
            wk_HnC, wv_HvC = value.unflatten(0, (H, n + v)).split((n, v), dim=1)
            k_up.write(wk_HnC.transpose(1, 2).flatten(0, 1))
            v_up.write(wv_HvC.flatten(0, 1))

        return Place((H * (n + v), C), write)

    def feed_forward(self, row: np.void, s: dict[str, int], index: int) -> dict[str, Place]:
        D, E = s["D"], s["E"]
        shared = ("shared_gate_up", "shared_down", "shared_form")
        if index < s["dense_layers"]:
            return self._swiglu(row, "mlp", shared, (), s["dense_I"], D)
        places = {
            "mlp.gate.weight": self.matrix(row["router"], products.FLOAT32, (E, D)),
            "mlp.gate.e_score_correction_bias": self.vector(row["bias"], E, exact=True),
        }
        routed = ("gate_up", "down", "experts_form")
        for name, place in self._swiglu(row, "", routed, (E,), s["I"], D).items():
            places[f"mlp.experts_{name[1:]}"] = place
        if s["shared_I"]:
            places |= self._swiglu(row, "mlp.shared_experts", shared, (), s["shared_I"], D)
        return places

    def _swiglu(
        self,
        row: np.void,
        prefix: str,
        fields: tuple[str, str, str],
        stack: tuple[int, ...],
        inner: int,
        D: int,
    ) -> dict[str, Place]:
        gate_up, down, form = (row[field] for field in fields)
        row_M = np.arange(2 * inner * int(np.prod(stack)))
        # 32 rows of the gate, the same 32 of up, and so on, as `tile_model` writes them.
        row_M = row_M.reshape(-1, 2, inner // 32, 32).transpose(0, 2, 1, 3).reshape(-1)
        return {
            f"{prefix}.gate_up": self.matrix(gate_up, form, (*stack, 2, inner, D), row_M=row_M),
            f"{prefix}.down": self.matrix(down, form, (*stack, D, inner)),
        }


def _nbytes(form: int, M: int, N: int) -> int:
    if form == products.INT4:
        return tiles.int4_bytes(M, N)
    return tiles.float_bytes(M, N, 2 if form == products.BF16 else 4)


def _tile(out: np.ndarray, form: int, row_M: np.ndarray, value: Tensor) -> None:
    weight_RN = value.detach().to("cpu", torch.float32).contiguous().flatten(0, -2).numpy()
    if form == products.BF16:
        tile_bfloat16(weight_RN, row_M, out)
    elif form == products.INT4:
        tiles.tile_int4(*pack_int4(weight_RN, row_M), out)
    else:
        tiles.tile_float(weight_RN[row_M], out)


def _copy(out: Tensor, value: Tensor, *, narrow: bool = False) -> None:
    """Copy into `out`, rounded to bfloat16 before if that is how the directory stored it."""
    out.copy_(value.detach().to(torch.bfloat16) if narrow else value.detach())


def _through_int4(value: Tensor) -> Tensor:
    rounded = torch.empty_like(value, dtype=torch.float32)
    int4.fake_quantize_into(rounded, value.detach().float())
    return rounded


# Modules


def module_places(model: Transformer) -> Places:
    """Return where a module holds each tensor, mapped ones included.

    Raises:
        CannotReplaceError: Experts are read from disk whenever they are needed.
    """
    if not isinstance(model.embed_tokens, StoredEmbedding):
        return {
            name: Place(tuple(tensor.shape), functools.partial(_copy, tensor))
            for name, tensor in model.state_dict().items()
        }
    mapped = _Mapped(model.embed_tokens)
    places = {"embed_tokens.weight": mapped.table(model.embed_tokens)}
    for index, layer in enumerate(model.layers):
        assert isinstance(layer, Layer)
        for name, module in layer.named_children():
            for rest, place in mapped.children(name, module):
                places[f"layers.{index}.{rest}"] = place
    places |= dict(mapped.children("norm", model.norm))
    return places | dict(mapped.children("lm_head", model.lm_head))


class _Mapped:
    """Writes into matrices of its own, which take the place of the mapped ones at first."""

    def __init__(self, embedding: StoredEmbedding) -> None:
        self._narrow = embedding.table_VD.dtype == torch.bfloat16
        self._own: set[int] = set()

    def children(self, prefix: str, module: nn.Module) -> list[tuple[str, Place]]:
        """List the places of a module and of all that it is made of."""
        if isinstance(module, StoredMoE):
            return self._moe(prefix, module)
        if isinstance(module, StoredSwiGLU):
            return self._swiglu(prefix, module)
        if isinstance(module, StoredLinear):
            return [(f"{prefix}.weight", self._linear(module))]
        if isinstance(module, nn.RMSNorm):
            return [(f"{prefix}.weight", self._vector(module.weight))]
        found = [
            self.children(f"{prefix}.{name}", child) for name, child in module.named_children()
        ]
        return [pair for pairs in found for pair in pairs]

    def table(self, module: StoredEmbedding) -> Place:
        def write(value: Tensor) -> None:
            if id(module) not in self._own:
                module.table_VD = torch.empty_like(module.table_VD)
                self._own.add(id(module))
            module.table_VD.copy_(value.detach())

        return Place(tuple(module.table_VD.shape), write)

    def _vector(self, tensor: Tensor, *, exact: bool = False) -> Place:
        narrow = self._narrow and not exact
        return Place(tuple(tensor.shape), functools.partial(_copy, tensor.detach(), narrow=narrow))

    def _linear(self, module: StoredLinear) -> Place:
        def write(value: Tensor) -> None:
            module.matrix = self._matrix(module.matrix, value)

        return Place(tuple(module.matrix.shape), write)

    def _swiglu(self, prefix: str, module: StoredSwiGLU) -> list[tuple[str, Place]]:
        gate_up = Place((2, *module.gate.shape), functools.partial(self._write_gate_up, module))
        down = Place(tuple(module.down.shape), functools.partial(self._write_down, module))
        return [(f"{prefix}.gate_up", gate_up), (f"{prefix}.down", down)]

    def _moe(self, prefix: str, module: StoredMoE) -> list[tuple[str, Place]]:
        if module.streaming:
            raise CannotReplaceError(
                "the weights do not fit in memory and are read from disk when they are needed, so "
                "they cannot be replaced: use a machine with more memory or a smaller model"
            )
        experts = [module.expert(e) for e in range(len(module.gate.weight))]

        def write_gate_up(value: Tensor) -> None:
            for expert, its_value in zip(experts, value, strict=True):
                self._write_gate_up(expert, its_value)

        def write_down(value: Tensor) -> None:
            for expert, its_value in zip(experts, value, strict=True):
                self._write_down(expert, its_value)

        E, gate, down = len(experts), experts[0].gate.shape, experts[0].down.shape
        bias = module.gate.e_score_correction_bias
        return [
            (f"{prefix}.gate.weight", self._vector(module.gate.weight, exact=True)),
            (f"{prefix}.gate.e_score_correction_bias", self._vector(bias, exact=True)),
            (f"{prefix}.experts_gate_up", Place((E, 2, *gate), write_gate_up)),
            (f"{prefix}.experts_down", Place((E, *down), write_down)),
            *self.children(f"{prefix}.shared_experts", module.shared_experts),
        ]

    def _write_gate_up(self, module: StoredSwiGLU, value_2ID: Tensor) -> None:
        module.gate = self._matrix(module.gate, value_2ID[0])
        module.up = self._matrix(module.up, value_2ID[1])

    def _write_down(self, module: StoredSwiGLU, value_DI: Tensor) -> None:
        module.down = self._matrix(module.down, value_DI)

    def _matrix(self, old: StoredMatrix, value: Tensor) -> StoredMatrix:
        """Return the values in the form of `old`, in its memory if that is ours."""
        value = value.detach()
        if isinstance(old, Int4Matrix):
            return _int4_matrix(value).to(old.packed.device)
        if isinstance(old, Fp8Matrix):
            return Fp8Matrix(*fp8.quantize(value.float())).to(old.weight.device)
        assert isinstance(old, FloatMatrix)
        out = old.weight
        if out.data_ptr() not in self._own:
            with torch.inference_mode(False):
                out = torch.empty_like(out)
            self._own.add(out.data_ptr())
        _copy(out, value, narrow=self._narrow)
        return old if out is old.weight else FloatMatrix(out)


def _int4_matrix(value_MN: Tensor) -> Int4Matrix:
    weight_MN = value_MN.to("cpu", torch.float32).contiguous().numpy()
    packed_MW, scale_MG = pack_int4(weight_MN, np.arange(len(weight_MN)))
    scale = torch.from_numpy(scale_MG).view(torch.bfloat16)
    return Int4Matrix(torch.from_numpy(packed_MW.view(np.int32)), scale)
