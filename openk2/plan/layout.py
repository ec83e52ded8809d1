"""Who holds what: pipeline stages, expert ranks and data-parallel copies; engines for serving.

In: a number of GPUs and the sizes asked for. Out: checked, frozen layouts. Must not know: bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from openk2.model.config import K2Config
from openk2.plan.facts import PlanError, fact

Attention = Literal["tp", "dp"]
ATTENTIONS: tuple[Attention, ...] = ("tp", "dp")


@dataclass(frozen=True, slots=True)
class TrainLayout:
    """PP x EP x ZeRO-1 DP without tensor parallelism (K2 report §2.4.2)."""

    gpus: int
    """All of them."""
    pipeline: int
    """Stages."""
    experts: int
    """Ranks that share a stage's routed experts; each of them has its own data."""
    chunks: int
    """Virtual stages of one GPU: parts of the model that the pipeline visits in turn."""

    @property
    def replica(self) -> int:
        """GPUs that hold the model once."""
        return self.pipeline * self.experts

    @property
    def replicas(self) -> int:
        """Copies of the routed experts: ranks that ZeRO-1 divides their optimizer state over."""
        return self.gpus // self.replica

    @property
    def data(self) -> int:
        """Copies of every other weight: the ranks with data of their own."""
        return self.gpus // self.pipeline

    def stages(self, slots: int) -> tuple[tuple[tuple[int, ...], ...], ...]:
        """Return for each stage its chunks, each a run of slots, as even as they can be.

        Args:
            slots: The embedding, the layers and the head; K2: 63 in 16 x 4 chunks.
        """
        size, larger = divmod(slots, self.pipeline * self.chunks)
        runs: list[tuple[int, ...]] = []
        start = 0
        for chunk in range(self.pipeline * self.chunks):
            end = start + size + (chunk < larger)
            runs.append(tuple(range(start, end)))
            start = end
        return tuple(tuple(runs[stage :: self.pipeline]) for stage in range(self.pipeline))


@dataclass(frozen=True, slots=True)
class EngineLayout:
    """Engines of equal size; routed experts are spread over all GPUs of an engine."""

    gpus: int
    """All of them."""
    engine: int
    """GPUs of one engine."""
    attention: Attention
    """tp: the rest is split over the engine and every GPU caches every answer. dp: every GPU holds
    the rest and caches its own answers only."""

    @property
    def engines(self) -> int:
        """Engines, each a full copy of the model."""
        return self.gpus // self.engine

    @property
    def idle(self) -> int:
        """GPUs left over: too few for one more engine."""
        return self.gpus % self.engine

    def experts_per_gpu(self, config: K2Config) -> int:
        """Return the experts of one layer on one GPU; places left over hold second copies."""
        return math.ceil(config.n_routed_experts / self.engine)


def train_layout(config: K2Config, gpus: int, pipeline: int, experts: int) -> TrainLayout:
    """Return a checked layout with a slot of the model, or few, in every virtual stage.

    Raises:
        PlanError: The numbers do not divide.
    """
    layers, replica = config.num_hidden_layers, pipeline * experts
    if pipeline > layers:
        raise PlanError(
            f"{pipeline} pipeline stages are more than the model's {layers} layers; "
            f"give --pp {layers} or less"
        )
    if config.n_routed_experts % experts:
        raise PlanError(
            f"{config.n_routed_experts} experts do not divide over {experts} ranks; give --ep "
            f"{_divisor(config.n_routed_experts, experts)}"
        )
    if gpus % replica:
        nearest = " or ".join(map(str, _multiples(gpus, replica)))
        raise PlanError(
            f"{_are(gpus)} not a multiple of PP{pipeline} x EP{experts} = {replica}, the GPUs "
            f"that hold the model once; give --gpus {nearest}, or other sizes with --pp and --ep"
        )
    chunks = math.ceil((layers + 2) / pipeline) if pipeline > 1 else 1
    return TrainLayout(gpus, pipeline, experts, chunks)


def engine_layouts(
    config: K2Config, gpus: int, engine: int | None, attention: Attention | None
) -> list[EngineLayout]:
    """Return the possible layouts, smallest engine first.

    Engines that were not asked for need not divide the GPUs: some of these may stay idle, so that
    one more GPU never makes a model too large.

    Raises:
        PlanError: None is possible with what was asked for.
    """
    if engine is not None and gpus % engine:
        nearest = " or ".join(map(str, _multiples(gpus, engine)))
        raise PlanError(
            f"{_are(gpus)} not a multiple of an engine's {engine}; give --gpus {nearest} or "
            "another --engine-gpus"
        )
    if engine is not None and engine > config.n_routed_experts:
        raise PlanError(
            f"an engine of {engine} GPUs is larger than the {config.n_routed_experts} experts of "
            f"a layer; give --engine-gpus {config.n_routed_experts} or less"
        )
    sizes = engine_sizes(config, gpus) if engine is None else [engine]
    kinds = ATTENTIONS if attention is None else (attention,)
    heads = config.num_attention_heads
    found = [
        EngineLayout(gpus, size, kind)
        for size in sizes
        for kind in kinds
        if kind == "dp" or heads % size == 0
    ]
    if not found:
        raise PlanError(
            f"{heads} attention heads do not divide over an engine of {engine}; give "
            f"--engine-gpus {math.gcd(heads, gpus)} or --attention dp"
        )
    return found


def engine_sizes(config: K2Config, gpus: int | None) -> list[int]:
    """Return sizes of engines: parts of a node, then whole nodes, while there are experts.

    Args:
        config: The model.
        gpus: Only sizes up to this number; None: all.
    """
    node = int(fact("gpus_per_node"))
    most = config.n_routed_experts if gpus is None else min(gpus, config.n_routed_experts)
    return [size for size in range(1, most + 1) if size % node == 0 or node % size == 0]


def _are(gpus: int) -> str:
    return "1 GPU is" if gpus == 1 else f"{gpus} GPUs are"


def _multiples(number: int, unit: int) -> list[int]:
    below = number // unit * unit
    return [below, below + unit] if below else [unit]


def _divisor(number: int, most: int) -> int:
    return max(n for n in range(1, min(number, most) + 1) if number % n == 0)
