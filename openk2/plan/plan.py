"""A whole plan: layout, memory in every phase, verdict, communication, time and price.

In: a model's configuration and a `Request`. Out: a `Plan`. Must not know: how it is printed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from openk2.model.checkpoint import read_config
from openk2.model.config import PRESETS, K2Config, preset
from openk2.plan import figures, speed, traffic
from openk2.plan.activations import FP32
from openk2.plan.counts import Census, count
from openk2.plan.facts import PlanError, fact
from openk2.plan.layout import (
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
    engine_memory,
    train_memory,
)
from openk2.plan.request import Figure, Plan, Request, filled

MOST_REPLICAS = 64
"""Where the search for a number of GPUs that fits ends: more hardly changes a GPU's share."""


def read_model(name: str) -> K2Config:
    """Return a preset's shape, or that of a model directory or its `config.json`.

    Raises:
        PlanError: It is neither.
        ConfigError: It does not describe a K2 model.
    """
    if name in PRESETS:
        return preset(name)
    path = Path(name)
    if not path.exists():
        raise PlanError(f"no model {name!r}; give {', '.join(PRESETS)}, or a model directory")
    return read_config(path.parent if path.name == "config.json" else path)[0]


def make(config: K2Config, request: Request) -> Plan:
    """Plan a task.

    Raises:
        PlanError: The numbers cannot be laid out; the message says what to change.
    """
    request = filled(config, request)
    census = count(config)
    plan = _task(config, census, request)
    if not plan.fits:  # what cannot run has neither a speed nor a price
        plan = replace(plan, figures=figures.model_figures(config, census))
    smallest = request.gpus if plan.fits else None
    for gpus in _candidates(census, config, request):
        if smallest is not None and gpus >= smallest:
            break
        if _fits(config, census, replace(request, gpus=gpus)):
            smallest = gpus
            break
    return replace(plan, gpus_that_fit=smallest)


def _task(config: K2Config, census: Census, request: Request) -> Plan:
    return {"train": _train, "serve": _serve, "rl": _rl}[request.task](config, census, request)


def _fits(config: K2Config, census: Census, request: Request) -> bool:
    try:
        return _task(config, census, request).fits
    except PlanError:
        return False


def _candidates(census: Census, config: K2Config, request: Request) -> Iterator[int]:
    if request.task == "serve":
        sizes = [request.engine] if request.engine else engine_sizes(config, None)
        yield from sizes
        return
    pipeline, experts = _parallelism(census, request)
    unit = math.lcm(pipeline * experts, request.engine or 1)
    yield from range(unit, unit * (MOST_REPLICAS + 1), unit)


# Training ---------------------------------------------------------------------------------------


def _parallelism(census: Census, request: Request) -> tuple[int, int]:
    """Return stages and expert ranks: none where half a GPU holds weights and gradients."""
    states = (2 + FP32) * census.all.trained
    small = states < request.device.memory_gb * 1e9 / 2
    stages, ranks = (1, 1) if small else (fact("pipeline_stages"), fact("expert_ranks"))
    return request.pipeline or int(stages), request.experts or int(ranks)


def _training(
    config: K2Config, census: Census, request: Request, sequences: int
) -> tuple[TrainLayout, TrainLoad, TrainMemory]:
    pipeline, experts = _parallelism(census, request)
    layout = train_layout(config, request.gpus, pipeline, experts)
    passes = math.ceil(sequences / (layout.data * request.micro_batch))
    load = TrainLoad(
        request.context, request.micro_batch, passes, request.recompute, request.offload_optimizer
    )
    return layout, load, train_memory(config, census, layout, load)


def _train(config: K2Config, census: Census, request: Request) -> Plan:
    layout, load, memory = _training(config, census, request, request.batch)
    per_token = figures.train_seconds_per_token(config, census, request)
    return Plan(
        request,
        (_train_words(layout, memory, load),),
        {"train": memory.gpu},
        traffic.train_flows(config, census, layout, load, request.device),
        [
            *figures.model_figures(config, census),
            *figures.train_figures(config, census, request, layout, load),
            *figures.price_figures(request, per_token),
        ],
        _per_node(request, memory.host_activations + memory.host_optimizer),
    )


def _train_words(layout: TrainLayout, memory: TrainMemory, load: TrainLoad) -> str:
    stages = f"PP{layout.pipeline}"
    if layout.chunks > 1:
        stages += f" ({layout.chunks} virtual stages each, interleaved 1F1B)"
    return (
        f"{stages} x EP{layout.experts} x {_many(layout.replicas, 'replica')}, no TP; "
        f"ZeRO-1 over {_many(layout.replicas, 'rank')} for routed experts and over {layout.data} "
        f"for the rest; {_many(load.micro_batches, 'micro-batch', 'es')} of {load.tokens} tokens "
        f"per rank; fullest stage: {memory.stage + 1} of {layout.pipeline}"
    )


def _per_node(request: Request, host_bytes: float) -> float:
    return host_bytes * min(request.gpus, fact("gpus_per_node")) / 1e9


