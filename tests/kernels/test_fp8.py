"""FP8 block matrices: the bit trick against PyTorch's conversion, and what quantising keeps."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from openk2.kernels import fp8

EVERY_CODE = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn)


@pytest.mark.parametrize("scale", [1.0, 3e-5, 7.0, 255.9, 256.0, 1e30])
def test_every_finite_code_expands_exactly(scale):
    finite = EVERY_CODE[~EVERY_CODE.float().isnan()]
    values = finite.repeat(64).view(127, 128)
    expanded = fp8.dequantize(values, torch.full((1, 1), scale))
    assert torch.equal(expanded, values.float() * scale)


def test_a_code_that_is_no_number_stays_none():
    values = EVERY_CODE.view(2, 128)
    expanded = fp8.dequantize(values, torch.ones(1, 1))
    assert torch.equal(expanded.isnan(), values.float().isnan())
    assert expanded.isnan().sum() == 2


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 9))
def test_the_fast_twin_agrees_with_the_plain_one(rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator)
    values, scales = fp8.quantize(weight)
    assert scales.shape == fp8.scale_shape((rows, columns))
    expanded = fp8.dequantize(values, scales)
    reference = fp8.dequantize_reference(values, scales)
    assert torch.allclose(expanded, reference, rtol=1e-6, atol=0)
    # Three bits of mantissa: half a step is a sixteenth; below 2^-6 the steps are absolute.
    step = scales.repeat_interleave(128, 0).repeat_interleave(128, 1)[:rows, :columns] * 2.0**-9
    assert ((expanded - weight).abs() <= weight.abs() / 16 + step).all()


def test_a_partial_block_is_scaled_by_what_it_holds():
    weight = torch.ones(576, 130)
    weight[512:] = 5.0
    _, scales = fp8.quantize(weight)
    assert scales.shape == (5, 2)
    assert torch.allclose(scales[4], torch.full((2,), 5 / 448))
    assert torch.allclose(scales[:4], torch.full((4, 2), 1 / 448))


def test_zeros_stay_zeros():
    values, scales = fp8.quantize(torch.zeros(128, 128))
    assert scales.isfinite().all()
    assert not fp8.dequantize(values, scales).any()
