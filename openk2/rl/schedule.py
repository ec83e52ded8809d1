"""What changes from iteration to iteration: the temperature, and whose turn it is.

In: an iteration's number, weights, how often each family had its turn. Out: a temperature, names.
Pure functions, so that resuming needs nothing but numbers. Must not know: problems, models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class TemperatureConfig:
    """How freely rollouts are drawn: high early to explore, lower later (K2 §3.2.3)."""

    start: float = 1.0
    """Of the first iteration. 1 draws from what the model says."""
    end: float = 1.0
    """Of the last iteration. Rewards rise when it falls, for drawing closer to the best token is
    safer: compare evaluations, which have a temperature of their own."""
    shape: Literal["linear", "cosine"] = "cosine"
    """Of the way between the two."""

    def __post_init__(self) -> None:
        """Refuse temperatures that explore nothing."""
        if not (self.start > 0 and self.end > 0):
            raise ValueError(
                f"temperatures must be greater than 0, not {self.start} and {self.end}: "
                "samples that are all the same teach nothing"
            )


def temperature(iteration: int, iterations: int, config: TemperatureConfig) -> float:
    """Return the temperature of iteration 0, 1, … of so many."""
    part = min(1.0, iteration / max(1, iterations - 1))
    if config.shape == "cosine":
        part = (1 - math.cos(math.pi * part)) / 2
    return config.start + (config.end - config.start) * part


def next_family(weights: Mapping[str, float], turns: Mapping[str, int]) -> str:
    """Return the family that is furthest behind its share.

    After any number of turns each family has had its share of them to within about a turn, so that
    chance leaves no iteration without one of them. Equal ones go by name.

    Args:
        weights: By family, greater than 0.
        turns: How often each had its turn so far; a family that is not there had none.
    """
    # The next turn of a family is due when this many units of its weight have passed.
    return min(sorted(weights), key=lambda name: (turns.get(name, 0) + 0.5) / weights[name])
