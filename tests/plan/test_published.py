"""The arithmetic against what the Kimi K2 report, its checkpoints and their users published."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from openk2.model.transformer import count_parameters
from openk2.plan import figures, plan, report, speed, traffic
from openk2.plan.activations import FP32, chunks_in_flight, stored_bytes_per_token
from openk2.plan.counts import active_parameters
from openk2.plan.facts import fact, gpu
from openk2.plan.layout import EngineLayout, TrainLayout
from openk2.plan.memory import (
    ServeLoad,
    TrainLoad,
    cache_bytes_per_token,
    engine_memory,
    ranks_reached,
    stage_groups,
    stage_memory,
    train_memory,
)
from openk2.plan.request import Request, filled

REPORT = TrainLayout(gpus=256, pipeline=16, experts=16, chunks=4)
PAGE = Path(__file__).parents[2] / "docs" / "concepts" / "plan.md"
STEP = TrainLoad(context=4096, micro_batch=1, micro_batches=1024)


def test_the_counts_are_those_of_the_model_on_the_meta_device(k2, census):
    counted = count_parameters(k2)
    assert census.all.values == counted.total == 1_026_408_232_448
    assert active_parameters(k2, census) == counted.active
    assert active_parameters(k2, census) == pytest.approx(32.86e9, rel=1e-3)
    assert speed.multiplied_parameters(k2, census) == pytest.approx(31.69e9, rel=1e-3)


@pytest.mark.parametrize(
    ("form", "gigabytes", "tolerance"),
    [("bf16", 2050, 0.002), ("fp8", 1030, 0.002), ("int4", 594, 0.001)],
)
def test_checkpoints_are_as_large_as_published(census, form, gigabytes, tolerance):
    assert census.all.stored(form) / 1e9 == pytest.approx(gigabytes, rel=tolerance)


def test_the_cache_takes_what_mla_leaves(k2):
    assert cache_bytes_per_token(k2) == 70_272
    assert cache_bytes_per_token(k2) * 131_072 / 1e9 == pytest.approx(9.2, abs=0.05)
    assert cache_bytes_per_token(k2) * 262_144 / 1e9 == pytest.approx(18.4, abs=0.05)


def test_weights_and_gradients_are_about_six_terabytes(census):
    states = census.all.bf16_bytes + FP32 * census.all.trained
    assert states / 1e12 == pytest.approx(6.16, rel=1e-3)
    assert states / 1e12 == pytest.approx(6, rel=0.03)  # "approximately 6 TB"


def test_weights_and_gradients_alone_are_the_thirty_gigabytes_of_the_report(k2, census):
    """Optimizer states in RAM or spread over many replicas, as the report has them."""
    fullest = train_memory(k2, census, REPORT, STEP).gpu
    resident = fullest.experts + fullest.weights + fullest.gradients
    assert resident / 1e9 == pytest.approx(28.9, abs=0.05)
    assert resident / 1e9 == pytest.approx(30, rel=0.05)
    with_optimizer = resident + fullest.optimizer
    assert with_optimizer / 1e9 == pytest.approx(63.0, abs=0.1)  # more than twice the report's


def test_without_copies_a_gpu_would_hold_twenty_four_gigabytes(census):
    mean = (census.all.bf16_bytes + FP32 * census.all.trained) / 256
    assert mean / 1e9 == pytest.approx(24.1, abs=0.05)


def test_the_report_trains_on_any_multiple_of_32_nodes(k2, census):
    for nodes in (32, 64, 96, 256):
        layout = replace(REPORT, gpus=8 * nodes)
        load = replace(STEP, micro_batches=-(-16384 // layout.data), offload_optimizer=True)
        memory = train_memory(k2, census, layout, load)
        assert memory.gpu.total < 80e9
        node_gb = 8 * (memory.host_activations + memory.host_optimizer) / 1e9
        assert node_gb < fact("host_memory_gb_per_node")


def test_recomputation_is_what_makes_the_activations_fit(k2, census):
    kept = train_memory(k2, census, REPORT, replace(STEP, recompute="none")).gpu
    assert kept.activations > 80e9
    assert train_memory(k2, census, REPORT, STEP).gpu.activations < 6e9


def test_activations_are_those_of_the_table_in_the_docs(k2):
    always = 2 * (2 * 7168 + 1536 + 576 + 64 * 128) + 4 * 64
    fp8 = 1 + 4 / 128
    experts = 8 * 7168 * fp8 + 8 * 2 * 2048 * fp8 + 2 * 2048 * fp8
    router = 4 * (384 + 8 + 8)
    kept = stored_bytes_per_token(k2, dense=False, recompute="report")
    assert kept == always + experts + router == 148_288
    assert chunks_in_flight(pipeline=16, chunks=4, stage=2, micro_batches=1024) == 75


def test_the_exchange_is_the_one_of_the_docs(k2):
    reached = 16 * (1 - math.comb(360, 8) / math.comb(384, 8))
    assert ranks_reached(k2, 16) == pytest.approx(reached)
    sent = 2 * 7168 * (4096 * 1024) * 4 * 4 * reached * 15 / 16
    assert traffic.expert_bytes(k2, REPORT, STEP) == pytest.approx(sent)
    assert sent == pytest.approx(5.862e12, rel=1e-3)


def test_sixty_one_layers_embedding_and_head_take_sixteen_stages(k2, census):
    stages = REPORT.stages(len(census.slots))
    assert [sum(map(len, stage)) for stage in stages] == [4] * 15 + [3]
    each = [stage_memory(k2, census, REPORT, STEP, i).gpu.total for i in range(16)]
    assert train_memory(k2, census, REPORT, STEP).gpu.total == max(each)
    assert each[15] < max(each)
    assert len({round(total / 1e8) for total in each}) > 1  # uneven, so the choice matters


@pytest.mark.parametrize(
    ("name", "gpus", "form", "attention", "context", "fits"),
    [
        # K2's deployment guide (FP8, 128 K: 16 H200), vLLM's recipe (16 H800), K2 Thinking's guide
        # (INT4, 256 K: 8 H200), and what is smaller than these.
        ("h800", 16, "fp8", "tp", 131_072, True),
        ("h800", 8, "fp8", "tp", 131_072, False),
        ("h200", 16, "fp8", "dp", 131_072, True),
        ("h200", 8, "int4", "tp", 262_144, True),
        ("h100", 8, "int4", "tp", 262_144, False),
        ("h200", 8, "bf16", "tp", 4_096, False),
    ],
)
def test_known_deployments(k2, census, name, gpus, form, attention, context, fits):
    layout = EngineLayout(gpus, gpus, attention)
    memory = engine_memory(k2, census, layout, ServeLoad(form, context, batch=1))
    assert (memory.total <= gpu(name).memory_gb * 1e9) is fits


def test_training_flops_are_six_times_what_is_multiplied_and_attention(k2, census):
    flops = speed.train_flops_per_token(k2, census, 4096)
    attention = 3 * 2 * 64 * (192 + 128) * 2048 * 61
    assert flops == pytest.approx(6 * 31.687e9 + attention, rel=1e-4)
    assert 0.05 < attention / flops < 0.10


def test_a_whole_training_takes_about_three_million_hours(k2, census):
    request = filled(k2, Request("train", 256))
    per_token = figures.train_seconds_per_token(k2, census, request)
    gpu_hours = 15.5e12 * per_token * 256 / 3600
    assert gpu_hours == pytest.approx(2.98e6, rel=0.01)
    # DeepSeek-V3 (report, table 1): 2.664M H800 hours for 14.8T tokens at 37B active.
    per_active_token = gpu_hours / (15.5e12 * 32.86e9)
    theirs = 2.664e6 / (14.8e12 * 37e9)
    assert 1 < per_active_token / theirs < 1.5


def test_the_weight_update_is_under_its_published_times(k2, census):
    """A bound from links alone: the report says < 30 s, the engine's authors measured 16 s."""
    flow = traffic.update_flow(census, EngineLayout(256, 16, "tp"), "fp8", gpu("h800"))
    assert flow.sent_bytes == pytest.approx(1.03e12, rel=0.002)
    assert 2 < flow.link_seconds < 16


