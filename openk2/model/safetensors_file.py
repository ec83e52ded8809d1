"""One safetensors file: its header, checked, and its tensors as views of a read-only mapping.

In: a path. Out: where each tensor lies, and tensors nobody has read from disk yet. The header is
read here and not by the safetensors package because the package maps files writable and private,
which counts against memory limits, and does not say where a tensor lies.
Must not know: models or tensor names. https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import ctypes
import json
import math
import mmap
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

MAX_HEADER_BYTES = 100_000_000
"""The safetensors package's own limit."""

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Types that a tensor may have, by their name in a header."""

NAMES = {dtype: name for name, dtype in DTYPES.items()}


class WeightsError(ValueError):
    """A model directory that cannot be used; the message names the file and the tensor."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one tensor lies."""

    file: Path
    dtype: str
    """As the header spells it: `BF16`."""
    shape: tuple[int, ...]
    begin: int
    """First byte, counted from the start of the file."""
    nbytes: int


def read_header(path: Path, *, check_size: bool = True) -> dict[str, Entry]:
    """Read and check a file's header; no tensor is touched.

    Args:
        path: The file.
        check_size: Refuse a file that is shorter or longer than its header says.

    Raises:
        WeightsError: It is no safetensors file, is damaged or truncated.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
                raise WeightsError(f"{path} is not a safetensors file, or is cut short")
            header = json.loads(file.read(length), object_pairs_hook=_unique)
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(f"{path} cannot be read as safetensors: {error}") from None
    if not isinstance(header, dict):
        raise WeightsError(f"{path}: the safetensors header is not a JSON object")
    header.pop("__metadata__", None)
    entries = {name: _entry(path, name, value, 8 + length) for name, value in header.items()}
    end = 8 + length
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].nbytes)):
        if entry.begin != end:
            raise WeightsError(f"{path}: {name} does not begin where the tensor before it ends")
        end += entry.nbytes
    if check_size and end != size:
        raise WeightsError(
            f"{path} has {size:,} bytes, its header asks for {end:,}: copy or download it again"
        )
    return entries


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name appears twice in the header")
    return table


def _entry(path: Path, name: str, value: Any, data_start: int) -> Entry:
    match value:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(begin), int(end)]}:
            pass
        case _:
            raise WeightsError(f"{path}: the header's entry for {name} is malformed")
    if dtype not in DTYPES:
        raise WeightsError(f"{path}: {name} has the unknown type {dtype!r}")
    if not all(type(side) is int and 0 <= side < 2**48 for side in shape):
        raise WeightsError(f"{path}: {name} has the impossible shape {shape}")
    nbytes = math.prod(shape) * DTYPES[dtype].itemsize
    if not 0 <= begin <= end or end - begin != nbytes:
        raise WeightsError(f"{path}: {name} takes {end - begin} bytes, its shape asks for {nbytes}")
    return Entry(path, dtype, tuple(shape), data_start + begin, nbytes)


class MappedFile:
    """A file's bytes, mapped read-only and shared: pages come when touched and go under pressure."""

    def __init__(self, path: Path) -> None:
        """Map the whole file.

        Raises:
            WeightsError: The system refuses the mapping.
        """
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise WeightsError(f"{path} cannot be memory-mapped: {error}") from None

    def tensor(self, entry: Entry) -> Tensor:
        """Return the tensor as a read-only view; nothing is read until somebody looks at it."""
        dtype = DTYPES[entry.dtype]
        if not entry.nbytes:
            return torch.empty(entry.shape, dtype=dtype)
        with warnings.catch_warnings():  # writing to the view would crash: nobody here does
            warnings.filterwarnings("ignore", message="The given buffer is not writable")
            flat = torch.frombuffer(
                self._map, dtype=dtype, count=math.prod(entry.shape), offset=entry.begin
            )
        return flat.view(entry.shape)

    def will_need(self, entry: Entry) -> None:
        """Ask the system to start reading a tensor now, all of it at once."""
        begin = entry.begin // mmap.PAGESIZE * mmap.PAGESIZE
        self._map.madvise(mmap.MADV_WILLNEED, begin, entry.begin + entry.nbytes - begin)
