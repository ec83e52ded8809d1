"""A whole plan: layout, memory in every phase, verdict, communication, time and price.

In: a model's configuration and a `Request`. Out: a `Plan`. Must not know: how it is printed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from openk2.model.checkpoint import read_config
from openk2.model.config import PRESETS, K2Config, preset
from openk2.plan import speed, traffic
from openk2.plan.activations import FP32, Recompute
from openk2.plan.counts import Census, Format, active_parameters, count
from openk2.plan.facts import Gpu, PlanError, fact, gpu
from openk2.plan.layout import (
    Attention,
    EngineLayout,
    TrainLayout,
    engine_layouts,
    engine_sizes,
    train_layout,
)
from openk2.plan.memory import (
    Memory,
    ServeLoad,
    TrainLoad,
    TrainMemory,
    cache_bytes_per_token,
    engine_memory,
    train_memory,
)

Task = Literal["train", "serve", "rl"]
MOST_GPUS = 65_536
"""Where the search for a number of GPUs that fits ends."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for; None takes the default that the field names."""

    task: Task
    """What the GPUs are for."""
    gpus: int
    """How many there are."""
    gpu: str = "h800"
    """Which."""
    form: Format = "fp8"
    """Format of the engine's weights; training is in BF16."""
    context: int | None = None
    """Tokens of a sequence; None: 4096 for training, else 32768, or the model's longest."""
    batch: int | None = None
    """Sequences: of a step for training (None: 2^26 tokens), else of one engine (None: 16)."""
    micro_batch: int = 1
    """Sequences that one rank trains on in one pass."""
    recompute: Recompute = "report"
    """What the backward computes again."""
    offload_optimizer: bool = False
    """Optimizer states live in the node's RAM."""
    pipeline: int | None = None
    """Pipeline stages; None: the report's 16, or 1 if a GPU holds the model's states."""
    experts: int | None = None
    """Expert ranks; None: as above."""
    engine: int | None = None
    """GPUs of one engine; None: the smallest that fits."""
    attention: Attention | None = None
    """How an engine divides attention; None: tensor parallelism if that fits."""
    mfu: float = 0.30
    """Share of the peak that training and prefill reach."""
    bandwidth_utilisation: float = 0.60
    """Share of the memory bandwidth that decoding reaches."""
    price_usd_per_hour: float | None = None
    """Rent of one GPU; None: the data file's assumption."""
    tokens: float | None = None
    """Tokens of the whole run; None: 15.5e12 for training, else no total."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number with its unit in the key."""

    key: str
    """Name for machines, with the unit."""
    value: float
    """The number."""
    label: str
    """Name for people."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that the arithmetic says."""

    request: Request
    """What was asked for, defaults filled in."""
    layout: str
    """The assumed layout in words."""
    phases: dict[str, Memory]
    """Memory of the fullest GPU; phases follow each other, so the largest counts."""
    host_gb_per_node: float
    """RAM that a node needs for what was offloaded."""
    fits: bool
    """Whether every phase fits the GPU, and what was offloaded the node."""
    gpus_that_fit: int | None
    """The smallest number of GPUs that does with the same settings; None: none was found."""
    flows: list[traffic.Flow]
    """Communication of the busiest GPU per step."""
    figures: list[Figure]
    """Counts, times and prices."""

    @property
    def peak_bytes(self) -> float:
        """The fullest phase."""
        return max(memory.total for memory in self.phases.values())


def read_model(name: str) -> K2Config:
    """Return a preset's shape, or that of a model directory or its `config.json`.

    Raises:
        ConfigError: It is neither, or does not describe a K2 model.
    """
    if name in PRESETS:
        return preset(name)
    path = Path(name)
    if not path.exists():
        raise PlanError(f"no model {name!r}; give {', '.join(PRESETS)}, or a directory")
    return read_config(path.parent if path.name == "config.json" else path)[0]


def make(config: K2Config, request: Request) -> Plan:
    """Plan a task.

    Raises:
        PlanError: The numbers cannot be laid out; the message says what to change.
    """
    census = count(config)
    request = _filled(config, request)
    plan = _task(config, census, request)
    smallest = request.gpus if plan.fits else None
    for gpus in _candidates(config, census, request):
        if smallest is not None and gpus >= smallest:
            break
        if _fits(config, census, replace(request, gpus=gpus)):
            smallest = gpus
            break
    return replace(plan, gpus_that_fit=smallest)


