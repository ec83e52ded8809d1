"""What must hold for any model and any number of GPUs."""

from __future__ import annotations

import itertools
import math
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.model.config import K2Config, preset
from openk2.model.transformer import count_parameters
from openk2.plan import plan, speed
from openk2.plan.activations import chunks_in_flight
from openk2.plan.counts import active_parameters, count
from openk2.plan.facts import PlanError
from openk2.plan.layout import EngineLayout, engine_layouts, train_layout
from openk2.plan.memory import (
    Memory,
    ServeLoad,
    TrainLoad,
    engine_memory,
    engine_weights,
    ranks_reached,
    stage_groups,
    stage_memory,
    train_memory,
)
from openk2.plan.request import Request, filled

TINY = K2Config(
    vocab_size=160,
    hidden_size=64,
    intermediate_size=96,
    moe_intermediate_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    n_routed_experts=8,
    num_experts_per_tok=2,
    q_lora_rank=24,
    kv_lora_rank=16,
    qk_nope_head_dim=8,
    qk_rope_head_dim=8,
    v_head_dim=12,
    max_position_embeddings=512,
)

models = st.builds(
    lambda layers, dense, log_experts, top, latent: replace(
        TINY,
        num_hidden_layers=layers,
        first_k_dense_replace=min(dense, layers),
        n_routed_experts=2**log_experts,
        num_experts_per_tok=min(top, 2**log_experts),
        q_lora_rank=latent,
    ),
    st.integers(1, 9),
    st.integers(0, 3),
    st.integers(0, 5),
    st.integers(1, 8),
    st.sampled_from([None, 24]),
)


@st.composite
def trainings(draw):
    config = draw(models)
    pipeline = draw(st.integers(1, config.num_hidden_layers))
    experts = draw(st.sampled_from([n for n in (1, 2, 4, 8) if config.n_routed_experts % n == 0]))
    replicas = draw(st.integers(1, 6))
    layout = train_layout(config, pipeline * experts * replicas, pipeline, experts)
    load = TrainLoad(
        draw(st.integers(1, 64)),
        draw(st.integers(1, 3)),
        math.ceil(96 / layout.data),
        draw(st.sampled_from(["report", "none"])),
        draw(st.booleans()),
    )
    return config, layout, load


@given(models)
@settings(max_examples=12, deadline=None)
def test_any_model_is_counted_as_the_meta_device_counts_it(config):
    counted = count_parameters(config)
    census = count(config)
    assert census.all.values == counted.total
    assert active_parameters(config, census) == pytest.approx(counted.active)


