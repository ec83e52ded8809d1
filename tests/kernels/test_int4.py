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


def normal(rows: int, groups: int, seed: int, power: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, groups * int4.GROUP, generator=generator)
    return weight.mul_(10.0**power)


def squared_error(weight: torch.Tensor, scales: int4.Scales) -> torch.Tensor:
    expanded = int4.dequantize(*int4.quantize(weight, scales=scales))
    return (expanded - weight).square().unflatten(1, (-1, int4.GROUP)).sum(-1)


@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 9), st.integers(-18, 18))
def test_the_search_finds_what_a_table_of_all_errors_finds(rows, groups, seed, power):
    weight = normal(rows, groups, seed, power)
    weight[0] = 0
    found = int4.quantize(weight, scales="mse")[1]
    assert torch.equal(found, int4.least_error_scale_reference(weight))


@given(st.integers(1, 40), st.integers(0, 99))
def test_searching_never_makes_a_group_worse(rows, seed):
    weight = normal(rows, 4, seed)
    assert (squared_error(weight, "mse") <= squared_error(weight, "absmax")).all()


def test_searching_pays_on_normal_values_and_the_best_is_inside_the_range():
    weight = normal(256, 8, 0)
    assert squared_error(weight, "mse").mean() < 0.9 * squared_error(weight, "absmax").mean()
    ratio = int4.quantize(weight, scales="mse")[1].float() / int4.quantize(weight)[1].float()
    smallest = int4.SHRINKS[-1]
    assert (ratio < smallest + 0.01).float().mean() < 0.05, "a smaller scale would be better"


@pytest.mark.parametrize("scales", ["absmax", "mse"])
def test_rounding_again_changes_nothing_whichever_the_scales(scales):
    first = int4.dequantize(*int4.quantize(normal(16, 4, 1), scales=scales))
    assert torch.equal(int4.dequantize(*int4.quantize(first, scales=scales)), first)
    assert torch.equal(int4.dequantize(*int4.quantize(first)), first)


@pytest.mark.parametrize("value", [0.0, 1e-45, 1e-40, 3e38])
def test_the_ends_of_float32_have_usable_scales(value):
    packed, scales = int4.quantize(torch.full((2, 32), value), scales="mse")
    assert (scales > 0).all()
    assert int4.dequantize(packed, scales).isfinite().all()


@pytest.mark.parametrize("scales", ["absmax", "mse"])
@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 9), st.integers(-30, 9))
def test_fake_quantising_is_quantising_and_expanding(scales, rows, groups, seed, power):
    weight = normal(rows, groups, seed, power)
    weight[0, :32] = 0
    out = torch.empty_like(weight)
    int4.fake_quantize_into(out, weight, scales=scales)
    assert torch.equal(out, int4.dequantize(*int4.quantize(weight, scales=scales)))
