"""Published figures and assumptions, read from two TOML files that name their sources.

In: a GPU's or fact's name. Out: numbers with units in their names. Must not know: models, layouts.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any


class PlanError(ValueError):
    """A plan that cannot be made; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU of a node of eight; decimal units, dense rates, links in one direction."""

    memory_gb: float
    """Memory as the data sheet counts it."""
    bandwidth_tb_s: float
    """Memory bandwidth."""
    bf16_tflops: float
    """Peak of BF16 matrix products."""
    fp8_tflops: float
    """Peak of FP8 matrix products."""
    nvlink_gb_s: float
    """Within the node."""
    nic_gb_s: float
    """Between nodes."""
    price_usd_per_hour: float
    """Assumed rent."""
    price_source: str
    """Where and when that price was asked."""


def gpu_names() -> tuple[str, ...]:
    """Return the GPUs that the data file knows."""
    return tuple(_table("gpus.toml"))


def gpu(name: str) -> Gpu:
    """Return a GPU's data.

    Raises:
        PlanError: The data file has no such GPU.
    """
    table = _table("gpus.toml")
    if name not in table:
        raise PlanError(f"no GPU {name!r}; choose from {', '.join(table)} with --gpu")
    return Gpu(**{field: table[name][field] for field in Gpu.__dataclass_fields__})


def fact(name: str) -> float:
    """Return a published figure or assumption of `facts.toml`."""
    return _table("facts.toml")[name]["value"]


def source(name: str) -> str:
    """Return where a figure of `facts.toml` comes from."""
    return _table("facts.toml")[name]["source"]


@cache
def _table(name: str) -> dict[str, Any]:
    text = resources.files("openk2.plan").joinpath(name).read_text("utf-8")
    return tomllib.loads(text)
