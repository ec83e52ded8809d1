"""Linear layers over tiled weights, for one to eight rows of activations at a time.

In: addresses of tiles (see `tiles`) and of rows. Out: float32 results, written to memory. A row's
result has the same bits whether it is computed alone or beside seven others.
Must not know: which layer it is, or which thread.

A row for INT4 weights is an int8 row (see `rows`), for other weights it is float32.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from openk2.kernels.cpu.memory import compiled
from openk2.kernels.cpu.simd import F16V, F32, I8, I16, I32, I64, LANES, Lanes
from openk2.kernels.cpu.tiles import GROUP_BYTES, WORD_BYTES

INT4, BF16, FLOAT32 = 0, 1, 2
"""The forms that tiles have."""
ADDRESS = types.int64
BYTES = ir.VectorType(I8, 4 * LANES)
AHEAD = 4 * GROUP_BYTES
"""Weights are asked for so many bytes before they are used: memory gives 1.6 times as much."""


def _constant(value: int) -> ir.Constant:
    return ir.Constant(I64, value)


def _int4_step(
    v: Lanes, rows: list[ir.Value], totals: list[Any], w: ir.Value, K: ir.Value, group: ir.Value
) -> None:
    """Add one group of 32 inputs to the totals of all rows."""
    b = v.b
    at = v.at(w, b.mul(group, _constant(GROUP_BYTES)))
    for line in range(0, GROUP_BYTES, 64):
        v.prefetch(v.at(at, AHEAD + line))
    fifteen = v.constant(15, I8, 4 * LANES)
    nibbles = []
    for j in range(4):
        packed = v.load(v.at(at, 64 * j), BYTES)
        high = b.lshr(b.bitcast(packed, ir.VectorType(I16, 32)), v.constant(4, I16, 32))
        nibbles += [b.and_(packed, fifteen), b.and_(b.bitcast(high, BYTES), fifteen)]
    weight_scale = v.widen(v.load(v.at(at, WORD_BYTES), ir.VectorType(I16, LANES)))
    for row, total in zip(rows, totals, strict=True):
        values = v.at(row, b.shl(group, _constant(5)))
        scale_at = v.at(v.at(row, K), b.shl(group, _constant(2)))
        correction = v.load(v.at(scale_at, b.lshr(K, _constant(3))), I32)
        # Two chains of sums: one would wait for itself.
        sums = [v.splat(correction), v.constant(0, I32)]
        for j in range(8):
            four = b.bitcast(v.splat(v.load(v.at(values, 4 * j), I32)), BYTES)
            sums[j % 2] = v.dot4(sums[j % 2], nibbles[j], four)
        scale = b.fmul(weight_scale, v.splat(v.load(scale_at, F32)))
        value = b.sitofp(b.add(*sums), F16V)
        b.store(v.fma(value, scale, b.load(total)), total)


def _float_step(
    v: Lanes, rows: list[ir.Value], totals: list[Any], w: ir.Value, k: ir.Value, width: int
) -> None:
    """Add one input to the totals of all rows."""
    b = v.b
    at = v.at(w, b.mul(k, _constant(LANES * width)))
    if len(rows) <= 2:
        v.prefetch(v.at(at, AHEAD))
    halves = ir.VectorType(I16, LANES)
    weight = v.widen(v.load(at, halves)) if width == 2 else v.load(at, F16V)
    for row, total in zip(rows, totals, strict=True):
        value = v.splat(v.load(v.at(row, b.shl(k, _constant(2))), F32))
        b.store(v.fma(weight, value, b.load(total)), total)


def _tile(form: int, count: int) -> Any:
    """One tile times `count` rows, as an intrinsic."""

    @intrinsic
    def tile(typing_context: Any, w: Any, x: Any, x_stride: Any, K: Any, y: Any, y_stride: Any):
        def codegen(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            w, x, x_stride, K, y, y_stride = arguments
            v = Lanes(context, b)
            rows = [v.at(x, b.mul(x_stride, _constant(m))) for m in range(count)]
            totals = [cgutils.alloca_once(b, F16V) for _ in range(count)]
            for total in totals:
                b.store(v.constant(0.0), total)
            steps = b.lshr(K, _constant(5)) if form == INT4 else K
            with cgutils.for_range(b, steps) as loop:
                if form == INT4:
                    _int4_step(v, rows, totals, w, K, loop.index)
                else:
                    _float_step(v, rows, totals, w, loop.index, 2 if form == BF16 else 4)
            for m, total in enumerate(totals):
                v.store(b.load(total), v.at(y, b.mul(y_stride, _constant(m))))
            return context.get_dummy_value()

        return types.void(*[ADDRESS] * 6), codegen

    return tile


int4_1, int4_2, int4_4, int4_8 = (_tile(INT4, count) for count in (1, 2, 4, 8))
bf16_1, bf16_2, bf16_4, bf16_8 = (_tile(BF16, count) for count in (1, 2, 4, 8))
f32_1, f32_2, f32_4, f32_8 = (_tile(FLOAT32, count) for count in (1, 2, 4, 8))


@compiled
def tile_bytes(form, K):
    """Return the size of one tile with K inputs."""
    if form == INT4:
        return K // 32 * GROUP_BYTES
    return K * LANES * (2 if form == BF16 else 4)


def multiply(form, w, first, last, x, x_stride, T, K, y, y_stride) -> None:
    """Multiply tiles `first` to `last` of the matrix at `w` by T rows; tile i writes y[16 i:]."""
    step = tile_bytes(form, K)
    for tile in range(first, last):
        at, row, to, left = w + tile * step, x, y + 64 * tile, T
        while left > 0:
            count = 8 if left >= 8 else 4 if left >= 4 else 2 if left >= 2 else 1
            if form == INT4:
                if count == 8:
                    int4_8(at, row, x_stride, K, to, y_stride)
                elif count == 4:
                    int4_4(at, row, x_stride, K, to, y_stride)
                elif count == 2:
                    int4_2(at, row, x_stride, K, to, y_stride)
                else:
                    int4_1(at, row, x_stride, K, to, y_stride)
            elif form == BF16:
                if count == 8:
                    bf16_8(at, row, x_stride, K, to, y_stride)
                elif count == 4:
                    bf16_4(at, row, x_stride, K, to, y_stride)
                elif count == 2:
                    bf16_2(at, row, x_stride, K, to, y_stride)
                else:
                    bf16_1(at, row, x_stride, K, to, y_stride)
            elif count == 8:
                f32_8(at, row, x_stride, K, to, y_stride)
            elif count == 4:
                f32_4(at, row, x_stride, K, to, y_stride)
            elif count == 2:
                f32_2(at, row, x_stride, K, to, y_stride)
            else:
                f32_1(at, row, x_stride, K, to, y_stride)
            left -= count
            row += count * x_stride
            to += count * y_stride
