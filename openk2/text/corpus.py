"""Data packs: from JSON Lines files to rows and to plain pre-training documents.

In: `.jsonl` or `.jsonl.zst` files as `data/README.md` describes them. Out: dicts and strings.
Must not know: tokens, or what a conversation looks like.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast


class DamagedPackError(ValueError):
    """A data pack holds something that is not one JSON object per line."""


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield one dict per line without holding the file in memory.

    Raises:
        DamagedPackError: A line is not a JSON object, or the file is not a whole zstd archive.
    """
    for number, line in enumerate(_lines(path), 1):
        yield _parse(line, path, number)


def _parse(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        row: Any = json.loads(line)
    except ValueError as error:
        raise DamagedPackError(
            f"{path}:{number}: is not JSON ({error}); fetch the file again"
        ) from error
    if not isinstance(row, dict):
        raise DamagedPackError(f"{path}:{number}: is not a JSON object; fetch the file again")
    return cast(dict[str, Any], row)


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stored:
        if path.suffix != ".zst":
            yield from stored
            return
        rest = b""
        for part in _decompressed(stored, path):
            *whole, rest = (rest + part).split(b"\n")
            yield from whole
    if rest:
        yield rest


def _decompressed(stored: BinaryIO, path: Path) -> Iterator[bytes]:
    # Only training reads packs, so serving does not need this dependency.
    import zstandard

    decoder = zstandard.ZstdDecompressor().decompressobj()
    try:
        while packed := stored.read(1 << 16):
            yield decoder.decompress(packed)
    except zstandard.ZstdError as error:
        raise DamagedPackError(f"{path}: is not a zstd file ({error}); fetch it again") from error
    # A stream reader would end quietly here and training would miss the rest of the file.
    if not decoder.eof or decoder.unused_data:
        raise DamagedPackError(f"{path}: is not one whole zstd frame; fetch it again")


def held_out(key: str, share: float) -> bool:
    """Tell whether `key` belongs to the held-out part, the same on every machine and run.

    Args:
        key: What must not be split, such as a story's title or a dialogue's id.
        share: From 0 (nothing is held out) to 1. A larger share contains every smaller one.
    """
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def documents(path: Path) -> Iterator[str]:
    """Yield the texts of a pre-training pack, each under its title where it has one."""
    for row in read_rows(path):
        yield document(row)


def document(row: dict[str, Any]) -> str:
    """Turn one row of a pre-training pack into the text that is trained on."""
    text = row["text"].replace("\r\n", "\n").strip()
    if "path" in row:
        return f"# {row['path']}\n{text}"
    title = row.get("title", "")
    if row["src"] == "books":
        return f"{title}, by {row['author']}\n\n{text}"
    # A title that is a file path or names the whole pack says nothing about the text.
    if not title or "/" in title or title.endswith(".page") or title == "WordNet":
        return text
    return text if text[: len(title) + 4].lstrip("# ").startswith(title) else f"{title}\n\n{text}"
