"""The settings of a synthesis run.

In: nothing. Out: frozen settings. Must not know: how they are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SynthConfig:
    """What conversations are made, and how many."""

    count: int = 1000
    """Verified conversations to make."""
    seed: int = 0
    """Fixes everything: the same seed and settings give the same files."""
    domains: tuple[str, ...] = ()
    """Domains by name; none means all that are not held out."""
    data: str | None = None
    """Folder of the data packs, for the catalogue; without it none of its tools are used."""
    tools_file: str | None = None
    """A file of checked specifications; then no domain is used."""
    evaluation: float = 0.0
    """Share of agents whose conversations are kept apart, with their tasks, to measure on."""
    variants: float = 0.6
    """Share of agents whose domain is changed: renamed tools, other schemas, merged domains."""
    variants_per_domain: int = 16
    """Variants of each domain that a run has."""
    catalogue: float = 0.2
    """Share of agents with tools of the catalogue, simulated by specification."""
    chinese: float = 0.3
    """Share of conversations in Chinese."""
    thinking: float = 0.3
    """Share of conversations with reasoning before every turn."""
    confirm: float = 0.15
    """Share of agents whose operator wants changes confirmed."""
    tasks_per_agent: int = 8
    """Conversations with one set of tools and one system prompt."""
    tools: tuple[int, int] = (2, 8)
    """Fewest and most tools that an agent has; what its tasks need is always there."""
    topics: Mapping[str, float] = field(
        default_factory=lambda: {"1": 0.55, "2": 0.27, "3": 0.12, "4": 0.06}
    )
    """How often a conversation has so many topics."""
    kinds: Mapping[str, float] = field(
        default_factory=lambda: {
            "do": 0.74, "fails": 0.08, "policy": 0.06, "missing_tool": 0.06, "irrelevant": 0.06
        }
    )  # fmt: skip
    """How often a topic is of a kind."""
    parallel: float = 0.12
    """Share of topics in which the same is wanted for two or three things."""
    withheld: float = 0.3
    """Share of topics in which the user says something only when asked."""
    mistaken: float = 0.1
    """Share of those, and of confirmed ones, in which the user first says something wrong."""
    faults: float = 0.12
    """Share of conversations in which services fail now and then."""
    curiosity: float = 0.1
    """Share of conversations whose solver looks at more than it must."""
    long: float = 0.0
    """Share of conversations with 20 to 250 topics and up to 320 calls."""
    near_duplicates: float = 0.9
    """Conversations that share this part of their word triples with an earlier one are dropped."""
