import pytest
import torch
import torch.nn.functional as F

from openk2.kernels import rms_norm as kernel
from openk2.kernels.rms_norm import rms_norm


@pytest.mark.parametrize("shape", [(2, 5, 12), (7, 8), (0, 4)])
@pytest.mark.parametrize("values_in_cache", [1, 30, 1 << 16])
def test_equals_the_plain_norm_with_gradients(shape, values_in_cache, monkeypatch):
    monkeypatch.setattr(kernel, "VALUES_IN_CACHE", values_in_cache)
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    gain = torch.randn(shape[-1], dtype=torch.float64, requires_grad=True)
    ours, plain = rms_norm(x, gain, 0.1), F.rms_norm(x, (shape[-1],), gain, 0.1)
    torch.testing.assert_close(ours, plain)
    upstream = torch.randn_like(plain)
    for a, b in zip(
        torch.autograd.grad(ours, (x, gain), upstream),
        torch.autograd.grad(plain, (x, gain), upstream),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_a_row_of_zeros_and_a_strided_gradient_are_fine():
    x = torch.zeros(3, 4, requires_grad=True)
    gain = torch.ones(4, requires_grad=True)
    (dx,) = torch.autograd.grad(rms_norm(x, gain, 1e-6), x, torch.ones(4, 3).T)
    (plain,) = torch.autograd.grad(F.rms_norm(x, (4,), gain, 1e-6), x, torch.ones(4, 3).T)
    torch.testing.assert_close(dx, plain)


def test_without_gradients_it_is_the_plain_norm_bit_for_bit():
    x, gain = torch.randn(5, 32), torch.randn(32)
    with torch.inference_mode():
        assert torch.equal(rms_norm(x, gain, 1e-6), F.rms_norm(x, (32,), gain, 1e-6))
