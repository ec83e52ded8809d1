import json
import math
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from openk2 import config as settings
from openk2.kernels.head_loss import head_loss_reference
from openk2.model.transformer import Transformer
from openk2.text.packing import Batch
from openk2.train import checkpoint, metrics
from openk2.train.loop import LoopConfig, Trainer, train
from openk2.train.muonclip import MuonClip, MuonClipConfig

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "loss_curve.json"
SEQ_LEN = 16
CONFIG = LoopConfig(
    steps=6,
    batch_tokens=64,
    micro_batch_tokens=32,
    warmup_steps=2,
    bias_rate=0.01,
    save_every=100,
    eval_every=100,
    optimizer=MuonClipConfig(muon_lr=0.02, adamw_lr=0.02),
)


def no_evaluation(trainer):
    return {}


def run(trainer, mixture, out, **options):
    evaluate = options.pop("evaluate", no_evaluation)
    return train(trainer, mixture, SEQ_LEN, out, evaluate, **options)


def losses(out):
    return [
        (row["step"], row["loss"], row["tokens"]) for row in metrics.read(out / "metrics.jsonl")
    ]


def newest(out):
    found = checkpoint.latest(out / "checkpoints")
    return None if found is None else found.name


def same_weights(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_resumed_equals_uninterrupted_bit_for_bit(tmp_path, make_model, mixture):
    straight = Trainer(make_model(), CONFIG)
    run(straight, mixture, tmp_path / "straight")

    # the length of the run, and with it the decay, is known from the start in both
    first = Trainer(make_model(), CONFIG)

    def stop_after_three(trainer):
        os.kill(os.getpid(), signal.SIGTERM)
        return {}

    first.config = replace(CONFIG, eval_every=3)
    result = run(first, mixture, tmp_path / "cut", evaluate=stop_after_three)
    assert (result.step, result.reason) == (3, "signal")

    torch.manual_seed(99)
    second = Trainer(make_model(), CONFIG)
    with torch.no_grad():
        for parameter in second.model.parameters():
            parameter.zero_()
    result = run(second, mixture, tmp_path / "cut")
    assert (result.step, result.reason) == (6, "finished")

    assert losses(tmp_path / "cut") == losses(tmp_path / "straight")
    assert same_weights(second.model, straight.model)
    states = second.optimizer.state_dict(), straight.optimizer.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])


def test_a_finished_run_does_nothing_when_it_is_started_again(tmp_path, make_model, mixture):
    trainer = Trainer(make_model(), CONFIG)
    run(trainer, mixture, tmp_path)
    again = Trainer(make_model(), CONFIG)
    assert run(again, mixture, tmp_path).reason == "finished"
    assert same_weights(again.model, trainer.model)
    assert len(losses(tmp_path)) == 6


def test_a_run_can_be_lengthened_before_its_decay(tmp_path, make_model, mixture):
    short = replace(CONFIG, steps=4, decay_from=4)
    run(Trainer(make_model(), short), mixture, tmp_path / "a")
    longer = replace(CONFIG, steps=6, decay_from=5)
    run(Trainer(make_model(), longer), mixture, tmp_path / "a")
    run(Trainer(make_model(), longer), mixture, tmp_path / "b")
    assert losses(tmp_path / "a") == losses(tmp_path / "b")


def test_a_fresh_start_forgets_the_old_run(tmp_path, make_model, mixture):
    run(Trainer(make_model(), CONFIG), mixture, tmp_path)
    run(Trainer(make_model(), replace(CONFIG, steps=2)), mixture, tmp_path, resume=False)
    assert newest(tmp_path) == "step-00000002"
    assert len(losses(tmp_path)) == 2


def test_the_time_limit_stops_with_a_checkpoint(tmp_path, make_model, mixture):
    trainer = Trainer(make_model(), replace(CONFIG, max_minutes=1e-9))
    result = run(trainer, mixture, tmp_path)
    assert (result.step, result.reason) == (1, "time")
    assert newest(tmp_path) == "step-00000001"


def test_a_checkpoint_of_another_model_is_refused(tmp_path, make_model, mixture):
    run(Trainer(make_model(), CONFIG), mixture, tmp_path)
    with pytest.raises(checkpoint.CheckpointError, match="is of another model"):
        run(Trainer(make_model(vocab_size=65), CONFIG), mixture, tmp_path)


def uneven_batch(seed=0):
    rng = np.random.default_rng(seed)
    weight = rng.random((4, SEQ_LEN)).astype(np.float32)
    weight[0, 3:] = 0
    weight[2] = 0
    ids = rng.integers(0, 64, (4, SEQ_LEN + 1))
    return Batch(ids[:, :-1].copy(), np.zeros((4, SEQ_LEN), np.int64), ids[:, 1:].copy(), weight)


