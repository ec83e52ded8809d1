import math

import pytest
import torch

from openk2.kernels.head_loss import head_loss_reference
from openk2.text.packing import Document, Shard, write_shard
from openk2.train.heldout import HeldOut
from openk2.train.loop import LoopConfig, Trainer, run_evaluation


def nll_of(model, ids, learn=None):
    """Summed loss of one document by itself."""
    ids = torch.tensor(ids)
    learn = torch.ones(len(ids)) if learn is None else torch.tensor(learn).float()
    head = model.lm_head.weight.detach()
    hidden = model(ids[None, :-1]).hidden_BTD[0].detach()
    return float(head_loss_reference(hidden, head, ids[1:], learn[1:]))


@pytest.fixture
def trainer(make_model):
    return Trainer(make_model(), LoopConfig(steps=1))


def write(directory, documents):
    write_shard(directory, documents, 64)
    return Shard(directory)


def test_bits_per_byte_of_whole_documents_is_exact(tmp_path, trainer):
    documents = [[1, 2, 3, 4, 5], [9, 8, 7], [6]]
    shard = write(
        tmp_path / "s",
        [Document(d, n_bytes=n) for d, n in zip(documents, (20, 10, 4), strict=True)],
    )
    found = run_evaluation(trainer, HeldOut({"a": shard}, seq_len=16, rows=9).evaluate)
    bits = sum(nll_of(trainer.model, d) for d in documents if len(d) > 1) / math.log(2)
    assert found["bits_per_byte"] == found["bits_per_byte/a"] == pytest.approx(bits / 34, rel=1e-5)
    assert "held_out_loss" not in found


def test_cut_documents_count_the_bytes_of_what_is_predicted(tmp_path, trainer):
    shard = write(tmp_path / "s", [Document([*range(10)], n_bytes=90)])
    found = run_evaluation(trainer, HeldOut({"a": shard}, seq_len=4, rows=9).evaluate)
    bits = (nll_of(trainer.model, range(5)) + nll_of(trainer.model, range(5, 10))) / math.log(2)
    assert found["bits_per_byte"] == pytest.approx(bits / 80, rel=1e-5)


def test_conversations_count_only_what_is_learned(tmp_path, trainer):
    ids, learn = [1, 2, 3, 4, 5, 6], [False, False, True, True, False, True]
    shard = write(tmp_path / "s", [Document(ids, learn)])
    found = run_evaluation(trainer, HeldOut({"chat": shard}, seq_len=16, rows=1).evaluate)
    expected = nll_of(trainer.model, ids, learn) / 3
    assert found["held_out_loss"] == pytest.approx(expected, rel=1e-5)
    assert "bits_per_byte" not in found


def test_the_mean_over_packs_is_weighted(tmp_path, trainer):
    shards = {
        name: write(tmp_path / name, [Document(ids, n_bytes=8)])
        for name, ids in (("a", [1, 2, 3, 4]), ("b", [5, 6, 7, 8]))
    }
    held_out = HeldOut(shards, seq_len=16, rows=2, weights={"a": 3.0, "b": 1.0})
    found = run_evaluation(trainer, held_out.evaluate)
    expected = 0.75 * found["bits_per_byte/a"] + 0.25 * found["bits_per_byte/b"]
    assert found["bits_per_byte/a"] != found["bits_per_byte/b"]
    assert found["bits_per_byte"] == pytest.approx(expected)


def test_nothing_held_out_gives_no_metrics(trainer):
    assert run_evaluation(trainer, HeldOut({}, 16, 4).evaluate) == {}
