"""Products of tiles and rows against the same rounding written out, and against exact weights."""

import numpy as np
import pytest
import torch

from openk2.kernels import int4
from openk2.kernels.cpu.build import kernels
from openk2.kernels.cpu.products import BF16, FLOAT32, INT4
from openk2.kernels.cpu.rows import int8_stride
from openk2.kernels.cpu.tiles import float_bytes, int4_bytes, tile_float, tile_int4

SHAPES = [(16, 32), (48, 96), (77, 64), (5, 256), (160, 544)]
COUNTS = range(1, 18)
EVENS_FIRST = [0, 2, 4, 6, 1, 3, 5, 7]


def round_to_int8(x_TK):
    """Return int8 values [T, K], scales and sums [T, K / 32] by the definition of an int8 row."""
    T, K = x_TK.shape
    groups = x_TK.astype(np.float32).reshape(T, K // 32, 32)
    largest = np.abs(groups).max(-1)
    with np.errstate(divide="ignore"):
        inverse = np.where(largest > 0, np.float32(127) / largest, np.float32(0))
    values = np.rint(groups * inverse[..., None]).astype(np.int8)
    scales = largest * np.float32(1 / 127)
    return values.reshape(T, K), scales, values.sum(-1, dtype=np.int32)


def int8_rows(x_TK):
    """Lay rows out as `kernels.cpu.rows` says."""
    T, K = x_TK.shape
    values, scales, sums = round_to_int8(x_TK)
    out = np.zeros((T, int8_stride(K)), np.uint8)
    out[:, :K] = values.reshape(T, K // 8, 8)[..., EVENS_FIRST].reshape(T, K).view(np.uint8)
    out[:, K : K + K // 8] = np.ascontiguousarray(scales).view(np.uint8)
    out[:, K + K // 8 : K + K // 4] = (-8 * sums).astype(np.int32).view(np.uint8)
    return out


def multiply(form, tiles, rows, M, K):
    """Run the kernel on all tiles; what it must not write is checked."""
    T, B = len(rows), -(-M // 16)
    y = np.full((T + 1, 16 * B + 16), np.float32(7.5))
    kernels().multiply.ctypes(
        form, tiles.ctypes.data, 0, B, rows.ctypes.data, rows.strides[0], T, K,
        y.ctypes.data, y.strides[0],
    )  # fmt: skip
    assert (y[T] == 7.5).all() and (y[:, 16 * B :] == 7.5).all()
    return y[:T, :M].copy()


def int4_matrix(M, K, seed=0):
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(-(2**31), 2**31, (M, K // 8), generator=generator).to(torch.int32)
    scale = (torch.rand(M, K // 32, generator=generator) * 0.1).to(torch.bfloat16)
    tiles = np.empty(int4_bytes(M, K), np.uint8)
    tile_int4(words.numpy().view(np.uint32), scale.view(torch.uint16).numpy(), tiles)
    return words, scale, tiles


@pytest.mark.parametrize(("M", "K"), SHAPES)
def test_int4_products_are_those_of_rounded_rows(M, K):
    words, scale, tiles = int4_matrix(M, K)
    weight_MK = int4.unpack(words).numpy().astype(np.int64)
    assert weight_MK.min() == -8 and weight_MK.max() == 7
    rng = np.random.default_rng(1)
    for T in COUNTS:
        x_TK = rng.standard_normal((T, K)).astype(np.float32)
        y_TM = multiply(INT4, tiles, int8_rows(x_TK), M, K)
        values, scales, _ = round_to_int8(x_TK)
        dot_TMG = np.einsum(
            "tgk,mgk->tmg",
            values.reshape(T, -1, 32).astype(np.int64),
            weight_MK.reshape(M, -1, 32),
        )
        part_TMG = dot_TMG * (scale.double().numpy()[None] * scales[:, None].astype(np.float64))
        room = (np.abs(part_TMG).sum(-1) + 1e-3) * K / 32 * 2.0**-22
        assert (np.abs(y_TM - part_TMG.sum(-1)) <= room).all()


@pytest.mark.parametrize(("M", "K"), SHAPES)
def test_int4_products_are_as_near_the_exact_ones_as_int8_allows(M, K):
    words, scale, tiles = int4_matrix(M, K, seed=2)
    exact_MK = int4.dequantize(words, scale).double().numpy()
    x_TK = np.random.default_rng(3).standard_normal((4, K)).astype(np.float32)
    y_TM = multiply(INT4, tiles, int8_rows(x_TK), M, K)
    # Half a step of the group's scale per value, and nothing more.
    half_TK = np.repeat(round_to_int8(x_TK)[1] / 2, 32, axis=1).astype(np.float64)
    room = half_TK @ np.abs(exact_MK).T * (1 + 1e-5) + 1e-4
    assert (np.abs(y_TM - x_TK.astype(np.float64) @ exact_MK.T) <= room).all()


@pytest.mark.parametrize("form", [BF16, FLOAT32])
@pytest.mark.parametrize(("M", "K"), [*SHAPES, (33, 48), (16, 1)])
def test_float_products_are_numpys(form, M, K):
    generator = torch.Generator().manual_seed(4)
    weight_MK = torch.randn(M, K, generator=generator)
    stored = weight_MK.bfloat16() if form == BF16 else weight_MK
    bits = stored.view(torch.uint16).numpy() if form == BF16 else stored.numpy()
    tiles = np.empty(float_bytes(M, K, bits.itemsize), np.uint8)
    tile_float(bits, tiles)
    rng = np.random.default_rng(5)
    for T in COUNTS:
        x_TK = rng.standard_normal((T, K)).astype(np.float32)
        exact = x_TK.astype(np.float64) @ stored.double().numpy().T
        room = np.abs(x_TK).astype(np.float64) @ stored.double().numpy().T.__abs__() * K * 2.0**-24
        assert (np.abs(multiply(form, tiles, x_TK, M, K) - exact) <= room + 1e-12).all()


@pytest.mark.parametrize("form", [INT4, BF16, FLOAT32])
def test_a_rows_bits_do_not_depend_on_the_rows_beside_it(form):
    M, K = 77, 96
    if form == INT4:
        tiles = int4_matrix(M, K)[2]
    else:
        dtype = np.uint16 if form == BF16 else np.float32
        weight = np.random.default_rng(6).standard_normal((M, K)).astype(np.float32)
        bits = (weight.view(np.uint32) >> 16).astype(np.uint16) if dtype == np.uint16 else weight
        tiles = np.empty(float_bytes(M, K, bits.itemsize), np.uint8)
        tile_float(bits, tiles)
    x_TK = np.random.default_rng(7).standard_normal((17, K)).astype(np.float32)
    rows = int8_rows(x_TK) if form == INT4 else x_TK
    alone = np.concatenate([multiply(form, tiles, rows[t : t + 1], M, K) for t in range(17)])
    for T in COUNTS:
        for start in (0, 17 - T):
            beside = multiply(form, tiles, rows[start : start + T], M, K)
            assert np.array_equal(beside, alone[start : start + T])


@pytest.mark.parametrize("form", [INT4, FLOAT32])
def test_a_part_of_the_tiles_writes_its_own_outputs_only(form):
    M, K = 64, 64
    x_TK = np.random.default_rng(8).standard_normal((3, K)).astype(np.float32)
    if form == INT4:
        tiles, rows = int4_matrix(M, K)[2], int8_rows(x_TK)
    else:
        tiles, rows = np.empty(float_bytes(M, K, 4), np.uint8), x_TK
        tile_float(np.random.default_rng(9).standard_normal((M, K)).astype(np.float32), tiles)
    whole = multiply(form, tiles, rows, M, K)
    y = np.full((3, M), np.float32(7.5))
    kernels().multiply.ctypes(
        form, tiles.ctypes.data, 1, 3, rows.ctypes.data, rows.strides[0], 3, K,
        y.ctypes.data, y.strides[0],
    )  # fmt: skip
    assert np.array_equal(y[:, 16:48], whole[:, 16:48])
    assert (y[:, :16] == 7.5).all() and (y[:, 48:] == 7.5).all()


def test_a_group_of_a_row_that_is_not_a_number_shows_in_every_output():
    M, K = 32, 64
    rows = int8_rows(np.ones((3, K), np.float32))
    rows[1, K + 4 : K + 8] = np.float32([np.nan]).view(np.uint8)  # the second group's scale
    y_TM = multiply(INT4, int4_matrix(M, K)[2], rows, M, K)
    assert np.isnan(y_TM[1]).all() and np.isfinite(y_TM[[0, 2]]).all()
