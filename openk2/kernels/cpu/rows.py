"""What happens to one row of activations between products: norm, rounding to int8, SwiGLU.

In: addresses of float32 rows whose length is a multiple of 16 (of 32 where int8 is written). Out:
the same memory. Must not know: layers or threads.

An int8 row is K values, then K / 32 float32 scales, then K / 32 int32 corrections: minus eight
times the sum of a group's values, because nibbles carry an offset of 8. Within eight values the
even ones come first, as the nibbles of a packed word do.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from openk2.kernels.cpu.simd import F16V, F32, I8, I16, I32, I64, LANES, Lanes

ADDRESS = types.int64
NUMBER = types.float32
INTEGERS = ir.VectorType(I32, LANES)


def int8_stride(K: int) -> int:
    """Return the bytes from one int8 row to the next."""
    return (K + K // 4 + 63) // 64 * 64


@intrinsic
def quantize_part(typing_context: Any, x: Any, K: Any, out: Any, row: Any, start: Any) -> Any:
    """Round K floats at `x` to values `start` onwards of the int8 row at `out`, `row` values long.

    Each group of 32 has the scale of its largest value; K and `start` are multiples of 32.
    """

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        _quantize(Lanes(context, builder), *arguments)
        return context.get_dummy_value()

    return types.void(*[ADDRESS] * 5), codegen


EVENS_FIRST = [8 * word + i for word in range(4) for i in (0, 2, 4, 6, 1, 3, 5, 7)]


def _quantize(
    v: Lanes, x: ir.Value, K: ir.Value, out: ir.Value, row: ir.Value, start: ir.Value
) -> None:
    b = v.b
    scales = v.at(out, row)
    corrections = v.at(scales, b.lshr(row, ir.Constant(I64, 3)))
    with cgutils.for_range(b, b.lshr(K, ir.Constant(I64, 5))) as loop:
        group = b.add(loop.index, b.lshr(start, ir.Constant(I64, 5)))
        source = v.at(x, b.shl(loop.index, ir.Constant(I64, 7)))
        low, high = v.load(source, F16V), v.load(v.at(source, 64), F16V)
        absolute = [v.call("llvm.fabs.v16f32", [half], F16V) for half in (low, high)]
        largest = v.fold(v.larger(*absolute), v.larger)
        # Zero times anything that is not a number is not a number: damage must not round away.
        alarm = b.fmul(v.fold(b.fadd(low, high), b.fadd), ir.Constant(F32, 0.0))
        some = b.fcmp_ordered(">", largest, ir.Constant(F32, 0.0))
        inverse = b.fdiv(ir.Constant(F32, 127.0), largest)
        inverse = v.splat(b.select(some, inverse, ir.Constant(F32, 0.0)))
        value = [b.fptosi(v.round(b.fmul(half, inverse)), INTEGERS) for half in (low, high)]
        order = ir.Constant(ir.VectorType(I32, 32), EVENS_FIRST)
        narrow = b.trunc(b.shuffle_vector(*value, order), ir.VectorType(I8, 32))
        v.store(narrow, v.at(out, b.shl(group, ir.Constant(I64, 5))))
        at = b.shl(group, ir.Constant(I64, 2))
        scale = b.fadd(b.fmul(largest, ir.Constant(F32, 1 / 127)), alarm)
        v.store(scale, v.at(scales, at))
        total = v.fold(b.add(*value), b.add)
        v.store(b.mul(total, ir.Constant(I32, -8)), v.at(corrections, at))


@intrinsic
def norm_row(typing_context: Any, x: Any, gain: Any, K: Any, eps: Any, out: Any) -> Any:
    """Write `x / rms(x) * gain` of K floats to `out`."""
    signature = types.void(ADDRESS, ADDRESS, ADDRESS, NUMBER, ADDRESS)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        _norm(Lanes(context, builder), *arguments)
        return context.get_dummy_value()

    return signature, codegen


def _norm(v: Lanes, x: ir.Value, gain: ir.Value, K: ir.Value, eps: ir.Value, out: ir.Value) -> None:
    b = v.b
    steps = b.lshr(K, ir.Constant(I64, 4))
    squares = cgutils.alloca_once(b, F16V)
    b.store(v.constant(0.0), squares)
    with cgutils.for_range(b, steps) as loop:
        part = v.load(v.at(x, b.shl(loop.index, ir.Constant(I64, 6))), F16V)
        b.store(v.fma(part, part, b.load(squares)), squares)
    total = v.fold(b.load(squares), b.fadd)
    mean = b.fdiv(total, b.uitofp(K, F32))
    root = v.call("llvm.sqrt.f32", [b.fadd(mean, eps)], F32)
    inverse = v.splat(b.fdiv(ir.Constant(F32, 1.0), root))
    with cgutils.for_range(b, steps) as loop:
        at = b.shl(loop.index, ir.Constant(I64, 6))
        part = b.fmul(v.load(v.at(x, at), F16V), inverse)
        v.store(b.fmul(part, v.load(v.at(gain, at), F16V)), v.at(out, at))


@intrinsic
def swiglu_32(typing_context: Any, gate: Any, up: Any, out: Any) -> Any:
    """Write `silu(gate) * up` of 32 floats to `out`."""
    signature = types.void(ADDRESS, ADDRESS, ADDRESS)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        v = Lanes(context, builder)
        for offset in (0, 64):
            g, u, o = (v.at(argument, offset) for argument in arguments)
            x = v.load(g, F16V)
            bottom = builder.fadd(v.exp(builder.fneg(x)), v.constant(1.0))
            v.store(builder.fmul(builder.fdiv(x, bottom), v.load(u, F16V)), o)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def add_scaled_row(typing_context: Any, out: Any, x: Any, factor: Any, K: Any) -> Any:
    """Add `factor * x` to the K floats at `out`."""
    signature = types.void(ADDRESS, ADDRESS, NUMBER, ADDRESS)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        v, (out, x, factor, K) = Lanes(context, builder), arguments
        with cgutils.for_range(builder, builder.lshr(K, ir.Constant(I64, 4))) as loop:
            at = builder.shl(loop.index, ir.Constant(I64, 6))
            target = v.at(out, at)
            sum_ = v.fma(v.splat(factor), v.load(v.at(x, at), F16V), v.load(target, F16V))
            v.store(sum_, target)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def sigmoid_16(typing_context: Any, x: Any) -> Any:
    """Replace 16 floats at `x` by their sigmoids."""
    signature = types.void(ADDRESS)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        v = Lanes(context, builder)
        bottom = builder.fadd(v.exp(builder.fneg(v.load(arguments[0], F16V))), v.constant(1.0))
        v.store(builder.fdiv(v.constant(1.0), bottom), arguments[0])
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def scale_row(typing_context: Any, x: Any, factor: Any, K: Any) -> Any:
    """Multiply the K floats at `x`."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        v, (x, factor, K) = Lanes(context, builder), arguments
        with cgutils.for_range(builder, builder.lshr(K, ir.Constant(I64, 4))) as loop:
            at = v.at(x, builder.shl(loop.index, ir.Constant(I64, 6)))
            v.store(builder.fmul(v.load(at, F16V), v.splat(factor)), at)
        return context.get_dummy_value()

    return types.void(ADDRESS, NUMBER, ADDRESS), codegen