@given(trainings(), st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_memory_never_grows_with_whole_replicas(training, more):
    config, layout, load = training
    census = count(config)
    larger = replace(layout, gpus=layout.gpus + more * layout.replica)
    fewer = replace(load, micro_batches=math.ceil(96 / larger.data))
    before = train_memory(config, census, layout, load)
    after = train_memory(config, census, larger, fewer)
    assert after.gpu.total <= before.gpu.total * (1 + 1e-12)
    assert after.host_activations <= before.host_activations * (1 + 1e-12)
    assert after.host_optimizer <= before.host_optimizer * (1 + 1e-12)


@given(trainings())
@settings(max_examples=40, deadline=None)
def test_all_gpus_together_hold_the_model_once_per_replica_and_the_rest_once_per_rank(training):
    config, layout, load = training
    census = count(config)
    each = [stage_memory(config, census, layout, load, i).gpu for i in range(layout.pipeline)]
    held = sum(m.experts + m.weights for m in each) * layout.experts * layout.replicas
    copies = census.rest.bf16_bytes * (layout.experts - 1) * layout.replicas
    assert held == pytest.approx(census.all.bf16_bytes * layout.replicas + copies)


@given(trainings())
@settings(max_examples=40, deadline=None)
def test_every_slot_lies_in_one_stage_and_the_fullest_stage_counts(training):
    config, layout, load = training
    census = count(config)
    stages = layout.stages(len(census.slots))
    assert sorted(slot for stage in stages for chunk in stage for slot in chunk) == list(
        range(config.num_hidden_layers + 2)
    )
    groups = [stage_groups(census, layout, stage) for stage in stages]
    assert sum(experts.values + rest.values for experts, rest in groups) == census.all.values
    fullest = train_memory(config, census, layout, load).gpu
    for i in range(layout.pipeline):
        assert stage_memory(config, census, layout, load, i).gpu.total <= fullest.total


@given(trainings())
@settings(max_examples=40, deadline=None)
def test_the_total_is_the_sum_of_the_components_and_optimizer_states_lie_somewhere(training):
    config, layout, load = training
    census = count(config)
    here = train_memory(config, census, layout, replace(load, offload_optimizer=False))
    away = train_memory(config, census, layout, replace(load, offload_optimizer=True))
    for memory in (here.gpu, away.gpu):
        parts = [getattr(memory, field.name) for field in fields(Memory)]
        assert all(part >= 0 for part in parts)
        assert memory.total == pytest.approx(sum(parts))
    assert here.host_optimizer == 0 == away.gpu.optimizer
    assert away.host_optimizer > 0 < here.gpu.optimizer


@given(st.sampled_from([1, 2, 3, 4, 8]), st.sampled_from(["tp", "dp"]))
def test_an_engine_holds_the_model_once_and_what_it_says_it_copies(engine, attention):
    if attention == "tp" and TINY.num_attention_heads % engine:
        return
    census = count(TINY)
    layout = EngineLayout(engine, engine, attention)
    experts, rest = engine_weights(TINY, census, layout, "bf16")
    spare = layout.experts_per_gpu(TINY) * engine - TINY.n_routed_experts
    held = experts * engine
    assert held == pytest.approx(census.experts.bf16_bytes * (1 + spare / TINY.n_routed_experts))
    copied = [slot.whole if attention == "tp" else slot.rest for slot in census.slots]
    copies = sum(group.bf16_bytes for group in copied) * (engine - 1)
    assert rest * engine == pytest.approx(census.rest.bf16_bytes + copies)


@given(st.integers(1, 5), st.integers(1, 40), st.integers(1, 512))
def test_more_answers_and_longer_ones_never_take_less(engine, batch, context):
    census, layout = count(TINY), EngineLayout(engine, engine, "dp")
    load = ServeLoad("fp8", context, batch)
    base = engine_memory(TINY, census, layout, load).total
    assert engine_memory(TINY, census, layout, replace(load, batch=batch + 1)).total >= base
    assert engine_memory(TINY, census, layout, replace(load, context=context + 1)).total >= base


@given(st.sampled_from([1, 2, 4, 8, 16, 32, 384]))
def test_a_token_reaches_no_more_ranks_than_it_has_experts_or_there_are(ranks):
    reached = ranks_reached(preset("k2"), ranks)
    assert reached + 1e-9 >= 1
    assert reached <= min(8, ranks) + 1e-9


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
def test_ranks_reached_is_the_mean_over_all_choices(ranks):
    held = TINY.n_routed_experts // ranks
    choices = list(itertools.combinations(range(TINY.n_routed_experts), TINY.num_experts_per_tok))
    mean = sum(len({expert // held for expert in choice}) for choice in choices) / len(choices)
    assert ranks_reached(TINY, ranks) == pytest.approx(mean)


@given(st.integers(1, 400))
def test_a_batch_visits_between_one_tokens_experts_and_all(batch):
    hit = speed.experts_hit(preset("k2"), batch)
    assert 8 - 1e-9 <= hit <= min(384, 8 * batch) + 1e-9


@given(st.integers(1, 16), st.integers(1, 4), st.integers(1, 100))
def test_earlier_stages_wait_for_more_backwards_and_never_for_more_than_there_are(
    pipeline, chunks, micro_batches
):
    flying = [chunks_in_flight(pipeline, chunks, i, micro_batches) for i in range(pipeline)]
    assert flying == sorted(flying, reverse=True)
    assert 1 <= flying[-1] <= flying[0] <= chunks * micro_batches


@given(st.integers(1, 600), st.integers(1, 70), st.integers(1, 400))
def test_a_layout_is_whole_or_refused_with_advice(gpus, pipeline, experts):
    try:
        layout = train_layout(preset("k2"), gpus, pipeline, experts)
    except PlanError as error:
        assert "--" in str(error)
    else:
        assert layout.replicas * layout.replica == gpus
        assert pipeline <= 61
        assert 384 % experts == 0


@given(st.integers(1, 600), st.one_of(st.none(), st.integers(1, 500)))
def test_engines_are_whole_or_refused_with_advice(gpus, engine):
    try:
        layouts = engine_layouts(preset("k2"), gpus, engine, None)
    except PlanError as error:
        assert "--" in str(error)
    else:
        assert all(layout.engines * layout.engine + layout.idle == gpus for layout in layouts)
        assert all(layout.engines >= 1 and layout.idle < layout.engine for layout in layouts)
        assert engine is None or all(layout.idle == 0 for layout in layouts)


SERVED = [("h800", "fp8", 24), ("h200", "int4", 8), ("b200", "bf16", 16), ("h100", "int4", 16)]


@pytest.mark.parametrize(("name", "form", "smallest"), SERVED)
@given(st.data())
@settings(max_examples=25, deadline=None)
def test_from_the_smallest_number_that_fits_on_more_gpus_fit_too(
    k2, census, name, form, smallest, data
):
    gpus = data.draw(st.one_of(st.integers(1, 40), st.integers(1, 800)))
    found = plan._task(k2, census, filled(k2, Request("serve", gpus, name, form)))
    least = plan._task(k2, census, filled(k2, Request("serve", smallest, name, form)))
    assert least.fits
    assert found.fits is (gpus >= smallest)
    if found.fits:
        assert found.peak_bytes <= least.peak_bytes


@pytest.mark.parametrize("gpus", [25, 31, 33, 47])
def test_an_odd_gpu_stays_idle_and_is_named(k2, census, gpus):
    found = plan._task(k2, census, filled(k2, Request("serve", gpus)))
    assert found.fits
    idle = gpus % 8
    assert f" and {idle} idle GPU{'s' if idle > 1 else ''}:" in found.layout[0]
    whole = plan._task(k2, census, filled(k2, Request("serve", gpus - idle)))
    rates = [
        {figure.key: figure.value for figure in each.figures}["prefill_tokens_per_second"]
        for each in (found, whole)
    ]
    assert rates[0] == rates[1]


@pytest.mark.parametrize("gpus", [256, 512])
def test_a_rollout_has_an_answer_for_every_gpu_of_its_engines(k2, census, gpus):
    found = plan._task(k2, census, filled(k2, Request("rl", gpus)))
    assert "of 32 GPUs: DP32" in found.layout[0]
    assert found.request.batch == 32
    asked = plan._task(k2, census, filled(k2, Request("rl", gpus, batch=16)))
    assert asked.request.batch == 16


@given(st.integers(1, 6), st.sampled_from(["train", "serve", "rl"]))
@settings(max_examples=30, deadline=None)
def test_a_plan_adds_up(replicas, task):
    found = plan.make(TINY, Request(task, replicas, batch=12, context=64))
    assert found.fits
    assert found.gpus_that_fit == 1
    assert found.peak_bytes == max(memory.total for memory in found.phases.values())
    values = {figure.key: figure.value for figure in found.figures}
    assert len(values) == len(found.figures)
    assert all(math.isfinite(value) and value >= 0 for value in values.values())
