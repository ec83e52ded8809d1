"""What happens to rows between products, against numpy and torch."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from openk2.kernels.cpu import rows, step
from openk2.kernels.cpu.simd import F16V, I64, Lanes
from openk2.model.rope import rotate
from tests.kernels.test_cpu_products import int8_rows

HUGE = [0.0, -0.0, 1e-3, 1.0, -2.5, 127.0, 1e5, 3e30, -3e36]


@intrinsic
def exp_row(typing_context: Any, x: Any, K: Any) -> Any:
    def codegen(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        v, (x, K) = Lanes(context, b), arguments
        with cgutils.for_range(b, b.lshr(K, ir.Constant(I64, 4))) as loop:
            at = v.at(x, b.shl(loop.index, ir.Constant(I64, 6)))
            v.store(v.exp(v.load(at, F16V)), at)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@njit
def run_exp(x, K):
    exp_row(x, K)


@njit
def run_quantize(x, K, out, row, start):
    rows.quantize_part(x, K, out, row, start)


@njit
def run_norm(x, gain, K, eps, out):
    rows.norm_row(x, gain, K, np.float32(eps), out)


@njit
def run_swiglu(gate, up, out):
    rows.swiglu_32(gate, up, out)


@njit
def run_rotate(x, angles, r, out):
    step.rotate(x, angles, r, out)


@njit
def run_store(x, R, tile, lane):
    rows.store_latent(x, R, tile, lane)


def at(array):
    return array.ctypes.data


def test_exp_is_right_to_two_units_in_the_last_place_over_its_whole_range():
    x = np.concatenate(
        [np.linspace(-87.2, 87.9, 1 << 16), np.geomspace(1e-30, 1, 4096), [0.0, -0.0] * 8]
    ).astype(np.float32)
    x[::2] *= -1
    x = np.clip(x, -87.2, None)
    found = x.copy()
    run_exp(at(found), len(found))
    exact = np.exp(x.astype(np.float64))
    ulp = np.spacing(exact.astype(np.float32)).astype(np.float64)
    assert (np.abs(found - exact) / ulp).max() <= 2
    assert (found[x == 0] == 1).all()


def test_exp_beyond_its_range_is_zero_or_finite_and_nan_stays():
    x = np.float32([-87.4, -1e4, -np.inf, 88.0, 89.0, 1e30, np.inf, np.nan] * 2)
    found = x.copy()
    run_exp(at(found), 16)
    assert (found[:3] == 0).all()
    assert np.isfinite(found[3:7]).all() and (found[3:7] > 1e38).all()
    assert np.isnan(found[7])


def quantize(x_K, row=None, start=0):
    """Return the bytes of an int8 row that nothing else was written to."""
    row = row or len(x_K)
    out = np.full(rows.int8_stride(row), 0xA5, np.uint8)
    run_quantize(at(x_K), len(x_K), at(out), row, start)
    return out


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    groups=st.integers(1, 6),
    scale=st.sampled_from([1e-30, 1e-3, 1.0, 1e4, 1e35]),
    zeros=st.integers(0, 3),
)
def test_rounding_to_int8_is_its_definition_bit_for_bit(seed, groups, scale, zeros):
    rng = np.random.default_rng(seed)
    x_K = (rng.standard_normal(32 * groups) * scale).astype(np.float32)
    x_K[: 32 * min(zeros, groups)] = 0
    used = 40 * groups
    assert np.array_equal(quantize(x_K)[:used], int8_rows(x_K[None])[0, :used])


@given(st.lists(st.sampled_from(HUGE), min_size=32, max_size=32))
def test_rounding_keeps_every_value_to_half_a_step_of_the_largest(values):
    x_K = np.float32(values)
    out = quantize(x_K)
    found = out[:32].view(np.int8)
    order = [8 * word + i for word in range(4) for i in (0, 2, 4, 6, 1, 3, 5, 7)]
    scale = out[32:36].view(np.float32)[0]
    error = np.abs(found * np.float64(scale) - x_K[order])
    assert error.max() <= np.abs(x_K).max() / 127 * 0.50001
    assert np.abs(found.astype(int)).max() <= 127
    assert out[36:40].view(np.int32)[0] == -8 * found.sum(dtype=np.int32)


def test_parts_of_a_row_are_rounded_where_they_belong():
    x_K = np.random.default_rng(0).standard_normal(256).astype(np.float32)
    whole, out = quantize(x_K), np.full(rows.int8_stride(256), 0xA5, np.uint8)
    for start, stop in ((64, 160), (0, 64), (160, 256)):
        run_quantize(at(x_K[start:]), stop - start, at(out), 256, start)
    assert np.array_equal(out, whole)


@pytest.mark.parametrize("damage", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("lane", [0, 15, 16, 31])
@pytest.mark.parametrize("rest", [0.0, 1.0, 3e38])
def test_what_is_not_a_number_does_not_round_away(damage, lane, rest):
    x_K = np.full(96, np.float32(1))
    x_K[32:64] = rest
    x_K[32 + lane] = damage
    scales = quantize(x_K)[96:108].view(np.float32)
    assert np.isnan(scales[1])
    assert np.isfinite(scales[[0, 2]]).all()


def test_all_of_a_group_not_a_number():
    assert np.isnan(quantize(np.full(32, np.float32(np.nan)))[32:36].view(np.float32)[0])


@pytest.mark.parametrize("K", [16, 48, 512, 7168])
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_norm_is_torchs(K, size):
    rng = np.random.default_rng(K)
    x, gain = (rng.standard_normal(K).astype(np.float32) for _ in range(2))
    x *= np.float32(size)
    out = np.zeros(K, np.float32)
    run_norm(at(x), at(gain), K, 1e-6, at(out))
    expected = F.rms_norm(torch.from_numpy(x).double(), (K,), torch.from_numpy(gain).double(), 1e-6)
    np.testing.assert_allclose(out, expected.numpy(), rtol=2e-6)


def test_the_norm_of_zeros_is_zero_and_of_nan_is_nan():
    gain, out = np.ones(32, np.float32), np.ones(32, np.float32)
    run_norm(at(np.zeros(32, np.float32)), at(gain), 32, 1e-6, at(out))
    assert (out == 0).all()
    x = np.ones(32, np.float32)
    x[5] = np.nan
    run_norm(at(x), at(gain), 32, 1e-6, at(out))
    assert np.isnan(out).all()


@pytest.mark.parametrize("size", [1e-3, 1.0, 30.0, 200.0])
def test_swiglu_is_torchs(size):
    rng = np.random.default_rng(2)
    gate, up = (rng.standard_normal(32).astype(np.float32) for _ in range(2))
    gate *= np.float32(size)
    out = np.zeros(32, np.float32)
    run_swiglu(at(gate), at(up), at(out))
    expected = F.silu(torch.from_numpy(gate).double()) * torch.from_numpy(up).double()
    np.testing.assert_allclose(out, expected.numpy(), rtol=2e-6, atol=1e-35)


def test_swiglu_of_nan_is_nan():
    gate, up, out = np.ones(32, np.float32), np.ones(32, np.float32), np.zeros(32, np.float32)
    gate[3] = up[20] = np.nan
    run_swiglu(at(gate), at(up), at(out))
    assert np.flatnonzero(np.isnan(out)).tolist() == [3, 20]


@pytest.mark.parametrize("r", [16, 64])
def test_rotation_is_torchs(r):
    rng = np.random.default_rng(r)
    x = rng.standard_normal(r).astype(np.float32)
    angle_P = torch.from_numpy(rng.uniform(0, 1000, r // 2).astype(np.float32))
    cos_P, sin_P = angle_P.cos() * 1.2, angle_P.sin() * 1.2
    pairs = torch.stack((cos_P, sin_P), dim=-1).numpy().copy()
    out = np.zeros(r, np.float32)
    run_rotate(at(x), at(pairs), r, at(out))
    expected = rotate(torch.from_numpy(x)[None, None, None], cos_P[None, None], sin_P[None, None])
    np.testing.assert_allclose(out, expected.flatten().numpy(), rtol=1e-5, atol=1e-6)


def test_a_latent_is_stored_in_its_lane_and_in_no_other():
    tile = np.full((48, 16), np.float32(7.5))
    x = np.arange(48, dtype=np.float32)
    for lane in (3, 0, 15):
        run_store(at(x + lane), 48, at(tile), lane)
        assert np.array_equal(tile[:, lane], x + lane)
    assert (np.delete(tile, [0, 3, 15], axis=1) == 7.5).all()
