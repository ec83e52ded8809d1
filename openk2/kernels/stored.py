"""Matrix products with weights that stay as they are stored: float, FP8 or INT4.

In: activations and a stored matrix, memory-mapped perhaps. Out: activations. A block of rows is
expanded into a scratch buffer, used and overwritten by the next, so that a model never holds more
than one block of expanded weights.
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


class Scratch:
    """Room for one expanded block of rows, used again and again; not for two threads at once.

    Blocks allocated anew cost page faults and scatter the heap: twice the time, and hundreds of
    megabytes that are never given back.
    """

    def __init__(self) -> None:
        """Take no memory yet."""
        self._floats = torch.empty(0)
        self._bytes = torch.empty(0, dtype=torch.uint8)

    def floats(self, rows: int, columns: int, device: torch.device) -> Tensor:
        """Return a float32 matrix of anything."""
        if self._floats.numel() < rows * columns or self._floats.device != device:
            with torch.inference_mode(False):  # or nobody outside it could write there
                self._floats = torch.empty(rows * columns, device=device)
        return self._floats[: rows * columns].view(rows, columns)

    def bytes(self, rows: int, columns: int, device: torch.device) -> Tensor:
        """Return a uint8 matrix of anything."""
        if self._bytes.numel() < rows * columns or self._bytes.device != device:
            with torch.inference_mode(False):
                self._bytes = torch.empty(rows * columns, dtype=torch.uint8, device=device)
        return self._bytes[: rows * columns].view(rows, columns)


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

    def block(self, start: int, stop: int, scratch: Scratch) -> Tensor:
        """Expand the same rows to float32 in the scratch, or return a view of what is stored so."""
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

    def block(self, start: int, stop: int, scratch: Scratch) -> Tensor:
        """Convert rows `start` to `stop` to float32."""
        stored = self.weight[start:stop]
        if stored.dtype == torch.float32:
            return stored
        rows, columns = stored.shape
        return scratch.floats(rows, columns, stored.device).copy_(stored)

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

    def block(self, start: int, stop: int, scratch: Scratch) -> Tensor:
        """Expand rows `start`, a multiple of 128, to `stop`."""
        stored, (rows, columns) = self.weight[start:stop], (stop - start, self.shape[1])
        scale = self.scale_inv[start // fp8.BLOCK : -(-stop // fp8.BLOCK)]
        out = scratch.floats(rows, columns, stored.device)
        codes = scratch.bytes(rows, columns, stored.device)
        fp8.dequantize_into(out, stored, scale, codes)
        return out

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

    def block(self, start: int, stop: int, scratch: Scratch) -> Tensor:
        """Expand rows `start` to `stop`."""
        stored, (rows, columns) = self.packed[start:stop], (stop - start, self.shape[1])
        out = scratch.floats(rows, columns, stored.device)
        half = scratch.bytes(rows, columns // 2, stored.device)
        int4.dequantize_into(out, stored, self.scale[start:stop], half)
        return out

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


def linear(x_TN: Tensor, matrix: StoredMatrix, scratch: Scratch) -> Tensor:
    """Return `x @ matrix.T` [..., M] in float32, expanding a block of rows at a time."""
    M, N = matrix.shape
    if isinstance(matrix, FloatMatrix) and matrix.weight.dtype == x_TN.dtype:
        return F.linear(x_TN, matrix.weight)
    rows = max(fp8.BLOCK, BLOCK_VALUES // N // fp8.BLOCK * fp8.BLOCK)
    if rows >= M:
        return F.linear(x_TN, matrix.block(0, M, scratch))
    out_TM = x_TN.new_empty(*x_TN.shape[:-1], M)
    for start in range(0, M, rows):
        stop = min(start + rows, M)
        out_TM[..., start:stop] = F.linear(x_TN, matrix.block(start, stop, scratch))
    return out_TM
