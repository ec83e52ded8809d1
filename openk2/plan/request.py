"""What is asked of a plan and what it answers.

In: values. Out: frozen dataclasses. Must not know: how any number is computed or printed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from openk2.model.config import K2Config
from openk2.plan.activations import Recompute
from openk2.plan.counts import Format
from openk2.plan.facts import Gpu, PlanError, fact, gpu
from openk2.plan.layout import Attention
from openk2.plan.memory import Memory
from openk2.plan.traffic import Flow

Task = Literal["train", "serve", "rl"]


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for; 0 takes the default that the field names."""

    task: Task
    """What the GPUs are for."""
    gpus: int
    """How many there are."""
    gpu: str = "h800"
    """Which."""
    form: Format = "fp8"
    """Format of the engine's weights; training is in BF16."""
    context: int = 0
    """Tokens of a sequence; 0: 4096 for training, 16384 for rl, 32768 for serving."""
    batch: int = 0
    """Sequences: of a step for training (0: 2^26 tokens), else of one engine (0: 16, and for rl at
    least one a GPU)."""
    micro_batch: int = 1
    """Sequences that one rank trains on in one pass."""
    recompute: Recompute = "report"
    """What the backward computes again."""
    offload_optimizer: bool = False
    """Optimizer states live in the node's RAM."""
    pipeline: int | None = None
    """Pipeline stages; None: the report's 16, or 1 if half a GPU holds weights and gradients."""
    experts: int | None = None
    """Expert ranks; None: as above."""
    engine: int | None = None
    """GPUs of one engine; None: the smallest that fits."""
    attention: Attention | None = None
    """How an engine divides attention; None: the faster way by the roofline that fits."""
    mfu: float = 0.0
    """Share of the peak that training and prefill reach; 0: the assumption in `facts.toml`."""
    bandwidth_utilisation: float = 0.0
    """Share of the memory bandwidth that decoding reaches; 0: as above."""
    price_usd_per_hour: float | None = None
    """Rent of one GPU; None: the assumption in `gpus.toml`."""
    tokens: float = 0.0
    """Tokens of the whole run; 0: 15.5e12 for training, else no total."""

    @property
    def device(self) -> Gpu:
        """Data of the GPU."""
        return gpu(self.gpu)

    @property
    def price(self) -> float:
        """USD per GPU-hour."""
        asked = self.price_usd_per_hour
        return self.device.price_usd_per_hour if asked is None else asked


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
    layout: tuple[str, ...]
    """The assumed layout in words."""
    phases: dict[str, Memory]
    """Memory of the fullest GPU; phases follow each other, so the largest counts."""
    flows: list[Flow]
    """Communication of the busiest GPU per step."""
    figures: list[Figure]
    """Counts, times and prices."""
    host_gb_per_node: float = 0.0
    """RAM that a node needs for what was offloaded."""
    gpus_that_fit: int | None = None
    """The smallest number of GPUs that does with the same settings; None: none was found."""

    @property
    def peak_bytes(self) -> float:
        """The fullest phase."""
        return max(memory.total for memory in self.phases.values())

    @property
    def fits_gpu(self) -> bool:
        """Whether every phase fits the GPU."""
        return self.peak_bytes <= self.request.device.memory_gb * 1e9

    @property
    def fits_host(self) -> bool:
        """Whether what was offloaded fits the node's RAM."""
        return self.host_gb_per_node <= fact("host_memory_gb_per_node")

    @property
    def fits(self) -> bool:
        """Both."""
        return self.fits_gpu and self.fits_host


def filled(config: K2Config, request: Request) -> Request:
    """Return the request with its defaults filled in, but the answers of rl: its engine's matter.

    Raises:
        PlanError: The context is longer than the model's, or a number is beyond any plan.
    """
    _refuse_absurd(request)
    is_train, longest = request.task == "train", config.max_position_embeddings
    usual = {"train": int(fact("train_context")), "serve": 32768, "rl": 16384}[request.task]
    context = request.context or min(usual, longest)
    if context > longest:
        raise PlanError(f"--context {context} is longer than the model's; give {longest} or less")
    batches = {
        "train": max(1, int(fact("batch_tokens")) // context),
        "serve": int(fact("answers")),
        "rl": 0,
    }
    return replace(
        request,
        context=context,
        batch=request.batch or batches[request.task],
        mfu=request.mfu or fact("mfu"),
        bandwidth_utilisation=request.bandwidth_utilisation or fact("bandwidth_utilisation"),
        price_usd_per_hour=request.price,
        tokens=request.tokens or (fact("train_tokens") if is_train else 0.0),
    )


def _refuse_absurd(request: Request) -> None:
    asked = {
        "--gpus": (request.gpus, 1, 10_000_000),
        "--batch": (request.batch, 0, 1_000_000_000),
        "--micro-batch": (request.micro_batch, 1, 1_000_000),
        "--mfu": (request.mfu, 0, 1),
        "--bandwidth-utilisation": (request.bandwidth_utilisation, 0, 1),
        "--price-per-gpu-hour": (request.price, 0, 1e6),
        "--tokens": (request.tokens, 0, 1e18),
    }
    for option, (value, least, most) in asked.items():
        if not least <= value <= most:  # so nan is refused too
            raise PlanError(f"{option} {value:g} is out of range; give at most {most:g}")
