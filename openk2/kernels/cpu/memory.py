"""Reading, writing and waiting at an address, for functions that numba compiles.

In: addresses as int64. Out: values. Must not know: what lies there.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from openk2.kernels.cpu.fragment import Fragment

ADDRESS = types.int64
compiled = njit(
    nogil=True,
    error_model="numpy",
    no_cpython_wrapper=True,
    no_cfunc_wrapper=True,
    pipeline_class=Fragment,
)
"""For functions that only other compiled functions call: no way in from Python is built."""
POINTEES = {types.float32: ir.FloatType(), types.int64: ir.IntType(64), types.int32: ir.IntType(32)}


def _reader(kind: Any) -> Any:
    @intrinsic
    def read(typing_context: Any, address: Any) -> Any:
        def codegen(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            return b.load(b.inttoptr(arguments[0], ir.PointerType(POINTEES[kind])))

        return kind(ADDRESS), codegen

    return read


def _writer(kind: Any) -> Any:
    @intrinsic
    def write(typing_context: Any, address: Any, value: Any) -> Any:
        def codegen(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            b.store(arguments[1], b.inttoptr(arguments[0], ir.PointerType(POINTEES[kind])))
            return context.get_dummy_value()

        return types.void(ADDRESS, kind), codegen

    return write


read_f32, read_i64, read_i32 = (_reader(k) for k in (types.float32, types.int64, types.int32))
write_f32, write_i64 = (_writer(k) for k in (types.float32, types.int64))


@intrinsic
def atomic_add(typing_context: Any, address: Any, value: Any) -> Any:
    """Add to an int64 that several threads share."""

    def codegen(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        pointer = b.inttoptr(arguments[0], ir.PointerType(ir.IntType(64)))
        return b.atomic_rmw("add", pointer, arguments[1], "acq_rel")

    return types.int64(ADDRESS, ADDRESS), codegen


@intrinsic
def atomic_read(typing_context: Any, address: Any) -> Any:
    """Read an int64 that another thread writes, and everything it wrote before."""

    def codegen(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        pointer = b.inttoptr(arguments[0], ir.PointerType(ir.IntType(64)))
        return b.load_atomic(pointer, "acquire", 8)

    return types.int64(ADDRESS), codegen


@intrinsic
def atomic_write(typing_context: Any, address: Any, value: Any) -> Any:
    """Publish an int64 together with everything written before it."""

    def codegen(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        pointer = b.inttoptr(arguments[0], ir.PointerType(ir.IntType(64)))
        b.store_atomic(arguments[1], pointer, "release", 8)
        return context.get_dummy_value()

    return types.void(ADDRESS, ADDRESS), codegen


@intrinsic
def clock(typing_context: Any) -> Any:
    """Read the processor's cycle counter."""

    def codegen(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        name = "llvm.readcyclecounter"
        kind = ir.FunctionType(ir.IntType(64), [])
        return b.call(b.module.globals.get(name) or ir.Function(b.module, kind, name), [])

    return types.int64(), codegen


@intrinsic
def pause(typing_context: Any) -> Any:
    """Tell the core that this loop waits; nothing where the instruction does not exist."""

    def codegen(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        if context.codegen().magic_tuple()[0].startswith(("x86_64", "i686")):
            name = "llvm.x86.sse2.pause"
            kind = ir.FunctionType(ir.VoidType(), [])
            b.call(b.module.globals.get(name) or ir.Function(b.module, kind, name), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def compare_and_swap(typing_context: Any, address: Any, expected: Any, value: Any) -> Any:
    """Replace an int64 if it is the expected one, and say whether it was."""

    def codegen(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        pointer = b.inttoptr(arguments[0], ir.PointerType(ir.IntType(64)))
        pair = b.cmpxchg(pointer, arguments[1], arguments[2], "acq_rel", "acquire")
        return b.extract_value(pair, 1)

    return types.boolean(ADDRESS, ADDRESS, ADDRESS), codegen


def _caller(count: int, result: Any = types.void) -> Any:
    """A call of the native function at an address with `count` int64, as an intrinsic."""

    @intrinsic
    def call(typing_context: Any, address: Any, arguments: Any) -> Any:
        def codegen(context: Any, b: ir.IRBuilder, signature: Any, values: Any) -> Any:
            returned = ir.VoidType() if result is types.void else ir.IntType(64)
            kind = ir.FunctionType(returned, [ir.IntType(64)] * count)
            function = b.inttoptr(values[0], ir.PointerType(kind))
            value = b.call(function, [b.extract_value(values[1], i) for i in range(count)])
            return context.get_dummy_value() if result is types.void else value

        return result(ADDRESS, types.UniTuple(ADDRESS, count)), codegen

    return call


call_10, call_14 = _caller(10), _caller(14)
call_11 = _caller(11, types.int64)