@intrinsic
def copy_row(typing_context: Any, x: Any, nbytes: Any, out: Any) -> Any:
    """Copy a multiple of 64 bytes."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        v, (x, nbytes, out) = Lanes(context, builder), arguments
        with cgutils.for_range(builder, builder.lshr(nbytes, ir.Constant(I64, 6))) as loop:
            offset = builder.shl(loop.index, ir.Constant(I64, 6))
            v.store(v.load(v.at(x, offset), F16V), v.at(out, offset))
        return context.get_dummy_value()

    return types.void(*[ADDRESS] * 3), codegen


@intrinsic
def widen_row(typing_context: Any, x: Any, K: Any, out: Any) -> Any:
    """Write K bfloat16 at `x` as floats to `out`."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        v, (x, K, out) = Lanes(context, builder), arguments
        with cgutils.for_range(builder, builder.lshr(K, ir.Constant(I64, 4))) as loop:
            source = v.at(x, builder.shl(loop.index, ir.Constant(I64, 5)))
            wide = v.widen(v.load(source, ir.VectorType(I16, LANES)))
            v.store(wide, v.at(out, builder.shl(loop.index, ir.Constant(I64, 6))))
        return context.get_dummy_value()

    return types.void(*[ADDRESS] * 3), codegen


@intrinsic
def store_latent(typing_context: Any, x: Any, R: Any, tile: Any, lane: Any) -> Any:
    """Write R floats into lane `lane` of a cache tile; other threads write the other lanes."""

    def codegen(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        v, (x, R, tile, lane) = Lanes(context, b), arguments
        column = v.at(tile, b.shl(lane, ir.Constant(I64, 2)))
        with cgutils.for_range(b, R) as loop:
            value = v.load(v.at(x, b.shl(loop.index, ir.Constant(I64, 2))), F32)
            v.store(value, v.at(column, b.shl(loop.index, ir.Constant(I64, 6))))
        return context.get_dummy_value()

    return types.void(*[ADDRESS] * 4), codegen


@intrinsic
def clear_row(typing_context: Any, x: Any, K: Any) -> Any:
    """Write zeros over the K floats at `x`, whatever they were."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        v, (x, K) = Lanes(context, builder), arguments
        with cgutils.for_range(builder, builder.lshr(K, ir.Constant(I64, 4))) as loop:
            at = v.at(x, builder.shl(loop.index, ir.Constant(I64, 6)))
            v.store(v.constant(0.0), at)
        return context.get_dummy_value()

    return types.void(ADDRESS, ADDRESS), codegen


@intrinsic
def expect(typing_context: Any, address: Any, nbytes: Any) -> Any:
    """Ask memory for bytes that will be read soon."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        v, (address, nbytes) = Lanes(context, builder), arguments
        with cgutils.for_range(builder, builder.lshr(nbytes, ir.Constant(I64, 6))) as loop:
            v.prefetch(v.at(address, builder.shl(loop.index, ir.Constant(I64, 6))))
        return context.get_dummy_value()

    return types.void(ADDRESS, ADDRESS), codegen