def test_muon_adds_at_most_a_quarter_to_the_optimizers_communication(census):
    """Moonlight §2.3: (1, 1.25] of AdamW's, with gradients and weights both in float32."""
    layout = replace(REPORT, gpus=1024)
    reduced, _, muon = traffic.zero1_bytes(census, layout)
    assert 0 < muon / (2 * reduced) <= 0.25


def test_optimizer_states_become_negligible_in_a_large_run(k2, census):
    small = stage_memory(k2, census, REPORT, STEP, 5).gpu.optimizer
    large = stage_memory(k2, census, replace(REPORT, gpus=16_384), STEP, 5).gpu.optimizer
    assert large == pytest.approx(small / 64, rel=1e-3)


def test_with_8192_gpus_the_states_are_the_reports_thirty_gigabytes(k2, census):
    """docs/concepts/plan.md names two stages, the third and the fullest."""
    layout, load = replace(REPORT, gpus=8192), replace(STEP, micro_batches=32)

    def states(stage: int) -> tuple[float, float]:
        gpu = stage_memory(k2, census, layout, load, stage).gpu
        together = gpu.experts + gpu.weights + gpu.gradients + gpu.optimizer
        return gpu.optimizer / 1e9, together / 1e9

    assert states(2) == pytest.approx((1.066, 29.984), abs=1e-3)
    assert train_memory(k2, census, layout, load).stage == 14  # the 15th
    assert states(14) == pytest.approx((0.827, 29.562), abs=1e-3)
    page = " ".join(PAGE.read_text("utf-8").split())
    assert "1.07 GB in the third stage: 30.0 GB together; 0.83 GB and 29.6 GB in the 15th" in page


def test_the_flows_in_the_docs_are_the_output(k2, census):
    found = traffic.train_flows(k2, census, REPORT, STEP, gpu("h800"))
    section = PAGE.read_text("utf-8").partition("### Communication")[2].partition("###")[0]
    rows = [line.split("|")[-3:-1] for line in section.splitlines() if line.startswith("|")][2:]
    assert len(rows) == len(found)
    for (gigabytes, seconds), flow in zip(rows, found, strict=True):
        assert float(gigabytes.replace(",", "")) == pytest.approx(flow.sent_bytes / 1e9, rel=3e-3)
        assert float(seconds) == pytest.approx(flow.link_seconds, abs=0.05)


def test_a_stage_holds_the_experts_of_its_layers(census):
    experts, _ = stage_groups(census, REPORT, REPORT.stages(63)[5])
    assert experts.trained == 4 * 384 * 44_040_192


def test_the_worked_example_in_the_docs_is_the_output(k2):
    """Every row of memory that docs/concepts/plan.md prints is in the report."""
    text = report.to_text(plan.make(k2, Request("train", 256)), "k2")
    printed = [" ".join(line.split()) for line in text.splitlines()]
    block = PAGE.read_text("utf-8").partition("    weights, routed")[2].partition("\n\n")[0]
    rows = [" ".join(row.split()) for row in f"weights, routed{block}".splitlines()]
    assert len(rows) == 8
    for row in rows:
        assert row.removesuffix(" of 80") in printed
