"""Several decoding steps in one compiled call: nothing of Python between a token and the next.

In: a batch of one new token per row, its rows' sampling, and what ends the burst. Out: the tokens
of every step. Must not know: requests, blocks, or what comes of a token.

Shapes: S steps, O rows, V vocabulary, W mask words, E edits, K most likely tokens, N watched ids,
2 log-probabilities of a draw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from openk2.engine.compiling import DRAWS
from openk2.engine.draw import sample_rows
from openk2.engine.sampler import Draws
from openk2.kernels.cpu.cache import kept
from openk2.kernels.cpu.memory import call_11

if TYPE_CHECKING:
    from openk2.engine.runner import Batch, Native, RepeatingRunner
    from openk2.engine.sampler import Drawn, RowState, Sampler


@kept(DRAWS)
def repeat(
    run: int,
    arguments: tuple[int, ...],
    ids_O: np.ndarray,
    position_O: np.ndarray,
    watched_N: np.ndarray,
    interrupt: np.ndarray,
    logits_OV: np.ndarray,
    row_O: np.ndarray,
    edit_E: np.ndarray,
    bits_OW: np.ndarray,
    scratch: tuple[np.ndarray, ...],
    token_SO: np.ndarray,
    logprob_SO: np.ndarray,
    top_OK: np.ndarray,
    top_logprob_OK: np.ndarray,
    drawn_SO2: np.ndarray,
) -> tuple[int, int]:
    """Compute and draw until a watched id comes; return the steps and the last one's threads."""
    threads, steps, done = 1, 0, False
    while steps < token_SO.shape[0] and not done:
        threads = call_11(run, arguments)
        token_O, logprob_O = token_SO[steps], logprob_SO[steps]
        sample_rows(
            logits_OV,
            row_O,
            edit_E,
            bits_OW,
            scratch,
            token_O,
            logprob_O,
            top_OK,
            top_logprob_OK,
            drawn_SO2[steps],
        )
        steps += 1
        done = interrupt[0] != 0
        for o in range(token_O.size):
            ids_O[o] = token_O[o]
            position_O[o] += 1
            row_O[o].index += 1
            done |= not math.isfinite(logprob_O[o])
            for n in range(watched_N.size):
                done |= token_O[o] == watched_N[n]
    return steps, threads


def decode(
    runner: RepeatingRunner,
    batch: Batch,
    sampler: Sampler,
    rows: Sequence[RowState],
    masks: Sequence[np.ndarray | None] | None,
    *,
    steps: int,
    watched: Sequence[int],
    interrupt: np.ndarray,
) -> list[Sequence[Drawn]]:
    """Decode up to `steps` tokens of every row; the last step may have a watched one.

    Args:
        runner: Computes.
        batch: One token per row; its ids and positions are moved on.
        sampler: Draws.
        rows: Settings that stay as they are during the burst; their states are not moved on.
        masks: Allowed tokens, the same at every step.
        steps: At most.
        watched: Ids after which somebody has to decide what comes next.
        interrupt: Int64 [1]; another thread ends the burst by writing to it.

    Returns:
        What was drawn per step and row; a log-probability of NaN ends a burst as a watched id
        does.
    """
    count = len(rows)
    edit_E = sampler.prepare(rows, None, masks)
    token_SO = np.empty((steps, count), np.int64)
    logprob_SO = np.empty((steps, count), np.float64)
    drawn_SO2 = np.empty((steps, count, 2), np.float64)
    watched_N = np.array(watched, np.int64)

    def loop(native: Native) -> tuple[int, int]:
        return repeat(
            native.run,
            native.arguments,
            batch.ids_T,
            batch.position_T,
            watched_N,
            interrupt,
            native.logits_OV,
            sampler.row_O,
            edit_E,
            sampler.bits_OW,
            sampler.scratch,
            token_SO,
            logprob_SO,
            sampler.top_OK,
            sampler.top_logprob_OK,
            drawn_SO2,
        )

    done = runner.repeat(batch, loop)
    tops = ((),) * count
    each = zip(token_SO[:done], logprob_SO[:done], drawn_SO2[:done], strict=True)
    return [Draws(ids_O, logprob_O, tops, drawn_O2).each() for ids_O, logprob_O, drawn_O2 in each]
