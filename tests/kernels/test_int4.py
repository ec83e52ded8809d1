"""INT4 groups: the published packing, its fast twin, and what quantising keeps."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from openk2.kernels import int4


def test_the_first_value_is_the_lowest_nibble():
    word = int4.pack(torch.arange(-8, 0, dtype=torch.int8)[None])
    assert word.tolist() == [[0x76543210]]
    assert int4.unpack(word).tolist() == [list(range(-8, 0))]


@given(st.lists(st.integers(-8, 7), min_size=8, max_size=64).filter(lambda v: len(v) % 8 == 0))
def test_packing_keeps_every_value(values):
    row = torch.tensor([values], dtype=torch.int8)
    assert torch.equal(int4.unpack(int4.pack(row)), row)


@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 9))
def test_the_fast_twin_agrees_with_the_plain_one(rows, groups, seed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, groups * int4.GROUP, generator=generator)
    packed, scales = int4.quantize(weight)
    expanded = int4.dequantize(packed, scales)
    assert torch.equal(expanded, int4.dequantize_reference(packed, scales))
    # Half a step, and the little that the scale itself was rounded by times the largest value.
    step = scales.float().repeat_interleave(int4.GROUP, 1)
    assert ((expanded - weight).abs() <= step * (0.5 + 7 / 256)).all()
    assert int4.unpack(packed).abs().max() <= int4.LARGEST


def test_quantising_what_was_quantised_changes_nothing():
    weight = torch.randn(16, 128)
    first = int4.dequantize(*int4.quantize(weight))
    assert torch.equal(int4.dequantize(*int4.quantize(first)), first)


def test_zeros_stay_zeros():
    packed, scales = int4.quantize(torch.zeros(4, 32))
    assert scales.isfinite().all()
    assert not int4.dequantize(packed, scales).any()


def test_an_odd_width_is_refused():
    with pytest.raises(ValueError, match="multiple of 32"):
        int4.quantize(torch.zeros(4, 40))
