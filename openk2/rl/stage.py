"""Where episodes are played: an event loop on a thread of its own, beside the one that learns.

In: problems, and weights when there are new ones. Out: futures of collected episodes. Must not
know: how one episode is played, what is learned from it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from openk2.agent.model import ChatModel
from openk2.model.transformer import Transformer
from openk2.rl.actor import PolicyActor, PolicyFrom
from openk2.rl.collect import Outcome, Play, collect
from openk2.rl.config import RlConfig
from openk2.rl.crews import LocalCrew, RayCrew
from openk2.rl.critique import Critique, CritiqueConfig
from openk2.rl.player import Policy, RolloutConfig
from openk2.rl.practice import Practice
from openk2.rl.rollout import Item, rollouts
from openk2.rl.state import Collected, Pending
from openk2.rl.sync import push
from openk2.rl.verdict import spoken_verdict, token_verdict
from openk2.rl.workers import Workers
from openk2.train.loop import pick_device

T = TypeVar("T")
OpenJudge = Callable[[], AbstractAsyncContextManager[ChatModel]]
"""Opens a model that judges, in the event loop in which it is then asked."""


class Stage:
    """Plays with the policy as it was pushed last; a context manager that ends the thread."""

    def __init__(
        self, policy: Policy, play: Play, rows: int, workers: Workers | None = None
    ) -> None:
        """Start the thread.

        Args:
            policy: What is pushed to.
            play: Plays episodes.
            rows: Episodes that can be played at one time.
            workers: Who else is pushed to.
        """
        self.policy, self._play, self._rows, self._workers = policy, play, rows, workers
        self._critique: Critique | None = None
        self._loop = asyncio.new_event_loop()
        self._open = AsyncExitStack()
        self._thread = threading.Thread(target=self._loop.run_forever, name="openk2-episodes")
        self._thread.start()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End what was opened, then the thread."""
        try:
            self._submit(self._end()).result()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def open_critique(
        self, config: CritiqueConfig, judged: frozenset[str], judge: OpenJudge | None
    ) -> None:
        """Have answers compared by the policy itself, or by another model.

        Raises:
            ValueError: The rubrics are wrong, or the vocabulary cannot say a verdict.
        """
        if judge is None:
            verdict = token_verdict(self.policy.source, self.policy.tokenizer)
        else:
            model = self._submit(self._open.enter_async_context(judge())).result()
            verdict = spoken_verdict(model)
        self._critique = Critique(verdict, config, judged)

    @property
    def critique(self) -> Critique:
        """Return what `open_critique` opened."""
        assert self._critique is not None
        return self._critique

    def collect(
        self,
        practice: Practice,
        problems: Sequence[Pending],
        config: RolloutConfig,
        samples: int,
        step: int,
        on_episode: Callable[[int, int], None],
    ) -> Future[Collected]:
        """Begin to play, and to judge what was played."""

        async def work() -> Collected:
            played = await collect(self._play, practice, problems, config, samples, on_episode)
            whole, lessons, numbers = await self.critique.reward(played.whole, practice, step)
            return replace(played, whole=tuple(whole), lessons=tuple(lessons), numbers=numbers)

        return self._submit(work())

    def examine(
        self,
        exam: Practice,
        problems: Sequence[Pending],
        config: RolloutConfig,
        samples: int,
        on_episode: Callable[[int, int], None],
    ) -> Collected:
        """Play and wait; nobody judges."""
        return self._submit(
            collect(self._play, exam, problems, config, samples, on_episode)
        ).result()

    def push(self, model: Transformer, version: int) -> None:
        """Play with other weights from now on."""
        push(model, self.policy.source, version=version)
        if self._workers is not None:
            self._workers.push(model.state_dict(), version)

    def utilisation(self, played: Collected) -> float:
        """Return which part of the places for episodes was taken, on the average."""
        return min(1.0, played.busy / max(1e-9, played.seconds * self._rows))

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _end(self) -> None:
        me = asyncio.current_task()
        left = [task for task in asyncio.all_tasks() if task is not me]
        for task in left:  # of a run that was interrupted
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._open.aclose()


@dataclass(frozen=True, slots=True)
class Players:
    """Who plays the episodes."""

    workers: int = 0
    """Processes, or actors of the cluster; 0: this process; on a cluster, as many
    as this machine has cores."""
    ray: str | None = None
    """Address of a Ray cluster; `local` starts one."""


@contextmanager
def open_stage(config: RlConfig, players: Players, judge: OpenJudge | None) -> Iterator[Stage]:
    """Load the engine, start the workers, and open a stage in which they play.

    Raises:
        ModuleNotFoundError: Ray is not installed.
        ConnectionError: There is no cluster at the address.
        ValueError: Model and tokenizer do not fit each other, or the rubrics are wrong.
    """
    rows = config.concurrency
    device = str(pick_device(config.policy.device))
    given = PolicyFrom(Path(config.model), rows, config.context, device)
    judged = frozenset(name for name, one in config.families.items() if one.judged)
    with ExitStack() as opened:
        workers = _hire(given, players)
        if workers is not None:
            opened.enter_context(workers)
        policy = opened.enter_context(given.make())

        async def here(
            items: Sequence[Item], config: RolloutConfig, on_end: Callable[[int, Outcome], None]
        ) -> Sequence[Outcome]:
            return await rollouts(policy, items, config, rows, on_end)

        stage = opened.enter_context(Stage(policy, workers or here, rows, workers))
        stage.open_critique(config.critique, judged, judge)
        yield stage


def _hire(given: PolicyFrom, players: Players) -> Workers | None:
    """Start workers, each with its share of the episodes and one thread."""
    if players.ray is None and players.workers == 0:
        return None
    count = players.workers or len(os.sched_getaffinity(0))
    each = -(-given.rows // count)
    start = partial(PolicyActor, replace(given, rows=each, threads=1))
    crew = LocalCrew(start) if players.ray is None else RayCrew(start, players.ray, each)
    return Workers(crew, count, each)
