import pytest
import torch

from openk2.kernels.attention import attention, attention_reference, document_mask


def _inputs(B: int, H: int, T: int, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(B * 1000 + T)
    widths = (12, 12, 5)
    return [
        torch.randn(B, H, T, w, generator=generator, dtype=dtype, requires_grad=True)
        for w in widths
    ]


def _documents(B: int, T: int, lengths: list[int]) -> torch.Tensor:
    row = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))[:T]
    return torch.stack([row.roll(0), row.flip(0)][:B])


@pytest.mark.parametrize("rows_at_once", [False, True])
@pytest.mark.parametrize("T", [7, 128, 300])
def test_blockwise_attention_matches_the_full_score_matrix(monkeypatch, T, rows_at_once):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: rows_at_once)
    doc_BT = _documents(2, T, [3, 2, 90, 40, 200])
    doc_BT[0, T // 2 :] = -1
    fast_in, slow_in = _inputs(2, 3, T), _inputs(2, 3, T)
    fast, fast_top = attention(*fast_in, document_mask(doc_BT, torch.float64), doc_BT < 0)
    slow, slow_top = attention_reference(*slow_in, doc_BT)
    # Both softmaxes run in float32 by design.
    torch.testing.assert_close(fast, slow, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(fast_top, slow_top)
    upstream = torch.randn_like(fast)
    for a, b in zip(
        torch.autograd.grad(fast, fast_in, upstream),
        torch.autograd.grad(slow, slow_in, upstream),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_a_token_never_sees_another_document_or_the_future():
    q, k, v = (t.detach() for t in _inputs(1, 2, 20))
    doc_BT = torch.tensor([[0] * 8 + [1] * 12])
    bias = document_mask(doc_BT, torch.float64)
    before, _ = attention(q, k, v, bias)
    changed = v.clone()
    changed[:, :, :8] += 1.0
    changed[:, :, 15:] += 1.0
    after, _ = attention(q, k, changed, bias)
    assert torch.equal(before[:, :, 8:15], after[:, :, 8:15])
    assert not torch.equal(before[:, :, :8], after[:, :, :8])


def test_the_largest_logit_ignores_masked_pairs():
    q, k, v = (t.detach() for t in _inputs(1, 1, 6))
    k[0, 0, 5] = 1000 * q[0, 0, 0]  # only token 5 itself may see this key
    _, top = attention(q, k, v, document_mask(torch.zeros(1, 6, dtype=torch.long), q.dtype))
    visible = (q[0, 0] @ k[0, 0].T).tril() + torch.full((6, 6), -torch.inf).triu(1)
    torch.testing.assert_close(top[0, 0], visible.max().float())


def test_the_largest_logit_ignores_padding():
    q, k, v = (t.detach() for t in _inputs(2, 3, 140))
    q[:, :, 130:] *= 100
    doc_BT = torch.zeros(2, 140, dtype=torch.long)
    doc_BT[:, 130:] = -1
    mixed, top = attention(q, k, v, document_mask(doc_BT, q.dtype), doc_BT < 0)
    short = [t[:, :, :130] for t in (q, k, v)]
    alone, top_alone = attention(*short, document_mask(doc_BT[:, :130], q.dtype))
    torch.testing.assert_close(top, top_alone)
    torch.testing.assert_close(mixed[:, :, :130], alone)
    padding = torch.full((2, 140), -1)
    mixed, top = attention(q, k, v, document_mask(padding, q.dtype), padding < 0)
    assert bool((top == -torch.inf).all())
    assert bool(mixed.isfinite().all())


def test_a_block_begins_where_the_documents_of_its_queries_do():
    doc_BT = _documents(2, 384, [100, 150, 134])
    blocks = document_mask(doc_BT, torch.float32).blocks
    found = [(b.rows.start, b.queries.start, b.keys.start, b.keys.stop) for b in blocks]
    assert found == [
        (0, 0, 0, 128),
        (1, 0, 0, 128),
        (0, 128, 96, 256),  # document 1 begins at 100
        (1, 128, 0, 256),  # flipped: 134, 150, 100
        (0, 256, 240, 384),
        (1, 256, 128, 384),
    ]
