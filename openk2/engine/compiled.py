"""The runner for CPUs: one compiled function from ids to logits over tiled weights.

In: a tiled model, ragged batches. Out: logits. A token's logits have the same bits whatever shares
its batch and however many threads there are. Must not know: requests, sampling, or files.

Shapes: T new tokens, P (token, expert) pairs, R cached values per token, O logits wanted.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from openk2.engine.runner import BLOCK, Batch, Native
from openk2.kernels.cpu import records, team
from openk2.kernels.cpu.attention import PART, TILES
from openk2.kernels.cpu.build import kernels
from openk2.kernels.cpu.experts import ROWS
from openk2.kernels.cpu.rows import int8_stride
from openk2.kernels.cpu.tiles import LANES
from openk2.model.replace import Places, tiled_places
from openk2.model.tiled import TiledModel

FIRST_TOKENS = 64
"""Tokens that the buffers hold at first; they grow with the batches."""
WORTH_WAITING = 16
"""Tokens of a batch from which on it waits for helpers to wake up."""
LONGEST_WAIT = 0.002
"""Seconds."""
SHORTEST_REST, LONGEST_REST = 0.02, 1.0
"""Seconds that the helpers stay away after one of them lost its core; doubled each time."""


class CompiledRunner:
    """Computes on `threads` threads, and on one while other processes want the cores."""

    def __init__(
        self, model: TiledModel, *, max_positions: int, threads: int | None = None
    ) -> None:
        """Take the weights; helper threads start with the first batch that has work for them."""
        self.max_positions = max_positions
        self._weights = model
        self._places: Places | None = None
        self._kernels = kernels()
        self._run = self._kernels.run.ctypes
        self._sizes = model.sizes.copy()
        self._sizes["multiply"] = self._kernels.multiply.address
        self._sizes["attend_rows"] = self._kernels.attend_rows.address
        self._shape: dict[str, int] = {name: int(self._sizes[name][0]) for name in SHAPE}
        self.vocab_size = self._shape["vocab"]
        self._threads = max(1, min(threads or _cores(), self._shape["H"]))
        self._control = _Room(team.SLOTS + self._threads * team.WORD)
        self._posted = np.zeros(records.BATCH.itemsize // 8, np.int64)
        self._model = np.zeros(1, records.MODEL)
        self._work = [_Rooms(records.WORK, self._work_bytes()) for _ in range(self._threads)]
        self._own = [_Rooms(records.TOKENS, self._token_bytes(1)) for _ in range(self._threads)]
        self._changing = threading.Lock()
        self._wake = [threading.Semaphore(0) for _ in range(1, self._threads)]
        self._helpers: list[threading.Thread] = []
        self._closed = False
        self._rest, self._rest_until, self._helped = SHORTEST_REST, 0.0, 0.0
        self._make_buffers(FIRST_TOKENS)
        self.allocate(1)

    def places(self) -> Places:
        """Return where it holds each tensor; no batch may be computed while one is written."""
        if self._places is None:
            self._places = tiled_places(self._weights)
        return self._places

    def block_bytes(self) -> int:
        """Bytes of one block over all layers."""
        s = self._shape
        return s["layers"] * BLOCK * (s["C"] + s["r"]) * 4

    def allocate(self, blocks: int) -> None:
        """Make room for so many blocks; what the old ones held is lost."""
        with self._changing:
            self._await_helpers()
            self._cache = _Room(blocks * self.block_bytes())
            self._model = np.zeros(1, records.MODEL)
            for name in ("embedding", "embedding_form", "norm", "head", "head_form", "frequencies"):
                self._model[name] = getattr(self._weights, name)
            self._model["cache"], self._model["blocks"] = self._cache.address, blocks
            self._leading = self._arguments(0)

    def forward(self, batch: Batch) -> np.ndarray:
        """Write the new tokens' latents and return float32 logits [O, V]."""
        began = time.monotonic()
        logits_OV, helpers = self._post(batch, began)
        used = self._run(*self._leading, helpers, 0)
        if helpers:
            self._judge(used, began)
        return logits_OV

    @property
    def repeats(self) -> bool:
        """Whether the rows of logits lie one after the other, without padding."""
        return self.vocab_size % LANES == 0

    def repeat(self, batch: Batch, loop: Callable[[Native], tuple[int, int]]) -> int:
        """Let `loop` run the batch as often as it likes; return how often it did."""
        began = time.monotonic()
        logits_OV, helpers = self._post(batch, began)
        native = Native(self._kernels.run.address, (*self._leading, helpers, 0), logits_OV)
        times, used = loop(native)
        if helpers:
            self._judge(used, began)
        return times

    def _post(self, batch: Batch, began: float) -> tuple[np.ndarray, int]:
        """Say where the batch lies; return where its logits will be, and the helpers to expect."""
        T, wanted = len(batch.ids_T), len(batch.wanted_O)
        if self._capacity < T:
            with self._changing:
                self._await_helpers()
                self._make_buffers(max(T, 2 * self._capacity))
        self._table_SN = table_SN = np.ascontiguousarray(batch.table_SN)
        self._posted[:] = (
            _address(batch.ids_T), _address(batch.position_T), _address(batch.sequence_T),
            _address(table_SN), table_SN.shape[1], _address(batch.wanted_O), T, wanted,
        )  # fmt: skip
        helpers = self._threads - 1 if began >= self._rest_until else 0
        if helpers and T >= WORTH_WAITING:
            self._await_ready(began)
        limit = team.STALL_CYCLES + T * team.STALL_CYCLES_PER_TOKEN
        self._control.words[team.LIMIT // 8] = limit
        return self._logits_OV[:wanted, : self.vocab_size], helpers

    def close(self) -> None:
        """End the helper threads."""
        with self._changing:
            self._closed = True
        for wake in self._wake:
            wake.release()
        for helper in self._helpers:
            helper.join()

    def _judge(self, used: int, began: float) -> None:
        """Send the helpers away if one lost its core, else wake those that sleep."""
        stalled, now = team.STALLED // 8, time.monotonic()
        if self._control.words[stalled]:
            self._control.words[stalled] = 0
            self._rest_until, self._helped = now + self._rest, 0.0
            self._rest = min(2 * self._rest, LONGEST_REST)
            return
        if used > 1:
            self._helped += now - began
            if self._helped > self._rest:
                self._rest = SHORTEST_REST
        if used < self._threads:
            self._wake_helpers()

    def _wake_helpers(self) -> None:
        for index in range(len(self._helpers), len(self._wake)):
            name = f"openk2-cpu-{index + 1}"
            helper = threading.Thread(target=self._help, args=(index,), name=name, daemon=True)
            self._helpers.append(helper)
            helper.start()
        for index, wake in enumerate(self._wake):
            if self._slot(index)[0] == team.ASLEEP:
                wake.release()

    def _await_ready(self, began: float) -> None:
        """Give sleeping helpers a moment to come: a large batch takes longer than they do."""
        self._wake_helpers()
        beat = team.BEAT // 8
        while not all(self._slot(index)[beat] for index in range(len(self._wake))):
            if time.monotonic() - began > LONGEST_WAIT:
                return
            time.sleep(LONGEST_WAIT / 20)

    def _help(self, index: int) -> None:
        wake, slot = self._wake[index], self._slot(index)
        while True:
            wake.acquire()
            while wake.acquire(blocking=False):
                pass
            with self._changing:  # from here on, buffers stay until this helper sleeps again
                if self._closed:
                    return
                arguments = self._arguments(index + 1)
                slot[0] = team.READY
            self._run(*arguments, 0, _address(slot))
            slot[team.BEAT // 8] = 0

    def _await_helpers(self) -> None:
        while any(self._slot(index)[0] != team.ASLEEP for index in range(len(self._wake))):
            time.sleep(0.001)

    def _slot(self, index: int) -> np.ndarray:
        start = (team.SLOTS + team.WORD * index) // 8
        return self._control.words[start : start + 4]

    def _arguments(self, thread: int) -> tuple[int, ...]:
        return (
            _address(self._sizes), _address(self._weights.layers), _address(self._model),
            self._tokens.address, self._own[thread].address, self._buffers.address,
            self._work[thread].address, _address(self._posted), self._control.address,
        )  # fmt: skip

    def _make_buffers(self, T: int) -> None:
        self._capacity = T
        self._tokens = _Rooms(records.TOKENS, self._token_bytes(T))
        self._buffers = _Rooms(records.BUFFERS, self._buffer_bytes(T))
        wide = -(-self.vocab_size // LANES) * LANES
        logits = self._buffers.rooms[-1].words.view(np.float32)
        self._logits_OV = logits[: T * wide].reshape(T, wide)
        self._leading = self._arguments(0)

    def _buffer_bytes(self, T: int) -> list[int]:
        s = self._shape
        R, P, values = s["C"] + s["r"], T * s["K"], s["H"] * s["v"]
        unrouted = max(s["shared_I"], s["dense_I"])
        wide = -(-s["vocab"] // LANES) * LANES
        return [
            4 * T * (s["Q"] + R), 4 * T * s["H"] * (s["n"] + s["r"]), 4 * T * s["H"] * R,
            4 * T * s["H"] * s["C"], 8 * T * s["H"], 4 * T * values, T * int8_stride(values),
            4 * T * s["D"], 8 * s["E"], 8 * s["E"], 8 * P, 8 * P, 4 * P * s["I"],
            P * int8_stride(s["I"]), 4 * T * unrouted, T * int8_stride(unrouted),
            4 * s["D"] * (P + T), 4 * T * wide,
        ]  # fmt: skip

    def _token_bytes(self, T: int) -> list[int]:
        s = self._shape
        E16 = -(-s["E"] // LANES) * LANES
        row = (
            4 * s["D"], 4 * s["D"], int8_stride(s["D"]), 4 * s["Q"], int8_stride(s["Q"]),
            4 * (s["C"] + s["r"]), 4 * s["r"], 8 * E16, 8 * s["K"], 4 * s["K"],
        )  # fmt: skip
        return [T * nbytes for nbytes in row]

    def _work_bytes(self) -> list[int]:
        s = self._shape
        row = max(4 * s["D"], int8_stride(s["D"]))
        keys, weights = 4 * PART * s["C"], 4 * (4 * PART + LANES)
        return [8 * (TILES + 1), keys, weights, 8 * 4, ROWS * row, 256 * ROWS]


SHAPE = (
    *("layers", "vocab", "D", "H", "n", "r", "v", "C", "Q", "E", "K", "I", "shared_I", "dense_I"),
)


class _Room:
    """Zeros on pages of their own, which take memory where they are written."""

    def __init__(self, nbytes: int) -> None:
        self.words = np.frombuffer(mmap.mmap(-1, max(8, -(-nbytes // 8) * 8)), np.int64)
        self.address = _address(self.words)


class _Rooms:
    """One room per field of a record of addresses."""

    def __init__(self, dtype: np.dtype, sizes: Sequence[int]) -> None:
        self.rooms = [_Room(nbytes) for nbytes in sizes]
        self._records = np.zeros(1, dtype)
        for name, room in zip(dtype.names or (), self.rooms, strict=True):
            self._records[name] = room.address
        self.address = _address(self._records)


def _address(array: np.ndarray) -> int:
    # A third of the time of array.ctypes.data.
    return array.__array_interface__["data"][0]


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