@pytest.mark.parametrize("micro_batch_tokens", [1, 32, 48, 1000])
def test_micro_batches_give_the_gradient_of_the_whole_batch(make_model, micro_batch_tokens):
    batch = uneven_batch()
    model = make_model()
    hidden = model(torch.from_numpy(batch.ids_BT)).hidden_BTD.flatten(0, 1)
    weight = torch.from_numpy(batch.weight_BT).flatten()
    target = torch.from_numpy(batch.target_BT).flatten()
    loss = head_loss_reference(hidden, model.lm_head.weight, target, weight) / weight.sum()
    loss.backward()

    trainer = Trainer(make_model(), replace(CONFIG, micro_batch_tokens=micro_batch_tokens))
    seen, max_logit_LH, load_ME = trainer.accumulate(batch)
    assert seen == pytest.approx(loss.item(), abs=1e-5)
    for (name, ours), theirs in zip(
        trainer.model.named_parameters(), model.parameters(), strict=True
    ):
        if theirs.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=1e-4, msg=name)
    whole = model(torch.from_numpy(batch.ids_BT))
    assert torch.equal(load_ME, whole.load_ME)
    torch.testing.assert_close(max_logit_LH, whole.max_logit_LH)


# torch warns that RMSNorm in bfloat16 with a float32 gain is not fused
@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
def test_bfloat16_products_give_nearly_the_float32_gradient(make_model):
    exact, low = (Trainer(make_model(), replace(CONFIG, dtype=d)) for d in ("float32", "bfloat16"))
    for trainer in (exact, low):
        trainer.accumulate(uneven_batch())
    for (name, a), b in zip(exact.optimizer.muon.items(), low.optimizer.muon.values(), strict=True):
        assert b.dtype == torch.float32
        assert (a.grad - b.grad).norm() < 0.05 * a.grad.norm(), name


def test_a_batch_without_any_weight_is_refused(make_model):
    batch = uneven_batch()
    batch.weight_BT[:] = 0
    with pytest.raises(ValueError, match="no token of this batch has a loss weight"):
        Trainer(make_model(), CONFIG).train_step(batch)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("steps", 0),
        ("batch_tokens", 0),
        ("micro_batch_tokens", 0),
        ("eval_every", 0),
        ("save_every", -1),
        ("keep_checkpoints", 0),
        ("head_chunk", 0),
        ("workers", 0),
        ("max_minutes", 0),
        ("max_minutes", math.nan),
        ("bias_rate", -1e-3),
        ("warmup_steps", -1),
        ("decay_from", -1),
        ("floor", 1.5),
        ("seed", -1),
        ("qk_clip_tau", 0),
        ("optimizer.muon_lr", -1),
        ("optimizer.adamw_lr", math.nan),
        ("optimizer.momentum", 1.0),
        ("optimizer.newton_schulz_steps", 0),
        ("optimizer.max_grad_norm", 0),
    ],
)
def test_a_setting_that_no_run_can_have_is_refused_by_file_and_name(tmp_path, setting, value):
    path = tmp_path / "run.toml"
    path.write_text("steps = 6\n")
    settings.load(LoopConfig, path)
    with pytest.raises(settings.ConfigError) as caught:
        settings.load(LoopConfig, path, [f"{setting}={value}"])
    assert str(path) in str(caught.value)
    assert setting.split(".")[-1] in str(caught.value)


def test_compiling_in_float32_is_refused(make_model):
    with pytest.raises(ValueError, match=r"`loop\.compile` needs bfloat16"):
        Trainer(make_model(), replace(CONFIG, compile=True, dtype="float32"))


def test_a_step_clips_heads_and_balances_experts(make_model):
    trainer = Trainer(make_model(), replace(CONFIG, qk_clip_tau=1e-4))
    before = trainer.biases[0].clone()
    row = trainer.train_step(uneven_batch())
    assert row["clipped_heads"] > 0
    assert row["max_logit"] > 1e-4
    moved = (trainer.biases[0] - before).abs()
    assert moved.max() > 0
    assert moved.max() <= 2 * CONFIG.bias_rate
    after = trainer.forward(torch.from_numpy(uneven_batch().ids_BT), torch.zeros(4, SEQ_LEN))
    assert after.max_logit_LH.max() < row["max_logit"] / 10


def test_a_batch_that_breaks_is_passed_over_and_a_broken_model_is_not(
    tmp_path, make_model, mixture
):
    trainer = Trainer(make_model(), replace(CONFIG, steps=2))
    forward, calls = trainer.forward, iter(range(99))

    def broken_once(*arguments):
        output = forward(*arguments)
        return output._replace(hidden_BTD=output.hidden_BTD * (math.nan if next(calls) < 2 else 1))

    trainer.forward = broken_once
    run(trainer, mixture, tmp_path)
    rows = metrics.read(tmp_path / "metrics.jsonl")
    assert [row["skipped_batches"] for row in rows] == [1, 0]
    assert trainer.rows == 3 * 4

    with torch.no_grad():
        trainer.model.norm.weight.fill_(math.nan)
    with pytest.raises(FloatingPointError):
        trainer.config = replace(CONFIG, steps=3)
        run(trainer, mixture, tmp_path / "other")


