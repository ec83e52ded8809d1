"""Every figure of decoding and of a training run against a product that is written out here."""

from __future__ import annotations

from dataclasses import replace

import pytest

from openk2.plan import figures, plan, speed
from openk2.plan.counts import count
from openk2.plan.facts import fact, gpu
from openk2.plan.layout import EngineLayout, TrainLayout
from openk2.plan.memory import ServeLoad, TrainLoad
from openk2.plan.request import Request, filled

EIGHT = EngineLayout(8, 8, "tp")
LOAD = ServeLoad("int4", 32_768, 16)
MULTIPLIED = 31.6864e9
"""Weights that a token of K2 is multiplied with."""


def figures_of(found: plan.Plan) -> dict[str, float]:
    return {figure.key: figure.value for figure in found.figures}


def test_sixteen_tokens_visit_109_8_of_384_experts(k2):
    assert speed.experts_hit(k2, 1) == pytest.approx(8)
    assert speed.experts_hit(k2, 16) == pytest.approx(384 * (1 - (376 / 384) ** 16))
    assert speed.experts_hit(k2, 16) == pytest.approx(109.8, abs=0.05)


def test_a_step_reads_the_experts_hit_the_rest_and_half_full_caches(k2, census):
    roof = speed.decode(k2, census, EIGHT, LOAD, gpu("h200"), 0.6)
    experts = 60 * 384 * 44_040_192 * (1 / 2 + 2 / 32) / 8  # half a byte, a scale per 32
    whole = census.whole.bf16_bytes  # every GPU has norms, latent projections and routers
    # The rest is divided by eight; the input embedding, 163,840 x 7,168, is not read.
    divided = (census.split.bf16_bytes - 2 * 163_840 * 7168) / 8
    by_hand = experts * 109.819 / 384 + whole + divided
    assert roof.weight_bytes == pytest.approx(by_hand, rel=1e-4)
    assert roof.weight_bytes == pytest.approx(24.95e9, rel=1e-3)
    assert roof.cache_bytes == 16 * 16_384 * 61 * 576 * 2
    assert roof.cache_bytes == pytest.approx(18.42e9, rel=1e-3)
    assert roof.memory_seconds == pytest.approx((24.9477e9 + 18.4214e9) / (4.8e12 * 0.6), rel=1e-4)
    assert roof.memory_seconds == pytest.approx(15.06e-3, rel=1e-3)


def test_a_steps_arithmetic_is_the_products_and_every_heads_attention(k2, census):
    roof = speed.decode(k2, census, EIGHT, LOAD, gpu("h200"), 0.6)
    products = 16 * 2 * MULTIPLIED / 8
    attention = 16 * 2 * 64 * (576 + 512) * 16_384 * 61 / 8
    assert roof.compute_seconds == pytest.approx((products + attention) / 989.5e12, rel=1e-4)
    assert roof.compute_seconds == pytest.approx(0.4094e-3, rel=1e-3)


def test_with_dp_cache_and_arithmetic_are_those_of_the_fullest_gpu(k2, census):
    layout, load = EngineLayout(16, 16, "dp"), ServeLoad("int4", 32_768, 40)
    roof = speed.decode(k2, census, layout, load, gpu("h200"), 0.6)
    answers = 3  # of 40 on 16 GPUs
    assert roof.cache_bytes == answers * 16_384 * 70_272
    flops = answers * (2 * MULTIPLIED + 2 * 64 * (576 + 512) * 16_384 * 61)
    assert roof.compute_seconds == pytest.approx(flops / 989.5e12, rel=1e-4)


def test_the_rates_of_eight_h200(k2, census):
    request = Request("serve", 8, "h200", form="int4", attention="tp")
    values = figures_of(plan._task(k2, census, filled(k2, request)))
    step = 15.0587e-3 + 0.10883e-3
    assert values["decode_weight_gb"] == pytest.approx(24.95, abs=5e-3)
    assert values["decode_cache_gb"] == pytest.approx(18.42, abs=5e-3)
    assert values["decode_memory_ms"] == pytest.approx(15.06, abs=5e-3)
    assert values["decode_compute_ms"] == pytest.approx(0.4094, rel=1e-3)
    assert values["decode_link_ms"] == pytest.approx(0.1088, rel=1e-3)
    assert values["decode_tokens_per_second"] == pytest.approx(16 / step, rel=1e-4)
    assert values["decode_tokens_per_second"] == pytest.approx(1055, abs=1)
    assert values["decode_tokens_per_second_per_answer"] == pytest.approx(1 / step, rel=1e-4)
    flops = 2 * MULTIPLIED + 2 * 64 * (192 + 128) * 16_384 * 61
    assert values["prefill_tokens_per_second"] == pytest.approx(
        8 * 989.5e12 * 0.3 / flops, rel=1e-4
    )
    assert values["usd_per_hour"] == 8 * 4.00
    assert values["usd_per_million_tokens"] == pytest.approx(32 / 3600 * 1e6 * step / 16, rel=1e-4)


