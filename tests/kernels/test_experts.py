import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from openk2.kernels.experts import experts, experts_reference, sort_by_expert


def _weights(E: int, D: int, inner: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(E)
    gate_up = torch.randn(E, 2, inner, D, generator=generator, dtype=dtype) * 0.3
    down = torch.randn(E, D, inner, generator=generator, dtype=dtype) * 0.3
    return gate_up.requires_grad_(), down.requires_grad_()


@pytest.mark.parametrize("tokens", [1, 5, 64])
def test_grouped_experts_match_one_expert_after_the_other(tokens):
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
