"""Floating-point work, time and price, from peak rates and stated utilisations.

In: a model, a workload, a GPU's rates. Out: FLOPs, seconds, USD. Must not know: how training is
laid out.
"""

from __future__ import annotations

from dataclasses import dataclass

from openk2.model.config import K2Config
from openk2.plan.counts import Census, Format, active_parameters
from openk2.plan.facts import Gpu
from openk2.plan.layout import EngineLayout
from openk2.plan.memory import (
    ServeLoad,
    answers_per_gpu,
    cache_bytes_per_token,
    engine_weights,
)
from openk2.plan.traffic import engine_flow


def multiplied_parameters(config: K2Config, census: Census) -> float:
    """Return the weights that a token is multiplied with: the active ones but the embedding.

    K2: 31.69e9 of 32.86e9, because looking a row up costs nothing.
    """
    return active_parameters(config, census) - config.vocab_size * config.hidden_size


def attention_flops_per_token(config: K2Config, context: float) -> float:
    """Return a forward's FLOPs of scores and values per token that sees `context` tokens.

    2 FLOPs x heads x (192 for the score + 128 for the value) x context, in every layer.
    """
    per_pair = 2 * config.num_attention_heads * (config.qk_head_dim + config.v_head_dim)
    return per_pair * context * config.num_hidden_layers


def train_flops_per_token(config: K2Config, census: Census, context: int) -> float:
    """Return 6 N + three times attention's forward, over half of the context on average.

    Recomputation is not counted: model FLOPs, as in MFU (PaLM, arXiv 2204.02311, appendix B).
    """
    weights = 6 * multiplied_parameters(config, census)
    return weights + 3 * attention_flops_per_token(config, context / 2)


def prefill_flops_per_token(config: K2Config, census: Census, context: int) -> float:
    """Return 2 N + attention's forward over half of the context."""
    weights = 2 * multiplied_parameters(config, census)
    return weights + attention_flops_per_token(config, context / 2)


def seconds(flops: float, tflops: float, mfu: float) -> float:
    """Return the time of `flops` at a share `mfu` of a peak of `tflops`."""
    return flops / (tflops * 1e12 * mfu)


def peak_tflops(gpu: Gpu, form: Format) -> float:
    """Return the peak for weights of a format: INT4 is multiplied in BF16 (K2 Thinking)."""
    return gpu.fp8_tflops if form == "fp8" else gpu.bf16_tflops


def bubble(pipeline: int, chunks: int, micro_batches: int) -> float:
    """Return the idle share of arithmetic in interleaved 1F1B: (P - 1) / (V m)."""
    return (pipeline - 1) / (chunks * micro_batches)


@dataclass(frozen=True, slots=True)
class Decode:
    """The roofline of one step, in which every answer of an engine gets one token."""

    weight_bytes: float
    """Weights that a GPU reads."""
    cache_bytes: float
    """Cached latents that a GPU reads."""
    memory_seconds: float
    """Reading them at the stated utilisation."""
    compute_seconds: float
    """The step's arithmetic at peak."""

    link_seconds: float
    """Its communication at the link's rate."""

    @property
    def seconds(self) -> float:
        """The slower of reading and computing, then communication, which waits for the result."""
        return max(self.memory_seconds, self.compute_seconds) + self.link_seconds


def experts_hit(config: K2Config, batch: int) -> float:
    """Return the experts of a layer that at least one of `batch` tokens visits, choices uniform."""
    E, K = config.n_routed_experts, config.num_experts_per_tok
    return E * (1 - (1 - K / E) ** batch)


def decode(
    config: K2Config,
    census: Census,
    layout: EngineLayout,
    load: ServeLoad,
    gpu: Gpu,
    utilisation: float,
) -> Decode:
    """Return the roofline of decoding with caches half full.

    A step reads the weights that some token needs if all choices are equally likely, without the
    embedding, and every cached latent of the GPU's answers. Absorbed attention works on latents:
    2 x heads x (576 + 512) FLOPs a cached token and layer. With dp the GPU with most answers is
    the one that the others wait for.
    """
    experts, weights = engine_weights(config, census, layout, load.form)
    # The busiest GPU of a layer has at least one expert at work, however few tokens there are.
    held = layout.experts_per_gpu(config)
    hit = max(experts_hit(config, load.batch) / config.n_routed_experts, 1 / held)
    embedding = census.slots[0].split.stored(load.form)
    weights -= embedding / (layout.engine if layout.attention == "tp" else 1)
    answers = answers_per_gpu(layout, load.batch)
    cached = answers * load.context / 2
    read_weights = weights + experts * hit
    read_cache = cached * cache_bytes_per_token(config)
    heads = config.num_attention_heads
    per_cached = 2 * heads * (config.latent_dim + config.kv_lora_rank) * config.num_hidden_layers
    # tp divides every answer's arithmetic, dp the answers.
    tokens = answers / layout.engine if layout.attention == "tp" else answers
    flops = tokens * (2 * multiplied_parameters(config, census) + load.context / 2 * per_cached)
    return Decode(
        read_weights,
        read_cache,
        (read_weights + read_cache) / (gpu.bandwidth_tb_s * 1e12 * utilisation),
        seconds(flops, peak_tflops(gpu, load.form), 1.0),
        engine_flow(config, layout, load.batch, gpu).link_seconds,
    )


def usd(gpus: int, hours: float, price_usd_per_hour: float) -> float:
    """Return the rent of `gpus` for `hours`."""
    return gpus * hours * price_usd_per_hour
