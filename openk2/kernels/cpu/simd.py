"""Vectors of sixteen lanes for numba: the few words of LLVM IR that its own loops cannot say.

In: addresses as int64. Out: numba intrinsics' building blocks. LLVM turns sixteen lanes into one
AVX-512, two AVX2 or four NEON registers; only the product of bytes names an instruction, and which
one is read from the features that numba compiles for. Every path does the same operations in the
same order, so that results do not depend on the machine.
Must not know: models, layouts of weights, or threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

LANES = 16
I8, I16, I32, I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
F32 = ir.FloatType()
F16V = ir.VectorType(F32, LANES)
I16V = ir.VectorType(I32, LANES)


class Lanes:
    """Writes vector instructions into the function that numba is compiling."""

    def __init__(self, context: Any, builder: ir.IRBuilder) -> None:
        """Write where `builder` stands."""
        self.b = builder
        features = context.codegen()._tm_features.split(",")
        self.vnni = "+avx512vnni" in features
        self.avx2 = "+avx2" in features

    def constant(self, value: float, kind: ir.Type = F32, lanes: int = LANES) -> ir.Constant:
        """The same number in all lanes."""
        return ir.Constant(ir.VectorType(kind, lanes), [value] * lanes)

    def at(self, address: ir.Value, offset: int | ir.Value) -> ir.Value:
        """An address `offset` bytes further."""
        if isinstance(offset, int):
            if offset == 0:
                return address
            offset = ir.Constant(I64, offset)
        return self.b.add(address, offset)

    def load(self, address: ir.Value, kind: ir.Type) -> ir.Value:
        """Read a value of `kind`, aligned or not."""
        value = self.b.load(self.b.inttoptr(address, ir.PointerType(kind)))
        value.align = 1
        return value

    def store(self, value: ir.Value, address: ir.Value) -> None:
        """Write a value, aligned or not."""
        done = self.b.store(value, self.b.inttoptr(address, ir.PointerType(value.type)))
        done.align = 1

    def prefetch(self, address: ir.Value) -> None:
        """Ask for a cache line that will be read soon."""
        pointer = self.b.inttoptr(address, ir.PointerType(I8))
        flags = [ir.Constant(I32, flag) for flag in (0, 3, 1)]  # to read, keep, data
        self.call("llvm.prefetch.p0", [pointer, *flags], ir.VoidType())

    def splat(self, value: ir.Value, lanes: int = LANES) -> ir.Value:
        """Repeat a scalar."""
        kind = ir.VectorType(value.type, lanes)
        undefined = ir.Constant(kind, ir.Undefined)
        first = self.b.insert_element(undefined, value, ir.Constant(I32, 0))
        zeros = ir.Constant(ir.VectorType(I32, lanes), [0] * lanes)
        return self.b.shuffle_vector(first, undefined, zeros)

    def call(self, name: str, arguments: Sequence[ir.Value], result: ir.Type) -> ir.Value:
        """Call an LLVM intrinsic by name."""
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        function = self.b.module.globals.get(name) or ir.Function(self.b.module, kind, name)
        return self.b.call(function, arguments)

    def fma(self, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
        """`x * y + z` with one rounding, on every machine."""
        suffix = "v16f32" if isinstance(x.type, ir.VectorType) else "f32"
        return self.call(f"llvm.fma.{suffix}", [x, y, z], x.type)

    def round(self, x: ir.Value) -> ir.Value:
        """Round to the nearest integer, ties to even."""
        return self.call("llvm.nearbyint.v16f32", [x], F16V)

    def larger(self, x: ir.Value, y: ir.Value) -> ir.Value:
        """The larger of two, lane by lane; not to be asked about NaN."""
        return self.b.select(self.b.fcmp_ordered(">", x, y), x, y)

    def fold(self, x: ir.Value, join: Callable[[ir.Value, ir.Value], ir.Value]) -> ir.Value:
        """Join all lanes into a scalar, halves first."""
        lanes = x.type.count
        while lanes > 1:
            lanes //= 2
            halves = [
                self.b.shuffle_vector(
                    x,
                    ir.Constant(x.type, ir.Undefined),
                    ir.Constant(ir.VectorType(I32, lanes), [start + i for i in range(lanes)]),
                )
                for start in (0, lanes)
            ]
            x = join(*halves)
        return self.b.extract_element(x, ir.Constant(I32, 0))

    def widen(self, halves: ir.Value) -> ir.Value:
        """Sixteen bfloat16 as float32: their bits are the upper half."""
        wide = self.b.zext(halves, I16V)
        return self.b.bitcast(self.b.shl(wide, self.constant(16, I32)), F16V)

    def exp(self, x: ir.Value) -> ir.Value:
        """`exp(x)` to about 2 ulp (Cephes' expf): 0 below -87.3, finite above 88."""
        x = self.b.select(
            self.b.fcmp_unordered("<", x, self.constant(88.0)), x, self.constant(88.0)
        )
        small = self.b.fcmp_ordered("<", x, self.constant(-87.3))
        n = self.round(self.b.fmul(x, self.constant(math.log2(math.e))))
        minus_n = self.b.fneg(n)
        r = self.fma(minus_n, self.constant(0.693359375), x)
        r = self.fma(minus_n, self.constant(-2.12194440e-4), r)
        p = self.constant(1.9875691500e-4)
        for c in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5):
            p = self.fma(p, r, self.constant(c))
        p = self.fma(self.b.fmul(p, r), r, self.b.fadd(r, self.constant(1.0)))
        exponent = self.b.add(self.b.fptosi(n, I16V), self.constant(127, I32))
        power = self.b.bitcast(self.b.shl(exponent, self.constant(23, I32)), F16V)
        return self.b.select(small, self.constant(0.0), self.b.fmul(p, power))

    def dot4(self, total: ir.Value, unsigned: ir.Value, signed: ir.Value) -> ir.Value:
        """Add to each of 16 int32 the product of four unsigned bytes (0..15) and four signed."""
        if self.vnni:
            arguments = [total, self.b.bitcast(unsigned, I16V), self.b.bitcast(signed, I16V)]
            return self.call("llvm.x86.avx512.vpdpbusd.512", arguments, I16V)
        if self.avx2:
            return self.b.add(total, self._dot4_avx2(unsigned, signed))
        return self.b.add(total, self._dot4_plain(unsigned, signed))

    def _dot4_avx2(self, unsigned: ir.Value, signed: ir.Value) -> ir.Value:
        ones = self.constant(1, I16, 16)
        sums = []
        for start in (0, 32):
            half = ir.Constant(ir.VectorType(I32, 32), [start + i for i in range(32)])
            x, y = (self.b.shuffle_vector(v, v, half) for v in (unsigned, signed))
            # 2 * 15 * 127 fits 16 bits: the saturation of this instruction never acts.
            pairs = self.call("llvm.x86.avx2.pmadd.ub.sw", [x, y], ir.VectorType(I16, 16))
            sums.append(self.call("llvm.x86.avx2.pmadd.wd", [pairs, ones], ir.VectorType(I32, 8)))
        order = ir.Constant(I16V, list(range(LANES)))
        return self.b.shuffle_vector(sums[0], sums[1], order)

    def _dot4_plain(self, unsigned: ir.Value, signed: ir.Value) -> ir.Value:
        wide = ir.VectorType(I32, 64)
        product = self.b.mul(self.b.zext(unsigned, wide), self.b.sext(signed, wide))
        parts = [
            self.b.shuffle_vector(
                product, product, ir.Constant(I16V, [4 * lane + i for lane in range(LANES)])
            )
            for i in range(4)
        ]
        return self.b.add(self.b.add(parts[0], parts[1]), self.b.add(parts[2], parts[3]))
