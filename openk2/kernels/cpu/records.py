"""What compiled functions get: records of sizes and addresses, and how rows lie in buffers.

In: nothing. Out: numpy structures that numba passes by their address, and small functions of sizes.
Must not know: the order of computing.

Shapes: T tokens, D width, H heads, n unrotated, r rotary and v value width of a head, C latent
width, R = C + r, E experts, K experts per token, I inner width, P (token, expert) pairs.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from openk2.kernels.cpu.memory import call_10, compiled
from openk2.kernels.cpu.products import INT4


def _record(*integers: str, floats: tuple[str, ...] = ()) -> np.dtype:
    """A structure of int64 and float64 that compiled functions get by its address."""
    return np.dtype([*((name, np.int64) for name in integers), *((f, np.float64) for f in floats)])


SIZES = _record(
    *("layers", "dense_layers", "vocab", "D", "H", "n", "r", "v", "C"),
    "Q",  # width of the query latent; 0 if queries come straight from the input
    *("E", "K", "groups", "top_groups", "I"),
    "shared_I",  # inner width of all shared experts together
    *("dense_I", "normalise"),
    *("multiply", "attend_rows"),  # addresses of compiled kernels
    floats=("eps", "latent_eps", "softmax", "routed"),
)
"""The model's shape."""

LAYER = _record(
    "index",
    *("input_norm", "post_norm", "q_norm", "kv_norm"),
    *("latents", "latents_form"),  # query and key-value latents, stacked
    *("q", "q_form"),
    *("k_up", "v_up", "up_form"),  # per head, queries into the latent space [C, n] and back [v, C]
    *("o", "o_form", "router", "bias"),
    *("gate_up", "down", "experts_form"),  # per expert; 32 rows of gate, the same 32 of up, ...
    *("shared_gate_up", "shared_down", "shared_form"),  # of a dense layer: its only expert
)
"""Addresses and forms of a layer's weights."""

MODEL = _record(
    *("embedding", "embedding_form", "norm", "head", "head_form", "frequencies"),
    *("cache", "blocks"),  # float32 [layers, blocks, R, 16]
)
"""Addresses of what is not in a layer."""

TOKENS = _record(
    *("x", "normed", "normed_int8", "q_latent", "q_latent_int8", "latent", "angles", "scores"),
    *("choice", "gate"),  # int64 and float32 [T, K]: chosen experts and their weights
)
"""Addresses of buffers for what is computed token by token; x is the residual stream."""

BUFFERS = _record(
    *("latents", "q", "queries", "mixed", "state", "context", "context_int8", "attended"),
    *("count", "start"),  # int64 [E]: pairs of each expert, and where they end in the sorted order
    *("token_of", "pair_of"),  # int64 [P]: the token of a sorted pair, the place of a pair
    *("hidden", "hidden_int8", "shared_hidden", "shared_hidden_int8"),
    *("y", "logits"),  # y: the experts' outputs, first of the sorted pairs, then the shared ones
)
"""Addresses of buffers that threads fill together."""

WORK = _record("tiles", "values", "weights", "valid", "gathered", "gate_up")
"""Addresses of one thread's scratch."""

BATCH = _record(
    *("ids", "position", "sequence", "table", "table_width", "wanted"),  # int32 arrays
    *("T", "O"),
)
"""A ragged batch, see the engine's `Batch`."""


@compiled
def int8_stride(K):
    """Return the bytes from one int8 row to the next."""
    return (K + K // 4 + 63) // 64 * 64


@compiled
def row_stride(form, K):
    """Return the bytes from one row of activations for such weights to the next."""
    return int8_stride(K) if form == INT4 else 4 * K


@compiled
def share(n, thread, threads):
    """Return the part of `range(n)` that a thread owns."""
    return n * thread // threads, n * (thread + 1) // threads


@compiled
def multiply(s, form, w, first, last, x, x_stride, T, K, y, y_stride):
    """Multiply tiles `first` to `last` of the matrix at `w` by T rows; tile i writes y[16 i:]."""
    call_10(s.multiply, (form, w, first, last, x, x_stride, T, K, y, y_stride))


def _at(dtype: np.dtype) -> Any:
    """Make an intrinsic that reads an address as a record, which is what numba passes around."""
    record = numba.from_dtype(dtype)

    @intrinsic
    def at(typing_context: Any, address: Any) -> Any:
        def codegen(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            return b.inttoptr(arguments[0], context.get_value_type(record))

        return record(types.int64), codegen

    return at


sizes_at, layer_at, model_at = _at(SIZES), _at(LAYER), _at(MODEL)
tokens_at, buffers_at, work_at, batch_at = _at(TOKENS), _at(BUFFERS), _at(WORK), _at(BATCH)
LAYER_BYTES = LAYER.itemsize
