"""One safetensors file: its header, checked, and its tensors as views of a read-only mapping.

In: a path. Out: where each tensor lies, and tensors nobody has read from disk yet. The header is
read here and not by the safetensors package because the package maps files writable and private,
which counts against memory limits, and does not say where a tensor lies.
Must not know: models or tensor names. https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import math
import mmap
import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from openk2.model.untrusted import UntrustedFileError, open_regular, parse_json, shown

MAX_HEADER_BYTES = 100_000_000
"""The safetensors package's own limit."""
MAX_DIMENSIONS = 8
MAX_SIZE = 1 << 48
"""No side of a tensor and no offset reaches 281 TB."""

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


class Entry(NamedTuple):
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
    header, data_start, size = _read_json(path)
    entries = {name: _entry(path, name, value, data_start) for name, value in header.items()}
    end = data_start
    order = sorted((entry.begin, entry.nbytes, name) for name, entry in entries.items())
    for begin, nbytes, name in order:
        if begin != end:
            raise WeightsError(
                f"{path}: {shown(name)} does not begin where the tensor before it ends"
            )
        end += nbytes
    if check_size and end != size:
        raise WeightsError(
            f"{path} has {size:,} bytes, its header asks for {end:,}: copy or download it again"
        )
    return entries


def _read_json(path: Path) -> tuple[dict[str, Any], int, int]:
    """Return a header as it is, where the data starts, and the file's size."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
                raise WeightsError(f"{path} is not a safetensors file, or is cut short")
            header = parse_json(file.read(length))
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from None
    except UntrustedFileError as error:
        raise WeightsError(f"{path} cannot be read as safetensors: {error}") from None
    if not isinstance(header, dict):
        raise WeightsError(f"{path}: the safetensors header is not a JSON object")
    header.pop("__metadata__", None)
    return header, 8 + length, size


def _entry(path: Path, name: str, value: Any, data_start: int) -> Entry:
    try:  # not a match statement, which takes as long as everything else for 200,000 tensors
        dtype, shape, (begin, end) = value["dtype"], value["shape"], value["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise _malformed(path, name) from None
    if not isinstance(dtype, str) or not isinstance(shape, list):
        raise _malformed(path, name)
    if dtype not in DTYPES:
        raise WeightsError(f"{path}: {shown(name)} has the unknown type {shown(dtype)}")
    if len(shape) > MAX_DIMENSIONS or not all(_is_size(side) for side in shape):
        raise WeightsError(f"{path}: {shown(name)} has the impossible shape {shown(shape)}")
    nbytes = math.prod(shape) * DTYPES[dtype].itemsize
    if not (_is_size(begin) and _is_size(end)) or end - begin != nbytes:
        raise WeightsError(
            f"{path}: {shown(name)} lies at bytes {shown([begin, end])}, its shape asks for "
            f"{nbytes:,}"
        )
    return Entry(path, dtype, tuple(shape), data_start + begin, nbytes)


def _malformed(path: Path, name: str) -> WeightsError:
    return WeightsError(f"{path}: the header's entry for {shown(name)} is malformed")


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < MAX_SIZE


class MappedFile:
    """A file's bytes, mapped read-only: pages come when touched and go when memory is short."""

    def __init__(self, path: Path) -> None:
        """Map the whole file.

        Raises:
            WeightsError: The system refuses the mapping.
        """
        try:
            with open_regular(path) as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise WeightsError(f"{path} cannot be memory-mapped: {error}") from None
        with warnings.catch_warnings():  # writing to the view would crash: nobody here does
            warnings.filterwarnings("ignore", message="The given buffer is not writable")
            self._bytes = torch.frombuffer(self._map, dtype=torch.uint8)

    def tensor(self, entry: Entry) -> Tensor:
        """Return the tensor as a read-only view; nothing is read until somebody looks at it.

        Raises:
            WeightsError: The file has become shorter since its header was read.
        """
        dtype = DTYPES[entry.dtype]
        if not entry.nbytes:
            return torch.empty(entry.shape, dtype=dtype)
        end = entry.begin + entry.nbytes
        if end > self._bytes.numel():
            raise WeightsError(f"{entry.file} was replaced by a shorter file while it was opened")
        raw = self._bytes[entry.begin : end]
        if entry.begin % dtype.itemsize:  # allowed by the format, but not by every processor
            raw = raw.clone()
        return raw.view(dtype).view(entry.shape)

    def will_need(self, entry: Entry) -> None:
        """Ask the system to start reading a tensor now, all of it at once."""
        begin = entry.begin // mmap.PAGESIZE * mmap.PAGESIZE
        self._map.madvise(mmap.MADV_WILLNEED, begin, entry.begin + entry.nbytes - begin)
