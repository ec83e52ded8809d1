"""Attention of a few query rows over cached latents, 256 keys at a time, without a score matrix.

In: addresses of scaled queries, of cache tiles and of running sums. Out: the running sums, updated.
A tile is 16 keys of one layer, value after value: [R, 16] float32. A query row's result has the
same bits whichever rows are computed beside it: keys are taken in the order of their positions, in
parts that begin at multiples of 256 (online softmax, Milakov and Gimelshein, arXiv 1805.02867).
Must not know: heads, sequences, or how blocks are allotted.

Shapes: R latent and rotary width, C latent width, P keys of a part.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from openk2.kernels.cpu.memory import read_i64, write_f32
from openk2.kernels.cpu.simd import F16V, F32, I32, I64, LANES, Lanes

PART = 256
"""Keys whose softmax is taken at once."""
TILES = PART // LANES
ADDRESS = types.int64
WIDE = 4
"""Vectors of the latent that one product holds in registers."""


def _constant(value: int) -> ir.Constant:
    return ir.Constant(I64, value)


def _score(rows: int) -> Any:
    """The scores of `rows` queries for the 32 keys of two tiles, as an intrinsic."""

    @intrinsic
    def score(typing_context: Any, q: Any, q_stride: Any, tiles: Any, R: Any, out: Any) -> Any:
        def codegen(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            q, q_stride, tiles, R, out = arguments
            v = Lanes(context, b)
            tile = [v.load(v.at(tiles, 8 * j), I64) for j in range(2)]
            row = [v.at(q, b.mul(q_stride, _constant(m))) for m in range(rows)]
            totals = [[cgutils.alloca_once(b, F16V) for _ in tile] for _ in row]
            for pair in totals:
                for total in pair:
                    b.store(v.constant(0.0), total)
            with cgutils.for_range(b, R) as loop:
                offset = b.shl(loop.index, _constant(6))
                keys = [v.load(v.at(at, offset), F16V) for at in tile]
                for at, pair in zip(row, totals, strict=True):
                    value = v.splat(v.load(v.at(at, b.shl(loop.index, _constant(2))), F32))
                    for key, total in zip(keys, pair, strict=True):
                        b.store(v.fma(value, key, b.load(total)), total)
            for m, pair in enumerate(totals):
                for j, total in enumerate(pair):
                    v.store(b.load(total), v.at(out, 4 * PART * m + 64 * j))
            return context.get_dummy_value()

        return types.void(*[ADDRESS] * 5), codegen

    return score


score_1, score_2, score_4 = (_score(rows) for rows in (1, 2, 4))


@intrinsic
def soften(typing_context: Any, scores: Any, tiles: Any, valid: Any, state: Any) -> Any:
    """Turn scores into weights and return what the sums so far must be multiplied by.

    The first `valid` keys count, the others get weight 0. `state` is the largest score and the sum
    of weights so far, two float32.
    """

    def codegen(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return _soften(Lanes(context, b), *arguments)

    return types.float32(*[ADDRESS] * 4), codegen


def _soften(v: Lanes, scores: ir.Value, tiles: ir.Value, valid: ir.Value, state: ir.Value) -> Any:
    b = v.b
    lane = ir.Constant(ir.VectorType(I64, LANES), list(range(LANES)))
    below = v.constant(float("-inf"))
    top = cgutils.alloca_once(b, F16V)
    b.store(below, top)

    def counts(index: ir.Value) -> ir.Value:
        left = b.sub(valid, b.shl(index, _constant(4)))
        return b.icmp_signed("<", lane, v.splat(left))

    with cgutils.for_range(b, tiles) as loop:
        at = v.at(scores, b.shl(loop.index, _constant(6)))
        score = b.select(counts(loop.index), v.load(at, F16V), below)
        b.store(v.larger(score, b.load(top)), top)
    old = v.load(state, F32)
    new = v.larger(v.fold(b.load(top), v.larger), old)
    sums = cgutils.alloca_once(b, F16V)
    b.store(v.constant(0.0), sums)
    with cgutils.for_range(b, tiles) as loop:
        at = v.at(scores, b.shl(loop.index, _constant(6)))
        weight = v.exp(b.fsub(v.load(at, F16V), v.splat(new)))
        weight = b.select(counts(loop.index), weight, v.constant(0.0))
        v.store(weight, at)
        b.store(b.fadd(b.load(sums), weight), sums)
    factor = b.extract_element(v.exp(v.splat(b.fsub(old, new))), ir.Constant(I32, 0))
    sum_at = v.at(state, 4)
    total = v.fma(v.load(sum_at, F32), factor, v.fold(b.load(sums), b.fadd))
    v.store(new, state)
    v.store(total, sum_at)
    return factor


def _mix(rows: int, wide: int) -> Any:
    """Add weighted values of `rows` queries to `wide` vectors of their sums, as an intrinsic."""

    @intrinsic
    def mix(
        typing_context: Any,
        weights: Any,
        factors: Any,
        keys: Any,
        values: Any,
        C: Any,
        out: Any,
        out_stride: Any,
    ) -> Any:
        def codegen(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            weights, factors, keys, values, C, out, out_stride = arguments
            v = Lanes(context, b)
            row = [v.at(out, b.mul(out_stride, _constant(m))) for m in range(rows)]
            totals = [[cgutils.alloca_once(b, F16V) for _ in range(wide)] for _ in row]
            for m, (at, vectors) in enumerate(zip(row, totals, strict=True)):
                factor = v.splat(v.load(v.at(factors, 4 * m), F32))
                for i, total in enumerate(vectors):
                    b.store(b.fmul(v.load(v.at(at, 64 * i), F16V), factor), total)
            with cgutils.for_range(b, keys) as loop:
                at = v.at(values, b.mul(loop.index, b.shl(C, _constant(2))))
                value = [v.load(v.at(at, 64 * i), F16V) for i in range(wide)]
                for m, vectors in enumerate(totals):
                    where = v.at(v.at(weights, 4 * PART * m), b.shl(loop.index, _constant(2)))
                    weight = v.splat(v.load(where, F32))
                    for x, total in zip(value, vectors, strict=True):
                        b.store(v.fma(weight, x, b.load(total)), total)
            for at, vectors in zip(row, totals, strict=True):
                for i, total in enumerate(vectors):
                    v.store(b.load(total), v.at(at, 64 * i))
            return context.get_dummy_value()

        return types.void(*[ADDRESS] * 7), codegen

    return mix


mix_1_1, mix_2_1, mix_4_1 = (_mix(rows, 1) for rows in (1, 2, 4))
mix_1_4, mix_2_4, mix_4_4 = (_mix(rows, WIDE) for rows in (1, 2, 4))


@intrinsic
def transpose_tile(typing_context: Any, tile: Any, C: Any, out: Any) -> Any:
    """Write the C values of a tile's 16 keys key after key, what is no number as 0.

    [C, 16] becomes [16, C]. A key that a query must not see has weight 0, but zero times NaN is not
    zero. Those that see it notice the damage all the same: their scores come from the same values.
    """

    def codegen(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        tile, C, out = arguments
        v = Lanes(context, b)
        zip_low = ir.Constant(F16V_INDEX, [i // 2 + i % 2 * LANES for i in range(LANES)])
        zip_high = ir.Constant(F16V_INDEX, [8 + i // 2 + i % 2 * LANES for i in range(LANES)])
        with cgutils.for_range(b, b.lshr(C, _constant(4))) as loop:
            source = v.at(tile, b.shl(loop.index, _constant(10)))
            rows = [v.load(v.at(source, 64 * i), F16V) for i in range(LANES)]
            for _ in range(4):  # four perfect shuffles are a transposition
                rows = [
                    b.shuffle_vector(rows[i], rows[i + 8], order)
                    for i in range(8)
                    for order in (zip_low, zip_high)
                ]
            for key, row in enumerate(rows):
                line = v.at(out, b.mul(b.shl(C, _constant(2)), _constant(key)))
                size = v.call("llvm.fabs.v16f32", [row], F16V)
                number = b.fcmp_ordered("<", size, v.constant(float("inf")))
                row = b.select(number, row, v.constant(0.0))
                v.store(row, v.at(line, b.shl(loop.index, _constant(6))))
        return context.get_dummy_value()

    return types.void(*[ADDRESS] * 3), codegen


F16V_INDEX = ir.VectorType(I32, LANES)


def attend_rows(
    rows,
    q,
    q_stride,
    tiles,
    n_tiles,
    R,
    C,
    values,
    valid,
    state,
    state_stride,
    out,
    out_stride,
    work,
) -> None:
    """Attend from one, two or four query rows to one part of the keys.

    `tiles` is the address of an even number of tile addresses, `values` of the same keys
    transposed, `valid` of one int64 per row, `state` of two float32 per row, `out` of the sums,
    `work` of 4 * 256 + 16 floats.
    """
    for pair in range(0, n_tiles, 2):
        at, to = tiles + 8 * pair, work + 64 * pair
        if rows == 4:
            score_4(q, q_stride, at, R, to)
        elif rows == 2:
            score_2(q, q_stride, at, R, to)
        else:
            score_1(q, q_stride, at, R, to)
    factors = work + 16 * PART
    for m in range(rows):
        factor = soften(
            work + 4 * PART * m, n_tiles, read_i64(valid + 8 * m), state + state_stride * m
        )
        write_f32(factors + 4 * m, factor)
    keys = 16 * n_tiles
    c = 0
    while c < C:
        at, to = values + 4 * c, out + 4 * c
        if C - c >= 64:
            if rows == 4:
                mix_4_4(work, factors, keys, at, C, to, out_stride)
            elif rows == 2:
                mix_2_4(work, factors, keys, at, C, to, out_stride)
            else:
                mix_1_4(work, factors, keys, at, C, to, out_stride)
            c += 64
        else:
            if rows == 4:
                mix_4_1(work, factors, keys, at, C, to, out_stride)
            elif rows == 2:
                mix_2_1(work, factors, keys, at, C, to, out_stride)
            else:
                mix_1_1(work, factors, keys, at, C, to, out_stride)
            c += 16
