"""Matrix products with weights that stay as they are stored: float, FP8 or INT4.

In: activations and a stored matrix, memory-mapped perhaps. Out: activations. A block of rows is
expanded, used and forgotten, so a product never holds more than one block of expanded weights.
Must not know: names, files or models.

Shapes: T tokens, M outputs, N inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from openk2.kernels import fp8, int4

BLOCK_VALUES = 1 << 19
"""Weights expanded at a time: 2 MiB of float32, which a core's cache still holds."""


class StoredMatrix(Protocol):
    """A matrix [M, N] in one of the stored forms."""

    @property
    def shape(self) -> tuple[int, int]:
        """M and N."""
        ...

    @property
    def parts(self) -> dict[str, Tensor]:
        """The tensors it is stored as, by the suffix of their published name."""
        ...

    def rows(self, start: int, stop: int, dtype: torch.dtype) -> Tensor:
        """Expand rows `start` to `stop`; `start` is a multiple of 128."""
        ...

    def to(self, device: torch.device) -> StoredMatrix:
        """Return the matrix on a device, in the same stored form."""
        ...


@dataclass(frozen=True, slots=True)
class FloatMatrix:
    """A matrix in bfloat16, float16 or float32."""

    weight: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """M and N."""
        return self.weight.shape[0], self.weight.shape[1]

    @property
    def parts(self) -> dict[str, Tensor]:
        """The tensor it is stored as."""
        return {"weight": self.weight}

    def to(self, device: torch.device) -> FloatMatrix:
        """Return it on a device; itself where it is there already."""
        return FloatMatrix(self.weight.to(device))

    def rows(self, start: int, stop: int, dtype: torch.dtype) -> Tensor:
        """Convert rows `start` to `stop`; a view where they have `dtype` already."""
        return self.weight[start:stop].to(dtype)


@dataclass(frozen=True, slots=True)
class Fp8Matrix:
    """A matrix in FP8 e4m3 with a scale per 128 x 128 block."""

    weight: Tensor
    scale_inv: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """M and N."""
        return self.weight.shape[0], self.weight.shape[1]

    @property
    def parts(self) -> dict[str, Tensor]:
        """The tensors it is stored as."""
        return {"weight": self.weight, "weight_scale_inv": self.scale_inv}

    def to(self, device: torch.device) -> Fp8Matrix:
        """Return it on a device; itself where it is there already."""
        return Fp8Matrix(self.weight.to(device), self.scale_inv.to(device))

    def rows(self, start: int, stop: int, dtype: torch.dtype) -> Tensor:
        """Expand rows `start`, a multiple of 128, to `stop`."""
        scale = self.scale_inv[start // fp8.BLOCK : -(-stop // fp8.BLOCK)]
        return fp8.dequantize(self.weight[start:stop], scale, dtype)


@dataclass(frozen=True, slots=True)
class Int4Matrix:
    """A matrix in packed INT4 with a scale per 32 inputs."""

    packed: Tensor
    scale: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """M and N."""
        return self.packed.shape[0], self.packed.shape[1] * int4.PER_WORD

    @property
    def parts(self) -> dict[str, Tensor]:
        """The tensors it is stored as."""
        shape = torch.tensor(self.shape, dtype=torch.int32)
        return {"weight_packed": self.packed, "weight_scale": self.scale, "weight_shape": shape}

    def to(self, device: torch.device) -> Int4Matrix:
        """Return it on a device; itself where it is there already."""
        return Int4Matrix(self.packed.to(device), self.scale.to(device))

    def rows(self, start: int, stop: int, dtype: torch.dtype) -> Tensor:
        """Expand rows `start` to `stop`."""
        return int4.dequantize(self.packed[start:stop], self.scale[start:stop], dtype)


def dense(matrix: StoredMatrix, dtype: torch.dtype = torch.float32) -> Tensor:
    """Expand the whole matrix [M, N]."""
    return matrix.rows(0, matrix.shape[0], dtype)


def linear_reference(x_TN: Tensor, matrix: StoredMatrix) -> Tensor:
    """Multiply by the whole expanded matrix: the plain twin of `linear`."""
    return F.linear(x_TN, dense(matrix, x_TN.dtype))


def linear(x_TN: Tensor, matrix: StoredMatrix) -> Tensor:
    """Return `x @ matrix.T` [..., M], expanding a block of rows at a time."""
    M, N = matrix.shape
    if isinstance(matrix, FloatMatrix) and matrix.weight.dtype == x_TN.dtype:
        return F.linear(x_TN, matrix.weight)
    rows = max(fp8.BLOCK, BLOCK_VALUES // N // fp8.BLOCK * fp8.BLOCK)
    if rows >= M:
        return F.linear(x_TN, matrix.rows(0, M, x_TN.dtype))
    out_TM = x_TN.new_empty(*x_TN.shape[:-1], M)
    for start in range(0, M, rows):
        stop = min(start + rows, M)
        out_TM[..., start:stop] = F.linear(x_TN, matrix.rows(start, stop, x_TN.dtype))
    return out_TM
