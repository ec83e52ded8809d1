"""What reading and answering cost behind a long context, and whether what it says is found.

In: a directory of the needle's model (bench/needle.py). Out: one row per length: `read` reads a
document through the engine and asks for its needles; `filled` only writes the cache full, which
takes no attention, and then computes a chunk and single tokens as if all of it had been read.
Must not know: records.

There is one thread, so that its CPU time is all the work there is.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.checkpoints import rss
from bench.needle import Document, document, question
from openk2.engine.compiled import CompiledRunner
from openk2.engine.engine import Engine
from openk2.engine.request import Token
from openk2.engine.runner import BLOCK, Batch
from openk2.model.checkpoint import Checkpoint
from openk2.model.tiled import tile_model
from openk2.types import Sampling

CHUNK = 512
"""Tokens of a long prompt that one step reads."""
SPARE = 256
"""Blocks for what is asked after the document."""
ROOM = 64
"""Tokens of each length that are left for a question and the answer; whole blocks."""
RECENT = 4096
"""Tokens before each length whose reading says how fast it is at that depth."""
TRIES = 16
"""Single tokens that are computed behind a filled cache."""


def _runner(directory: Path) -> CompiledRunner:
    checkpoint = Checkpoint(directory)
    positions = checkpoint.config.max_position_embeddings
    return CompiledRunner(tile_model(checkpoint), max_positions=positions, threads=1)


def _memory(runner: CompiledRunner, before: int, tokens: int) -> dict[str, Any]:
    now = rss()
    return {
        "cache_bytes_per_token": runner.block_bytes() // BLOCK,
        "rss_bytes": now,
        "rss_growth_bytes_per_token": round((now - before) / tokens),
        "load_average_1m": round(os.getloadavg()[0], 1),
    }


# Read -------------------------------------------------------------------------------------------


def read(directory: Path, lengths: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Read one document up to each length, and ask for every needle in it.

    A question shares the blocks of the document before it, so the document is read once.

    Raises:
        RuntimeError: An answer was wrong.
    """
    runner = _runner(directory)
    engine = Engine(
        runner,  # without drafts: what is measured is one token per step
        max_batch=1,
        max_len=lengths[-1],
        stop_ids=frozenset(),
        blocks=lengths[-1] // BLOCK + SPARE,
    )
    text = document([length - ROOM for length in lengths], runner.vocab_size, seed=0)
    run(engine, text.ids[:-CHUNK:-1], 4)  # other tokens: takes the memory of all buffers
    memory, begun = rss(), 0
    for length in lengths:
        row = asked(engine, text, length - ROOM)
        row |= _memory(runner, memory, length - begun)
        yield {"length": length} | row
        memory, begun = rss(), length


