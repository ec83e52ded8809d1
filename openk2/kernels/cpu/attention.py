"""Attention of a few query rows over cached latents, 256 keys at a time, without a score matrix.

In: addresses of scaled queries, of cache tiles and of running sums. Out: the running sums, updated.
A tile is 16 keys of one layer, value after value: [R, 16] float32. A query row's result has the
same bits whichever rows are computed beside it: keys are taken in the order of their positions, in
parts that begin at multiples of 256 (online softmax, Milakov and Gimelshein, arXiv 1805.02867).
Must not know: heads, sequences, or how blocks are allotted.

Shapes: R latent and rotary width, C latent width, P keys of a part.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from openk2.kernels.cpu.simd import F16V, F32, I32, I64, LANES, Lanes

PART = 256
"""Keys whose softmax is taken at once."""
TILES = PART // LANES
ADDRESS = types.int64
WIDE = 4
"""Vectors of the latent that one product holds in registers."""


def _constant(value: int) -> ir.Constant:
    return ir.Constant(I64, value)


def _score(rows: int, n_tiles: int) -> Any:
    """The scores of `rows` queries for the keys of two or four tiles, as an intrinsic."""

    @intrinsic
    def score(typing_context: Any, q: Any, q_stride: Any, tiles: Any, R: Any, out: Any) -> Any:
        def codegen(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            q, q_stride, tiles, R, out = arguments
            v = Lanes(context, b)
            tile = [v.load(v.at(tiles, 8 * j), I64) for j in range(n_tiles)]
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


score_1_2, score_2_2, score_4_2 = (_score(rows, 2) for rows in (1, 2, 4))
score_1_4, score_2_4, score_4_4 = (_score(rows, 4) for rows in (1, 2, 4))


def _soften(rows: int) -> Any:
    """Turn the scores of `rows` queries into weights, as an intrinsic.

    Of a row, the first `valid` keys count, the others get weight 0. Its `state` is the largest
    score and the sum of weights so far, two float32; its factor is what the sums of values so far
    must be multiplied by. Rows go side by side because each waits for its own sums.
    """

    @intrinsic
    def soften(
        typing_context: Any,
        scores: Any,
        tiles: Any,
        valid: Any,
        state: Any,
        state_stride: Any,
        factors: Any,
    ) -> Any:
        def codegen(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            v = Lanes(context, b)
            scores, tiles, valid, state, state_stride, factors = arguments
            _soften_rows(
                v,
                [v.at(scores, 4 * PART * m) for m in range(rows)],
                tiles,
                [v.load(v.at(valid, 8 * m), I64) for m in range(rows)],
                [v.at(state, b.mul(state_stride, _constant(m))) for m in range(rows)],
                factors,
            )
            return context.get_dummy_value()

        return types.void(*[ADDRESS] * 6), codegen

    return soften


def _soften_rows(
    v: Lanes,
    scores: list[ir.Value],
    tiles: ir.Value,
    valid: list[ir.Value],
    states: list[ir.Value],
    factors: ir.Value,
) -> None:
    b = v.b
    below, nothing = v.constant(float("-inf")), v.constant(0.0)
    tops, sums = ([cgutils.alloca_once(b, F16V) for _ in scores] for _ in range(2))
    for top, total in zip(tops, sums, strict=True):
        b.store(below, top)
        b.store(nothing, total)
    for index, counted in _tiles(v, tiles, valid):
        for m, top in enumerate(tops):
            score = v.load(v.at(scores[m], b.shl(index, _constant(6))), F16V)
            b.store(v.larger(counted(m, score, below), b.load(top)), top)
    old = [v.load(state, F32) for state in states]
    new = [v.larger(v.fold(b.load(t), v.larger), o) for t, o in zip(tops, old, strict=True)]
    for index, counted in _tiles(v, tiles, valid):
        for m, total in enumerate(sums):
            at = v.at(scores[m], b.shl(index, _constant(6)))
            weight = v.exp(b.fsub(v.load(at, F16V), v.splat(new[m])))
            weight = counted(m, weight, nothing)
            v.store(weight, at)
            b.store(b.fadd(b.load(total), weight), total)
    falls = nothing  # how much the largest score has grown, negated; a lane per row
    for m in range(len(scores)):
        falls = b.insert_element(falls, b.fsub(old[m], new[m]), ir.Constant(I32, m))
    shrunk = v.exp(falls)
    for m, state in enumerate(states):
        factor = b.extract_element(shrunk, ir.Constant(I32, m))
        sum_at = v.at(state, 4)
        total = v.fma(v.load(sum_at, F32), factor, v.fold(b.load(sums[m]), b.fadd))
        v.store(new[m], state)
        v.store(total, sum_at)
        v.store(factor, v.at(factors, 4 * m))


def _tiles(v: Lanes, tiles: ir.Value, valid: list[ir.Value]) -> Iterator[tuple[ir.Value, Any]]:
    """Write two loops over tiles: those whose keys all count for every row, then the others."""
    b = v.b
    lane = ir.Constant(ir.VectorType(I64, LANES), list(range(LANES)))
    whole = tiles
    for count in valid:
        full = b.ashr(count, _constant(4))
        whole = b.select(b.icmp_signed("<", full, whole), full, whole)
    whole = b.select(b.icmp_signed("<", whole, _constant(0)), _constant(0), whole)
    with cgutils.for_range(b, whole) as loop:
        yield loop.index, lambda m, value, other: value
    with cgutils.for_range(b, tiles, start=whole) as loop:

        def counted(m: int, value: ir.Value, other: ir.Value) -> ir.Value:
            left = v.splat(b.sub(valid[m], b.shl(loop.index, _constant(4))))
            return b.select(b.icmp_signed("<", lane, left), value, other)

        yield loop.index, counted


soften_1, soften_2, soften_4 = (_soften(rows) for rows in (1, 2, 4))


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
    rows, q, q_stride, tiles, n_tiles, R, C, values,
    valid, state, state_stride, out, out_stride, work,
) -> None:  # fmt: skip
    """Attend from one, two or four query rows to one part of the keys.

    `tiles` is the address of an even number of tile addresses, `values` of the same keys
    transposed, `valid` of one int64 per row, `state` of two float32 per row, `out` of the sums,
    `work` of 4 * 256 + 16 floats.
    """
    tile = 0
    while tile < n_tiles:
        at, to = tiles + 8 * tile, work + 64 * tile
        if n_tiles - tile >= 4:
            if rows == 4:
                score_4_4(q, q_stride, at, R, to)
            elif rows == 2:
                score_2_4(q, q_stride, at, R, to)
            else:
                score_1_4(q, q_stride, at, R, to)
            tile += 4
        else:
            if rows == 4:
                score_4_2(q, q_stride, at, R, to)
            elif rows == 2:
                score_2_2(q, q_stride, at, R, to)
            else:
                score_1_2(q, q_stride, at, R, to)
            tile += 2
    factors = work + 16 * PART
    if rows == 4:
        soften_4(work, n_tiles, valid, state, state_stride, factors)
    elif rows == 2:
        soften_2(work, n_tiles, valid, state, state_stride, factors)
    else:
        soften_1(work, n_tiles, valid, state, state_stride, factors)
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
