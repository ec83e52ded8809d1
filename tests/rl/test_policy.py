"""A tiny policy learns from rewarded trajectories, as exactly as a plain computation would."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from openk2.model.config import K2Config
from openk2.model.transformer import Transformer
from openk2.rl.objective import ObjectiveConfig
from openk2.rl.policy import PolicyConfig, PolicyTrainer
from openk2.rl.rows import pack, sampled
from openk2.text.packing import Batch
from openk2.train.muonclip import MuonClipConfig
from openk2.types import Segment, Trajectory

V = 40
CONFIG = PolicyConfig(
    optimizer=MuonClipConfig(muon_lr=0.02, adamw_lr=0.02), workers=1, dtype="float32", device="cpu"
)


def tiny_model(seed: int = 0) -> Transformer:
    torch.manual_seed(seed)
    return Transformer(
        K2Config(
            vocab_size=V,
            hidden_size=32,
            intermediate_size=32,
            moe_intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            n_routed_experts=4,
            num_experts_per_tok=2,
            q_lora_rank=32,
            kv_lora_rank=32,
            qk_nope_head_dim=8,
            qk_rope_head_dim=4,
            v_head_dim=16,
            rope_scaling=None,
            max_position_embeddings=512,
            initializer_range=0.1,
        )
    )


def trainer(config: PolicyConfig = CONFIG, seed: int = 0) -> PolicyTrainer:
    return PolicyTrainer(tiny_model(seed), config)


def trajectory(segments: Sequence[Segment], reward: float, problem: str = "p") -> Trajectory:
    return Trajectory(problem, "bandit", tuple(segments), (), reward, {}, "stop")


def random_groups(seed: int = 0, groups: int = 3, samples: int = 4) -> list[list[Trajectory]]:
    """Return trajectories of two turns with a tool's result between, of odd lengths."""
    rng = np.random.default_rng(seed)

    def ids(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.integers(0, V, rng.integers(low, high)).tolist())

    def emitted(version: int) -> Segment:
        written = ids(1, 7)
        return Segment(written, tuple(-5 - rng.random(len(written))), version)

    return [
        [
            trajectory(
                [Segment(ids(2, 9)), emitted(2), Segment(ids(1, 5)), emitted(3)],
                float(rng.integers(0, 2) + k % 2),
            )
            for k in range(samples)
        ]
        for _ in range(groups)
    ]


def ptx_rows(rows: int = 3) -> Batch:
    ids = np.random.default_rng(5).integers(0, V, (rows, 17))
    weight = np.ones((rows, 16), np.float32)
    weight[:, :4] = 0
    return Batch(ids[:, :-1].copy(), np.zeros((rows, 16), np.int64), ids[:, 1:].copy(), weight)


def gradient(config: PolicyConfig, ptx: Batch | None = None) -> list[torch.Tensor]:
    """Return what one update hands to the optimizer."""
    taken: list[torch.Tensor] = []
    learner = trainer(replace(config, reset_optimizer=False))
    step = learner.optimizer.step

    def watched(lr_scale: float = 1.0) -> float:
        taken.extend(p.grad.clone() for p in learner.parameters if p.grad is not None)
        return step(lr_scale)

    learner.optimizer.step = watched
    learner.update(random_groups(), ptx)
    return taken


def plain_logprobs(model: Transformer, one: Trajectory, temperature: float) -> torch.Tensor:
    """Return the emitted tokens' log-probabilities by way of all logits of one sequence."""
    ids = torch.tensor([token for segment in one.segments for token in segment.ids])
    log_p_TV = (model.logits(model(ids[None]).hidden_BTD)[0] / temperature).log_softmax(-1)
    log_p_T = log_p_TV[:-1].gather(1, ids[1:, None]).squeeze(1)
    emitted = [segment.emitted for segment in one.segments for _ in segment.ids]
    return log_p_T[torch.tensor(emitted[1:])]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_are_those_of_the_full_logits(temperature):
    learner = trainer(replace(CONFIG, head_chunk=5, micro_batch_tokens=30))
    every = [one for group in random_groups() for one in group]
    for one, found in zip(every, learner.logprobs(every, temperature=temperature), strict=True):
        exact = plain_logprobs(learner.model, one, temperature).detach().numpy()
        np.testing.assert_allclose(found, exact, atol=2e-6)


