"""Memory of one GPU by component: training's fullest stage, and the engine's fullest GPU.

In: a census, a layout, a workload. Out: bytes by component. Must not know: time or money.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

from openk2.model.config import K2Config
from openk2.plan.activations import (
    BF16,
    FP32,
    Recompute,
    chunks_in_flight,
    stored_bytes_per_token,
    working_bytes_per_token,
)
from openk2.plan.counts import Census, Format, Group, total
from openk2.plan.facts import fact
from openk2.plan.layout import EngineLayout, TrainLayout


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on one GPU."""

    experts: float = 0.0
    """Weights of routed experts."""
    weights: float = 0.0
    """All other weights."""
    gradients: float = 0.0
    """Float32 sums of gradients."""
    optimizer: float = 0.0
    """Float32 master weights and moments."""
    activations: float = 0.0
    """What the backward needs, or what a pass of the engine computes with."""
    cache: float = 0.0
    """Latents of the tokens so far."""
    buffers: float = 0.0
    """Communication, Newton-Schulz, weight updates."""
    runtime: float = 0.0
    """CUDA context, NCCL, allocator."""

    @property
    def total(self) -> float:
        """Sum of the components."""
        return sum(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True, slots=True)
class TrainMemory:
    """What one training step needs."""

    gpu: Memory
    """One GPU."""
    stage: int
    """Its pipeline stage."""
    host_activations: float
    """Activations that wait in the node's RAM, per GPU."""
    host_optimizer: float
    """Optimizer states in the node's RAM, per GPU."""


@dataclass(frozen=True, slots=True)
class TrainLoad:
    """What a training step works on."""

    context: int
    """Tokens of a sequence."""
    micro_batch: int
    """Sequences in one pass of one rank."""
    micro_batches: int
    """Passes of one rank in a step."""
    recompute: Recompute = "report"
    """What is computed again instead of kept."""
    offload_optimizer: bool = False
    """Optimizer states live in the node's RAM."""

    @property
    def tokens(self) -> int:
        """Tokens of one pass."""
        return self.context * self.micro_batch


def optimizer_bytes(group: Group) -> int:
    """Return float32 states: master and momentum for Muon, master and two moments for AdamW.

    Moonlight §2.3: Muon's state is half of AdamW's beside the master weights.
    """
    return 2 * FP32 * group.muon + 3 * FP32 * group.adamw


def stage_groups(
    census: Census, layout: TrainLayout, stage: tuple[tuple[int, ...], ...]
) -> tuple[Group, Group]:
    """Return a stage's routed experts, before EP divides them, and the rest of its weights."""
    slots = [census.slots[i] for chunk in stage for i in chunk]
    return total(slot.experts for slot in slots), total(slot.rest for slot in slots)


def train_memory(
    config: K2Config, census: Census, layout: TrainLayout, load: TrainLoad
) -> TrainMemory:
    """Return the fullest GPU, and the most that any stage offloads (K2 report §2.4.2)."""
    stages = range(layout.pipeline)
    each = [stage_memory(config, census, layout, load, stage) for stage in stages]
    return replace(
        max(each, key=lambda stage: stage.gpu.total),
        host_activations=max(stage.host_activations for stage in each),
        host_optimizer=max(stage.host_optimizer for stage in each),
    )


def stage_memory(
    config: K2Config, census: Census, layout: TrainLayout, load: TrainLoad, index: int
) -> TrainMemory:
    """Return the memory of one GPU of a pipeline stage.

    BF16 weights and float32 gradient sums of the stage: routed experts divided by EP, the rest
    whole; optimizer states divided by ZeRO-1 over all that hold the same weights.
    """
    stage = layout.stages(len(census.slots))[index]
    experts, rest = stage_groups(census, layout, stage)
    states = optimizer_bytes(experts) / layout.experts / layout.replicas
    states += optimizer_bytes(rest) / layout.data
    kept, offloaded = _activations(config, layout, load, index, stage)
    if config.num_hidden_layers + 1 in {slot for chunk in stage for slot in chunk}:
        # The head's logits in slices, with their gradient.
        kept += min(fact("head_slice_tokens"), load.tokens) * config.vocab_size * (FP32 + BF16)
    memory = Memory(
        experts=experts.bf16_bytes / layout.experts,
        weights=rest.bf16_bytes,
        gradients=FP32 * (experts.trained / layout.experts + rest.trained),
        optimizer=0 if load.offload_optimizer else states,
        activations=kept,
        buffers=_train_buffers(config, census, layout, load),
        runtime=fact("runtime_gb") * 1e9,
    )
    return TrainMemory(memory, index, offloaded, states if load.offload_optimizer else 0.0)


