"""Which problems are worth practising now: neither hopeless nor known.

A group of samples of which all pass or all fail has no advantage to learn from. So problems are
kept by how often the current policy passes them (K2, 2507.20534, section 3.2.1), and of those the
harder are drawn more often, in proportion to 1 - success (Kimi k1.5, 2501.12599, section 2.3.4).

In: pass counts by problem. Out: names of problems; everything as JSON.
Must not know: problems beyond their names, models.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any


@dataclass(frozen=True, slots=True)
class DifficultyConfig:
    """What counts as worth practising."""

    least: float = 0.05
    """Problems that succeed less often are too hard now. 0 keeps those that never do."""
    most: float = 0.95
    """Problems that succeed more often are known."""
    memory: float = 0.5
    """What an earlier count still weighs when a new one comes: the policy that made it is gone.
    1 adds counts up, 0 believes the newest alone."""
    explore: float = 0.1
    """Share of a draw that is taken from the problems that are not kept, the unmeasured among them:
    too hard ones come within reach, known ones are forgotten."""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if not 0 <= self.least <= self.most <= 1:
            raise ValueError(
                f"least and most are {self.least} and {self.most}: "
                "they must be shares, the first not above the second"
            )
        for name in ("memory", "explore"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}: it must be a share from 0 to 1")


@dataclass(frozen=True, slots=True)
class PassCount:
    """How often a problem was passed, of how many tries; older ones count in part."""

    passed: float
    tried: float

    def __post_init__(self) -> None:
        """Refuse more passes than tries."""
        if not 0 <= self.passed <= self.tried or self.tried == 0:
            raise ValueError(f"{self.passed} of {self.tried} is no pass count")

    @property
    def success(self) -> float:
        """The share that passed."""
        return self.passed / self.tried


@dataclass(frozen=True, slots=True)
class Curriculum:
    """Pass counts by name and the draws that follow from them.

    It is never changed: measuring and drawing return the next one. The same counts, seed and number
    of draws give the same names, in whatever order and process the counts came.
    """

    names: frozenset[str]
    """All that can be drawn: ids of problems, or names of levels."""
    config: DifficultyConfig = DifficultyConfig()
    seed: int = 0
    draws: int = 0
    """How many were made; each has its own random numbers."""
    counts: Mapping[str, PassCount] = field(default_factory=dict[str, PassCount])

    def measured(self, counts: Mapping[str, PassCount]) -> Curriculum:
        """Take in what the current policy passed.

        Raises:
            KeyError: A name is not one of the curriculum's.
        """
        known = dict(self.counts)
        for name, new in counts.items():
            if name not in self.names:
                raise KeyError(f"{name!r} is not in the curriculum: name it when making one")
            if (old := known.get(name)) is not None:
                weight = self.config.memory
                new = PassCount(weight * old.passed + new.passed, weight * old.tried + new.tried)
            known[name] = new
        return replace(self, counts=known)

    def kept(self) -> list[str]:
        """Return the names of moderate difficulty, in order."""
        config = self.config
        return sorted(
            name
            for name, count in self.counts.items()
            if config.least <= count.success <= config.most
        )

    def draw(self, count: int) -> tuple[list[str], Curriculum]:
        """Choose what is practised next.

        Of kept ones each is as likely as it fails; the others, a share of `explore`, are equally
        likely. No name comes twice; where one side has too few, the other fills up.

        Args:
            count: How many; fewer where there are not as many names.
        """
        rng = Random(f"{self.seed}/{self.draws}")
        kept = self.kept()
        others = sorted(self.names - set(kept))
        exploring = sum(rng.random() < self.config.explore for _ in range(count))
        exploring = min(len(others), max(exploring, count - len(kept)))
        failure = {name: 1 - self.counts[name].success for name in kept}
        chosen = _weighted(failure, count - exploring, rng)
        chosen += rng.sample(others, exploring)
        rng.shuffle(chosen)
        return chosen, replace(self, draws=self.draws + 1)

    def state(self) -> dict[str, Any]:
        """Return all that is needed to go on, as JSON; the names and settings are the caller's."""
        return {
            "seed": self.seed,
            "draws": self.draws,
            "counts": {name: [c.passed, c.tried] for name, c in sorted(self.counts.items())},
        }

    @classmethod
    def resume(
        cls, state: Mapping[str, Any], names: Iterable[str], config: DifficultyConfig
    ) -> Curriculum:
        """Go on from a state; counts of names that are gone are left out.

        Args:
            state: What `state` returned.
            names: All that can be drawn now.
            config: What counts as worth practising now.
        """
        here = frozenset(names)
        counts = {
            name: PassCount(*count) for name, count in state["counts"].items() if name in here
        }
        return cls(here, config, state["seed"], state["draws"], counts)


def _weighted(weights: Mapping[str, float], count: int, rng: Random) -> list[str]:
    """Draw names without putting back, each in proportion to its weight.

    The first of exponential clocks with these rates is a draw, the next one a draw of the rest
    (Efraimidis and Spirakis, 2006). What weighs nothing comes last.
    """
    clock = {
        name: -math.log(1 - rng.random()) / weight if weight else math.inf
        for name, weight in weights.items()
    }
    return sorted(clock, key=clock.__getitem__)[:count]
