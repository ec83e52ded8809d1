"""Attention that is shown where to look."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from openk2.model.mla import LatentAttention
from openk2.text.copy_sources import CopySources
from openk2.text.packing import Batch
from openk2.text.tokenizer import Tokenizer
from openk2.train.loop import LoopConfig, Trainer
from openk2.train.muonclip import MuonClipConfig
from openk2.train.pointers import PointerConfig, PointerLoss

CONFIG = PointerConfig(1.0, previous_layer=0, previous_heads=1, copy_layers=(1,), copy_heads=1)


@pytest.fixture(scope="module")
def vocabulary():
    return Tokenizer.from_ranks({bytes((b,)): b for b in range(256)}, 32)


def batch(text: str, documents: str) -> Batch:
    """One row of bytes; `documents` numbers its tokens, `-` is padding."""
    ids = np.frombuffer(text.encode(), np.uint8).astype(np.int64)[None]
    doc = np.array([[-1 if d == "-" else int(d) for d in documents]])
    weight = (doc[:, 1:] == doc[:, :-1]).astype(np.float32) * (doc[:, 1:] >= 0)
    return Batch(ids[:, :-1], doc[:, :-1], ids[:, 1:], weight)


def trainer(make_model, vocabulary, config: PointerConfig = CONFIG, **loop) -> Trainer:
    model = make_model(vocabulary.vocab_size)
    made = Trainer(model, LoopConfig(steps=200, warmup_steps=1, **loop))
    made.pointers = PointerLoss(model, config, CopySources(vocabulary))
    return made


def test_attention_learns_to_look_where_it_is_shown(make_model, vocabulary):
    optimizer = MuonClipConfig(muon_lr=2e-2, adamw_lr=2e-2)
    learner = trainer(make_model, vocabulary, optimizer=optimizer)
    row = batch("qwertyuiopasdfgh qwertyuiopasdfgh", "0" * 33)
    began = learner.train_step(row)
    for _ in range(20):
        ended = learner.train_step(row)
    assert began["attention_on_sources"] < 0.15
    assert ended["attention_on_sources"] > 2 * began["attention_on_sources"]
    assert ended["attention_on_previous"] > 2 * began["attention_on_previous"]


def test_the_loss_is_that_of_the_attention_itself(make_model, vocabulary):
    learner = trainer(make_model, vocabulary)
    assert learner.pointers is not None
    row = batch("abcab-", "00000-")
    tensors = learner.tensors(row)
    learner.forward(*tensors[:2])
    loss = learner.pointers(*tensors)

    looked = {}
    for number in (0, 1):
        attention = learner.model.get_submodule(f"layers.{number}.self_attn")
        assert isinstance(attention, LatentAttention)

        def look(module, inputs, output, n=number, heads=attention.heads):
            looked[n] = heads(*inputs[:3])

        attention.register_forward_hook(look)
    learner.forward(*tensors[:2])
    (q0, k0, _), (q1, k1, _) = looked[0], looked[1]
    back = (q0[0, :, 0] @ k0[0, :, 0].T).masked_fill(torch.ones(5, 5).triu(1) > 0, -torch.inf)
    looks = (q1[0, :, 0] @ k1[0, :, 0].T).masked_fill(torch.ones(5, 5).triu(1) > 0, -torch.inf)
    # Of "abcab" the last two were seen: `a` follows at 2 and is copied from 0, `b` at 3 from 1.
    expected = -back.log_softmax(-1).diagonal(-1).mean()
    # The first is where the copy starts, which counts four times.
    expected -= (4 * looks.log_softmax(-1)[2, 0] + looks.log_softmax(-1)[3, 1]) / 5
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_a_row_without_copies_still_teaches_to_look_back(make_model, vocabulary):
    learner = trainer(make_model, vocabulary)
    found = learner.train_step(batch("abcdefgh", "00011111"))
    assert "attention_on_sources" not in found
    assert 0 < found["attention_on_previous"] < 1


def test_what_is_frozen_keeps_its_weights(make_model, vocabulary):
    learner = trainer(make_model, vocabulary, frozen=("mlp.experts_",))
    before = {name: p.detach().clone() for name, p in learner.model.named_parameters()}
    learner.train_step(batch("abcabc", "000000"))
    same = {n for n, p in learner.model.named_parameters() if torch.equal(p, before[n])}
    assert same == {n for n in before if "mlp.experts_" in n}
    assert same


@pytest.mark.parametrize(
    "change", [{"previous_layer": 2}, {"copy_layers": (0, 7)}, {"copy_heads": 3}]
)
def test_layers_and_heads_that_are_not_there_are_refused(make_model, vocabulary, change):
    with pytest.raises(ValueError, match="2 layers of 2 heads"):
        trainer(make_model, vocabulary, replace(CONFIG, **change))
