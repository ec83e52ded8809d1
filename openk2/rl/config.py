"""The settings of a reinforcement-learning run.

In: TOML, through `openk2.config`. Out: frozen dataclasses; those of a part stand beside the part.
Must not know: what any setting does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from openk2.gym.difficulty import DifficultyConfig
from openk2.rl.critique import CritiqueConfig
from openk2.rl.player import RolloutConfig
from openk2.rl.policy import PolicyConfig
from openk2.rl.practice import FamilyConfig
from openk2.rl.schedule import TemperatureConfig
from openk2.rl.shaping import ShapingConfig
from openk2.train.shards import DataConfig


@dataclass(frozen=True, slots=True)
class HeldOutConfig:
    """How progress is measured on problems that practice never sees."""

    every: int = 10
    """Iterations between evaluations; there is one before the first and one after the last."""
    problems: int = 48
    """Of each family."""
    samples: int = 1
    """Episodes of each problem."""
    temperature: float = 0.0
    """Of these episodes, whatever practice draws with; 0 takes the best token."""

    def __post_init__(self) -> None:
        """Refuse counts that measure nothing."""
        for name in ("every", "problems", "samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")


_AT_LEAST_1 = (
    "iterations", "problems", "save_every", "keep_checkpoints", "concurrency", "context"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RlConfig:
    """One run."""

    families: dict[str, FamilyConfig]
    """What is practised; `openk2 rl --list` shows which there are."""
    model: str = "openk2/assets/nano"
    """Directory of the model to start from."""
    out: Path = Path("out/rl")
    """Receives metrics, episodes, checkpoints and, in `model/`, the result."""
    iterations: int = 60
    """Rollouts and updates, those before a resume included."""
    problems: int = 16
    """New problems of an iteration."""
    samples: int = 8
    """K: episodes of each problem. Their mean is what a reward is measured against, so one alone
    teaches nothing."""
    seed: int = 0
    """Fixes which problems are drawn and what is sampled."""
    concurrency: int = 32
    """Episodes that are played at one time: the engine's batch."""
    context: int = 2048
    """Most tokens of an episode, prompt included."""
    overlap: bool = False
    """Roll out the next iteration beside the update. Its policy is then one version behind; on
    few cores both get slower by what the other takes."""
    ptx_rows: int = 0
    """Rows of `data` that every iteration also learns from, so that what the model could before is
    not forgotten (K2 §3.2.3); 0 leaves that out."""
    max_minutes: float | None = None
    """Stop with a checkpoint after this long; the same command goes on."""
    save_every: int = 5
    """Iterations between checkpoints."""
    keep_checkpoints: int = 2
    """Checkpoints that stay on disk."""
    difficulty: DifficultyConfig = field(default_factory=DifficultyConfig)
    """Which of a family's levels are drawn; `difficulty.explore=1` draws all alike."""
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    """How episodes are drawn; `temperature` below takes the place of the one in here."""
    temperature: TemperatureConfig = field(default_factory=TemperatureConfig)
    """How freely, from the first iteration to the last."""
    shaping: ShapingConfig = field(default_factory=ShapingConfig)
    """What is added to and taken from rewards."""
    critique: CritiqueConfig = field(default_factory=CritiqueConfig)
    """How families that are judged are rewarded."""
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    """How is learned from episodes."""
    held_out: HeldOutConfig = field(default_factory=HeldOutConfig)
    """How progress is measured."""
    data: DataConfig | None = None
    """What `ptx_rows` are taken from."""

    def __post_init__(self) -> None:
        """Refuse runs that could not learn anything."""
        for name in _AT_LEAST_1:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.samples < 2:
            raise ValueError(
                f"samples must be at least 2, not {self.samples}: a reward is compared with the "
                "mean of its problem's episodes"
            )
        if not self.families:
            raise ValueError("families is empty: name at least one, as `[families.arithmetic]`")
        updates = self.policy.parts * self.policy.passes
        if 0 < self.ptx_rows < updates:
            raise ValueError(
                f"ptx_rows is {self.ptx_rows}, fewer than the {updates} updates of an iteration: "
                "each needs a row of its own"
            )
        if self.ptx_rows < 0 or (self.ptx_rows and self.data is None):
            raise ValueError(f"ptx_rows is {self.ptx_rows}, but `data` names nothing to read")