def asked(engine: Engine, text: Document, end: int) -> dict[str, Any]:
    """Read on to `end`, ask for every needle before it, then let one answer run on.

    Raises:
        RuntimeError: An answer was wrong.
    """
    present = text.present(end)
    reading, *asking = [_answered(engine, text, key, end, 1) for key in present]
    chain = _answered(engine, text, 0, end, ROOM - 1)
    recent = reading.reading_cpu_s[-max(1, RECENT // CHUNK) :]
    decoded = len(chain.tokens) - 1
    return {
        "needles_asked": len(present),
        "needles_found": 1 + len(asking),
        "needle_depths": [round(text.places[key] / end, 3) for key in present],
        "chain_of_needles_found": len(text.answer(0, end)),
        "tokens_read_for_another_question": max((spent.read for spent in asking), default=0),
        "read_tokens": reading.read,
        "read_cpu_s": round(sum(reading.reading_cpu_s), 2),
        "read_wall_s": round(reading.reading_wall_s, 2),
        "read_tokens_per_cpu_s": round(reading.read / sum(reading.reading_cpu_s), 1),
        "read_tokens_per_cpu_s_here": round(CHUNK * len(recent) / sum(recent), 1),
        "decode_cpu_ms_per_token": round(1000 * chain.decoding_cpu_s / decoded, 2),
        "decode_tokens_per_cpu_s": round(decoded / chain.decoding_cpu_s, 1),
        "decode_tokens_per_s": round(decoded / chain.decoding_wall_s, 1),
    }


def _answered(engine: Engine, text: Document, key: int, end: int, max_tokens: int) -> Spent:
    spent = run(engine, [*text.ids[:end], question(key)], max_tokens)
    expected = text.answer(key, end)[:max_tokens]
    if spent.tokens[: len(expected)] != expected:
        raise RuntimeError(f"key {key} after {end}: {spent.tokens}, expected {expected}")
    return spent


@dataclass
class Spent:
    """What one request took."""

    read: int = 0
    """Tokens of the prompt that were not in the cache."""
    reading_cpu_s: list[float] = field(default_factory=list)
    """Of each step until the first token."""
    reading_wall_s: float = 0.0
    tokens: list[int] = field(default_factory=list)
    """The answer."""
    decoding_cpu_s: float = 0.0
    """From the first token on."""
    decoding_wall_s: float = 0.0


def run(engine: Engine, prompt: list[int], max_tokens: int) -> Spent:
    """Answer one request, step by step.

    Raises:
        RuntimeError: The engine failed.
    """
    spent = Spent()
    engine.submit(prompt, Sampling(temperature=0, max_tokens=max_tokens))
    while engine.busy:
        cpu, wall = time.thread_time(), time.perf_counter()
        outputs = engine.step()
        cpu, wall = time.thread_time() - cpu, time.perf_counter() - wall
        if spent.tokens:
            spent.decoding_cpu_s += cpu
            spent.decoding_wall_s += wall
        else:
            spent.reading_cpu_s.append(cpu)
            spent.reading_wall_s += wall
            _say(spent, len(prompt))
        for output in outputs:
            if not isinstance(output, Token):
                raise RuntimeError(f"the engine failed after {len(prompt)} tokens: {output.error}")
            spent.read = len(prompt) - output.cached_tokens
            spent.tokens.append(output.id)
    return spent


def _say(spent: Spent, length: int) -> None:
    if len(spent.reading_cpu_s) % 16 == 0:
        cpu, load = sum(spent.reading_cpu_s), os.getloadavg()[0]
        told = f"{cpu:.0f} s of CPU, {spent.reading_wall_s:.0f} s, load {load:.1f}"
        now = time.strftime("%H:%M:%S")
        print(f"{now} to {length}: {len(spent.reading_cpu_s)} steps, {told}", file=sys.stderr)


# Filled -----------------------------------------------------------------------------------------


def filled(directory: Path, lengths: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Measure a chunk and single tokens at the end of each length, without reading up to it.

    The cache is filled with the latents of many short sequences. That changes values and not how
    many there are, so it changes no speed.
    """
    runner = _runner(directory)
    runner.allocate(lengths[-1] // BLOCK)
    table_SN = np.arange(lengths[-1] // BLOCK, dtype=np.int32)[None]
    _fill(runner, range(CHUNK // BLOCK))  # takes the memory of all buffers
    _step(runner, table_SN, CHUNK, 1)
    memory, begun = rss(), CHUNK
    for length in lengths:
        _fill(runner, range(begun // BLOCK, length // BLOCK))
        row = _memory(runner, memory, length - begun)
        reading = min(_step(runner, table_SN, length, CHUNK) for _ in range(2))
        single = sorted(_step(runner, table_SN, length, 1) for _ in range(TRIES))[TRIES // 2]
        yield {
            "length": length,
            "read_tokens_per_cpu_s_here": round(CHUNK / reading[0], 1),
            "read_tokens_per_s_here": round(CHUNK / reading[1], 1),
            "decode_cpu_ms_per_token": round(1000 * single[0], 2),
            "decode_tokens_per_cpu_s": round(1 / single[0], 1),
            "decode_tokens_per_s": round(1 / single[1], 1),
        } | row
        memory, begun = rss(), length


def _fill(runner: CompiledRunner, blocks: range) -> None:
    """Write some blocks: each is a sequence of its own that begins and ends with it."""
    at_once = CHUNK // BLOCK
    for first in range(blocks.start, blocks.stop, at_once):
        numbers = np.arange(first, min(first + at_once, blocks.stop), dtype=np.int32)
        position_T = np.tile(np.arange(BLOCK, dtype=np.int32), len(numbers))
        sequence_T = np.repeat(np.arange(len(numbers), dtype=np.int32), BLOCK)
        _forward(runner, position_T, sequence_T, numbers[:, None], 0)


def _step(
    runner: CompiledRunner, table_SN: np.ndarray, length: int, tokens: int
) -> tuple[float, float]:
    """Compute the last tokens of one sequence, and return seconds of CPU and of the clock."""
    position_T = np.arange(length - tokens, length, dtype=np.int32)
    cpu, wall = time.thread_time(), time.perf_counter()
    _forward(runner, position_T, np.zeros(tokens, np.int32), table_SN, 1)
    return time.thread_time() - cpu, time.perf_counter() - wall


def _forward(
    runner: CompiledRunner,
    position_T: np.ndarray,
    sequence_T: np.ndarray,
    table_SN: np.ndarray,
    wanted: int,
) -> None:
    T = len(position_T)
    ids_T = ((position_T * 7919 + sequence_T) % runner.vocab_size).astype(np.int32)
    wanted_O = np.arange(T - wanted, T, dtype=np.int32)
    runner.forward(Batch(ids_T, position_T, sequence_T, table_SN, wanted_O))
