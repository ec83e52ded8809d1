"""Problems to trajectories: the policy plays, the family scores, every token is kept as it was.

In: a policy, a family, its problems, seeds. Out: trajectories, and what training reads of them.
Must not know: how rewards are shaped or learned from, how weights reach the engine.

A trajectory whose finish is `cancelled` is paused: it has no reward yet, and `rollout` goes on with
it. It is plain data, so it can wait on disk; the conversation is held again from its start, which
costs no draw.

Legend: T tokens of a trajectory, N of them drawn.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from openk2.agent.model import ModelError
from openk2.gym.problem import Family, Problem
from openk2.rl.player import Policy, RolloutConfig
from openk2.rl.token_model import EpisodeError, Stopped, TokenModel
from openk2.types import FinishReason, Message, Sampling, Trajectory

__all__ = [
    "EpisodeError",
    "Flat",
    "Item",
    "Policy",
    "RolloutConfig",
    "TokenModel",
    "mask",
    "mismatch",
    "rollout",
    "rollouts",
]

RENORMALISED = -0.01
"""Logarithm of the share that a grammar keeps below which a draw counts as bent by it: 1 %."""


async def rollout(
    policy: Policy,
    family: Family,
    problem: Problem,
    config: RolloutConfig,
    seed: int,
    begun: Trajectory | None = None,
) -> Trajectory:
    """Play one episode and score it, or go on with one that was paused.

    Args:
        policy: Who plays; it may be replaced meanwhile: each token has the version that wrote it.
        family: Holds the conversation and scores it.
        problem: What is asked; its `max_tokens` is the budget of all turns.
        config: How is drawn.
        seed: Fixes every draw.
        begun: What this function returned with the finish `cancelled`, for the same problem and
            seed.

    Raises:
        EpisodeError: It could not be played or scored.
    """
    began = time.monotonic()
    segments = () if begun is None else begun.segments
    model = TokenModel(policy, config, seed, problem.max_tokens, segments)
    sampling = Sampling(config.temperature, seed=seed, max_tokens=problem.max_tokens)
    try:
        finish, after = await _play(model, family, problem, sampling)
        paused = finish == "cancelled"
        # Aside: a family may run programs, and other episodes go on meanwhile.
        scores = {} if paused else await asyncio.to_thread(family.score, problem, after)
        parts = {} if paused else {**scores, **_counts(model)}
        reward = 0.0 if paused else scores["reward"]
    except ModelError as error:
        raise EpisodeError(f"{problem.id}: {error}") from error
    except Exception as error:
        raise EpisodeError(f"{problem.id}: {type(error).__name__}: {error}") from error
    return Trajectory(
        problem=problem.id,
        family=problem.family,
        segments=model.segments,
        messages=(*problem.messages, *after),
        reward=reward,
        parts=parts,
        finish=finish,
        seconds=time.monotonic() - began + (0.0 if begun is None else begun.seconds),
    )


async def _play(
    model: TokenModel, family: Family, problem: Problem, sampling: Sampling
) -> tuple[FinishReason, tuple[Message, ...]]:
    """Return the last turn's finish and what came after the problem's messages."""
    try:
        played = await family.play(model, problem, sampling)
    except Stopped:
        return model.finish, model.messages[len(problem.messages) :]
    return played.finish, played.messages


def _counts(model: TokenModel) -> Mapping[str, float]:
    kept = [share for segment in model.segments for share in segment.kept]
    return {
        "tokens": float(model.emitted),
        "drawn": float(sum(len(one.ids) for one in model.segments if one.emitted)),
        "renormalised": float(sum(share < RENORMALISED for share in kept)),
        "looped": float(model.stopped == "loop"),
    }


@dataclass(frozen=True, slots=True)
class Item:
    """One episode to be played."""

    family: Family
    problem: Problem
    seed: int
    begun: Trajectory | None = None
    """A paused one to go on with."""


async def rollouts(
    policy: Policy,
    items: Sequence[Item],
    config: RolloutConfig,
    concurrency: int,
    on_end: Callable[[int, Trajectory | EpisodeError], None] = lambda place, outcome: None,
) -> list[Trajectory | EpisodeError]:
    """Play many episodes, `concurrency` at a time; each one that ends makes room for the next.

    Args:
        policy: Who plays.
        items: The episodes.
        config: How is drawn.
        concurrency: At most the engine's batch and the requests that may wait for it.
        on_end: Is told of each outcome as it comes, with its place among the items.

    Returns:
        In the order of the items: an episode that failed costs only itself.
    """
    outcomes: dict[int, Trajectory | EpisodeError] = {}
    waiting = iter(enumerate(items))

    async def player() -> None:
        for place, item in waiting:
            try:
                outcomes[place] = await rollout(
                    policy, item.family, item.problem, config, item.seed, item.begun
                )
            except EpisodeError as error:
                outcomes[place] = error
            on_end(place, outcomes[place])

    async with asyncio.TaskGroup() as tasks:
        for _ in range(min(concurrency, len(items))):
            tasks.create_task(player())
    return [outcomes[place] for place in range(len(items))]


@dataclass(frozen=True, slots=True)
class Flat:
    """A trajectory as arrays; the numbers of a token that nobody drew are 0."""

    ids_T: np.ndarray
    """int64."""
    loss_T: np.ndarray
    """bool: the policy drew it."""
    logprob_T: np.ndarray
    """float64, of the distribution that it was drawn from: temperature, and grammar if any."""
    own_T: np.ndarray
    """float64, the policy's own at that temperature without grammar: what a forward pass gives."""
    version_T: np.ndarray
    """int64."""


def mask(trajectory: Trajectory) -> Flat:
    """Lay a trajectory out for training."""
    segments = trajectory.segments
    nothing = [(0.0,) * len(one.ids) for one in segments]
    pairs = list(zip(segments, nothing, strict=True))
    return Flat(
        np.array([id for one in segments for id in one.ids], np.int64),
        np.array([one.emitted for one in segments for _ in one.ids], np.bool_),
        np.array([p for one, zeros in pairs for p in one.logprobs or zeros], np.float64),
        np.array([p for one, zeros in pairs for p in one.own or zeros], np.float64),
        np.array([one.version for one in segments for _ in one.ids], np.int64),
    )


def mismatch(
    trajectories: Sequence[Trajectory], fresh: Sequence[np.ndarray]
) -> Mapping[str, float]:
    """Compare what was served with the trainer's own view of the same weights.

    Args:
        trajectories: Drawn by those weights.
        fresh: Per trajectory [N], the log-probability of each drawn token at the temperature of the
            draw, by a forward pass.

    Returns:
        `mean` and `max` of the absolute difference, and `kl`, the estimate of the served policy's
        KL divergence from the trainer's that is never negative (Schulman's k3).
    """
    served = [flat.own_T[flat.loss_T] for flat in map(mask, trajectories)]
    delta_N = np.concatenate([*map(np.asarray, fresh)]) - np.concatenate(served)
    if not delta_N.size:
        raise ValueError("the trajectories have no drawn token: there is nothing to compare")
    return {
        "mean": float(np.abs(delta_N).mean()),
        "max": float(np.abs(delta_N).max()),
        "kl": float((np.expm1(delta_N) - delta_N).mean()),
    }