def _activations(
    config: K2Config,
    layout: TrainLayout,
    load: TrainLoad,
    index: int,
    stage: tuple[tuple[int, ...], ...],
) -> tuple[float, float]:
    per_chunk = [sum(_slot_bytes(config, load, slot) for slot in chunk) for chunk in stage]
    largest = max(per_chunk)
    flying = chunks_in_flight(layout.pipeline, layout.chunks, index, load.micro_batches)
    working = load.tokens * working_bytes_per_token(
        config, config.num_attention_heads, config.num_experts_per_tok, backward=True
    )
    everything = flying * sum(per_chunk) / len(per_chunk)
    if load.recompute == "none":
        return everything + working, 0.0
    # Without a pipeline's many chunks there is nothing to send away.
    resident = min(fact("resident_chunks"), flying) * largest
    return min(everything, resident) + working, max(0.0, everything - resident)


def _slot_bytes(config: K2Config, load: TrainLoad, slot: int) -> float:
    layers = config.num_hidden_layers
    if slot == 0:
        return 8.0 * load.tokens  # token ids
    if slot == layers + 1:
        return BF16 * config.hidden_size * load.tokens
    dense = slot <= config.first_k_dense_replace
    return load.tokens * stored_bytes_per_token(config, dense, load.recompute)


def _train_buffers(config: K2Config, census: Census, layout: TrainLayout, load: TrainLoad) -> float:
    row = BF16 * config.hidden_size * load.tokens
    exchange = 0.0
    if layout.experts > 1:  # sent and received, of two micro-batches that overlap
        exchange = 4 * row * ranks_reached(config, layout.experts)
    stages = 4 * row if layout.pipeline > 1 else 0.0  # in and out, forward and backward
    # X, its product with itself, their product and the result, in BF16.
    newton_schulz = 4 * BF16 * census.largest_matrix
    return exchange + stages + newton_schulz


def ranks_reached(config: K2Config, ranks: int) -> float:
    """Return how many of `ranks` a token's experts are on, if every choice is equally likely.

    A rank that holds n of E experts has none of the K chosen with C(E-n, K) / C(E, K).
    """
    E, K = config.n_routed_experts, config.num_experts_per_tok
    held = E / ranks
    missed = math.prod(max(0.0, E - held - i) / (E - i) for i in range(K))
    return ranks * (1 - missed)


# Serving ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ServeLoad:
    """What an engine works on."""

    form: Format
    """Format of the weights."""
    context: int
    """Tokens that every answer may reach, prompt included."""
    batch: int
    """Answers that one engine writes at the same time."""


def cache_bytes_per_token(config: K2Config) -> int:
    """Return BF16 latents and rotary keys of all layers: K2 70,272 (K2 report §2.3, MLA)."""
    return BF16 * config.num_hidden_layers * config.latent_dim


def answers_per_gpu(layout: EngineLayout, batch: int) -> int:
    """Return the answers whose cache one GPU holds: all with tp, its own share with dp."""
    return batch if layout.attention == "tp" else math.ceil(batch / layout.engine)


def engine_weights(
    config: K2Config, census: Census, layout: EngineLayout, form: Format
) -> tuple[float, float]:
    """Return bytes of one GPU: routed experts, and everything else."""
    share = layout.experts_per_gpu(config) / config.n_routed_experts
    experts = census.experts.stored(form) * share
    split, whole = census.split.stored(form), census.whole.stored(form)
    return experts, whole + (split / layout.engine if layout.attention == "tp" else split)


def engine_memory(
    config: K2Config, census: Census, layout: EngineLayout, load: ServeLoad
) -> Memory:
    """Return the memory of the engine's fullest GPU."""
    experts, weights = engine_weights(config, census, layout, load.form)
    answers = answers_per_gpu(layout, load.batch)
    tokens = int(min(fact("prefill_tokens"), config.max_position_embeddings))
    is_tp = layout.attention == "tp"
    heads = config.num_attention_heads // (layout.engine if is_tp else 1)
    rows = config.num_experts_per_tok / (layout.engine if is_tp else 1)
    working = tokens * working_bytes_per_token(config, heads, rows, backward=False)
    logits = FP32 * answers * config.vocab_size
    row = BF16 * config.hidden_size * tokens
    exchange = 0.0
    if layout.engine > 1:  # sums of split products, or experts' rows sent and received
        exchange = 2 * row * (1 if is_tp else ranks_reached(config, layout.engine))
    return Memory(
        experts=experts,
        weights=weights,
        activations=working + logits,
        cache=answers * load.context * cache_bytes_per_token(config),
        buffers=exchange,
        runtime=fact("runtime_gb") * 1e9,
    )
