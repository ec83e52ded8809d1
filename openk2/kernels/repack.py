"""Float32 weights into the forms that are served, each in one pass: for weights that change often.

In: matrices of a model in training. Out: bfloat16 tiles, or packed INT4 with its scales, with the
bits that `tiles.tile_float` and `int4.quantize` give; those, made of whole-array operations, need
several times as long. Must not know: names, models, or who asks.

Shapes: R rows of a matrix, M rows in the order in which they are written, N inputs, W = N / 8
packed words, G = N / 32 groups, g = 32.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from openk2.kernels.cpu.cache import Unit, kept
from openk2.kernels.cpu.tiles import GROUP, LANES, WORDS, float_bytes, int4_bytes, tile_int4

REPACK = Unit(
    "repack",
    (Path(__file__),),
    "from openk2.kernels.repack import load_repack; load_repack()",
)
PER_WORD = 8
OFFSET = 8
LARGEST = np.float32(7)
"""As in `int4`, whose names numba cannot see."""


def tile_bfloat16(weight_RN: np.ndarray, row_M: np.ndarray, out: np.ndarray) -> None:
    """Write rows of a float32 matrix as bfloat16 tiles.

    Args:
        weight_RN: Float32, contiguous.
        row_M: Int64: the row that becomes each output.
        out: uint8, `tiles.float_bytes(M, N, 2)` of them; outputs past M stay as they are.
    """
    tiles = out.view(np.uint16).reshape(-1, weight_RN.shape[1], LANES)
    _tile_bfloat16(weight_RN.view(np.uint32), row_M, tiles)


def pack_int4(weight_RN: np.ndarray, row_M: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return uint32 words [M, W] and the bits of bfloat16 scales [M, G], amax / 7 as published.

    Args:
        weight_RN: Float32, contiguous; N is a multiple of 32.
        row_M: Int64: the row that becomes each output.
    """
    groups = weight_RN.shape[1] // GROUP
    packed_MW = np.empty((len(row_M), groups * WORDS), np.uint32)
    scale_MG = np.empty((len(row_M), groups), np.uint16)
    _pack_int4(weight_RN, row_M, packed_MW, scale_MG)
    return packed_MW, scale_MG


def load_repack() -> None:
    """Load both passes; compile what is not there, which takes seconds once per machine."""
    weight_RN, row_M = np.zeros((LANES, GROUP), np.float32), np.arange(LANES)
    tile_bfloat16(weight_RN, row_M, np.empty(float_bytes(LANES, GROUP, 2), np.uint8))
    tile_int4(*pack_int4(weight_RN, row_M), np.empty(int4_bytes(LANES, GROUP), np.uint8))


@kept(REPACK)
def _tile_bfloat16(bits_RN: np.ndarray, row_M: np.ndarray, tiles: np.ndarray) -> None:
    N = bits_RN.shape[1]
    for m in range(len(row_M)):
        tile, lane, row = m // LANES, m % LANES, row_M[m]
        for n in range(N):
            bits = bits_RN[row, n]
            # To the nearest, ties to even; what is not a number must stay so.
            rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> 16
            nan = (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
            tiles[tile, n, lane] = np.uint16(0x7FC0) if nan else np.uint16(rounded)


@kept(REPACK)
def _pack_int4(
    weight_RN: np.ndarray, row_M: np.ndarray, packed_MW: np.ndarray, scale_MG: np.ndarray
) -> None:
    scale_1 = np.empty(1, np.float32)
    bits_1 = scale_1.view(np.uint32)
    nibble_g = np.empty(GROUP, np.uint32)
    for m in range(len(row_M)):
        row = row_M[m]
        for group in range(scale_MG.shape[1]):
            values_g = weight_RN[row, group * GROUP : (group + 1) * GROUP]
            largest, finite = np.float32(0), True
            for value in values_g:
                finite &= abs(value) < np.inf
                largest = max(largest, abs(value))
            scale_1[0] = largest / LARGEST
            bits = bits_1[0]
            bits = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> 16
            bits_1[0] = bits << 16
            if not scale_1[0] > 0:
                scale_1[0] = 1
            # No nibble is "not a number": the scale says it, or a broken weight would be hidden.
            scale_MG[m, group] = bits_1[0] >> 16 if finite else 0x7FC0
            scale = scale_1[0]
            for k in range(GROUP):
                value = min(max(np.rint(values_g[k] / scale), -LARGEST), LARGEST)
                nibble_g[k] = np.uint32(np.int32(value) + OFFSET)
            for j in range(WORDS):
                word = np.uint32(0)
                for k in range(PER_WORD):
                    word |= nibble_g[j * PER_WORD + k] << np.uint32(4 * k)
                packed_MW[m, group * WORDS + j] = word
