"""Where a run is, on disk: everything that decides how it goes on.

In: the trained model, numbers, and episodes that are not learned from yet. Out: one checkpoint
that is complete or absent, and the same read back. Must not know: how any of it came about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from openk2.agent.canonical import CodecError, from_json, to_json
from openk2.rl.critic import KnownPair
from openk2.train import checkpoint
from openk2.train.checkpoint import CheckpointError
from openk2.types import Trajectory


@dataclass(frozen=True, slots=True)
class Pending:
    """A problem with its episodes, which are still to be learned from."""

    family: str
    number: int
    """Which of the family's problems."""
    episodes: tuple[Trajectory, ...] = ()


@dataclass(frozen=True, slots=True)
class Collected:
    """What an iteration's rollouts came to."""

    whole: tuple[Pending, ...]
    """Problems all of whose episodes have ended."""
    carried: tuple[Pending, ...] = ()
    """Problems with an episode that was paused."""
    lost: int = 0
    """Episodes that failed and are left out."""
    seconds: float = 0.0
    """From the first token to the last."""
    busy: float = 0.0
    """Seconds of all episodes together."""
    lessons: tuple[KnownPair, ...] = ()
    """Pairs of answers that the critic may learn from."""
    numbers: Mapping[str, float] = field(default_factory=dict[str, float])
    """How the judge behaved."""


@dataclass(slots=True)
class Progress:
    """What a run knows beside its weights."""

    iteration: int = 0
    """Finished iterations."""
    version: int = 0
    """Of the policy that the weights are: how often they were updated."""
    ptx_rows: int = 0
    """Rows of the text stream that were used."""
    turns: dict[str, int] = field(default_factory=dict[str, int])
    """By family, how often it had its turn."""
    curriculum: dict[str, Any] = field(default_factory=dict[str, Any])
    """What is known of how hard problems are."""
    carried: tuple[Pending, ...] = ()
    """Problems whose rollouts were paused."""
    known: tuple[KnownPair, ...] = ()
    """Pairs of answers that the critic is measured on."""
    trust: float = 0.0
    """What its judgements count."""
    ahead: Collected | None = None
    """The next iteration's episodes, if they were played while this one was learned from."""


def save(
    directory: Path, progress: Progress, tensors: Mapping[str, Tensor], start: str, keep: int
) -> Path:
    """Write a checkpoint of the iteration that has just ended.

    Args:
        directory: Where the run's checkpoints live.
        progress: What the run knows.
        tensors: The weights, and what else a step depends on.
        start: Digest of the model and the settings that the run began from.
        keep: How many checkpoints stay.
    """
    state = {"start": start, "progress": to_json(progress)}
    return checkpoint.save(directory, progress.iteration, tensors, state, keep)


def load(path: Path, start: str) -> tuple[Progress, dict[str, Tensor]]:
    """Read a checkpoint back.

    Raises:
        CheckpointError: It is damaged, or of a run that began otherwise.
    """
    tensors, state = checkpoint.load(path)
    if state.get("start") != start:
        raise CheckpointError(
            f"checkpoint {path} is of a run with another model or other settings: "
            "start over with --fresh, or name another folder with --set out=DIR"
        )
    try:
        return from_json(Progress, state["progress"]), tensors
    except (CodecError, KeyError) as error:
        raise CheckpointError(f"checkpoint {path} cannot be read ({error}): delete it") from error
