"""Bytes that one GPU sends in a step, and how long the link alone would take.

In: a census, a layout, a workload. Out: flows. Must not know: memory, arithmetic or money.

Seconds are of the slower link that a flow crosses at its full rate, as if nothing else ran; a step
hides most of it behind arithmetic. Ranks of one expert group are neighbours, stages lie apart.
"""

from __future__ import annotations

from dataclasses import dataclass

from openk2.model.config import K2Config
from openk2.plan.activations import BF16, FP32
from openk2.plan.counts import Census, Format
from openk2.plan.facts import Gpu, fact
from openk2.plan.layout import EngineLayout, TrainLayout
from openk2.plan.memory import TrainLoad, answers_per_gpu, ranks_reached, stage_groups


@dataclass(frozen=True, slots=True)
class Flow:
    """One kind of communication of one GPU in one step."""

    key: str
    """Name for machines."""
    label: str
    """Name for people."""
    sent_bytes: float
    """Bytes that the busiest GPU sends."""
    link_seconds: float
    """The same over the link's rate."""


def train_flows(
    config: K2Config, census: Census, layout: TrainLayout, load: TrainLoad, gpu: Gpu
) -> list[Flow]:
    """Return a training step's communication (K2 report §2.4.2, Moonlight §2.3)."""
    is_one_node = layout.gpus <= fact("gpus_per_node")
    outer = gpu.nvlink_gb_s if is_one_node else gpu.nic_gb_s
    reduced, gathered, muon = zero1_bytes(census, layout)
    exchanged = expert_bytes(config, layout, load)
    return [
        _flow(
            "pipeline",
            "pipeline, activations and gradients",
            pipeline_bytes(config, layout, load),
            outer,
        ),
        Flow(
            "experts",
            "EP all-to-all, dispatch and combine, both ways",
            exchanged,
            exchange_seconds(exchanged, layout.experts, gpu),
        ),
        _flow("reduce_scatter", "ZeRO-1 reduce-scatter of gradients", reduced, outer),
        _flow("all_gather", "ZeRO-1 all-gather of weights", gathered, outer),
        _flow("muon", "Muon's gather of momenta", muon, outer),
    ]


def pipeline_bytes(config: K2Config, layout: TrainLayout, load: TrainLoad) -> float:
    """Return BF16 [tokens, D] for every chunk and micro-batch, forward and backward."""
    if layout.pipeline == 1:
        return 0.0
    row = BF16 * config.hidden_size * load.tokens
    return 2.0 * row * layout.chunks * load.micro_batches


def expert_bytes(config: K2Config, layout: TrainLayout, load: TrainLoad) -> float:
    """Return dispatch and combine, forward and backward: BF16 [tokens, D] to each rank reached.

    A token goes once to every other rank that holds one of its experts, uniform routing assumed,
    and not once to each node.
    """
    others = ranks_reached(config, layout.experts) * (layout.experts - 1) / layout.experts
    first, last = config.first_k_dense_replace + 1, config.num_hidden_layers
    with_experts = [
        sum(first <= slot <= last for chunk in stage for slot in chunk)
        for stage in layout.stages(config.num_hidden_layers + 2)
    ]
    tokens = load.tokens * load.micro_batches
    return 4.0 * BF16 * config.hidden_size * tokens * others * max(with_experts)


def zero1_bytes(census: Census, layout: TrainLayout) -> tuple[float, float, float]:
    """Return float32 gradients reduced, BF16 weights gathered, BF16 Muon momenta gathered.

    In a ring every rank of d sends (d - 1) / d of the whole (Moonlight §2.3, algorithm 1). Routed
    experts have one rank per replica, the rest one per pipeline copy. Each of the three is that of
    the stage that sends most: the embedding has gradients but no momentum for Muon.
    """
    d_experts = (layout.replicas - 1) / layout.replicas / layout.experts
    d_rest = (layout.data - 1) / layout.data
    sums = []
    for stage in layout.stages(len(census.slots)):
        experts, rest = stage_groups(census, layout, stage)
        trained = experts.trained * d_experts + rest.trained * d_rest
        muon = experts.muon * d_experts + rest.muon * d_rest
        sums.append((trained, muon))
    most_trained, most_muon = (max(column) for column in zip(*sums, strict=True))
    return FP32 * most_trained, BF16 * most_trained, BF16 * most_muon


def engine_flow(config: K2Config, layout: EngineLayout, tokens: int, gpu: Gpu) -> Flow:
    """Return an engine's communication in one pass over `tokens` new tokens.

    tp: two all-reduces of BF16 [tokens, D] a layer, each 2 (n - 1) / n of it. dp: dispatch and
    combine of the own tokens, of the GPU that has most, in every layer with experts.
    """
    n = layout.engine
    row = BF16 * config.hidden_size * answers_per_gpu(layout, tokens)
    if layout.attention == "tp":
        sent = row * 2 * 2 * (n - 1) / n * config.num_hidden_layers
        slow = gpu.nvlink_gb_s if n <= fact("gpus_per_node") else gpu.nic_gb_s
        return _flow("all_reduce", "all-reduce of attention and feed-forward", sent, slow)
    layers = config.num_hidden_layers - config.first_k_dense_replace
    others = ranks_reached(config, n) * (n - 1) / n
    sent = row * 2 * others * layers
    label = "EP all-to-all, dispatch and combine"
    return Flow("experts", label, sent, exchange_seconds(sent, n, gpu))


def update_flow(census: Census, layout: EngineLayout, form: Format, gpu: Gpu) -> Flow:
    """Return the checkpoint engine's broadcast: all weights pass every GPU (K2 report §3.3.2).

    Each node takes the weights in once over all its ports and hands them on over NVLink.
    """
    stored = census.all.stored(form)
    node = min(layout.gpus, int(fact("gpus_per_node")))
    seconds = stored / (gpu.nvlink_gb_s * 1e9)
    if layout.gpus > node:
        seconds += stored / (node * gpu.nic_gb_s * 1e9)
    return Flow("update", "weight update, every weight to every GPU", stored, seconds)


def exchange_seconds(sent: float, ranks: int, gpu: Gpu) -> float:
    """Return the slower of NVLink's share and the port's, all other ranks equally likely."""
    if ranks == 1:
        return 0.0
    inside = min(ranks, fact("gpus_per_node")) - 1
    outside = ranks - 1 - inside
    return max(
        sent * inside / (ranks - 1) / (gpu.nvlink_gb_s * 1e9),
        sent * outside / (ranks - 1) / (gpu.nic_gb_s * 1e9),
    )


def _flow(key: str, label: str, sent: float, gb_s: float) -> Flow:
    return Flow(key, label, sent, sent / (gb_s * 1e9))
