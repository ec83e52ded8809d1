"""An iteration's episodes: the K tries at each of its problems, put together again by problem.

In: problems, and something that plays episodes. Out: their episodes with what they earned, and the
problems of which an episode was paused. Must not know: who plays, here or in other processes; what
is learned from it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from openk2.rl.player import RolloutConfig
from openk2.rl.practice import Practice
from openk2.rl.rollout import Item
from openk2.rl.state import Collected, Pending
from openk2.rl.token_model import EpisodeError
from openk2.types import Trajectory

LEAST = 2
"""Episodes that a problem needs: a reward is compared with the mean of its own problem's."""

Outcome = Trajectory | EpisodeError


class Play(Protocol):
    """Plays many episodes at once."""

    async def __call__(
        self,
        items: Sequence[Item],
        config: RolloutConfig,
        on_end: Callable[[int, Outcome], None],
    ) -> Sequence[Outcome]:
        """Return what became of each, in order; an episode that failed costs only itself."""
        ...


async def collect(
    play: Play,
    practice: Practice,
    problems: Sequence[Pending],
    config: RolloutConfig,
    samples: int,
    on_episode: Callable[[int, int], None] = lambda done, of: None,
) -> Collected:
    """Play the K episodes of every problem; one that keeps fewer than two is left out.

    Args:
        play: Plays them.
        practice: Whose problems.
        problems: Those that were paused have their episodes with them.
        config: How is drawn.
        samples: K.
        on_episode: Is told how many have ended, of how many.

    Raises:
        EpisodeError: Not one episode could be played; the last one's reason.
    """
    began = time.monotonic()
    groups = [problem.episodes or (None,) * samples for problem in problems]
    items = [
        Item(
            practice.families[problem.family],
            practice.problem(problem.family, problem.number),
            practice.seed(problem.family, problem.number, sample),
            begun,
        )
        for problem, group in zip(problems, groups, strict=True)
        for sample, begun in enumerate(group)
        if begun is None or paused(begun)
    ]
    done = itertools.count(1)
    outcomes = await play(items, config, lambda place, one: on_episode(next(done), len(items)))
    played = [one for one in outcomes if isinstance(one, Trajectory)]
    errors = [one for one in outcomes if isinstance(one, EpisodeError)]
    if errors and not played:
        raise errors[-1]
    rest = iter(outcomes)
    whole: list[Pending] = []
    carried: list[Pending] = []
    for problem, group in zip(problems, groups, strict=True):
        ended = [next(rest) if one is None or paused(one) else one for one in group]
        kept = tuple(one for one in ended if isinstance(one, Trajectory))
        if len(kept) >= min(LEAST, samples):
            side = carried if any(map(paused, kept)) else whole
            side.append(replace(problem, episodes=kept))
    before = sum(item.begun.seconds for item in items if item.begun is not None)
    return Collected(
        whole=tuple(whole),
        carried=tuple(carried),
        lost=len(errors),
        seconds=time.monotonic() - began,
        busy=sum(one.seconds for one in played) - before,
    )


def paused(episode: Trajectory) -> bool:
    """Tell whether an episode waits for the next policy."""
    return episode.finish == "cancelled"
