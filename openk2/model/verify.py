"""Looking for numbers that no weight can be: NaN and infinity, in values and in scales.

In: the table of a checkpoint's tensors. Out: findings that name file and tensor. Files are read in
order through one small buffer and not through a mapping, so that memory stays bounded.
Must not know: how a model computes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from openk2.kernels import int4
from openk2.model.checkpoint import Checkpoint
from openk2.model.safetensors_file import DTYPES, Entry, WeightsError
from openk2.model.untrusted import UntrustedFileError, open_regular, shown

BUFFER_BYTES = 1 << 22
EAGER_BYTES = 64_000_000
"""Scales of this size are read while a model is opened; K2's 250 MB and more are not."""
SCALE_SUFFIXES = ("_scale_inv", ".weight_scale")


@dataclass(frozen=True, slots=True)
class Finding:
    """One tensor that is not as it should be."""

    file: Path
    tensor: str
    text: str
    is_refused: bool = True
    """False: odd, and no reason to refuse the model."""

    def __str__(self) -> str:
        """Name file, tensor and fault in one sentence."""
        return f"{self.file}: {shown(self.tensor)} {self.text}"


def check_scales(checkpoint: Checkpoint, limit: int = EAGER_BYTES) -> bool:
    """Refuse NaN and infinite scales, unless there are so many that reading them takes long.

    Args:
        checkpoint: The opened directory.
        limit: Bytes of scales up to which they are read.

    Returns:
        Whether the scales were read. If not, `Checkpoint.matrix` looks at those it opens.

    Raises:
        WeightsError: The first scale tensor that has one.
    """
    scales = {name: entry for name, entry in checkpoint.entries.items() if is_scale(name)}
    if sum(entry.nbytes for entry in scales.values()) > limit:
        return False
    # Read, not mapped: a mapping would keep a page and its neighbours resident for each of them.
    for finding in verify(scales):
        if finding.is_refused:
            raise WeightsError(f"{finding}: download the file again")
    return True


def is_scale(name: str) -> bool:
    """Whether a stored tensor holds the scales of a quantised matrix."""
    return name.endswith(SCALE_SUFFIXES)


def verify(
    entries: Mapping[str, Entry], advance: Callable[[int], None] = lambda count: None
) -> Iterator[Finding]:
    """Read every tensor and yield what is wrong with it.

    Args:
        entries: The tensors, from one or many files.
        advance: Called with the bytes of each piece that was read.
    """
    by_file: dict[Path, list[tuple[str, Entry]]] = {}
    for name, entry in entries.items():
        by_file.setdefault(entry.file, []).append((name, entry))
    buffer = bytearray(BUFFER_BYTES)
    for file, members in sorted(by_file.items()):
        members.sort(key=lambda member: member[1].begin)
        name = members[0][0]
        try:
            with open_regular(file) as opened:
                for name, entry in members:
                    opened.seek(entry.begin)
                    pieces = _pieces(opened.readinto, entry, buffer, advance)
                    if name.endswith("_shape"):
                        packed = entries.get(name.removesuffix("shape") + "packed")
                        yield from _shape_findings(name, entry, packed, pieces)
                    else:
                        yield from _findings(name, entry, pieces)
        except (OSError, UntrustedFileError) as error:
            yield Finding(file, name, f"cannot be read: {error}")


def _pieces(
    readinto: Callable[[memoryview], int | None],
    entry: Entry,
    buffer: bytearray,
    advance: Callable[[int], None],
) -> Iterator[Tensor]:
    """Yield a tensor's numbers a bufferful at a time; each piece is gone when the next comes."""
    view = memoryview(buffer)
    left = entry.nbytes
    while left:
        count = min(left, BUFFER_BYTES)
        if readinto(view[:count]) != count:
            raise OSError("the file ends too early")
        yield torch.frombuffer(buffer, dtype=torch.uint8, count=count).view(DTYPES[entry.dtype])
        advance(count)
        left -= count


def _findings(name: str, entry: Entry, pieces: Iterable[Tensor]) -> Iterator[Finding]:
    seen: dict[str, bool] = {}
    for piece in pieces:
        if entry.dtype.startswith("F8"):
            fault = _fp8_fault(piece, entry.dtype)
        elif piece.is_floating_point():
            fault = _float_fault(piece, is_scale(name))
        else:
            fault = None  # every integer is a packed weight
        if fault is not None:
            seen[fault[0]] = fault[1]
    for text, is_refused in seen.items():
        yield Finding(entry.file, name, text, is_refused)


def _shape_findings(
    name: str, entry: Entry, packed: Entry | None, pieces: Iterable[Tensor]
) -> Iterator[Finding]:
    """Compare the shape that an INT4 matrix says it has with that of its packed words."""
    said = [side for piece in pieces for side in piece.view(-1).tolist()[:2]]
    if packed is not None and len(packed.shape) == 2:
        outputs, words = packed.shape
        if said != [outputs, words * int4.PER_WORD]:
            text = f"says {said}, its packed weight is {[outputs, words * int4.PER_WORD]}"
            yield Finding(entry.file, name, text)


def _float_fault(values: Tensor, is_scale: bool) -> tuple[str, bool] | None:
    """Return what is wrong with floating-point numbers, and whether that is refused."""
    low, high = (bound.item() for bound in values.aminmax())  # a NaN makes both NaN
    if math.isnan(low):
        return "holds NaN", True
    if math.isinf(low) or math.isinf(high):
        return "holds an infinite number", True
    if is_scale and low <= 0:
        return "holds a scale that is zero or negative", False
    return None


def _fp8_fault(values: Tensor, dtype: str) -> tuple[str, bool] | None:
    """Look at the codes, in place: e4m3 has NaN as 0x7f and 0xff only and no infinity."""
    codes = values.view(torch.uint8).bitwise_and_(0x7F)
    largest = 0x7E if dtype == "F8_E4M3" else 0x7B
    return ("holds NaN", True) if int(codes.max()) > largest else None
