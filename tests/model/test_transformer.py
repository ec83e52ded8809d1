import math
from dataclasses import replace

import pytest
import torch

from openk2.model import mla
from openk2.model.config import YarnConfig, preset
from openk2.model.rope import rope_angles, rotate, yarn_ramp
from openk2.model.transformer import Transformer, count_parameters, latent_blocks
from tests.model.test_parity import SHAPES, TINY, relative_error


def test_the_published_shape_counts_exactly():
    count = count_parameters(preset("k2"))
    assert count.total == 1_026_408_232_448
    assert round(count.active / 1e9, 2) == 32.86


def test_nano_and_small_have_the_promised_sizes():
    nano, small = count_parameters(preset("nano")), count_parameters(preset("small"))
    assert 20e6 <= nano.total <= 30e6
    assert 4e6 <= nano.active_inner <= 6e6
    assert small.total == 495_921_344


BLOCK = 4


class Cached:
    """Feeds sequences through a paged cache whose blocks are in any order and full of NaN."""

    def __init__(self, model, rows, max_len):
        self.model = model
        per_row = -(-max_len // BLOCK)
        self.latent_LPxR = latent_blocks(model.config, rows * per_row + 3, BLOCK)
        self.latent_LPxR.fill_(torch.nan)
        order = torch.randperm(rows * per_row + 3)[: rows * per_row]
        self.table_SN = order.view(rows, per_row).int()
        self.length = [0] * rows

    def feed(self, pieces, wanted="last"):
        """Append {row: ids}; return the logits [O, V] after each piece's last token, or all."""
        ids, position, sequence, ends = [], [], [], []
        for row, piece in pieces.items():
            start = self.length[row]
            ids += piece.tolist()
            position += range(start, start + len(piece))
            sequence += [row] * len(piece)
            ends.append(len(ids) - 1)
            self.length[row] += len(piece)
        wanted = ends if wanted == "last" else range(len(ids))
        arrays = (torch.tensor(list(x), dtype=torch.int32) for x in (ids, position, sequence))
        wanted_O = torch.tensor(list(wanted), dtype=torch.int32)
        return self.model.infer(*arrays, self.table_SN, self.latent_LPxR, wanted_O)


@pytest.mark.parametrize("name", ["plain", "no query latent", "yarn 64, betas 32/1, two shared"])
def test_absorbed_and_paged_equal_materialised_and_uncached(name):
    torch.manual_seed(1)
    model = Transformer(SHAPES[name]).eval()
    ids = torch.randint(0, 160, (3, 40))
    with torch.no_grad():
        full_BTV = model.logits(model(ids).hidden_BTD)
    cached = Cached(model, rows=5, max_len=64)
    rows = {4: 0, 0: 1, 2: 2}
    length = {4: 30, 0: 7, 2: 1}
    logits = cached.feed({row: ids[b, : length[row]] for row, b in rows.items()})
    while max(length.values()) < 40:  # rows of different lengths, one token each
        for logits_V, (row, b) in zip(logits, rows.items(), strict=True):
            assert relative_error(logits_V, full_BTV[b, length[row] - 1]) < 1e-5
        logits = cached.feed({row: ids[b, length[row], None] for row, b in rows.items()})
        length = {row: n + 1 for row, n in length.items()}


def test_a_prompt_in_chunks_equals_the_prompt_at_once_at_every_token():
    torch.manual_seed(2)
    model = Transformer(TINY).eval()
    ids = torch.randint(0, 160, (50,))
    whole = Cached(model, 1, 64).feed({0: ids}, "all")
    cached = Cached(model, 3, 64)
    other = torch.randint(0, 160, (64,))
    parts = []
    for start, end in ((0, 1), (1, 17), (17, 33), (33, 36), (36, 50)):
        piece = ids[start:end]
        logits = cached.feed({2: other[start:end], 0: piece, 1: other[start : start + 1]}, "all")
        parts.append(logits[len(piece) : 2 * len(piece)])
    assert relative_error(torch.cat(parts), whole) < 1e-5


def test_long_contexts_are_read_in_parts(monkeypatch):
    torch.manual_seed(2)
    model = Transformer(TINY).eval()
    ids = torch.randint(0, 160, (2, 50))
    pieces = {0: ids[0], 1: ids[1]}
    whole = Cached(model, 2, 64).feed(pieces, "all")
    monkeypatch.setattr(mla, "MAX_SCORES", 7 * 2 * 50 * TINY.num_attention_heads)
    assert relative_error(Cached(model, 2, 64).feed(pieces, "all"), whole) < 1e-6


def test_a_nan_is_seen_by_those_behind_it_only():
    torch.manual_seed(2)
    model = Transformer(TINY).eval()
    model.embed_tokens.weight.data[7] = torch.nan
    ids = torch.randint(8, 160, (20,))
    clean = Cached(model, 1, 64).feed({0: ids}, "all")
    ids[12] = 7
    spoiled = Cached(model, 1, 64).feed({0: ids}, "all")
    assert relative_error(spoiled[:12], clean[:12]) < 1e-5
    assert spoiled[12:].isnan().all()


def test_packed_documents_equal_documents_alone():
    torch.manual_seed(3)
    model = Transformer(TINY).eval()
    ids = torch.randint(0, 160, (1, 30))
    doc = torch.tensor([[0] * 12 + [1] * 18])
    with torch.no_grad():
        packed = model(ids, doc).hidden_BTD
        # RoPE is relative, so a document's offset in the row does not matter.
        alone = model(ids[:, 12:]).hidden_BTD
    assert relative_error(packed[:, 12:], alone) < 1e-4


@torch.no_grad()
def first_layers_max_logit_H(model, ids_BT):
    """Straight from the weights of layer 0, as the report writes it."""
    w = {n: p for n, p in model.layers[0].named_parameters() if "self_attn" in n}
    w = {n.split(".")[1]: p for n, p in w.items()}

    def norm(x):
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    x_BTD = norm(model.embed_tokens(ids_BT))  # fresh norm gains are 1
    angles = rope_angles(model.config, torch.arange(ids_BT.shape[1])[None])
    q_BTHq = (norm(x_BTD @ w["q_a_proj"].T) @ w["q_b_proj"].T).unflatten(-1, (4, 16))
    latent_BTC, key_BTr = (x_BTD @ w["kv_a_proj_with_mqa"].T).split((16, 8), -1)
    k_BTHn = (norm(latent_BTC) @ w["kv_b_proj"].T).unflatten(-1, (4, 20))[..., :8]
    score_BHTT = torch.einsum("bihn,bjhn->bhij", q_BTHq[..., :8], k_BTHn) + torch.einsum(
        "bihr,bjr->bhij",
        rotate(q_BTHq[..., 8:], *angles),
        rotate(key_BTr[:, :, None], *angles)[:, :, 0],
    )
    scale = 16**-0.5 * (0.1 * math.log(32) + 1) ** 2
    future_TT = torch.ones(ids_BT.shape[1], ids_BT.shape[1], dtype=torch.bool).triu(1)
    return (score_BHTT * scale).masked_fill(future_TT, -torch.inf).amax((0, 2, 3))


def test_max_logit_and_load_are_what_they_say():
    torch.manual_seed(4)
    config = replace(TINY, rope_scaling=YarnConfig(32.0))
    model = Transformer(config).eval()
    ids = torch.randint(0, 160, (2, 16))
    out = model(ids)
    assert out.max_logit_LH.shape == (3, 4)
    torch.testing.assert_close(out.max_logit_LH[0], first_layers_max_logit_H(model, ids))
    assert out.load_ME.sum(1).tolist() == [2 * 16 * TINY.num_experts_per_tok] * 2


def test_padding_counts_neither_as_load_nor_in_the_largest_logit():
    torch.manual_seed(4)
    model = Transformer(TINY).eval()
    ids = torch.randint(0, 160, (2, 6))
    doc = torch.zeros_like(ids)
    # long and of any tokens, so that padding which counts would show
    fill = torch.randint(0, 160, (2, 40))
    pad = torch.full_like(fill, -1)
    alone = model(ids, doc)
    padded = model(torch.cat((ids, fill), 1), torch.cat((doc, pad), 1))
    counted = model(torch.cat((ids, fill), 1), torch.cat((doc, -pad), 1))
    assert torch.equal(padded.load_ME, alone.load_ME)
    torch.testing.assert_close(padded.max_logit_LH, alone.max_logit_LH)
    assert not torch.equal(counted.load_ME, alone.load_ME)
    assert bool((counted.max_logit_LH > alone.max_logit_LH + 1e-3).any())


def test_the_bias_selects_experts_but_never_weighs_them():
    torch.manual_seed(5)
    model = Transformer(TINY)
    router = model.layers[1].mlp.gate
    x = torch.randn(9, TINY.hidden_size)
    chosen, gate = router(x)
    torch.testing.assert_close(
        gate.sum(1), torch.full((9,), TINY.routed_scaling_factor), rtol=1e-5, atol=1e-5
    )
    router.e_score_correction_bias += 3.0  # the same for all: the same choice, the same weights
    again, gate_again = router(x)
    assert torch.equal(chosen.sort().values, again.sort().values)
    torch.testing.assert_close(gate.sort().values, gate_again.sort().values)
    router.e_score_correction_bias[5] += 10.0
    forced, forced_gate = router(x)
    assert bool((forced == 5).any(1).all())
    score = torch.sigmoid(x @ router.weight.T).gather(1, forced)
    expected = score / score.sum(1, keepdim=True) * TINY.routed_scaling_factor
    torch.testing.assert_close(forced_gate, expected)


def test_gradients_reach_every_parameter():
    torch.manual_seed(6)
    model = Transformer(TINY)
    out = model(torch.randint(0, 160, (4, 32)))
    model.logits(out.hidden_BTD).square().mean().backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_yarn_with_betas_1_1_is_a_step_between_pairs_19_and_20():
    ramp = yarn_ramp(YarnConfig(32.0), 64, 50000.0)
    assert ramp.tolist() == [0.0] * 20 + [1.0] * 12


@pytest.mark.parametrize(("factor", "scale"), [(32.0, 0.1308608), (64.0, 0.1446796)])
def test_the_softmax_scale_carries_yarns_square_once(factor, scale):
    k2 = replace(preset("k2"), rope_scaling=YarnConfig(factor))
    assert k2.softmax_scale == pytest.approx(scale, abs=1e-7)
    assert replace(k2, rope_scaling=None).softmax_scale == pytest.approx(0.0721688, abs=1e-7)


def test_rotation_keeps_length_and_depends_on_distance_only():
    config = TINY
    q, k = torch.randn(2, 1, 1, 1, config.qk_rope_head_dim).unbind(0)

    def score(i: int, j: int) -> float:
        rotated = [
            rotate(x, *rope_angles(config, torch.tensor([[p]]))) for x, p in ((q, i), (k, j))
        ]
        return float((rotated[0] * rotated[1]).sum())

    assert score(5, 2) == pytest.approx(score(105, 102), abs=1e-4)
    assert score(5, 2) != pytest.approx(score(5, 3), abs=1e-4)


@pytest.mark.parametrize("dense", [0, 2])
def test_wanted_tokens_are_what_the_whole_forward_gives_and_so_are_their_gradients(dense):
    torch.manual_seed(4)
    model = Transformer(replace(TINY, first_k_dense_replace=dense))
    ids_BT = torch.randint(0, TINY.vocab_size, (2, 9))
    doc_BT = torch.zeros(2, 9, dtype=torch.long)
    doc_BT[:, 7:] = -1
    wanted_N = torch.tensor([1, 2, 6, 12])
    whole, part = model(ids_BT, doc_BT), model(ids_BT, doc_BT, wanted_N)
    whole_ND = whole.hidden_BTD.flatten(0, 1)[wanted_N]
    torch.testing.assert_close(part.hidden_BTD, whole_ND)
    assert torch.equal(part.load_ME, whole.load_ME)
    assert torch.equal(part.max_logit_LH, whole.max_logit_LH)
    upstream_ND = torch.randn_like(whole_ND)
    parameters = dict(model.named_parameters())
    ours, theirs = (
        torch.autograd.grad(y_ND, list(parameters.values()), upstream_ND, allow_unused=True)
        for y_ND in (part.hidden_BTD, whole_ND)
    )
    for name, a, b in zip(parameters, ours, theirs, strict=True):
        assert (a is None) == (b is None) == (name == "lm_head.weight")
        if a is not None:
            torch.testing.assert_close(a, b, msg=name)


def test_no_token_needs_to_be_wanted():
    model = Transformer(TINY)
    output = model(torch.zeros(1, 5, dtype=torch.long), None, torch.zeros(0, dtype=torch.long))
    assert output.hidden_BTD.shape == (0, TINY.hidden_size)
    assert output.load_ME.sum() == output.load_ME.shape[0] * 5 * TINY.num_experts_per_tok
