"""How many weights a model has, where they sit, and how many bytes each format stores them in.

In: a model's configuration; the shapes come from the model's own list of tensors. Out: a `Census`
in the order of computation. Must not know: GPUs, layouts or time.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from openk2.model.config import K2Config
from openk2.model.names import is_linear, is_routed_expert, published_shapes

Format = Literal["bf16", "fp8", "int4"]
FORMATS: tuple[Format, ...] = ("bf16", "fp8", "int4")

_ADAMW = re.compile(r"norm\.weight$|embed_tokens|lm_head")
_WHOLE = re.compile(r"norm\.weight$|q_a_proj|kv_a_proj|\.mlp\.gate\.")
_BIAS = "e_score_correction_bias"


@dataclass(frozen=True, slots=True)
class Group:
    """Some of a model's weights, counted."""

    muon: int = 0
    """Weights in matrices that Muon updates: all but the next (Moonlight §2.2)."""
    adamw: int = 0
    """Weights that AdamW updates: norms, embedding, head."""
    biases: int = 0
    """Selection biases: float32, neither gradient nor optimizer state."""
    bf16_bytes: int = 0
    """Stored as published in BF16."""
    fp8_bytes: int = 0
    """Stored as published in FP8."""
    int4_bytes: int = 0
    """Stored as published in INT4."""

    @property
    def trained(self) -> int:
        """Weights that have a gradient."""
        return self.muon + self.adamw

    @property
    def values(self) -> int:
        """Everything counted, selection biases included."""
        return self.trained + self.biases

    def stored(self, form: Format) -> int:
        """Return bytes in a published format."""
        return {"bf16": self.bf16_bytes, "fp8": self.fp8_bytes, "int4": self.int4_bytes}[form]


@dataclass(frozen=True)
class Slot:
    """One step of the forward pass: the embedding, a layer, or the final norm with the head."""

    experts: Group
    """Routed experts."""
    split: Group
    """Other weights that tensor parallelism divides: by heads, inner width or vocabulary."""
    whole: Group
    """Weights that every rank needs: norms, latent projections, router."""

    @cached_property
    def rest(self) -> Group:
        """Everything but routed experts."""
        return total((self.split, self.whole))


@dataclass(frozen=True)
class Census:
    """A model's weights by slot."""

    slots: tuple[Slot, ...]
    """The embedding, every layer, the head."""
    largest_matrix: int
    """Weights in the largest matrix that Muon updates."""
    largest_tensor: int
    """Weights in the largest tensor."""

    @cached_property
    def experts(self) -> Group:
        """Routed experts of the whole model."""
        return total(slot.experts for slot in self.slots)

    @cached_property
    def rest(self) -> Group:
        """Everything but routed experts."""
        return total(slot.rest for slot in self.slots)

    @cached_property
    def split(self) -> Group:
        """What tensor parallelism divides."""
        return total(slot.split for slot in self.slots)

    @cached_property
    def whole(self) -> Group:
        """What it does not."""
        return total(slot.whole for slot in self.slots)

    @cached_property
    def all(self) -> Group:
        """The whole model."""
        return total((self.experts, self.rest))


def total(groups: Iterable[Group]) -> Group:
    """Add groups up."""
    sums = dict.fromkeys(Group.__dataclass_fields__, 0)
    for group in groups:
        for name in sums:
            sums[name] += getattr(group, name)
    return Group(**sums)


def count(config: K2Config) -> Census:
    """Count every published tensor of a model, K2: 1,026,408,232,448 weights (report §2.3)."""
    largest_matrix = largest_tensor = 0
    # Experts differ by their number only: one of them is looked at, then multiplied.
    alike: Counter[tuple[int, tuple[str, ...]]] = Counter()
    examples: dict[tuple[str, ...], tuple[str, tuple[int, ...]]] = {}
    for name, shape in published_shapes(config).items():
        words = name.split(".")
        slot = _slot(words, config)
        kind = (*(word for word in words if not word.isdigit()), str(shape))
        examples.setdefault(kind, (name, shape))
        alike[slot, kind] += 1
    found: defaultdict[tuple[int, str], list[Group]] = defaultdict(list)
    for (slot, kind), times in alike.items():
        name, shape = examples[kind]
        found[slot, _part(name)].append(_group(name, shape, times))
        largest_tensor = max(largest_tensor, math.prod(shape))
        if not _ADAMW.search(name):
            largest_matrix = max(largest_matrix, math.prod(shape))
    slots = tuple(
        Slot(*(total(found[i, part]) for part in ("experts", "split", "whole")))
        for i in range(config.num_hidden_layers + 2)
    )
    return Census(slots, largest_matrix, largest_tensor)


def active_parameters(config: K2Config, census: Census) -> float:
    """Return the weights that one token visits, embedding included; K2: 32.86e9."""
    share = config.num_experts_per_tok / config.n_routed_experts
    return census.experts.values * share + census.rest.values


def stored_bytes(name: str, shape: tuple[int, ...], form: Format) -> int:
    """Return the bytes of one tensor as a published checkpoint of this format stores it.

    FP8: matrices in E4M3 with a float32 scale per 128 x 128 block (DeepSeek-V3's layout). INT4:
    routed experts only, half a byte each, a BF16 scale per 32 inputs, and the two int32 of the
    shape (K2 Thinking's layout). Else BF16; selection biases are float32.
    """
    values = math.prod(shape)
    if name.endswith(_BIAS):
        return 4 * values
    if form == "fp8" and is_linear(name):
        return values + 4 * math.prod(math.ceil(side / 128) for side in shape)
    if form == "int4" and is_routed_expert(name):
        rows, inputs = shape
        return rows * 4 * math.ceil(inputs / 8) + rows * 2 * math.ceil(inputs / 32) + 8
    return 2 * values


def _group(name: str, shape: tuple[int, ...], times: int) -> Group:
    values = math.prod(shape) * times
    is_bias, is_adamw = name.endswith(_BIAS), bool(_ADAMW.search(name))
    return Group(
        muon=0 if is_bias or is_adamw else values,
        adamw=values if is_adamw else 0,
        biases=values if is_bias else 0,
        bf16_bytes=stored_bytes(name, shape, "bf16") * times,
        fp8_bytes=stored_bytes(name, shape, "fp8") * times,
        int4_bytes=stored_bytes(name, shape, "int4") * times,
    )


def _slot(words: list[str], config: K2Config) -> int:
    if words[1] == "layers":
        return int(words[2]) + 1
    return 0 if words[1] == "embed_tokens" else config.num_hidden_layers + 1


def _part(name: str) -> str:
    if is_routed_expert(name):
        return "experts"
    return "whole" if _WHOLE.search(name) else "split"
