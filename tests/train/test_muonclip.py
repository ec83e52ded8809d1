import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from openk2.kernels.newton_schulz import newton_schulz_reference
from openk2.model.config import K2Config
from openk2.train.muonclip import MuonClip, MuonClipConfig, qk_clip

SHAPES = {
    "embed_tokens.weight": (20, 8),
    "layers.0.input_layernorm.weight": (8,),
    "layers.0.self_attn.o_proj.weight": (8, 12),
    "layers.0.mlp.gate_up": (2, 12, 8),
    "layers.1.mlp.gate.weight": (4, 8),
    "layers.1.mlp.experts_gate_up": (4, 2, 6, 8),
    "layers.1.mlp.experts_down": (4, 8, 6),
    "layers.1.mlp.down": (8, 12),
    "norm.weight": (8,),
    "lm_head.weight": (20, 8),
}
ADAMW_NAMES = {
    "embed_tokens.weight",
    "layers.0.input_layernorm.weight",
    "norm.weight",
    "lm_head.weight",
}
CONFIG = MuonClipConfig(muon_lr=0.02, adamw_lr=0.01, max_grad_norm=None)


def make_parameters(names=tuple(SHAPES), seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = {name: torch.randn(*shape, generator=generator) for name, shape in SHAPES.items()}
    return {name: nn.Parameter(values[name]) for name in names}


def set_gradients(parameters, step, scale=1.0):
    generator = torch.Generator().manual_seed(1000 + step)
    gradients = {name: torch.randn(*shape, generator=generator) for name, shape in SHAPES.items()}
    for name, p in parameters.items():
        p.grad = gradients[name] * scale


def gradient_of(p):
    assert p.grad is not None
    return p.grad


def train(optimizer, parameters, steps, scale=1.0):
    for step in steps:
        set_gradients(parameters, step, scale)
        optimizer.step(1.0 / (step + 1))


def make_optimizer(parameters, config=CONFIG, dtype=torch.float32):
    return MuonClip(parameters.items(), config, matmul_dtype=dtype)


def test_sorts_parameters_by_name():
    optimizer = make_optimizer(make_parameters())
    assert set(optimizer.adamw) == ADAMW_NAMES
    assert set(optimizer.muon) == set(SHAPES) - ADAMW_NAMES


@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_follows_the_float64_reference(nesterov):
    parameters = make_parameters()
    config = replace(CONFIG, nesterov=nesterov)
    weights = {
        name: p.detach().double() for name, p in parameters.items() if name not in ADAMW_NAMES
    }
    momenta = {name: torch.zeros_like(w) for name, w in weights.items()}
    optimizer = make_optimizer(parameters, config)
    for step in range(5):
        set_gradients(parameters, step)
        for name, w in weights.items():
            gradient = gradient_of(parameters[name]).double()
            momenta[name] = 0.95 * momenta[name] + gradient
            ahead = gradient + 0.95 * momenta[name] if nesterov else momenta[name]
            matrices = ahead.reshape(-1, *w.shape[-2:])
            update = torch.stack([newton_schulz_reference(m) for m in matrices]).view_as(w)
            lr = 0.02 / (step + 1)
            weights[name] = w - lr * (0.2 * math.sqrt(max(w.shape[-2:])) * update + 0.1 * w)
        optimizer.step(1 / (step + 1))
    for name, w in weights.items():
        torch.testing.assert_close(parameters[name].detach().double(), w, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_agrees_with_torch(nesterov):
    # torch averages momentum where the paper sums it: Newton-Schulz does not see the scale.
    names = [n for n, shape in SHAPES.items() if len(shape) == 2 and n not in ADAMW_NAMES]
    ours, theirs = make_parameters(names), make_parameters(names)
    start = {name: p.detach().clone() for name, p in ours.items()}
    optimizer = make_optimizer(ours, replace(CONFIG, nesterov=nesterov), torch.bfloat16)
    torch_muon = torch.optim.Muon(
        list(theirs.values()),
        lr=0.02,
        weight_decay=0.1,
        momentum=0.95,
        nesterov=nesterov,
        adjust_lr_fn="match_rms_adamw",
    )
    for step in range(3):
        set_gradients(ours, step)
        set_gradients(theirs, step)
        optimizer.step()
        torch_muon.step()
    for name in names:
        moved = (theirs[name] - start[name]).norm()
        # torch rounds to bf16 before it normalises, we after.
        assert (ours[name] - theirs[name]).norm() < 0.02 * moved


def test_adamw_part_equals_torch():
    names = sorted(ADAMW_NAMES)
    ours, theirs = make_parameters(names), make_parameters(names)
    optimizer = make_optimizer(ours)
    adamw = torch.optim.AdamW(
        list(theirs.values()), lr=0.01, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1
    )
    for step in range(4):
        set_gradients(ours, step)
        set_gradients(theirs, step)
        optimizer.step(0.5)
        adamw.param_groups[0]["lr"] = 0.005
        adamw.step()
    for name in names:
        torch.testing.assert_close(ours[name], theirs[name])


def test_update_has_the_size_that_adamw_would_have():
    parameters = make_parameters(["layers.0.self_attn.o_proj.weight"])
    (p,) = parameters.values()
    before = p.detach().clone()
    set_gradients(parameters, 0)
    make_optimizer(parameters, replace(CONFIG, weight_decay=0.0)).step()
    rms = ((p - before) / 0.02).square().mean().sqrt().item()
    assert 0.2 * 0.65 < rms < 0.2 * 1.2


def test_parameters_do_not_depend_on_their_company():
    together = make_parameters()
    train(make_optimizer(together), together, range(3))
    for name in SHAPES:
        alone = make_parameters([name])
        train(make_optimizer(alone), alone, range(3))
        torch.testing.assert_close(alone[name], together[name], rtol=1e-6, atol=1e-7)


def test_weight_decay_reaches_every_parameter():
    parameters = make_parameters()
    before = {name: p.detach().clone() for name, p in parameters.items()}
    for p in parameters.values():
        p.grad = torch.zeros_like(p)
    make_optimizer(parameters).step()
    for name, p in parameters.items():
        lr = 0.01 if name in ADAMW_NAMES else 0.02
        torch.testing.assert_close(p.detach(), before[name] * (1 - lr * 0.1))


def test_saved_state_continues_bit_for_bit():
    straight = make_parameters()
    optimizer = make_optimizer(straight)
    train(optimizer, straight, range(3))
    saved = {name: t.clone() for name, t in optimizer.state_dict().items()}
    resumed = {name: nn.Parameter(p.detach().clone()) for name, p in straight.items()}
    other = make_optimizer(resumed)
    other.load_state_dict(saved)
    train(optimizer, straight, range(3, 6))
    train(other, resumed, range(3, 6))
    assert all(torch.equal(straight[name], resumed[name]) for name in SHAPES)
    for name, tensor in other.state_dict().items():
        assert torch.equal(tensor, optimizer.state_dict()[name])


def test_state_of_another_model_is_refused():
    optimizer = make_optimizer(make_parameters())
    state = dict(optimizer.state_dict())
    with pytest.raises(ValueError, match=r"has shape \(1,\)"):
        optimizer.load_state_dict({**state, "exp_avg.norm.weight": torch.zeros(1)})
    del state["momentum.layers.1.mlp.down"]
    with pytest.raises(ValueError, match=r"momentum\.layers\.1\.mlp\.down"):
        optimizer.load_state_dict(state)


def test_gradient_clipping_equals_smaller_gradients():
    clipped, scaled = make_parameters(), make_parameters()
    optimizer = make_optimizer(clipped, replace(CONFIG, max_grad_norm=0.5))
    set_gradients(clipped, 0)
    expected = math.sqrt(sum(gradient_of(p).square().sum().item() for p in clipped.values()))
    assert optimizer.step() == pytest.approx(expected, rel=1e-5)
    set_gradients(scaled, 0, scale=0.5 / expected)
    make_optimizer(scaled).step()
    state = optimizer.state_dict()
    assert state["momentum.layers.1.mlp.down"].norm() < 0.5
    for name in SHAPES:
        torch.testing.assert_close(clipped[name], scaled[name], rtol=1e-5, atol=1e-6)


def test_a_small_gradient_is_not_enlarged():
    parameters = make_parameters()
    optimizer = make_optimizer(parameters, replace(CONFIG, max_grad_norm=1e6))
    set_gradients(parameters, 0)
    gradient = gradient_of(parameters["layers.1.mlp.down"]).clone()
    optimizer.step()
    torch.testing.assert_close(optimizer.state_dict()["momentum.layers.1.mlp.down"], gradient)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_non_finite_gradient_stops_before_anything_changes(value):
    parameters = make_parameters()
    before = {name: p.detach().clone() for name, p in parameters.items()}
    optimizer = make_optimizer(parameters)
    set_gradients(parameters, 0)
    gradient_of(parameters["layers.1.mlp.experts_down"])[1, 2, 3] = value
    with pytest.raises(FloatingPointError, match=r"layers\.1\.mlp\.experts_down"):
        optimizer.step()
    assert all(torch.equal(p, before[name]) for name, p in parameters.items())
    assert all(not t.any() for t in optimizer.state_dict().values())


def test_parameters_without_gradient_stay():
    parameters = make_parameters()
    optimizer = make_optimizer(parameters)
    set_gradients(parameters, 0)
    resting = ("layers.1.mlp.down", "norm.weight")
    before = {name: parameters[name].detach().clone() for name in resting}
    for name in resting:
        parameters[name].grad = None
    optimizer.step()
    assert all(torch.equal(parameters[name], before[name]) for name in resting)
    optimizer.zero_grad()
    assert all(p.grad is None for p in parameters.values())


def test_low_precision_parameters_are_refused():
    with pytest.raises(ValueError, match="float32"):
        MuonClip([("norm.weight", nn.Parameter(torch.ones(2, dtype=torch.bfloat16)))], CONFIG)
    with pytest.raises(ValueError, match="nothing to update"):
        MuonClip([], CONFIG)


HEADS = K2Config(
    num_attention_heads=3, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=6, kv_lora_rank=10
)
LAYERS, HIDDEN, TIME = 2, 16, 5


def attention_weights(q_lora):
    generator = torch.Generator().manual_seed(7)
    q_rows = HEADS.num_attention_heads * (HEADS.qk_nope_head_dim + HEADS.qk_rope_head_dim)
    kv_rows = HEADS.num_attention_heads * (HEADS.qk_nope_head_dim + HEADS.v_head_dim)
    q_name = "q_b_proj" if q_lora else "q_proj"
    shapes = {q_name: (q_rows, HIDDEN), "kv_b_proj": (kv_rows, HEADS.kv_lora_rank)}
    return {
        f"layers.{layer}.self_attn.{name}.weight": nn.Parameter(
            torch.randn(*shape, generator=generator)
        )
        for layer in range(LAYERS)
        for name, shape in shapes.items()
    }


def logits_and_values(weights, layer):
    """Scaled MLA logits [H, T, T] and values [H, T, V] of fixed inputs (rotation left out)."""
    generator = torch.Generator().manual_seed(8)
    x_TD = torch.randn(TIME, HIDDEN, generator=generator)
    latent_TC = torch.randn(TIME, HEADS.kv_lora_rank, generator=generator)
    rope_TR = torch.randn(TIME, HEADS.qk_rope_head_dim, generator=generator)
    q_name = "q_b_proj" if f"layers.{layer}.self_attn.q_b_proj.weight" in weights else "q_proj"
    q = x_TD @ weights[f"layers.{layer}.self_attn.{q_name}.weight"].T
    kv = latent_TC @ weights[f"layers.{layer}.self_attn.kv_b_proj.weight"].T
    q = q.view(TIME, HEADS.num_attention_heads, -1).transpose(0, 1)
    kv = kv.view(TIME, HEADS.num_attention_heads, -1).transpose(0, 1)
    key, value = kv.split([HEADS.qk_nope_head_dim, HEADS.v_head_dim], dim=-1)
    key = torch.cat([key, rope_TR.expand(HEADS.num_attention_heads, -1, -1)], dim=-1)
    return q @ key.mT * q.shape[-1] ** -0.5, value


@pytest.mark.parametrize("q_lora", [True, False])
def test_qk_clip_scales_the_logits_of_hot_heads_only(q_lora):
    weights = attention_weights(q_lora)
    before = [logits_and_values(weights, layer) for layer in range(LAYERS)]
    max_logit_LH = torch.stack([logits.amax((1, 2)) for logits, _ in before]).detach()
    tau = max_logit_LH.median().item()
    over_LH = max_logit_LH > tau
    assert 0 < over_LH.sum() < over_LH.numel()
    assert qk_clip(weights, HEADS, max_logit_LH, tau) == over_LH.sum()
    for layer, (old_logits, old_values) in enumerate(before):
        logits, values = logits_and_values(weights, layer)
        assert torch.equal(values, old_values)
        for head in range(HEADS.num_attention_heads):
            if over_LH[layer, head]:
                gamma = tau / max_logit_LH[layer, head]
                torch.testing.assert_close(logits[head], gamma * old_logits[head])
                assert logits[head].max().item() == pytest.approx(tau, rel=1e-5)
            else:
                assert torch.equal(logits[head], old_logits[head])


def test_qk_clip_leaves_cool_heads_alone():
    weights = attention_weights(q_lora=True)
    before = {name: p.detach().clone() for name, p in weights.items()}
    max_logit_LH = torch.tensor([[100.0, 3.0, -math.inf], [-200.0, 0.0, 99.0]])
    assert qk_clip(weights, HEADS, max_logit_LH, tau=100.0) == 0
    assert all(torch.equal(p, before[name]) for name, p in weights.items())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_qk_clip_refuses_overflown_logits(value):
    weights = attention_weights(q_lora=True)
    before = {name: p.detach().clone() for name, p in weights.items()}
    max_logit_LH = torch.full((LAYERS, 3), 500.0)
    max_logit_LH[1, 2] = value
    with pytest.raises(FloatingPointError, match="layer 1, head 2"):
        qk_clip(weights, HEADS, max_logit_LH, tau=100.0)
    assert all(torch.equal(p, before[name]) for name, p in weights.items())
