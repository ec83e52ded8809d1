import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from openk2.kernels.head_loss import head_loss, head_loss_reference


def make(n, d, v, dtype, seed=0):
    g = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, d, generator=g, dtype=dtype).requires_grad_()
    head = torch.randn(v, d, generator=g, dtype=dtype).requires_grad_()
    target = torch.randint(v, (n,), generator=g)
    weight = torch.rand(n, generator=g) * (torch.rand(n, generator=g) < 0.7)
    return hidden, head, target, weight


def with_gradients(function, hidden, head, target, weight, **options):
    loss = function(hidden, head, target, weight, **options)
    return loss, *torch.autograd.grad(loss * 3.0, (hidden, head))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-5)])
@pytest.mark.parametrize("chunk", [1, 5, 64])
def test_equals_cross_entropy_on_full_logits(dtype, tolerance, chunk):
    inputs = make(23, 8, 31, dtype)
    ours = with_gradients(head_loss, *inputs, chunk=chunk)
    plain = with_gradients(head_loss_reference, *inputs)
    for got, expected in zip(ours, plain, strict=True):
        torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


@given(st.integers(0, 12), st.integers(1, 9), st.integers(1, 7), st.integers(0, 99))
def test_equals_the_reference_at_any_shape(n, v, chunk, seed):
    inputs = make(n, 3, v, torch.float64, seed)
    ours = with_gradients(head_loss, *inputs, chunk=chunk)
    plain = with_gradients(head_loss_reference, *inputs)
    for got, expected in zip(ours, plain, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-7)


def test_tokens_without_weight_have_no_say():
    hidden, head, target, weight = make(12, 4, 9, torch.float64)
    weight[::2] = 0
    _, dhidden, dhead = with_gradients(head_loss, hidden, head, target, weight)
    assert (dhidden[::2] == 0).all()
    assert (dhidden[1::2].abs().sum(1) > 0).sum() > 0
    spoiled = target.clone()
    spoiled[::2] = 0
    _, _, again = with_gradients(head_loss, hidden, head, spoiled, weight)
    assert torch.equal(dhead, again)


def test_all_weights_zero_gives_zero_and_zero_gradients():
    hidden, head, target, weight = make(6, 4, 9, torch.float32)
    loss, dhidden, dhead = with_gradients(head_loss, hidden, head, target, weight * 0)
    assert loss == 0
    assert not dhidden.any()
    assert not dhead.any()


def test_parts_of_a_step_add_up_to_the_mean_over_the_step():
    hidden, head, target, weight = make(20, 4, 9, torch.float64)
    total = weight.sum()
    whole = head_loss_reference(hidden, head, target, weight) / total
    parts = [slice(0, 3), slice(3, 20)]
    summed = sum(head_loss(hidden[p], head, target[p], weight[p] / total) for p in parts)
    torch.testing.assert_close(summed, whole, rtol=1e-6, atol=1e-7)


def test_bfloat16_states_keep_a_float32_head_gradient():
    hidden, head, target, weight = make(40, 16, 21, torch.float32)
    low = hidden.detach().bfloat16().requires_grad_()
    loss, dhidden, dhead = with_gradients(head_loss, low, head, target, weight)
    assert (loss.dtype, dhidden.dtype, dhead.dtype) == (
        torch.float32,
        torch.bfloat16,
        torch.float32,
    )
    plain = with_gradients(head_loss_reference, hidden, head, target, weight)
    torch.testing.assert_close(loss, plain[0], rtol=2e-2, atol=2e-2)
    assert (dhead - plain[2]).norm() < 2e-2 * plain[2].norm()


def test_works_without_gradients_and_with_only_one_of_them():
    hidden, head, target, weight = make(10, 4, 9, torch.float64)
    with torch.inference_mode():
        loss = head_loss(hidden, head, target, weight)
    expected = with_gradients(head_loss_reference, hidden, head, target, weight)
    torch.testing.assert_close(loss, expected[0].detach(), rtol=1e-7, atol=1e-7)
    frozen = head_loss(hidden, head.detach(), target, weight)
    (dhidden,) = torch.autograd.grad(frozen * 3.0, (hidden,))
    torch.testing.assert_close(dhidden, expected[1], rtol=1e-7, atol=1e-7)
