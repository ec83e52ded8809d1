"""Tiles hold what their definition says: sixteen rows side by side, in the order of computing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.kernels.cpu.tiles import (
    GROUP_BYTES,
    WORD_BYTES,
    float_bytes,
    int4_bytes,
    tile_float,
    tile_int4,
)

rows = st.integers(1, 50)
seeds = st.integers(0, 2**32 - 1)


@given(seed=seeds, M=rows, G=st.integers(1, 5))
def test_int4_words_and_scales_lie_where_the_definition_says(seed, M, G):
    rng = np.random.default_rng(seed)
    packed_MW = rng.integers(0, 2**32, (M, 4 * G), np.uint32)
    scale_MG = rng.integers(0, 2**16, (M, G), np.uint16)
    out = np.full(int4_bytes(M, 32 * G), 0xA5, np.uint8)
    tile_int4(packed_MW, scale_MG, out)
    tiles = out.reshape(-1, G, GROUP_BYTES)
    words_BGjr = tiles[..., :WORD_BYTES].copy().view(np.uint32).reshape(-1, G, 4, 16)
    scales_BGr = tiles[..., WORD_BYTES:].copy().view(np.uint16)
    B = len(tiles)
    assert 16 * (B - 1) < M <= 16 * B
    # [B, G, word, row] back to [B, row, G, word].
    words = words_BGjr.transpose(0, 3, 1, 2).reshape(16 * B, 4 * G)
    scales = scales_BGr.transpose(0, 2, 1).reshape(16 * B, G)
    assert np.array_equal(words[:M], packed_MW)
    assert np.array_equal(scales[:M], scale_MG)
    assert (words[M:] == 0x88888888).all(), "missing rows are zeros with the nibbles' offset"
    assert (scales[M:] == 0).all()


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
@given(seed=seeds, M=rows, N=st.integers(1, 40))
def test_floats_lie_input_after_input(dtype, seed, M, N):
    rng = np.random.default_rng(seed)
    weight_MN = rng.integers(0, 2**16, (M, N)).astype(dtype)
    width = weight_MN.itemsize
    out = np.full(float_bytes(M, N, width), 0xA5, np.uint8)
    tile_float(weight_MN, out)
    tiles_BNr = out.view(dtype).reshape(-1, N, 16)
    back = tiles_BNr.transpose(0, 2, 1).reshape(-1, N)
    assert np.array_equal(back[:M], weight_MN)
    assert (back[M:] == 0).all() and len(back) - M < 16
