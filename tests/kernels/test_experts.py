import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from openk2.kernels import experts as kernel
from openk2.kernels.experts import (
    experts,
    experts_reference,
    sort_by_expert,
    swiglu,
    swiglu_reference,
)


def _weights(E: int, D: int, inner: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(E)
    gate_up = torch.randn(E, 2, inner, D, generator=generator, dtype=dtype) * 0.3
    down = torch.randn(E, D, inner, generator=generator, dtype=dtype) * 0.3
    return gate_up.requires_grad_(), down.requires_grad_()


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("tokens", [1, 5, 64])
def test_grouped_experts_match_one_expert_after_the_other(tokens, fused, monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: not fused)
    monkeypatch.setattr(kernel, "VALUES_IN_CACHE", 24 * 32)  # it cuts within an expert's rows
    torch.manual_seed(tokens)
    E, K, D, inner = 6, 2, 16, 32
    gate_up, down = _weights(E, D, inner, torch.float32)
    x = torch.randn(tokens, D, requires_grad=True)
    gate = torch.rand(tokens, K, requires_grad=True)
    chosen = torch.stack([torch.randperm(E)[:K] for _ in range(tokens)])
    fast = experts(x, chosen, gate, gate_up, down)
    slow = experts_reference(x, chosen, gate, gate_up, down)
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-5)
    upstream = torch.randn_like(fast)
    inputs = (x, gate, gate_up, down)
    for a, b in zip(
        torch.autograd.grad(fast, inputs, upstream),
        torch.autograd.grad(slow, inputs, upstream),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.sampled_from([1, 4, 16]))
@settings(deadline=None)
def test_every_pair_gets_its_own_row_in_its_experts_segment(flat, multiple):
    chosen = torch.tensor(flat)[:, None]
    rows = sort_by_expert(chosen, 5, multiple)
    row = rows.row_TK.flatten().tolist()
    assert len(set(row)) == len(flat)
    ends = rows.end_E.tolist()
    starts = [0, *ends[:-1]]
    assert all(starts[e] <= r < ends[e] for e, r in zip(flat, row, strict=True))
    assert all(end % multiple == 0 for end in ends)
    assert ends[-1] <= rows.token_R.numel()
    assert rows.token_R[rows.row_TK.flatten()].tolist() == list(range(len(flat)))


@pytest.mark.parametrize("shape", [(3, 7, 10), (5, 8), (0, 4)])
@pytest.mark.parametrize("values_in_cache", [1, 9, 1000])
def test_swiglu_in_cache_matches_the_plain_one(shape, values_in_cache, monkeypatch):
    monkeypatch.setattr(kernel, "VALUES_IN_CACHE", values_in_cache)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    fast, slow = swiglu(x), swiglu_reference(x)
    torch.testing.assert_close(fast, slow)
    upstream = torch.randn_like(slow)
    ours, theirs = (torch.autograd.grad(y, x, upstream)[0] for y in (fast, slow))
    torch.testing.assert_close(ours, theirs)


def test_experts_in_bfloat16_keep_a_bfloat16_gradient():
    torch.manual_seed(0)
    gate_up, down = _weights(6, 16, 32, torch.float32)
    x, gate = torch.randn(64, 16, requires_grad=True), torch.rand(64, 2)
    chosen = torch.stack([torch.randperm(6)[:2] for _ in range(64)])
    exact = experts_reference(x, chosen, gate, gate_up, down)
    with torch.autocast("cpu", torch.bfloat16):
        low = experts(x, chosen, gate, gate_up, down)
    assert low.dtype == torch.bfloat16
    assert (low - exact).norm() < 0.03 * exact.norm()
    inputs = (x, gate_up, down)
    for a, b in zip(
        torch.autograd.grad(low.float().square().sum(), inputs),
        torch.autograd.grad(exact.square().sum(), inputs),
        strict=True,
    ):
        assert (a - b).norm() < 0.05 * b.norm()
