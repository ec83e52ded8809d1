"""What a worker is inside: an engine of its own that plays episodes.

In: a model directory, then episodes and weights. Out: trajectories. Must not know: what other
workers do, or where the weights come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from openk2.engine.loading import load_engine
from openk2.rl.player import Policy, RolloutConfig
from openk2.rl.rollout import Item, rollout
from openk2.rl.sync import replace
from openk2.rl.token_model import EpisodeError
from openk2.text.tokenizer import Tokenizer
from openk2.types import Trajectory


@dataclass(frozen=True, slots=True)
class PolicyFrom:
    """Where a policy is opened from, and how large its engine is."""

    directory: Path
    """A model with its tokenizer; every worker can read it."""
    rows: int
    """Episodes that share a batch."""
    context: int | None = None
    """Longest episode in tokens; none is as long as model and memory allow."""
    device: str = "cpu"
    """Where it computes."""
    threads: int | None = None
    """Of the compiled kernels; none is one per core."""
    thinking: bool = False
    """Conversations are written in the Thinking template."""

    def make(self) -> Policy:
        """Load the engine and start its thread.

        Raises:
            ValueError: Model and tokenizer do not fit each other.
        """
        tokenizer = Tokenizer.load(self.directory)
        loaded = load_engine(
            self.directory,
            stop_ids=frozenset((tokenizer.im_end, tokenizer.eos)),
            vocab_size=tokenizer.vocab_size,
            max_batch=self.rows,
            context=self.context,
            device=self.device,
            threads=self.threads,
        )
        return Policy(loaded.engine, tokenizer, thinking=self.thinking)


class PolicyActor:
    """Plays with the weights of a directory until it is given others."""

    def __init__(self, given: PolicyFrom) -> None:
        """Open the engine."""
        self._policy = given.make()

    async def play(self, task: tuple[Item, RolloutConfig]) -> Trajectory | EpisodeError:
        """Play one episode; an error of its own is what becomes of it."""
        item, config = task
        try:
            return await rollout(
                self._policy, item.family, item.problem, config, item.seed, item.begun
            )
        except EpisodeError as error:
            return error

    def take(self, weights: Mapping[str, Tensor], version: int) -> None:
        """Play with other weights from now on."""
        replace(weights, self._policy.source, version=version)
