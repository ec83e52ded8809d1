"""Attention over tiles of keys against a softmax in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from openk2.kernels.cpu.attention import PART, TILES, soften_1, transpose_tile
from openk2.kernels.cpu.build import kernels

r = 16
STALE = 1e30


@njit
def run_transpose(tile, C, out):
    transpose_tile(tile, C, out)


@njit
def run_soften(scores, tiles, valid, state, factor):
    soften_1(scores, tiles, valid, state, 8, factor)


def at(array):
    return array.ctypes.data


def softened(score_N, tiles, valid, state):
    """Turn scores into weights in place, and return the factor."""
    factor = np.zeros(1, np.float32)
    run_soften(at(score_N), tiles, at(np.int64([valid])), at(state), at(factor))
    return factor[0]


def in_tiles(key_NR, stale):
    """Lay keys out sixteen by sixteen, an even number of tiles; what lies behind them is stale."""
    N, R = key_NR.shape
    rows = -(-N // 32) * 32
    padded = np.full((rows, R), np.float32(stale))
    padded[:N] = key_NR
    return np.ascontiguousarray(padded.reshape(-1, 16, R).transpose(0, 2, 1))


def transposed(tiles_BRk, C):
    out = np.empty((len(tiles_BRk), 16, C), np.float32)
    for tile, to in zip(tiles_BRk, out, strict=True):
        run_transpose(at(tile), C, at(to))
    return out


def attend(query_MR, key_NR, C, seen_M, stale=STALE, rows=None):
    """Attend from rows that see the first `seen_M` keys, `rows` of them at a time."""
    M, R = query_MR.shape
    tiles = in_tiles(key_NR, stale)
    values = transposed(tiles, C)
    addresses = np.array([at(tile) for tile in tiles], np.int64)
    out, state = np.zeros((M, C), np.float32), np.full((M, 2), np.float32(0))
    state[:, 0] = -np.inf
    work = np.full(4 * PART + 16, np.float32(np.nan))
    rows = rows or M
    for first in range(0, len(tiles), TILES):
        count = min(TILES, len(tiles) - first)
        for m in range(0, M, rows):
            valid = np.array(seen_M[m : m + rows], np.int64) - 16 * first
            if valid.max() <= 0:
                continue
            kernels().attend_rows.ctypes(
                rows, at(query_MR[m:]), 4 * R, at(addresses[first:]), count, R, C,
                at(values[first:]), at(valid), at(state[m:]), 8, at(out[m:]), 4 * C, at(work),
            )  # fmt: skip
    return out / state[:, 1:]


def reference(query_MR, key_NR, C, seen_M):
    out = []
    for query, seen in zip(query_MR.astype(np.float64), seen_M, strict=True):
        keys = key_NR[:seen].astype(np.float64)
        score = keys @ query
        weight = np.exp(score - score.max())
        out.append(weight @ keys[:, :C] / weight.sum())
    return np.array(out)


def problem(seed, M, N, C, size=1.0):
    rng = np.random.default_rng(seed)
    key_NR = rng.standard_normal((N, C + r)).astype(np.float32)
    query_MR = (rng.standard_normal((M, C + r)) * size / np.sqrt(C)).astype(np.float32)
    return query_MR, key_NR


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.sampled_from([1, 2, 4]),
    N=st.one_of(st.integers(1, 80), st.sampled_from([255, 256, 257, 258, 272, 511, 513, 600])),
    C=st.sampled_from([16, 48, 64, 80, 144]),
    size=st.sampled_from([0.1, 1.0, 20.0]),
)
def test_attention_is_softmax_in_float64(seed, rows, N, C, size):
    query_MR, key_NR = problem(seed, rows, N, C, size)
    seen_M = [max(1, N - rows + 1 + m) for m in range(rows)]
    found = attend(query_MR, key_NR, C, seen_M)
    expected = reference(query_MR, key_NR, C, seen_M)
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-5 * max(1, size))


@pytest.mark.parametrize("stale", [0.0, -STALE, np.nan, np.inf])
@pytest.mark.parametrize("N", [1, 17, 31, 255, 257])
def test_what_lies_behind_the_last_key_changes_no_bit(stale, N):
    query_MR, key_NR = problem(0, 4, N, 64)
    seen_M = [max(1, N - 3 + m) for m in range(4)]
    if np.isinf(stale):  # no latent is infinite: they are normalised; their rotary part may be
        stale = np.r_[np.full(64, 0), np.full(r, stale)]
    assert np.array_equal(
        attend(query_MR, key_NR, 64, seen_M, stale), attend(query_MR, key_NR, 64, seen_M)
    )


@pytest.mark.parametrize("M", [2, 4])
@pytest.mark.parametrize("N", [4, 33, 256, 258, 530])
def test_a_rows_bits_do_not_depend_on_the_rows_beside_it(M, N):
    query_MR, key_NR = problem(1, 4, N, 80)
    seen_M = [N - 3 + m for m in range(4)]
    alone = attend(query_MR, key_NR, 80, seen_M, rows=1)
    assert np.array_equal(attend(query_MR, key_NR, 80, seen_M, rows=M), alone)


def test_a_later_key_that_is_not_a_number_touches_only_who_sees_it():
    query_MR, key_NR = problem(2, 4, 20, 64)
    clean = attend(query_MR, key_NR, 64, [17, 18, 19, 20])
    key_NR[18] = np.nan
    found = attend(query_MR, key_NR, 64, [17, 18, 19, 20])
    assert np.array_equal(found[:2], clean[:2])
    assert np.isnan(found[2:]).all()


@pytest.mark.parametrize("column", [0, 63, 64, 79])
def test_a_key_that_is_partly_not_a_number_shows(column):
    query_MR, key_NR = problem(3, 1, 300, 64)
    key_NR[5, column] = np.nan
    assert np.isnan(attend(query_MR, key_NR, 64, [300])).all()


def test_transposing_moves_values_and_drops_what_is_no_number():
    tile = np.random.default_rng(4).standard_normal((96, 16)).astype(np.float32)
    tile[7, 3] = np.nan
    found = transposed(tile[None], 80)[0]
    assert np.array_equal(found, np.nan_to_num(tile[:80], nan=0.0).T)


def test_softening_parts_one_after_the_other_is_one_softmax():
    score_N = np.random.default_rng(5).normal(0, 10, 600).astype(np.float32)
    state, weights = np.float32([-np.inf, 0]), np.zeros(0, np.float32)
    for start in range(0, 600, PART):
        part = np.full(PART, np.float32(np.nan))
        part[: len(score_N[start : start + PART])] = score_N[start : start + PART]
        valid = min(PART, 600 - start)
        factor = softened(part, TILES, valid, state)
        assert (part[valid:] == 0).all()
        weights = np.append(weights * factor, part[:valid])
    expected = np.exp(score_N.astype(np.float64) - score_N.max())
    assert state[0] == score_N.max()
    np.testing.assert_allclose(weights, expected, rtol=1e-5, atol=1e-30)
    np.testing.assert_allclose(state[1], expected.sum(), rtol=1e-6)


def test_a_part_in_which_nothing_is_seen_changes_nothing():
    state = np.float32([1.5, 2.25])
    part = np.full(PART, np.float32(np.nan))
    assert softened(part, 2, -3, state) == 1
    assert state.tolist() == [1.5, 2.25] and (part[:32] == 0).all()
