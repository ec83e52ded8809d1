"""Safetensors files written a piece at a time, from shapes that are known beforehand.

In: names, types and shapes, then pieces of the tensors. Out: files whose headers are complete
before the first tensor is made, so that no more than one piece is ever in memory. The safetensors
package wants every tensor of a file at once. https://huggingface.co/docs/safetensors
Must not know: models, or where the tensors come from.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from openk2.export.place import unfinished
from openk2.model.safetensors_file import NAMES

Item = TypeVar("Item")
Piece = tuple[str, Tensor]
"""A tensor's name, and its next values in row-major order."""


@dataclass(frozen=True, slots=True)
class Spec:
    """A tensor that is to be written."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes it takes in a file."""
        return math.prod(self.shape) * self.dtype.itemsize


def split_shards(
    items: Iterable[Item], nbytes: Callable[[Item], int], limit: int
) -> Iterator[list[Item]]:
    """Cut a sequence into files of at most `limit` bytes.

    An item is never divided: one that is larger than the limit gets a file of its own.
    """
    shard: list[Item] = []
    filled = 0
    for item in items:
        if shard and filled + nbytes(item) > limit:
            yield shard
            shard, filled = [], 0
        shard.append(item)
        filled += nbytes(item)
    yield shard


def shard_names(count: int) -> list[str]:
    """Return the files' published names: `model-00001-of-000062.safetensors`, from 1."""
    if count == 1:
        return ["model.safetensors"]
    return [f"model-{i:05d}-of-{count:06d}.safetensors" for i in range(1, count + 1)]


def write_file(path: Path, specs: Iterable[Spec], pieces: Iterable[Piece]) -> Generator[int]:
    """Write one file while `pieces` are made, yielding the bytes of each.

    The file is called `path` only once it is complete and on the disk; before that, it has another
    name that ends in `.tmp`. Close the iterator to remove what was not completed.

    Args:
        path: The file to write.
        specs: Every tensor of the file.
        pieces: Their values; the pieces of one tensor in order, those of several in any order.

    Raises:
        ValueError: The pieces are not what `specs` announced.
        ExportError: The system refuses to write the file.
    """
    header, where = _layout(specs)
    ends = {spec.name: begin + spec.nbytes for spec, begin in where}
    cursor = {spec.name: begin for spec, begin in where}
    dtypes = {spec.name: spec.dtype for spec, _ in where}
    with unfinished(path) as temporary, temporary.open("r+b") as file:
        file.write(header)
        for name, piece in pieces:
            data = piece.contiguous().reshape(-1).view(torch.uint8)
            if piece.dtype != dtypes[name] or cursor[name] + len(data) > ends[name]:
                raise ValueError(f"{name}: got {piece.dtype} {list(piece.shape)}, announced less")
            file.seek(cursor[name])
            file.write(data.numpy().data)
            cursor[name] += len(data)
            yield len(data)
        for name, end in ends.items():
            if cursor[name] != end:
                raise ValueError(f"{name}: {end - cursor[name]} bytes were announced and not given")
        file.flush()
        os.fsync(file.fileno())


def header_nbytes(specs: Iterable[Spec]) -> int:
    """Return the bytes of a file beside those of its tensors."""
    return len(_layout(specs)[0])


def _layout(specs: Iterable[Spec]) -> tuple[bytes, list[tuple[Spec, int]]]:
    """Return the header, and where in the file each tensor begins."""
    # Widest types first, as the safetensors package does: every tensor is aligned for its reader.
    ordered = sorted(specs, key=lambda spec: -spec.dtype.itemsize)
    table: dict[str, object] = {"__metadata__": {"format": "pt"}}  # transformers refuses without
    begins: list[int] = []
    end = 0
    for spec in ordered:
        begins.append(end)
        end += spec.nbytes
        table[spec.name] = {
            "dtype": NAMES[spec.dtype],
            "shape": list(spec.shape),
            "data_offsets": [begins[-1], end],
        }
    if len(table) != len(ordered) + 1:
        raise ValueError("two tensors have the same name, or one is called __metadata__")
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    header = len(text).to_bytes(8, "little") + text
    return header, [
        (spec, len(header) + begin) for spec, begin in zip(ordered, begins, strict=True)
    ]
