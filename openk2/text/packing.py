"""Token documents → shards on disk → packed rows for training.

In: documents as token ids with a mask of what the model must learn to emit. Out: batches of rows
whose every token knows its document, so attention and targets never cross a border. Any step's
batch is a function of (seed, row number) alone, so the data position is one integer. Must not
know: text, tokenizers, conversations, tensors of a framework.

Legend: B rows, T tokens per row (a packed row holds T + 1: the last one is only a target).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[Any]

PADDING = -1
"""Document number of the tokens that fill up a row."""

_BLOCK = 4096
"""Rows over which the mixture's shares are exact."""


@dataclass(frozen=True, slots=True)
class Document:
    """A sequence of tokens that attention never leaves."""

    ids: Sequence[int]
    learn: Sequence[bool] | None = None
    """True on what the model must emit; None means every token."""
    n_bytes: int = 0
    """Length of the text in UTF-8, for bits per byte; 0 where that makes no sense."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Packed rows, ready for the model and the loss."""

    ids_BT: IntArray
    """int64 input tokens."""
    doc_BT: IntArray
    """int64 document number within the row; `PADDING` on what fills it up."""
    target_BT: IntArray
    """int64 next tokens; meaningless where the weight is 0."""
    weight_BT: IntArray
    """float32 loss weights; 0 on padding and across document borders."""