def test_a_training_run_on_256_h800(k2, census):
    values = figures_of(plan._task(k2, census, filled(k2, Request("train", 256))))
    flops = 6 * MULTIPLIED + 3 * 2 * 64 * (192 + 128) * 2048 * 61
    rate = 256 * 989.5e12 * 0.30 / flops
    assert values["train_flops_per_token"] == pytest.approx(flops, rel=1e-4)
    assert values["train_tokens_per_second"] == pytest.approx(rate, rel=1e-4)
    assert values["step_tokens"] == 2**26
    assert values["step_seconds"] == pytest.approx(2**26 / rate, rel=1e-4)
    assert values["step_seconds"] == pytest.approx(181.5, abs=0.05)
    hours = 15.5e12 / rate / 3600
    assert values["total_gpu_hours"] == pytest.approx(256 * hours, rel=1e-4)
    assert values["total_gpu_hours"] == pytest.approx(2.98e6, abs=5e3)
    assert values["total_days"] == pytest.approx(hours / 24, rel=1e-4)
    assert values["usd_per_hour"] == 512
    assert values["usd_per_million_tokens"] == pytest.approx(512 / 3600 * 1e6 / rate, rel=1e-4)
    assert values["total_usd"] == pytest.approx(512 * hours, rel=1e-4)
    assert values["bubble_share"] == 15 / (4 * 1024)


def test_an_iteration_of_rl_is_rollout_update_and_training(k2, census):
    found = plan._task(k2, census, filled(k2, Request("rl", 512)))
    values = figures_of(found)
    tokens = 16 * 32 * 16_384  # 16 engines of 32 GPUs, one answer on each
    assert found.request.batch == 32
    assert values["iteration_tokens"] == tokens
    assert values["rollout_seconds"] == pytest.approx(tokens / values["decode_tokens_per_second"])
    # A token of training sees half of 16,384 on average.
    flops = 6 * MULTIPLIED + 3 * 2 * 64 * (192 + 128) * 8192 * 61
    assert values["train_seconds"] == pytest.approx(
        tokens * flops / (512 * 989.5e12 * 0.3), rel=1e-4
    )
    update = 1029.173e9 / (8 * 50e9) + 1029.173e9 / 200e9
    assert values["update_seconds"] == pytest.approx(update)
    together = values["rollout_seconds"] + values["train_seconds"] + update
    usd = 512 * 2.00 * together / 3600
    assert values["usd_per_million_tokens"] == pytest.approx(usd / tokens * 1e6)


def test_the_default_mfu_is_under_what_deepseek_v3s_hours_amount_to_by_our_formula(k2):
    """DeepSeek-V3 (arXiv 2412.19437): 61 layers, 3 dense, 128 heads, 256 experts; table 1."""
    v3 = replace(
        k2,
        vocab_size=129_280,
        n_routed_experts=256,
        first_k_dense_replace=3,
        num_attention_heads=128,
    )
    census = count(v3)
    assert census.all.values == pytest.approx(671.03e9, rel=1e-5)
    assert speed.multiplied_parameters(v3, census) == pytest.approx(36.626e9, rel=1e-4)
    flops = speed.train_flops_per_token(v3, census, 4096)
    assert flops == pytest.approx(250.5e9, rel=1e-3)
    peak_flops = 2.664e6 * 3600 * gpu("h800").bf16_tflops * 1e12
    reached = flops * 14.8e12 / peak_flops
    assert reached == pytest.approx(0.391, abs=5e-4)
    assert 6 * 37e9 * 14.8e12 / peak_flops == pytest.approx(0.346, abs=1e-3)
    assert 0.7 * reached < fact("mfu") < reached


def test_a_bubble_shrinks_with_chunks_and_micro_batches():
    assert speed.bubble(16, 4, 128) == 15 / 512
    assert speed.bubble(1, 1, 5) == 0


def test_the_figures_of_a_step_use_the_layouts_own_tokens(k2, census):
    layout, load = TrainLayout(512, 16, 16, 4), TrainLoad(4096, 2, 7)
    found = figures.train_figures(k2, census, filled(k2, Request("train", 512)), layout, load)
    assert {f.key: f.value for f in found}["step_tokens"] == 4096 * 2 * 7 * 32