@pytest.mark.parametrize("kind", ["k2", "grpo"])
def test_the_gradient_is_that_of_the_plain_loss(kind):
    objective = ObjectiveConfig(kind=kind, max_weight=None, grpo_scale="none")
    model, groups = tiny_model(), random_groups()
    loss = torch.zeros(())
    n_tokens = sum(len(s.ids) for g in groups for t in g for s in t.segments if s.emitted)
    for group in groups:
        mean = sum(one.reward for one in group) / len(group)
        for one in group:
            now_N = plain_logprobs(model, one, 1.0)
            ratio_N = now_N - now_N.detach()
            if kind == "k2":
                error = (one.reward - mean - objective.tau * ratio_N.sum()) ** 2
                loss = loss + error / (2 * objective.tau * len(group) * len(groups))
            else:
                loss = loss - (ratio_N.exp() * (one.reward - mean)).sum() / n_tokens
    exact = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    found = gradient(replace(CONFIG, objective=objective))
    for ours, theirs in zip(found, [g for g in exact if g is not None], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", ["k2", "grpo"])
def test_rows_and_workers_do_not_change_the_gradient(kind):
    config = replace(CONFIG, objective=ObjectiveConfig(kind=kind))
    whole = gradient(config, ptx_rows())
    for other in (
        replace(config, micro_batch_tokens=20, head_chunk=3),
        replace(config, micro_batch_tokens=60, workers=3),
    ):
        for ours, theirs in zip(whole, gradient(other, ptx_rows()), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


def test_curated_rows_add_their_weighted_mean_loss():
    without, with_rows = gradient(CONFIG), gradient(replace(CONFIG, ptx_weight=0.5), ptx_rows())
    model, rows = tiny_model(), ptx_rows()
    hidden = model(torch.from_numpy(rows.ids_BT), torch.from_numpy(rows.doc_BT)).hidden_BTD
    log_p = model.logits(hidden)[:, 4:].log_softmax(-1)
    loss = -0.5 * log_p.gather(2, torch.from_numpy(rows.target_BT)[:, 4:, None]).mean()
    exact = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    both = zip(without, with_rows, [g for g in exact if g is not None], strict=True)
    for alone, summed, theirs in both:
        torch.testing.assert_close(summed - alone, theirs, atol=1e-6, rtol=1e-4)


def bandit(learner: PolicyTrainer, kind_of_good: Callable[[int], bool], seed: int):
    """Draw one token for each of 16 samples of two problems, as a rollout does."""
    generator = torch.Generator().manual_seed(seed)
    groups: list[list[Trajectory]] = []
    for prompt in ((1, 2, 3), (4, 5)):
        log_p_V = learner.model.logits(learner.model(torch.tensor([prompt])).hidden_BTD)[0, -1]
        log_p_V = log_p_V.detach().log_softmax(-1)
        drawn = torch.multinomial(log_p_V.exp(), 16, replacement=True, generator=generator)
        groups.append(
            [
                trajectory(
                    [Segment(prompt), Segment((token,), (float(log_p_V[token]),))],
                    float(kind_of_good(token)),
                )
                for token in drawn.tolist()
            ]
        )
    return groups


@pytest.mark.parametrize(
    "objective",
    [
        ObjectiveConfig(),
        ObjectiveConfig(kind="grpo"),
        ObjectiveConfig(kind="grpo", grpo_loss="cispo", clip_high=4.0),
    ],
)
def test_a_bandit_is_won_within_a_few_iterations(objective):
    learner = trainer(replace(CONFIG, objective=objective, passes=2))
    earned = [
        learner.update(bandit(learner, lambda token: token % 2 == 0, seed)) for seed in range(8)
    ]
    assert earned[0]["reward"] < 0.7
    assert earned[-1]["reward"] > 0.9
    assert earned[0]["kl"] > 0
    assert earned[0]["mismatch_max"] < 1e-5
    assert earned[-1]["entropy"] < earned[0]["entropy"]


def test_an_update_is_a_function_of_its_input():
    config = replace(CONFIG, workers=2, micro_batch_tokens=40, passes=2, parts=2)
    learners = trainer(config), trainer(config)
    metrics = [learner.update(random_groups(), ptx_rows(4)) for learner in learners]
    assert metrics[0] == metrics[1]
    assert metrics[0]["updates"] == 4
    states = [learner.model.state_dict() for learner in learners]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_an_iteration_begins_without_momentum_unless_it_is_kept():
    fresh, kept = trainer(), trainer(replace(CONFIG, reset_optimizer=False))
    for learner in (fresh, kept):
        learner.update(random_groups())
    again = PolicyTrainer(fresh.model, CONFIG)
    state = {name: tensor.clone() for name, tensor in fresh.model.state_dict().items()}
    first = fresh.update(random_groups(1))
    after = {name: tensor.clone() for name, tensor in fresh.model.state_dict().items()}
    fresh.model.load_state_dict(state)
    assert again.update(random_groups(1)) == first
    assert all(torch.equal(t, after[name]) for name, t in again.model.state_dict().items())
    kept.update(random_groups(1))
    head = kept.model.lm_head.weight
    assert not torch.equal(head, after["lm_head.weight"])


def test_where_nothing_is_to_learn_the_weights_stay():
    groups = [[replace(one, reward=1.0) for one in group] for group in random_groups()]
    learner = trainer()
    before = {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}
    metrics = learner.update(groups)
    assert (metrics["updates"], metrics["grad_norm"]) == (0, 0)
    assert metrics["entropy"] > 0 and metrics["mismatch"] > 0
    after = learner.model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert learner.update(groups, ptx_rows())["updates"] == 1


def test_an_old_policys_tokens_are_read_but_not_learned_from():
    groups = random_groups()
    without = [
        [
            replace(
                one,
                segments=tuple(Segment(s.ids) if s.version == 2 else s for s in one.segments),
            )
            for one in group
        ]
        for group in groups
    ]
    learners = trainer(replace(CONFIG, max_age=0)), trainer()
    found = learners[0].update(groups), learners[1].update(without)
    assert found[0] == found[1]
    assert found[0]["stale"] == 0
    assert trainer().update(groups)["stale"] > 0.2


def test_the_band_and_the_weights_are_told():
    objective = ObjectiveConfig(band=(-0.5, 0.5), max_weight=1.5)
    metrics = trainer(replace(CONFIG, objective=objective)).update(random_groups())
    assert 0 < metrics["masked"] < 1
    assert 0 < metrics["weight"] < 1.5
    assert metrics["mismatch_max"] > metrics["mismatch"] > 0


def test_rounded_experts_take_part_and_the_masters_learn():
    rounded, plain = trainer(replace(CONFIG, qat="experts")), trainer()
    every = random_groups()[0]
    found = rounded.logprobs(every), plain.logprobs(every)
    assert max(float(abs(a - b).max()) for a, b in zip(*found, strict=True)) > 1e-4
    again = trainer()
    assert all(torch.equal(a, b) for a, b in zip(rounded.parameters, again.parameters, strict=True))
    rounded.update(random_groups())
    moved = zip(rounded.model.named_parameters(), again.parameters, strict=True)
    assert all(not torch.equal(a, b) for (name, a), b in moved if ".experts_" in name)


def test_packing_wastes_little_and_keeps_every_token():
    every = [sampled(one) for group in random_groups(groups=20) for one in group]
    rows = pack(every, range(len(every)), 64)
    assert sorted(np.concatenate([row.members_S for row in rows]).tolist()) == [*range(80)]
    tokens = sum(len(one.ids_T) - 1 for one in every)
    assert sum(len(row.ids_T) for row in rows) == tokens
    assert all(len(row.ids_T) <= 64 for row in rows)
    assert len(rows) <= 1 + tokens / 64 * 1.1
    for row in rows:
        assert (np.diff(row.wanted_N) > 0).all()
        assert (row.doc_T[row.wanted_N] == row.sequence_N).all()
    (alone,) = pack(every[:1], [0], 3)
    assert len(alone.ids_T) == len(every[0].ids_T) - 1


def test_what_cannot_be_learned_from_is_refused():
    begins = trajectory([Segment((1, 2), (-1.0, -1.0))], 1.0)
    with pytest.raises(ValueError, match="begin it with its prompt"):
        sampled(begins)
    with pytest.raises(ValueError, match="not finite"):
        sampled(trajectory([Segment((1,)), Segment((2,), (float("nan"),))], 1.0))
    with pytest.raises(ValueError, match="4 parts"):
        trainer(replace(CONFIG, parts=4)).update(random_groups())
    with pytest.raises(ValueError, match="2 curated rows for 3 updates"):
        trainer(replace(CONFIG, passes=3)).update(random_groups(), ptx_rows(2))
    with pytest.raises(ValueError, match="temperature 0"):
        trainer().update(random_groups(), temperature=0)
    with pytest.raises(ValueError, match="nothing to learn from"):
        trainer().update([[trajectory([Segment((1, 2))], 1.0)]])


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("passes", 0),
        ("parts", 0),
        ("micro_batch_tokens", 0),
        ("head_chunk", 0),
        ("ptx_weight", -1.0),
        ("bias_rate", -1.0),
        ("max_age", -1),
        ("workers", 0),
        ("qk_clip_tau", 0.0),
    ],
)
def test_a_setting_that_no_update_can_have_is_refused_by_name(setting, value):
    with pytest.raises(ValueError, match=setting):
        replace(CONFIG, **{setting: value})
