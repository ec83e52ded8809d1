"""Learning-rate schedule: warm-up, stable, decay (WSD).

In: a step number. Out: the factor on the peak learning rate. A pure function, so resuming needs
nothing but the step. Must not know: optimizers, or what the rate is.
"""

import math
from dataclasses import dataclass
from typing import Literal

Decay = Literal["cosine", "linear", "1-sqrt"]


@dataclass(frozen=True, slots=True)
class ScheduleConfig:
    """The shape of one run's learning rate."""

    total_steps: int
    warmup_steps: int = 0
    """Linear, from `1 / warmup_steps` at step 0 to 1 at the last warm-up step."""
    decay_steps: int = 0
    """The last steps of the run; the rate is constant between warm-up and these."""
    floor: float = 0.1
    """Factor at the end of the decay. K2 decays 2e-4 to 2e-5 (section 2.5)."""
    decay: Decay = "cosine"

    def __post_init__(self) -> None:
        """Refuse phases that do not fit the run."""
        if min(self.total_steps, self.warmup_steps, self.decay_steps) < 0:
            raise ValueError(f"{self} has a negative number of steps: use 0 for no such phase.")
        if self.warmup_steps + self.decay_steps > self.total_steps:
            raise ValueError(
                f"warm-up ({self.warmup_steps}) and decay ({self.decay_steps}) exceed "
                f"total_steps={self.total_steps}: shorten them or lengthen the run."
            )
        if not 0 <= self.floor <= 1:
            raise ValueError(f"floor={self.floor} is not a fraction of the peak: use 0 to 1.")
        if self.decay not in ("cosine", "linear", "1-sqrt"):
            raise ValueError(f"decay={self.decay!r} is unknown: use cosine, linear or 1-sqrt.")


def lr_factor(step: int, config: ScheduleConfig) -> float:
    """Return the factor on the peak rate for `step`, counted from 0.

    From `total_steps` on, the factor stays at the floor if there is a decay.
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    decay_start = config.total_steps - config.decay_steps
    if config.decay_steps == 0 or step <= decay_start:
        return 1.0
    progress = min(1.0, (step - decay_start) / config.decay_steps)
    return config.floor + (1 - config.floor) * _remaining(progress, config.decay)


def _remaining(progress: float, decay: Decay) -> float:
    if decay == "cosine":
        return (1 + math.cos(math.pi * progress)) / 2
    if decay == "linear":
        return 1 - progress
    return 1 - math.sqrt(progress)
