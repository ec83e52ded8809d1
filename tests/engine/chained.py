"""A runner without a model whose logits depend on every token that it sees through the cache.

A block that is mixed up, stale, or read by the wrong sequence changes all logits behind it.
`expected` says what an undisturbed request must give, without any cache.
"""

from __future__ import annotations

import functools

import numpy as np

from openk2.engine.sampler import RowState, Sampler, seed_of

VOCAB = 48
STOP = 0
POISON = 46
"""In a batch, it makes the runner raise, with garbage in all blocks that it was to write."""
NAN = 47
"""Seen by a token, it makes its logits NaN."""
A, B = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)


class ChainedRunner:
    vocab_size = VOCAB
    max_positions = 4096

    def __init__(self, fails=lambda batch: False):
        self.fails = fails
        self.seen = []

    def allocate(self, blocks):
        self.latent_P = np.random.default_rng(0).integers(1, 1 << 63, (blocks, 16), np.uint64)

    def block_bytes(self):
        return self.latent_P[0].nbytes

    def forward(self, batch):
        block_T = batch.table_SN[batch.sequence_T, batch.position_T // 16]
        assert (block_T >= 0).all()
        cells = block_T, batch.position_T % 16
        assert len(set(zip(*(c.tolist() for c in cells), strict=True))) == len(block_T)
        self.seen.append(np.unique(batch.sequence_T, return_counts=True)[1].tolist())
        if self.fails(batch) or POISON in batch.ids_T:
            self.latent_P[cells] = 666
            raise ArithmeticError("poisoned")
        self.latent_P[cells] = latents(batch.ids_T, batch.position_T)
        logits_OV = np.empty((len(batch.wanted_O), VOCAB), np.float32)
        for logits_V, t in zip(logits_OV, batch.wanted_O.tolist(), strict=True):
            end = int(batch.position_T[t]) + 1
            row_N = batch.table_SN[batch.sequence_T[t], : -(-end // 16)]
            seen_T = self.latent_P[row_N].ravel()[:end]
            logits_V[:] = logits(int(seen_T.sum())) if seen_T.all() else np.nan
        return logits_OV


def latents(ids_T, position_T):
    mixed_T = (ids_T.astype(np.uint64) + np.uint64(1)) * A + position_T.astype(np.uint64) * B
    mixed_T ^= mixed_T >> np.uint64(31)
    return np.where(ids_T == NAN, np.uint64(0), (mixed_T * A) | np.uint64(1))


def logits(total):
    mixed_V = (np.uint64(total % 2**64) + np.arange(VOCAB, dtype=np.uint64) * A) * B
    mixed_V ^= mixed_V >> np.uint64(29)
    logits_V = ((mixed_V * A) >> np.uint64(40)).astype(np.float32) / np.float32(1 << 22)
    logits_V[[POISON, NAN]] = -np.inf
    return logits_V


@functools.lru_cache(maxsize=256)
def expected(prompt, sampling, max_len):
    """Return (id, finish_reason) of each token, or the type of the error that is due instead."""
    if POISON in prompt:
        return [ArithmeticError]
    if NAN in prompt:
        return [FloatingPointError]
    sampler = Sampler(VOCAB, 1)
    state = RowState(sampling, prompt, VOCAB, seed_of(sampling.seed))
    total = int(latents(np.array(prompt), np.arange(len(prompt))).sum())
    room = max_len - len(prompt)
    limit = room if sampling.max_tokens is None else min(room, sampling.max_tokens)
    due = []
    for end in range(len(prompt), len(prompt) + limit):
        if sampling.temperature == 0 and not sampling.presence_penalty:
            token = int(logits(total).argmax())
        else:
            token = int(sampler.sample(logits(total)[None], [state]).ids[0])
        state.accept(token)
        due.append((token, "stop" if token == STOP else None))
        if token == STOP:
            return due
        total += int(latents(np.array([token]), np.array([end]))[0])
    due[-1] = (due[-1][0], "length")
    return due