# Serving ----------------------------------------------------------------------------------------


def _engine(
    config: K2Config, census: Census, request: Request
) -> tuple[EngineLayout, ServeLoad, Memory]:
    """Return what fits: fewest idle GPUs, then the smallest engine, then the faster way.

    If nothing fits: what misses by least.
    """
    limit = request.device.memory_gb * 1e9
    loads = {
        layout: ServeLoad(request.form, request.context, _answers(request, layout))
        for layout in engine_layouts(config, request.gpus, request.engine, request.attention)
    }
    found: dict[EngineLayout, Memory] = {
        layout: engine_memory(config, census, layout, load) for layout, load in loads.items()
    }

    def seconds(layout: EngineLayout) -> float:
        return speed.decode(config, census, layout, loads[layout], request.device, 1.0).seconds

    fitting = [layout for layout, memory in found.items() if memory.total <= limit]
    if fitting:
        best = min(fitting, key=lambda layout: (layout.idle, layout.engine, seconds(layout)))
    else:
        best = min(found, key=lambda layout: found[layout].total)
    return best, loads[best], found[best]


def _answers(request: Request, layout: EngineLayout) -> int:
    # A rollout has more prompts than GPUs, so its default leaves none of them without an answer.
    return request.batch or max(int(fact("answers")), layout.engine)


def _serve(config: K2Config, census: Census, request: Request) -> Plan:
    layout, load, memory = _engine(config, census, request)
    rates, per_token = figures.serve_figures(config, census, request, layout, load)
    return Plan(
        request,
        (_engine_words(config, layout, load),),
        {"serve": memory},
        [traffic.engine_flow(config, layout, load.batch, request.device)],
        [
            *figures.model_figures(config, census),
            *rates,
            *figures.price_figures(request, per_token),
        ],
    )


def _engine_words(config: K2Config, layout: EngineLayout, load: ServeLoad) -> str:
    n = layout.engine
    if n == 1:
        kind = "no parallelism"
    elif layout.attention == "tp":
        kind = f"TP{n} with EP{n}, every GPU caches all of the engine's answers"
    else:
        kind = f"DP{n} attention with EP{n}, every GPU caches its own answers"
    idle = f" and {_many(layout.idle, 'idle GPU')}" if layout.idle else ""
    return (
        f"{_many(layout.engines, 'engine')} of {_many(n, 'GPU')}{idle}: {kind}; "
        f"{layout.experts_per_gpu(config)} experts of each layer per GPU; weights in {load.form}; "
        f"{_many(load.batch, 'answer')} of {load.context} tokens per engine"
    )


def _many(number: int, noun: str, plural: str = "s") -> str:
    return f"{number} {noun}{'' if number == 1 else plural}"


# Both on the same GPUs --------------------------------------------------------------------------


def _rl(config: K2Config, census: Census, request: Request) -> Plan:
    """Rollout, update and training in turn on the same GPUs (K2 report §3.3)."""
    engine, load, serving = _engine(config, census, request)
    answers = load.batch * engine.engines
    layout, train_load, training = _training(config, census, request, answers)
    # Training's own states wait in the node's RAM while the engine runs, and the engine keeps
    # nothing while training does. The update has one buffer for a tensor from RAM and two that
    # the engine reads from.
    update = replace(serving, activations=0, cache=0, buffers=3 * 2.0 * census.largest_tensor)
    parked = training.gpu.experts + training.gpu.weights + training.gpu.optimizer
    host = training.host_optimizer + max(training.host_activations, parked)
    sent = traffic.update_flow(census, engine, load.form, request.device)
    train = f"train: {_train_words(layout, training, train_load)}"
    return Plan(
        replace(request, batch=load.batch),
        (f"rollout: {_engine_words(config, engine, load)}", train),
        {"rollout": serving, "update": update, "train": training.gpu},
        [*traffic.train_flows(config, census, layout, train_load, request.device), sent],
        [
            *figures.model_figures(config, census),
            *_iteration(config, census, request, engine, load, sent.link_seconds),
            figures.bubble_figure(layout, train_load),
        ],
        _per_node(request, host),
    )


def _iteration(
    config: K2Config,
    census: Census,
    request: Request,
    engine: EngineLayout,
    load: ServeLoad,
    update: float,
) -> list[Figure]:
    rates, per_written = figures.serve_figures(config, census, request, engine, load)
    per_trained = figures.train_seconds_per_token(config, census, request)
    tokens = load.batch * engine.engines * load.context
    trained = f"seconds of training at MFU {request.mfu:g}"
    iteration = tokens * (per_written + per_trained) + update
    return [
        *rates,
        Figure("iteration_tokens", tokens, "tokens per iteration, written and then trained on"),
        Figure("rollout_seconds", tokens * per_written, "seconds of rollout, at least"),
        Figure("train_seconds", tokens * per_trained, trained),
        Figure("update_seconds", update, "seconds of weight update, at least"),
        *figures.price_figures(request, iteration / tokens),
    ]