def _filled(config: K2Config, request: Request) -> Request:
    is_train = request.task == "train"
    context = request.context or min(
        int(fact("train_context")) if is_train else 32768, config.max_position_embeddings
    )
    if context > config.max_position_embeddings:
        raise PlanError(
            f"--context {context} is longer than the model's {config.max_position_embeddings}; "
            "give less"
        )
    batch = request.batch
    if batch is None:
        batch = max(1, int(fact("batch_tokens")) // context) if is_train else 16
    price = request.price_usd_per_hour
    if price is None:
        price = gpu(request.gpu).price_usd_per_hour
    tokens = fact("train_tokens") if request.tokens is None and is_train else request.tokens
    return replace(request, context=context, batch=batch, price_usd_per_hour=price, tokens=tokens)


def _task(config: K2Config, census: Census, request: Request) -> Plan:
    return {"train": _train, "serve": _serve, "rl": _rl}[request.task](config, census, request)


def _fits(config: K2Config, census: Census, request: Request) -> bool:
    try:
        return _task(config, census, request).fits
    except PlanError:
        return False


def _candidates(config: K2Config, census: Census, request: Request) -> Iterator[int]:
    if request.task == "serve":
        sizes = engine_sizes(config, config.n_routed_experts) if not request.engine else []
        yield from sizes or [request.engine or 1]
        return
    pipeline, experts = _parallelism(config, census, request)
    unit = math.lcm(pipeline * experts, request.engine or 1)
    gpus = unit
    while gpus <= MOST_GPUS:
        yield gpus
        gpus += unit if gpus < 16 * unit else 16 * unit


# Training ---------------------------------------------------------------------------------------


def _is_small(census: Census, device: Gpu) -> bool:
    """Whether half of one GPU holds weights and gradients, so data parallelism is enough."""
    return (2 + FP32) * census.all.trained < device.memory_gb * 1e9 / 2


def _parallelism(config: K2Config, census: Census, request: Request) -> tuple[int, int]:
    small = _is_small(census, gpu(request.gpu))
    pipeline = request.pipeline or (1 if small else int(fact("pipeline_stages")))
    return pipeline, request.experts or (1 if small else int(fact("expert_ranks")))


def _training(
    config: K2Config, census: Census, request: Request, sequences: int
) -> tuple[TrainLayout, TrainLoad, TrainMemory]:
    pipeline, experts = _parallelism(config, census, request)
    layout = train_layout(config, request.gpus, pipeline=pipeline, experts=experts, small=False)
    assert request.context is not None
    passes = math.ceil(sequences / (layout.data * request.micro_batch))
    load = TrainLoad(
        request.context, request.micro_batch, passes, request.recompute, request.offload_optimizer
    )
    return layout, load, train_memory(config, census, layout, load)


def _train(config: K2Config, census: Census, request: Request) -> Plan:
    assert request.batch is not None
    layout, load, memory = _training(config, census, request, request.batch)
    device = gpu(request.gpu)
    host = memory.host * min(request.gpus, fact("gpus_per_node")) / 1e9
    return Plan(
        request,
        _train_words(layout, memory, load),
        {"train": memory.gpu},
        host,
        memory.gpu.total <= device.memory_gb * 1e9 and host <= fact("host_memory_gb_per_node"),
        None,
        traffic.train_flows(config, census, layout, load, device),
        _model_figures(config, census) + _train_figures(config, census, request, layout, load),
    )


def _train_words(layout: TrainLayout, memory: TrainMemory, load: TrainLoad) -> str:
    chunks = (
        f" ({layout.chunks} virtual stages each, interleaved 1F1B)" if layout.chunks > 1 else ""
    )
    return (
        f"PP{layout.pipeline}{chunks} x EP{layout.experts} x {layout.replicas} replicas, "
        f"ZeRO-1 over {layout.replicas} ranks for routed experts and {layout.data} for the rest, "
        f"no TP; fullest stage {memory.stage + 1} of {layout.pipeline}; "
        f"{load.micro_batches} micro-batches of {load.tokens} tokens per rank"
    )


def _train_figures(
    config: K2Config, census: Census, request: Request, layout: TrainLayout, load: TrainLoad
) -> list[Figure]:
    device = gpu(request.gpu)
    flops = speed.train_flops_per_token(config, census, load.context)
    per_token = speed.seconds(flops, device.bf16_tflops, request.mfu) / request.gpus
    step_tokens = load.tokens * load.micro_batches * layout.data
    idle = speed.bubble(layout.pipeline, layout.chunks, load.micro_batches)
    return [
        Figure("train_flops_per_token", flops, "training FLOPs per token (6 N + attention)"),
        Figure("step_tokens", step_tokens, "tokens per step"),
        Figure("step_seconds", step_tokens * per_token, f"seconds per step at MFU {request.mfu}"),
        Figure("train_tokens_per_second", 1 / per_token, "trained tokens/s, all GPUs"),
        Figure("bubble_share", idle, "pipeline bubble over arithmetic, (P-1)/(V m)"),
        *_price(request, request.tokens, per_token),
    ]


def _price(request: Request, tokens: float | None, per_token: float) -> list[Figure]:
    assert request.price_usd_per_hour is not None
    hourly = speed.usd(request.gpus, 1, request.price_usd_per_hour)
    million = speed.usd(request.gpus, per_token * 1e6 / 3600, request.price_usd_per_hour)
    found = [
        Figure("usd_per_hour", hourly, "USD per hour, all GPUs"),
        Figure("usd_per_million_tokens", million, "USD per million tokens"),
    ]
    if tokens is None:
        return found
    hours = tokens * per_token / 3600
    return [
        *found,
        Figure("total_tokens", tokens, "tokens of the run"),
        Figure("total_days", hours / 24, "days of the run"),
        Figure("total_gpu_hours", hours * request.gpus, "GPU-hours of the run"),
        Figure("total_usd", hours * hourly, "USD of the run"),
    ]


# Serving ----------------------------------------------------------------------------------------


def _engine(config: K2Config, census: Census, request: Request) -> tuple[EngineLayout, Memory]:
    """Return the first layout that fits, or the one that comes closest."""
    layouts = engine_layouts(
        config, request.gpus, engine=request.engine, attention=request.attention
    )
    load, limit = _serve_load(request), gpu(request.gpu).memory_gb * 1e9
    each = [(layout, engine_memory(config, census, layout, load)) for layout in layouts]
    fitting = [(layout, memory) for layout, memory in each if memory.total <= limit]
    return fitting[0] if fitting else min(each, key=lambda pair: pair[1].total)


def _serve_load(request: Request) -> ServeLoad:
    assert request.context is not None and request.batch is not None
    return ServeLoad(request.form, request.context, request.batch)


def _serve(config: K2Config, census: Census, request: Request) -> Plan:
    layout, memory = _engine(config, census, request)
    load, device = _serve_load(request), gpu(request.gpu)
    figures, per_token = _serve_figures(config, census, request, layout)
    return Plan(
        request,
        _engine_words(config, layout, load),
        {"serve": memory},
        0.0,
        memory.total <= device.memory_gb * 1e9,
        None,
        traffic.engine_flows(config, layout, load.batch, device),
        [*_model_figures(config, census), *figures, *_price(request, request.tokens, per_token)],
    )


def _engine_words(config: K2Config, layout: EngineLayout, load: ServeLoad) -> str:
    n = layout.engine
    if n == 1:
        kind = "no parallelism"
    elif layout.attention == "tp":
        kind = f"TP{n} for attention, every GPU caches all answers, EP{n}"
    else:
        kind = f"DP{n} attention, every GPU caches its own answers, EP{n}"
    places = layout.experts_per_gpu(config)
    return (
        f"{layout.engines} engines of {n} GPUs: {kind} with {places} experts of each layer per "
        f"GPU; weights in {load.form}, {load.batch} answers of {load.context} tokens per engine"
    )


def _serve_figures(
    config: K2Config, census: Census, request: Request, layout: EngineLayout
) -> tuple[list[Figure], float]:
    load, device = _serve_load(request), gpu(request.gpu)
    roof = speed.decode(config, census, layout, load, device, request.bandwidth_utilisation)
    rate = load.batch * layout.engines / roof.seconds
    flops = speed.prefill_flops_per_token(config, census, load.context)
    peak = speed.peak_tflops(device, load.form)
    prefill = request.gpus / speed.seconds(flops, peak, request.mfu)
    used = request.bandwidth_utilisation
    return [
        Figure("cache_bytes_per_token", cache_bytes_per_token(config), "cache bytes per token"),
        Figure("decode_weight_gb", roof.weight_bytes / 1e9, "GB of weights read per GPU and step"),
        Figure("decode_cache_gb", roof.cache_bytes / 1e9, "GB of cache read per GPU and step"),
        Figure("decode_memory_ms", roof.memory_seconds * 1e3, f"ms to read them at {used}"),
        Figure("decode_compute_ms", roof.compute_seconds * 1e3, "ms of arithmetic at peak"),
        Figure("decode_tokens_per_second_per_answer", 1 / roof.seconds, "tokens/s of one answer"),
        Figure("decode_tokens_per_second", rate, "written tokens/s, all GPUs, at most"),
        Figure("prefill_tokens_per_second", prefill, f"read tokens/s, all GPUs, MFU {request.mfu}"),
    ], 1 / rate


# Both on the same GPUs --------------------------------------------------------------------------


def _rl(config: K2Config, census: Census, request: Request) -> Plan:
    """Rollout, update and training in turn on the same GPUs (K2 report §3.3)."""
    engine, serving = _engine(config, census, request)
    load, device = _serve_load(request), gpu(request.gpu)
    answers = load.batch * engine.engines
    layout, train_load, training = _training(config, census, request, answers)
    # One buffer for a tensor from RAM and two that the engine reads from (K2 report §3.3.2).
    update = Memory(
        experts=serving.experts,
        weights=serving.weights,
        buffers=3 * census.largest_tensor * 2.0,
        runtime=serving.runtime,
    )
    phases = {"rollout": serving, "update": update, "train": training.gpu}
    parked = training.gpu.experts + training.gpu.weights + training.gpu.optimizer
    host = (training.host + parked) * min(request.gpus, fact("gpus_per_node")) / 1e9
    fits = max(phase.total for phase in phases.values()) <= device.memory_gb * 1e9
    flows = [
        *traffic.train_flows(config, census, layout, train_load, device),
        traffic.update_flow(census, engine, load.form, device),
    ]
    return Plan(
        request,
        f"train: {_train_words(layout, training, train_load)}\n"
        f"rollout: {_engine_words(config, engine, load)}",
        phases,
        host,
        fits and host <= fact("host_memory_gb_per_node"),
        None,
        flows,
        _rl_figures(config, census, request, engine, flows[-1].link_seconds),
    )


def _rl_figures(
    config: K2Config, census: Census, request: Request, engine: EngineLayout, update: float
) -> list[Figure]:
    load = _serve_load(request)
    serving, per_written = _serve_figures(config, census, request, engine)
    flops = speed.train_flops_per_token(config, census, load.context)
    peak = gpu(request.gpu).bf16_tflops
    per_trained = speed.seconds(flops, peak, request.mfu) / request.gpus
    tokens = load.batch * engine.engines * load.context
    iteration = tokens * (per_written + per_trained) + update
    return [
        *_model_figures(config, census),
        *serving,
        Figure("iteration_tokens", tokens, "tokens per iteration, written and then trained on"),
        Figure("rollout_seconds", tokens * per_written, "seconds of rollout, at least"),
        Figure("train_seconds", tokens * per_trained, f"seconds of training at MFU {request.mfu}"),
        Figure("update_seconds", update, "seconds of weight update, at least"),
        *_price(request, request.tokens, iteration / tokens),
    ]


def _model_figures(config: K2Config, census: Census) -> list[Figure]:
    active = active_parameters(config, census)
    return [
        Figure("parameters", census.all.values, "parameters"),
        Figure("active_parameters", active, "parameters that a token visits, embedding included"),
        Figure("bf16_gb", census.all.bf16_bytes / 1e9, "GB as a BF16 checkpoint"),
        Figure("fp8_gb", census.all.fp8_bytes / 1e9, "GB as an FP8 checkpoint"),
        Figure("int4_gb", census.all.int4_bytes / 1e9, "GB as an INT4 checkpoint"),
    ]