@pytest.mark.parametrize("field", ["hidden_BTD", "max_logit_LH"])
def test_a_batch_that_breaks_changes_nothing(make_model, field):
    trainer, untouched = Trainer(make_model(), CONFIG), Trainer(make_model(), CONFIG)
    forward = trainer.forward
    trainer.forward = lambda *arguments: (output := forward(*arguments))._replace(
        **{field: getattr(output, field) * math.nan}
    )
    with pytest.raises(FloatingPointError):
        trainer.train_step(uneven_batch())
    assert same_weights(trainer.model, untouched.model)
    states = trainer.optimizer.state_dict(), untouched.optimizer.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])


def test_a_model_without_experts_trains(make_model):
    config = replace(make_model().config, first_k_dense_replace=2)
    trainer = Trainer(Transformer(config), CONFIG)
    row = trainer.train_step(uneven_batch())
    assert (row["load_max"], row["load_worst"], row["dead_experts"]) == (0.0, 0.0, 0)
    assert row["loss"] > trainer.train_step(uneven_batch())["loss"]


def test_every_step_is_logged_and_evaluations_come_when_asked(tmp_path, make_model, mixture):
    modes = []

    def evaluate(trainer):
        modes.append((trainer.model.training, torch.is_grad_enabled()))
        return {"bits_per_byte": 8.0 - trainer.step}

    trainer = Trainer(make_model(), replace(CONFIG, steps=5, eval_every=2))
    result = run(trainer, mixture, tmp_path, evaluate=evaluate)
    rows = metrics.read(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row.get("bits_per_byte") for row in rows] == [None, 6.0, None, 4.0, 3.0]
    assert modes == [(False, False)] * 3
    assert trainer.model.training
    assert rows[-1]["tokens"] == 5 * 64
    assert rows[0]["lr"] == pytest.approx(0.01)
    assert result.metrics["bits_per_byte"] == 3.0
    named = {"grad_norm", "max_logit", "clipped_heads", "load_max", "dead_experts", "tokens_per_s"}
    assert named <= rows[0].keys()


def test_the_loss_curve_is_the_golden_one(tmp_path, make_model, mixture, update_golden):
    trainer = Trainer(make_model(), replace(CONFIG, steps=20))
    # bfloat16 Newton-Schulz on some machines would give another curve
    trainer.optimizer = MuonClip(
        trainer.model.named_parameters(), CONFIG.optimizer, matmul_dtype=torch.float32
    )
    run(trainer, mixture, tmp_path)
    curve = [loss for _, loss, _ in losses(tmp_path)]
    if update_golden:
        GOLDEN.write_text(json.dumps([round(loss, 6) for loss in curve], indent=1) + "\n")
    assert curve == pytest.approx(json.loads(GOLDEN.read_text()), abs=1e-4)
    assert curve[-1] < curve[0] - 1


@pytest.mark.parametrize("micro_batch_tokens", [16, 32])
def test_workers_side_by_side_give_the_gradient_of_one(make_model, micro_batch_tokens):
    def make(workers):
        config = replace(CONFIG, workers=workers, micro_batch_tokens=micro_batch_tokens)
        return Trainer(make_model(), config)

    alone, pair, again = make(1), make(2), make(2)
    one, two, same = (trainer.accumulate(uneven_batch()) for trainer in (alone, pair, again))
    assert two[0] == pytest.approx(one[0], abs=1e-6)
    torch.testing.assert_close(two[1:], one[1:])
    assert two[0] == same[0]
    for p, q, r in zip(alone.parameters, pair.parameters, again.parameters, strict=True):
        torch.testing.assert_close(p.grad, q.grad, atol=1e-7, rtol=1e-5)
        assert torch.equal(q.grad, r.grad)
    # Each thread has its share of the cores, and the caller keeps what it had.
    threads = torch.get_num_threads()
    assert (
        pair.workers.map(lambda _: torch.get_num_threads(), range(4)) == [max(1, threads // 2)] * 4
    )
    assert torch.get_num_threads() == threads


def test_what_a_worker_raises_ends_the_step(make_model):
    trainer = Trainer(make_model(), replace(CONFIG, workers=2))
    untouched = Trainer(make_model(), CONFIG)
    forward = trainer.forward

    def fail(ids_BT, doc_BT, wanted_N):
        if doc_BT[-1, 0] == 7:
            raise FloatingPointError("row 3")
        return forward(ids_BT, doc_BT, wanted_N)

    trainer.forward = fail
    batch = uneven_batch()
    batch.doc_BT[3] = 7
    with pytest.raises(FloatingPointError, match="row 3"):
        trainer.train_step(batch)
    assert same_weights(trainer.model, untouched.model)
