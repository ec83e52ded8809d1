"""Data packs: from JSON Lines files to rows and to plain pre-training documents.

In: `.jsonl` or `.jsonl.zst` files as `data/README.md` describes them. Out: dicts and strings.
Must not know: tokens, or what a conversation looks like.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

TEXT_PACKS: tuple[str, ...] = (
    "books_en_pd", "stories_en", "simple_en_extra", "wordnet_definitions", "docs_en",
    "python_code", "zh_mix",
)  # fmt: skip
"""The pre-training packs, in `data/pretrain/`."""


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
    return _place(key) < share * 2**64


def _place(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")


def held_out_keys(keys: Iterable[str], share: float) -> frozenset[str]:
    """Choose the keys of a pack that are held out: at least one, wherever there are two.

    The lowest `share` of all hashes says little about a pack of few works, such as 64 books, so
    the next one in line is taken where no key falls under it.
    """
    distinct = set(keys)
    chosen = {key for key in distinct if held_out(key, share)}
    if not chosen and share > 0 and len(distinct) > 1:
        chosen = {min(distinct, key=_place)}
    return frozenset(chosen)


_ARTICLE = re.compile(r"^(the|an?) ")
_LEVEL = re.compile(r"\W*-(ele|int|adv)$")
# Titles that name the whole source.
_NOT_WORKS = frozenset({"WordNet", "wikipedia", "tldr", "诗词"})


def normalised(title: str) -> str:
    """Write titles of one work alike: in small letters, without punctuation or first article."""
    words = " ".join(re.findall(r"[^\W_]+", title.casefold()))
    return _ARTICLE.sub("", words) or title


def document_key(row: dict[str, Any]) -> str:
    """Name the work that a pre-training row belongs to: what a split must keep together.

    A book comes in many rows and a news article at two levels. A row without a title of its own
    is a work by itself.
    """
    title = row.get("title", "")
    if row["src"].startswith("onestop-english"):
        title = _LEVEL.sub("", title)
    if not title or title in _NOT_WORKS:
        return row.get("path") or row["text"]
    return normalised(title)


def documents(path: Path) -> Iterator[tuple[str, str]]:
    """Yield key and text of each row of a pre-training pack.

    The key is what `document_key` says, the text is under its title where it has one.
    """
    for row in read_rows(path):
        yield document_key(row), document(row)


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
