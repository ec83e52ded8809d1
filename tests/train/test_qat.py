"""Quantisation-aware training: what is trained is what `openk2 quantize` leaves."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from openk2.export.hf import export_hf
from openk2.export.hf_plan import quantised_as
from openk2.kernels import int4
from openk2.model import weights
from openk2.model.config import K2Config
from openk2.model.transformer import Transformer
from openk2.model.weights import published_state
from openk2.text.packing import Batch
from openk2.train.loop import LoopConfig, Trainer, run_evaluation
from openk2.train.muonclip import MuonClipConfig

SEQ_LEN = 16
CONFIG = LoopConfig(
    steps=6,
    batch_tokens=64,
    micro_batch_tokens=32,
    warmup_steps=2,
    optimizer=MuonClipConfig(muon_lr=0.02, adamw_lr=0.02),
)
LAYOUT = {"experts": "int4", "linears": "int4-all"}
"""What the exporter calls each."""


def make_model() -> Transformer:
    torch.manual_seed(0)
    return Transformer(
        K2Config(
            vocab_size=64,
            hidden_size=64,
            intermediate_size=64,
            moe_intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            n_routed_experts=4,
            num_experts_per_tok=2,
            q_lora_rank=32,
            kv_lora_rank=32,
            qk_nope_head_dim=8,
            qk_rope_head_dim=8,
            v_head_dim=16,
            rope_scaling=None,
            max_position_embeddings=512,
            initializer_range=0.05,
        )
    )


def make_batch(seed: int = 0) -> Batch:
    ids = np.random.default_rng(seed).integers(0, 64, (4, SEQ_LEN + 1))
    shape = (4, SEQ_LEN)
    return Batch(ids[:, :-1].copy(), np.zeros(shape, np.int64), ids[:, 1:].copy(), np.ones(shape))


def forward(model: Transformer) -> torch.Tensor:
    return model(torch.from_numpy(make_batch(9).ids_BT)).hidden_BTD


@pytest.mark.parametrize("scales", ["absmax", "mse"])
@pytest.mark.parametrize("qat", ["experts", "linears"])
def test_what_is_quantised_afterwards_is_what_was_trained(qat, scales, tmp_path):
    trainer = Trainer(make_model(), replace(CONFIG, qat=qat, qat_scales=scales))
    trainer.train_step(make_batch())
    weights.save(trainer.model, tmp_path / "trained")
    format = LAYOUT[qat]
    export_hf(
        tmp_path / "trained",
        tmp_path / "int4",
        format=format,
        scales=scales,
        with_tokenizer=False,
    )
    shipped = weights.load(tmp_path / "int4")
    masters = {name: tensor.clone() for name, tensor in published_state(trainer.model).items()}
    with trainer.fake_int4.rounded():
        seen = {name: tensor.clone() for name, tensor in published_state(trainer.model).items()}
        # What is not quantised is stored in bfloat16; the forward differs by that alone.
        for name, tensor in published_state(trainer.model).items():
            if quantised_as(name, format) is None:
                tensor.copy_(tensor.bfloat16() if ".mlp.gate." not in name else tensor)
        torch.testing.assert_close(forward(shipped), forward(trainer.model))
    for name, tensor in published_state(shipped).items():
        rounded = quantised_as(name, format) == "int4"
        assert torch.equal(seen[name], masters[name]) != rounded, name
        if rounded:
            assert torch.equal(tensor, seen[name]), name


@pytest.mark.parametrize("qat", ["experts", "linears"])
def test_masters_get_the_gradient_of_the_rounded_weights(qat):
    trainer = Trainer(make_model(), replace(CONFIG, qat=qat))
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    with trainer.fake_int4.rounded():
        rounded = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
        trainer.accumulate(make_batch())
    plain = Trainer(make_model(), CONFIG)
    plain.model.load_state_dict(rounded, strict=False)
    plain.accumulate(make_batch())
    for (name, p), theirs in zip(
        trainer.model.named_parameters(), plain.model.parameters(), strict=True
    ):
        assert torch.equal(p, before[name]), name
        torch.testing.assert_close(p.grad, theirs.grad, msg=name)


def test_small_steps_add_up_in_the_masters_until_a_value_changes():
    slow = MuonClipConfig(muon_lr=1e-4, adamw_lr=1e-4)
    trainer = Trainer(make_model(), replace(CONFIG, qat="experts", optimizer=slow))
    down = trainer.model.layers[1].mlp.experts_down
    values, moved = [], []
    for seed in range(3):
        start = down.detach().clone()
        trainer.train_step(make_batch(seed))
        moved.append(((down - start) != 0).float().mean().item())
        values.append(int4.unpack(int4.quantize(down.detach().flatten(0, 1))[0]))
    assert min(moved) > 0.9
    assert 0 < (values[0] != values[-1]).float().mean() < 0.2


def test_evaluation_sees_rounded_weights_and_checkpoints_hold_the_masters(tmp_path):
    trainer = Trainer(make_model(), replace(CONFIG, qat="experts"))
    trainer.train_step(make_batch())
    masters = forward(trainer.model)

    def evaluate(trainer):
        return {"difference": (forward(trainer.model) - masters).abs().max().item()}

    assert run_evaluation(trainer, evaluate)["difference"] > 1e-4
    assert torch.equal(forward(trainer.model), masters)
    resumed = Trainer(make_model(), trainer.config)
    resumed.load(trainer.save(tmp_path))
    assert torch.equal(forward(resumed.model), masters)
    assert trainer.train_step(make_batch(1)) == resumed.train_step(make_batch(1))


def test_a_step_that_fails_leaves_the_masters():
    trainer = Trainer(make_model(), replace(CONFIG, qat="linears"))
    before = forward(trainer.model)
    batch = make_batch()
    batch.weight_BT[:] = 0
    with pytest.raises(ValueError, match="loss weight"):
        trainer.train_step(batch)
    assert torch.equal(forward(trainer.model), before)


def test_a_matrix_that_int4_cannot_hold_is_refused_at_the_start():
    config = replace(make_model().config, moe_intermediate_size=24)
    with pytest.raises(ValueError, match=r"experts_down has 24: set `loop\.qat` to none"):
        Trainer(Transformer(config), replace(CONFIG, qat="experts"))
