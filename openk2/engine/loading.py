"""A model directory to a running engine, within the memory that there is.

In: a directory and what the caller wants. Out: an engine over mapped weights, and one line that
says what will be slow about it. Must not know: text, or who asks.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch

from openk2.engine.compiled import CompiledRunner
from openk2.engine.compiling import DRAWS, load_draws
from openk2.engine.draft import DraftModel, PromptLookup
from openk2.engine.engine import Engine
from openk2.engine.runner import BLOCK, Batch, Runner, TorchRunner
from openk2.model.checkpoint import Checkpoint
from openk2.model.config import K2Config
from openk2.model.mapped import COMPUTE, map_model
from openk2.model.memory import memory_limit
from openk2.model.tiled import CannotTileError, tile_model
from openk2.model.verify import check_scales

CACHE_SHARE = 4
"""The latent cache may grow to this fraction of the memory: a quarter."""
Weights = Literal["auto", "mapped", "tiled"]
"""Mapped weights stay on disk until they are needed; tiled ones are copied into memory first, in
the order in which the compiled kernels read them, which is several times as fast."""
TILED_BYTES = 2_000_000_000
"""Weights up to this size are tiled without being asked: it takes a few seconds."""
CHEAPEST = 0.02
"""Steps: what is measured to cost less than this of a target's step was measured badly."""
MIN_CONTEXT = 2048
"""Tokens of context that the cache is given however little memory there is."""


class Loaded(NamedTuple):
    """An engine and what the user should know about it."""

    engine: Engine
    note: str | None
    """One line, if the weights or the context do not fit in memory as they are."""


def load_engine(
    directory: Path,
    *,
    stop_ids: frozenset[int],
    vocab_size: int,
    max_batch: int,
    context: int | None = None,
    device: str = "cpu",
    threads: int | None = None,
    weights: Weights = "auto",
    draft: Path | None = None,
) -> Loaded:
    """Open a model directory and build its engine.

    Args:
        directory: BF16, FP8 or INT4, with its configuration.
        stop_ids: Tokens that end an answer.
        vocab_size: Ids that the caller's tokenizer has.
        max_batch: Sequences that decode together.
        context: Longest conversation in tokens; None is as long as model and memory allow.
        device: Where it computes.
        threads: Of the compiled kernels; None is one per core.
        weights: How they lie in memory; `auto` tiles small ones on a CPU.
        draft: Directory of a smaller model of the same vocabulary that proposes tokens.

    Raises:
        WeightsError: A tensor is missing, damaged or of the wrong shape.
        ValueError: Configuration, vocabulary or context do not fit each other.
    """
    checkpoint = _open(directory, vocab_size)
    config = checkpoint.config
    memory = _memory(device, checkpoint)
    streaming = checkpoint.nbytes > memory
    runner = _runner(checkpoint, device, memory, threads, weights)
    with DRAWS.turn():
        load_draws()
    fitting = _fitting_context(config, max_batch, memory)
    max_len = context or fitting
    source = None
    if draft is not None:
        smaller = _open(draft, vocab_size)
        blocks = max_batch * -(-min(max_len, smaller.config.max_position_embeddings) // BLOCK)
        source = _draft_model(_runner(smaller, device, memory, threads, weights), runner, blocks)
    elif isinstance(runner, CompiledRunner):
        source = PromptLookup()  # what verifying costs was measured for this runner alone
    engine = Engine(runner, max_batch=max_batch, max_len=max_len, stop_ids=stop_ids, draft=source)
    notes = []
    if streaming:
        notes.append(
            f"the weights take {_size(checkpoint.nbytes)} and memory is {_size(memory)}: experts "
            "are read from disk whenever a token is routed to them"
        )
    if context is None and fitting < config.max_position_embeddings:
        notes.append(
            f"the context is {fitting:,} of {config.max_position_embeddings:,} tokens, so that "
            f"{max_batch} conversations fit in memory (--context sets it)"
        )
    return Loaded(engine, "; ".join(notes) or None)


def _open(directory: Path, vocab_size: int) -> Checkpoint:
    checkpoint = Checkpoint(directory)
    checkpoint.check_complete()
    check_scales(checkpoint)
    found = checkpoint.config.vocab_size
    if vocab_size != found:
        raise ValueError(
            f"the tokenizer has {vocab_size:,} ids and vocab_size in {directory / 'config.json'} "
            f"is {found:,}: they belong to different models"
        )
    return checkpoint


def _draft_model(runner: Runner, target: Runner, blocks: int) -> DraftModel:
    """Let one model draft for another, after a look at what both take for a token."""
    one = _seconds(target, 1)
    verify = (_seconds(target, 5) / one - 1) / 4
    return DraftModel(
        runner,
        vocab_size=target.vocab_size,
        blocks=blocks,
        verify=max(CHEAPEST, verify),
        make=max(CHEAPEST, _seconds(runner, 1) / one),
    )


def _seconds(runner: Runner, tokens: int) -> float:
    """Time a pass over a few tokens: the best of three, after one that may still be preparing."""
    position_T = np.arange(tokens, dtype=np.int32)
    table_SN, nothing_T = np.zeros((1, 1), np.int32), np.zeros(tokens, np.int32)
    batch = Batch(nothing_T, position_T, nothing_T, table_SN, position_T)
    seconds: list[float] = []
    for _ in range(4):
        began = time.perf_counter()
        runner.forward(batch)
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:])


def _runner(
    checkpoint: Checkpoint, device: str, memory: int, threads: int | None, weights: Weights
) -> CompiledRunner | TorchRunner:
    if weights == "tiled" and device != "cpu":
        raise ValueError("tiled weights are for CPUs: ask for --device cpu, or for mapped weights")
    fits = checkpoint.nbytes < min(TILED_BYTES, memory // 2)
    if weights == "tiled" or (weights == "auto" and device == "cpu" and fits):
        try:
            tiled = tile_model(checkpoint)
        except CannotTileError:
            if weights == "tiled":
                raise
        else:
            positions = checkpoint.config.max_position_embeddings
            return CompiledRunner(tiled, max_positions=positions, threads=threads)
    return TorchRunner(map_model(checkpoint, device, streaming=checkpoint.nbytes > memory))


def _memory(device: str, checkpoint: Checkpoint) -> int:
    if device == "cpu":
        return memory_limit()
    free, _ = torch.cuda.mem_get_info(device)
    if checkpoint.nbytes > free:  # experts are copied there and stay
        raise ValueError(
            f"the weights take {_size(checkpoint.nbytes)} and the GPU has {_size(free)} free: "
            "--device cpu reads them from disk as they are needed"
        )
    return free


def _fitting_context(config: K2Config, rows: int, memory: int) -> int:
    token = config.num_hidden_layers * config.latent_dim * COMPUTE.itemsize
    fitting = max(MIN_CONTEXT, memory // CACHE_SHARE // (rows * token))
    return min(config.max_position_embeddings, fitting)


def _size(nbytes: int) -> str:
    return f"{nbytes / 1e9:,.1f} GB" if nbytes >= 1e8 else f"{nbytes / 1e6:,.0f} MB"
