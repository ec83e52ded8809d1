"""From what an episode earned to what it is rewarded with: truncation, repetition, length.

In: the K episodes of one problem. Out: the same with other rewards, each part named.
Must not know: what the problem is, or how rewards are learned from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from openk2.types import Trajectory

RIGHT = 1.0
"""What a family gives an episode that did all it was asked."""


@dataclass(frozen=True, slots=True)
class ShapingConfig:
    """What is added to, and taken from, the reward that a family gives."""

    truncation_penalty: float = 0.2
    """Taken from an episode that ran out of its token budget."""
    repetition_penalty: float = 0.2
    """Taken from an episode that says the same again and again."""
    repetition_share: float = 0.5
    """Part of its stretches of tokens that an episode must have said before to be called so."""
    repetition_tokens: int = 8
    """Length of such a stretch. Long enough that naming a tool or a date again is none."""
    length_weight: float = 0.0
    """Weight of the length reward of Kimi k1.5 (§2.3.3): among the answers to one problem, the
    shortest gets half of it and the longest loses half; a wrong answer never gains by it."""

    def __post_init__(self) -> None:
        """Refuse penalties that reward."""
        for name in ("truncation_penalty", "repetition_penalty", "length_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, but is {getattr(self, name)}")
        if self.repetition_tokens < 1:
            raise ValueError(f"repetition_tokens must be at least 1, not {self.repetition_tokens}")
        if not 0 < self.repetition_share <= 1:
            raise ValueError(
                f"repetition_share must be greater than 0 and at most 1, "
                f"not {self.repetition_share}"
            )


def shape(group: Sequence[Trajectory], config: ShapingConfig) -> list[Trajectory]:
    """Return the episodes of one problem with their rewards shaped.

    What the family gave stays in `parts["earned"]`; `parts` also says what was added and taken.
    """
    lengths = [emitted(episode) for episode in group]
    shaped: list[Trajectory] = []
    for episode, length in zip(group, lengths, strict=True):
        parts = {
            "truncation": -config.truncation_penalty * (episode.finish == "length"),
            "repetition": -config.repetition_penalty * goes_round(episode, config),
            "length": config.length_weight
            * length_reward(length, lengths, right=episode.reward >= RIGHT),
        }
        shaped.append(
            replace(
                episode,
                reward=episode.reward + sum(parts.values()),
                parts={**episode.parts, "earned": episode.reward, **parts},
            )
        )
    return shaped


def length_reward(length: int, lengths: Sequence[int], *, right: bool) -> float:
    """Return λ = 0.5 − (len − min) / (max − min), and of a wrong answer at most 0.

    Kimi k1.5 (arXiv:2501.12599) §2.3.3; 0 where all are equally long.
    """
    shortest, longest = min(lengths), max(lengths)
    if shortest == longest:
        return 0.0
    value = 0.5 - (length - shortest) / (longest - shortest)
    return value if right else min(0.0, value)


def emitted(episode: Trajectory) -> int:
    """Return how many tokens the policy wrote in an episode."""
    return sum(len(segment.ids) for segment in episode.segments if segment.emitted)


def goes_round(episode: Trajectory, config: ShapingConfig) -> bool:
    """Tell whether an episode says the same again and again, or was ended because it did."""
    looped = episode.parts.get("looped", 0.0) > 0
    return looped or repeated(episode, config.repetition_tokens) >= config.repetition_share


def repeated(episode: Trajectory, n: int) -> float:
    """Return which part of an episode's stretches of `n` written tokens it had written before."""
    seen: set[tuple[int, ...]] = set()
    total = 0
    for segment in episode.segments:
        if segment.emitted:
            starts = range(len(segment.ids) - n + 1)
            seen.update(segment.ids[at : at + n] for at in starts)
            total += len(starts)
    return 1 - len(seen) / total if total else 0.0
