"""Counts, times and prices of a plan, each with its name and unit.

In: a request, a layout, a workload. Out: figures. Must not know: memory's components.
"""

from __future__ import annotations

from openk2.model.config import K2Config
from openk2.plan import speed
from openk2.plan.counts import Census, active_parameters
from openk2.plan.facts import fact
from openk2.plan.layout import EngineLayout, TrainLayout
from openk2.plan.memory import ServeLoad, TrainLoad, cache_bytes_per_token
from openk2.plan.request import Figure, Request


def model_figures(config: K2Config, census: Census) -> list[Figure]:
    """Return the model's size."""
    active = active_parameters(config, census)
    return [
        Figure("parameters", census.all.values, "parameters"),
        Figure("active_parameters", active, "parameters that a token visits, embedding included"),
        Figure("bf16_gb", census.all.bf16_bytes / 1e9, "GB as a BF16 checkpoint"),
        Figure("fp8_gb", census.all.fp8_bytes / 1e9, "GB as an FP8 checkpoint"),
        Figure("int4_gb", census.all.int4_bytes / 1e9, "GB as an INT4 checkpoint"),
    ]


def train_figures(
    config: K2Config, census: Census, request: Request, layout: TrainLayout, load: TrainLoad
) -> list[Figure]:
    """Return a training step's work and time."""
    per_token = train_seconds_per_token(config, census, request)
    step_tokens = load.tokens * load.micro_batches * layout.data
    flops = speed.train_flops_per_token(config, census, load.context)
    return [
        Figure("train_flops_per_token", flops, "training FLOPs per token (6 N + attention)"),
        Figure("step_tokens", step_tokens, "tokens per step"),
        Figure("step_seconds", step_tokens * per_token, f"seconds per step at MFU {request.mfu:g}"),
        Figure("train_tokens_per_second", 1 / per_token, "trained tokens/s, all GPUs"),
        bubble_figure(layout, load),
    ]


def bubble_figure(layout: TrainLayout, load: TrainLoad) -> Figure:
    """Return the pipeline's idle share, which the stated MFU has to cover."""
    idle = speed.bubble(layout.pipeline, layout.chunks, load.micro_batches)
    return Figure("bubble_share", idle, "pipeline bubble over arithmetic, to be in the MFU")


def train_seconds_per_token(config: K2Config, census: Census, request: Request) -> float:
    """Return the time of all GPUs together per trained token."""
    flops = speed.train_flops_per_token(config, census, request.context)
    return speed.seconds(flops, request.device.bf16_tflops, request.mfu) / request.gpus


def serve_figures(
    config: K2Config, census: Census, request: Request, layout: EngineLayout, load: ServeLoad
) -> tuple[list[Figure], float]:
    """Return reading and writing rates, and the time of all GPUs per written token."""
    device, used = request.device, request.bandwidth_utilisation
    roof = speed.decode(config, census, layout, load, device, used)
    rate = load.batch * layout.engines / roof.seconds
    flops = speed.prefill_flops_per_token(config, census, load.context)
    peak = speed.peak_tflops(device, load.form)
    prefill = layout.engines * layout.engine / speed.seconds(flops, peak, request.mfu)
    return [
        Figure("cache_bytes_per_token", cache_bytes_per_token(config), "cache bytes per token"),
        Figure("decode_weight_gb", roof.weight_bytes / 1e9, "GB of weights read per GPU and step"),
        Figure("decode_cache_gb", roof.cache_bytes / 1e9, "GB of cache read per GPU and step"),
        Figure(
            "decode_memory_ms",
            roof.memory_seconds * 1e3,
            f"ms to read them at {used:g} of the bandwidth",
        ),
        Figure("decode_compute_ms", roof.compute_seconds * 1e3, "ms of arithmetic at peak"),
        Figure("decode_link_ms", roof.link_seconds * 1e3, "ms of communication at the link's rate"),
        Figure(
            "decode_tokens_per_second_per_answer",
            1 / roof.seconds,
            "written tokens/s of one answer, at most",
        ),
        Figure("decode_tokens_per_second", rate, "written tokens/s, all GPUs, at most"),
        Figure(
            "prefill_tokens_per_second", prefill, f"read tokens/s, all GPUs, MFU {request.mfu:g}"
        ),
    ], 1 / rate


def price_figures(request: Request, seconds_per_token: float) -> list[Figure]:
    """Return what tokens cost, and the total if their number is known."""
    hourly = speed.usd(request.gpus, 1, request.price)
    million = speed.usd(request.gpus, seconds_per_token * 1e6 / 3600, request.price)
    found = [
        Figure("usd_per_hour", hourly, "USD per hour, all GPUs"),
        Figure("usd_per_million_tokens", million, "USD per million tokens"),
    ]
    if not request.tokens:
        return found
    hours = request.tokens * seconds_per_token / 3600
    whose = ", as many as K2's" if request.tokens == fact("train_tokens") else ""
    return [
        *found,
        Figure("total_tokens", request.tokens, f"tokens of the run{whose}"),
        Figure("total_days", hours / 24, "days of the run"),
        Figure("total_gpu_hours", hours * request.gpus, "GPU-hours of the run"),
        Figure("total_usd", hours * hourly, "USD of the run"),
    ]