def write_shard(directory: Path, documents: Iterable[Document], vocab_size: int) -> int:
    """Write documents as a shard and return how many tokens it holds.

    The directory appears complete or not at all; an older shard of that name is replaced.

    Raises:
        ValueError: A token id is outside the vocabulary or a mask has another length.
    """
    temporary = directory.with_name(f".{directory.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        n_tokens = _write_files(temporary, documents, vocab_size)
        shutil.rmtree(directory, ignore_errors=True)
        temporary.rename(directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return n_tokens


def _write_files(directory: Path, documents: Iterable[Document], vocab_size: int) -> int:
    dtype = np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")
    ends: list[int] = [0]
    n_bytes: list[int] = []
    with (directory / "tokens.bin").open("wb") as tokens, (directory / "learn.bin").open("wb") as m:
        for number, document in enumerate(documents):
            ids = np.asarray(document.ids, dtype=np.int64)
            if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < vocab_size:
                raise ValueError(f"document {number} has an id outside the vocabulary {vocab_size}")
            every = [True] * ids.size
            learn = np.asarray(every if document.learn is None else document.learn)
            if learn.shape != ids.shape:
                raise ValueError(f"document {number} has a mask of another length than its ids")
            tokens.write(ids.astype(dtype).tobytes())
            m.write(learn.astype(np.uint8).tobytes())
            ends.append(ends[-1] + ids.size)
            n_bytes.append(document.n_bytes)
    index = {"dtype": dtype.str, "vocab_size": vocab_size, "offsets": ends, "n_bytes": n_bytes}
    (directory / "index.json").write_text(json.dumps(index))
    return ends[-1]


class Shard:
    """Token documents on disk, memory-mapped."""

    def __init__(self, directory: Path) -> None:
        """Open a shard written by `write_shard`.

        Raises:
            FileNotFoundError: There is no shard there.
        """
        index = json.loads((directory / "index.json").read_text())
        self.directory = directory
        self.vocab_size: int = index["vocab_size"]
        self.offsets: IntArray = np.asarray(index["offsets"], np.int64)
        self.n_bytes: int = sum(index["n_bytes"])
        self.tokens = _map(directory / "tokens.bin", np.dtype(index["dtype"]))
        self.learn = _map(directory / "learn.bin", np.dtype(np.uint8))

    def __len__(self) -> int:
        """Return the number of documents."""
        return len(self.offsets) - 1

    def document(self, index: int) -> tuple[IntArray, IntArray]:
        """Return the token ids and the learn mask of one document."""
        span = slice(int(self.offsets[index]), int(self.offsets[index + 1]))
        return self.tokens[span], self.learn[span]


def _map(path: Path, dtype: np.dtype[Any]) -> IntArray:
    if path.stat().st_size == 0:
        return np.zeros(0, dtype)
    return np.memmap(path, dtype=dtype, mode="r")


class PackedRows:
    """A shard's documents laid out in rows of T + 1 tokens by best fit."""

    def __init__(self, shard: Shard, seq_len: int, seed: int = 0) -> None:
        """Plan the rows: every token of every document is in exactly one of them.

        Documents longer than a row are cut into full rows and a rest.
        """
        self.shard = shard
        self.seq_len = seq_len
        begin, length = _pieces(shard.offsets, seq_len + 1)
        order = np.random.default_rng(seed).permutation(len(begin))
        order = order[np.argsort(-length[order], kind="stable")]  # best fit *decreasing*
        row_of = _best_fit(length[order].tolist(), seq_len + 1)
        by_row = np.argsort(row_of, kind="stable")
        self._begin, self._length = begin[order][by_row], length[order][by_row]
        counts = np.bincount(row_of) if len(row_of) else np.zeros(0, np.int64)
        self._first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._first) - 1

    def row(self, index: int) -> tuple[IntArray, IntArray, IntArray]:
        """Return ids, document numbers and learn mask of a row, each of T + 1 values."""
        width = self.seq_len + 1
        ids, learn = np.zeros(width, np.int64), np.zeros(width, np.uint8)
        pieces = range(int(self._first[index]), int(self._first[index + 1]))
        doc = np.full(width, PADDING, np.int64)
        at = 0
        for number, piece in enumerate(pieces):
            begin, length = int(self._begin[piece]), int(self._length[piece])
            ids[at : at + length] = self.shard.tokens[begin : begin + length]
            learn[at : at + length] = self.shard.learn[begin : begin + length]
            doc[at : at + length] = number
            at += length
        return ids, doc, learn


def _pieces(offsets: IntArray, width: int) -> tuple[IntArray, IntArray]:
    """Cut documents into (begin, length) of at most `width` tokens."""
    lengths = np.diff(offsets)
    counts = -(-lengths // width)
    document = np.repeat(np.arange(len(lengths)), counts)
    number = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)
    begin = offsets[:-1][document] + number * width
    return begin, np.minimum(width, offsets[1:][document] - begin)


def _best_fit(lengths: Sequence[int], width: int) -> IntArray:
    """Assign pieces to rows: each goes where it leaves the least room, or opens a new row."""
    rows_with: list[list[int]] = [[] for _ in range(width + 1)]
    occupied = 0  # bit r is set when some row has exactly r tokens of room
    row_of = np.zeros(len(lengths), np.int64)
    n_rows = 0
    for piece, length in enumerate(lengths):
        fitting = occupied >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            row = rows_with[room].pop()
            if not rows_with[room]:
                occupied &= ~(1 << room)
        else:
            room, row = width, n_rows
            n_rows += 1
        left = room - length
        if left:
            rows_with[left].append(row)
            occupied |= 1 << left
        row_of[piece] = row
    return row_of


class Mixture:
    """An endless stream of packed rows from weighted sources, addressable by row number."""

    def __init__(
        self,
        sources: Mapping[str, tuple[PackedRows, float]],
        *,
        seed: int = 0,
        prompt_weight: float = 0.0,
    ) -> None:
        """Mix sources by weight.

        Args:
            sources: Name → (rows, weight); weights need not sum to 1.
            seed: Fixes the order; the same seed and row number give the same row.
            prompt_weight: Loss weight of tokens outside the learn mask.

        Raises:
            ValueError: No source has rows and a positive weight.
        """
        used = {name: pair for name, pair in sources.items() if pair[1] > 0 and len(pair[0])}
        if not used:
            raise ValueError("the mixture is empty: no source has rows and a positive weight")
        self.names = tuple(used)
        self._rows = [rows for rows, _ in used.values()]
        self._counts = _shares([weight for _, weight in used.values()], _BLOCK)
        self._seed = seed
        self._prompt_weight = prompt_weight
        self._block = lru_cache(maxsize=2)(self._block_order)
        self._epoch = lru_cache(maxsize=4 * len(used))(self._epoch_order)

    def locate(self, number: int) -> tuple[int, int]:
        """Return which source, and which of its rows, is row `number` of the stream."""
        block, at = divmod(number, _BLOCK)
        source_of, rank_of = self._block(block)
        source = int(source_of[at])
        nth = block * self._counts[source] + int(rank_of[at])
        epoch, within = divmod(nth, len(self._rows[source]))
        return source, int(self._epoch(source, epoch)[within])

    def batch(self, first: int, n_rows: int) -> Batch:
        """Return rows `first` … `first + n_rows − 1` of the stream."""
        picked = [self.locate(number) for number in range(first, first + n_rows)]
        return collate([self._rows[s].row(r) for s, r in picked], self._prompt_weight)

    def _block_order(self, block: int) -> tuple[IntArray, IntArray]:
        source_of = np.repeat(np.arange(len(self._counts)), self._counts)
        source_of = np.random.default_rng([self._seed, 1, block]).permutation(source_of)
        rank_of = np.zeros(len(source_of), np.int64)
        for source, count in enumerate(self._counts):
            rank_of[source_of == source] = np.arange(count)
        return source_of, rank_of

    def _epoch_order(self, source: int, epoch: int) -> IntArray:
        rng = np.random.default_rng([self._seed, 2, source, epoch])
        return rng.permutation(len(self._rows[source]))


def _shares(weights: Sequence[float], total: int) -> list[int]:
    """Split `total` in proportion to the weights, at least 1 each (largest remainder)."""
    scale = total / sum(weights)
    counts = [max(1, int(weight * scale)) for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: counts[i] - weights[i] * scale)
    for i in range(total - sum(counts)):
        counts[by_remainder[i % len(counts)]] += 1
    while sum(counts) > total:
        counts[counts.index(max(counts))] -= 1
    return counts


def collate(rows: Sequence[tuple[IntArray, IntArray, IntArray]], prompt_weight: float) -> Batch:
    """Turn rows of T + 1 tokens into inputs, targets and loss weights.

    Args:
        rows: (ids, document numbers, learn mask) of each row, as `PackedRows.row` gives them.
        prompt_weight: Loss weight of tokens outside the learn mask.
    """
    ids = np.stack([ids for ids, _, _ in rows])
    doc = np.stack([doc for _, doc, _ in rows])
    learn = np.stack([learn for _, _, learn in rows])
    weight = np.where(learn[:, 1:] > 0, 1.0, prompt_weight).astype(np.float32)
    weight *= (doc[:, 1:] == doc[:, :-1]) & (doc[:, 1:] != PADDING)
    return Batch(ids[:, :-1].copy(), doc[:, :-1].copy(), ids[:, 1:].copy(), weight)
