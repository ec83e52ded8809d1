"""Weights as the CPU kernels read them: sixteen rows interleaved, in the order of computing.

In: matrices, packed INT4 or float. Out: uint8 arrays of tiles. Must not know: models or kernels.

A tile is sixteen outputs. INT4: per 32 inputs 64 words of eight nibbles, four words for each of
the rows, rows innermost, and sixteen bfloat16 scales. A word holds its eight inputs as published,
even ones in low nibbles, so that packing only moves words; activations are stored evens first to
match (`rows.quantize_part`). Float: per input sixteen values. Rows that a matrix lacks are zero.

Shapes: M outputs, N inputs, W = N / 8 packed words, G = N / 32 groups, B = ceil(M / 16) tiles.
"""

from __future__ import annotations

import numpy as np

from openk2.kernels.cpu.cache import KERNELS, kept

LANES = 16
GROUP = 32
WORDS = 4
"""Packed words of one row in a group."""
WORD_BYTES = 4 * WORDS * LANES
GROUP_BYTES = WORD_BYTES + 2 * LANES
"""Words and scales of one group of a tile."""
EMPTY = np.uint32(0x88888888)
"""Eight zeros: nibbles are stored with an offset of 8."""


def int4_bytes(M: int, N: int) -> int:
    """Return the size of an INT4 matrix in tiles."""
    return -(-M // LANES) * (N // GROUP) * GROUP_BYTES


def float_bytes(M: int, N: int, width: int) -> int:
    """Return the size of a matrix of `width`-byte floats in tiles."""
    return -(-M // LANES) * LANES * N * width


def tile_int4(packed_MW: np.ndarray, scale_MG: np.ndarray, out: np.ndarray) -> None:
    """Write an INT4 matrix as tiles.

    Args:
        packed_MW: uint32 words as compressed-tensors packs them.
        scale_MG: uint16, the bits of bfloat16 scales.
        out: uint8, `int4_bytes(M, N)` of them.
    """
    groups = out.reshape(-1, scale_MG.shape[1], GROUP_BYTES)
    _interleave(
        packed_MW,
        scale_MG,
        groups[..., :WORD_BYTES].view(np.uint32),
        groups[..., WORD_BYTES:].view(np.uint16),
    )


@kept(KERNELS)
def _interleave(packed_MW, scale_MG, words, scales):
    M, G = scale_MG.shape
    for tile in range(words.shape[0]):
        for group in range(G):
            for row in range(LANES):
                m = tile * LANES + row
                for j in range(WORDS):
                    word = packed_MW[m, group * WORDS + j] if m < M else EMPTY
                    words[tile, group, j * LANES + row] = word
                scales[tile, group, row] = scale_MG[m, group] if m < M else 0


def tile_float(weight_MN: np.ndarray, out: np.ndarray) -> None:
    """Write a float matrix as tiles; `weight_MN` is float32, or uint16 with bfloat16 bits."""
    M, N = weight_MN.shape
    tiles = out.view(weight_MN.dtype).reshape(-1, N, LANES)
    whole = M // LANES
    tiles[:whole] = weight_MN[: whole * LANES].reshape(whole, LANES, N).transpose(0, 2, 1)
    if M % LANES:
        tiles[whole] = 0
        tiles[whole, :, : M % LANES] = weight_MN[whole * LANES :].T
